"""A passed-through answer that remembers what it gave out, so that another backend can go on with it.

Most of an answer is a row of events that differ in their text alone: of those the text is kept, which costs a
token next to nothing. Everything else is kept as it is, and read once there is much of it. It is in OpenAI's
dialect, so the reader of that dialect reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ghostllm.api.canonical import Event, ReasoningDelta, TextDelta
from ghostllm.api.openai import events
from ghostllm.api.openai.answer_reader import ChatReader, CompletionReader
from ghostllm.api.openai.answer_writer import ChatWriter, CompletionWriter
from ghostllm.api.openai.frame import SEAM, Frame, learn, unquoted
from ghostllm.api.openai.passthrough import PassThrough
from ghostllm.api.openai.reader import REASONING, Reader
from ghostllm.api.told import Said, Sort, Told, told_by
from ghostllm.api.translation import Mint, Writer
from ghostllm.errors import GhostError
from ghostllm.message import Call

KEPT: Final = 32 << 10
"""Bytes that are kept unread."""

MOST: Final = 64
"""Texts that are kept one by one. Each is an object of its own, and thousands of streams may have as many."""

OVERHEAD: Final = 64  # bytes of memory of each
LIMIT = 64 << 20  # bytes of an event; what comes here has passed the limit of its own answer before
UNREAD = ("audio", "function_call")
"""Members of a delta that say something for which there is no place in the neutral form."""

MISNUMBERED = "its tool calls are numbered in a way of their own"

_SOURCE = "the answer so far"

Texts = tuple[str, bytes]
"""Under which name they stood, and the texts as `Frame.cut` gives them."""


class Given:
    """The reading of what was given out. frame: the members that all chunks have, as the first one showed
    them.
    """

    __slots__ = ("_attempts", "_calls", "_learned", "_member", "_reader", "_row", "frame", "said")

    def __init__(self, operation: str) -> None:
        self.said = Said()
        self.frame: dict[str, Any] | None = None
        self._reader = reader_of(operation, str)
        self._learned: Frame | None = None
        self._row: list[bytes] = []  # texts that were cut out of events, to be parsed at last
        self._member = ""  # under which name they stood
        self._attempts = 16  # to learn: some events have nothing that recurs
        self._calls = 0  # that the client knows of

    def read(self, pieces: list[bytes]) -> None:
        """Pieces of whole events."""
        if self._is_like(pieces) or self.said.unknown or not any(pieces):
            return
        rows = [event for piece in pieces for event in events.split(piece)]
        if self._is_like(rows):
            return
        try:
            for at, event in enumerate(rows):
                if not self._is_like([event]):
                    self._settle()
                    if self._take(event) and self._is_like(rows[at + 1 :]):
                        return
        except GhostError as error:
            self.said.unknown = error.message

    def add(self, member: str, texts: bytes) -> None:
        """See Texts."""
        if member != self._member:
            self._settle()
            self._member = member
        self._row.append(texts)

    def _is_like(self, rows: list[bytes]) -> bool:
        """Takes events that are all like the one that was learned from."""
        learned = self._learned
        texts = learned.cut(rows) if learned is not None else None
        if learned is None or texts is None:
            return False
        self.add(learned.member, texts)
        return True

    def close(self) -> None:
        """Everything has been read."""
        self._settle()
        if self._calls != len(self.said.calls):  # one that has not begun in earnest, or two of one number
            self.said.unknown = self.said.unknown or MISNUMBERED

    def _settle(self) -> None:
        row, self._row = self._row, []
        if row:
            sort: Sort = "reasoning" if self._member in REASONING else "text"
            texts = unquoted(SEAM.join(row))
            self.said.more(sort, texts)
            if not texts:  # a piece that passes by its frame is not parsed on its way
                self.said.unknown = "it is not sound JSON"

    def _take(self, event: bytes) -> bool:
        """Whether something was learned from it."""
        said = self._event(event)
        self.said.add(said)
        if self._attempts and len(said) == 1 and type(said[0]) in (TextDelta, ReasoningDelta):
            self._attempts -= 1
            frame = learn(event, len(event) - event.find(b"\n"), bytes)
            self._learned = frame or self._learned
            return frame is not None
        return False

    def _event(self, event: bytes) -> list[Event]:
        payload = events.data_of(event)
        if payload is None or payload.strip() == events.DONE:
            return []
        chunk = events.parse(payload, _SOURCE)
        if self.frame is None:
            self.frame = {name: chunk.get(name) for name in ("id", "created", "system_fingerprint")}
        said = self._reader.feed(event)
        if self._reader.fault is not None:
            raise self._reader.fault
        for choice in chunk.get("choices") or ():
            if isinstance(delta := choice.get("delta"), dict):
                self._check(delta)
        return said

    def _check(self, delta: dict[str, Any]) -> None:
        """Whoever goes on with a call must know the number that it has for the client."""
        if unread := next((name for name in UNREAD if delta.get(name)), None):
            self.said.unknown = f"{unread} has been told"
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            number = call.get("index")
            if number == self._calls:
                self._calls += 1
            elif type(number) is not int or not 0 <= number < self._calls:
                self.said.unknown = MISNUMBERED


class KeptPassThrough(PassThrough):
    """A told.Telling. For answers with one choice."""

    __slots__ = ("_given", "_kept", "_member", "_room", "_texts")

    def __init__(
        self,
        call: Call,
        *,
        backend: str,
        limit: int,
        blot: Callable[[str], str] = str,
        other_reasoning: bool = False,
    ) -> None:
        super().__init__(call, backend=backend, limit=limit, blot=blot, other_reasoning=other_reasoning)
        self._given = Given(call.operation)
        self._kept: list[bytes | Texts] = []
        self._room = KEPT
        self._texts: list[bytes] = []  # of the events behind those that are kept
        self._member = ""  # under which name they stand

    def feed(self, data: bytes) -> bytes:
        frame = self._frame
        if frame is not None and self._smooth and (text := frame.texts_in(data)) is not None:
            texts = self._texts  # as PassThrough has it: nearly every token comes this way
            texts.append(text)
            if len(texts) >= MOST:
                self._keep_texts()
            return data if frame.as_is else frame.swapped(data, text)
        out = PassThrough.feed(self, data)  # which is cheaper than super()
        self._keep_texts()
        self._keep(out, len(out))
        if self._frame is not None:
            self._member = self._frame.member
        return out

    def told(self, created: int, mint: Mint) -> Told:
        """See told.Telling."""
        self._fold()
        call, given = self._call, self._given
        given.close()
        frame = given.frame or {}
        if isinstance(began := frame.get("created"), int | float):
            created = int(began)
        identity, fingerprint = frame.get("id"), frame.get("system_fingerprint")
        more = None if fingerprint is None else {"system_fingerprint": fingerprint}
        writer: Writer
        if call.operation == "chat":
            name = identity if isinstance(identity, str) else mint("chatcmpl-")
            writer = ChatWriter(name, call.model, created, usage=call.wants_usage, more=more)
        else:
            name = identity if isinstance(identity, str) else mint("cmpl-")
            writer = CompletionWriter(name, call.model, created, usage=call.wants_usage, more=more)
        return told_by(given.said, writer, self.usage)

    def _fold(self) -> None:
        self._keep_texts()
        kept, self._kept, self._room = self._kept, [], KEPT
        pieces: list[bytes] = []
        for piece in kept:
            if isinstance(piece, bytes):
                pieces.append(piece)
            else:
                self._given.read(pieces)
                self._given.add(*piece)
                pieces = []
        self._given.read(pieces)

    def _keep_texts(self) -> None:
        texts, self._texts = self._texts, []
        if texts:
            joined = SEAM.join(texts)
            self._keep((self._member, joined), len(joined))

    def _keep(self, piece: bytes | Texts, size: int) -> None:
        self._kept.append(piece)
        self._room -= size + OVERHEAD
        if self._room < 0:
            self._fold()


def reader_of(operation: str, mint: Mint) -> Reader:
    """Reads a client's stream of this dialect."""
    if operation != "chat":
        return CompletionReader(backend=_SOURCE, limit=LIMIT)
    return ChatReader(backend=_SOURCE, limit=LIMIT, mint=lambda: mint("call_"))

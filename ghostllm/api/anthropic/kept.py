"""A passed-through message that remembers what it gave out, so that another backend can go on with it.

What was given is kept as it is, which costs a token next to nothing, and read once there is much of it. It is
in Anthropic's dialect, so the reader of that dialect reads it; most of it is a row of events that differ in
their text alone, which are parsed all at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ghostllm import jsonx
from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.anthropic.answer_writer import MessagesWriter
from ghostllm.api.anthropic.passthrough import STRING, MessagesPassThrough
from ghostllm.api.canonical import Event, ToolCallDelta
from ghostllm.api.openai import events
from ghostllm.api.told import Said, Sort, Told, told_by
from ghostllm.api.translation import Mint
from ghostllm.errors import GhostError
from ghostllm.message import Call

KEPT: Final = 8 << 10
"""Bytes that are kept as they are."""

LIMIT = 64 << 20  # bytes of an event; what comes here has passed the limit of its own answer before
BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
"""Blocks with a place in the neutral form. What others say is not known here."""

SORTS: Mapping[str, Sort] = {"text": "text", "thinking": "reasoning"}
_SOURCE = "the answer so far"
_TEXT = re.compile(
    rb"event: content_block_delta\n"
    rb'data: \{"type": ?"content_block_delta", ?"index": ?(\d+), ?"delta": ?\{'
    rb'"type": ?"(text|thinking)_delta", ?"(?:text|thinking)": ?(' + STRING + rb") *+\} *+\}\n\n"
)
"""An event that carries a piece of text or thinking."""


class Given:
    """The reading of what was given out. identity: of the message. index, kind: of the block that is open;
    kind "" means that none is, and index is that of the next.
    """

    __slots__ = ("_reader", "identity", "index", "kind", "said")

    def __init__(self) -> None:
        self.said = Said()
        self.identity = ""
        self.index = 0
        self.kind = ""
        self._reader = reader_of(str)

    def read(self, pieces: list[bytes]) -> None:
        """Pieces of whole events."""
        if self.said.unknown or self._is_plain(pieces):
            return
        try:
            for at, piece in enumerate(pieces):
                if self._is_plain([piece]):
                    continue
                kind = self.kind
                for event in events.split(piece):
                    self.said.add(self._event(event))
                if self.kind != kind and self._is_plain(pieces[at + 1 :]):
                    return
        except GhostError as error:
            self.said.unknown = error.message

    def _is_plain(self, pieces: list[bytes]) -> bool:
        """Takes events if all of them are text, or thinking, of the open block."""
        sort = SORTS.get(self.kind)
        if sort is None:
            return False
        block = b"".join(pieces)
        found: list[tuple[bytes, bytes, bytes]] = _TEXT.findall(block)
        places = {(index, kind) for index, kind, _ in found}
        if len(found) != block.count(b"\n\n") or places != {(b"%d" % self.index, self.kind.encode())}:
            return False
        self.said.more(sort, jsonx.loads(b"[%b]" % b",".join([text for _, _, text in found])))
        return True

    def _event(self, event: bytes) -> list[Event]:
        payload = events.data_of(event)
        if payload is None:
            return []
        value = events.parse(payload, _SOURCE)
        said = self._reader.feed(event)
        if self._reader.fault is not None:
            raise self._reader.fault
        kind, index = value.get("type"), value.get("index")
        if kind == "message_start":
            identity = value["message"].get("id")
            self.identity = identity if isinstance(identity, str) else ""
        elif kind == "content_block_start":
            self._enter(index, value["content_block"])
        elif kind == "content_block_delta" and value["delta"].get("type") == "signature_delta":
            self.kind = "signed"
        elif kind == "content_block_stop":
            self.index, self.kind = self.index + 1, ""
            self.said.close_calls()
        return said

    def _enter(self, index: Any, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind not in BLOCKS:
            self.said.unknown = f"a block of the type {kind!r} has been told"
        elif self.kind or index != self.index:
            self.said.unknown = "its blocks overlap"
        else:
            self.kind = "signed" if kind == "thinking" and block.get("signature") else kind


class KeptMessages(MessagesPassThrough):
    """A told.Telling."""

    __slots__ = ("_given", "_pieces", "_room")

    def __init__(self, call: Call, *, backend: str, limit: int, blot: Callable[[str], str] = str) -> None:
        super().__init__(call, backend=backend, limit=limit, blot=blot)
        self._given = Given()
        self._pieces: list[bytes] = []
        self._room = KEPT

    def feed(self, data: bytes) -> bytes:
        out = MessagesPassThrough.feed(self, data)  # which is cheaper than super()
        self._pieces.append(out)
        self._room -= len(out)
        if self._room < 0:
            self._fold()
        return out

    def told(self, created: int, mint: Mint) -> Told:
        """See told.Telling."""
        self._fold()
        given = self._given
        writer = MessagesWriter(given.identity or mint("msg_"), self._call.model)
        call: ToolCallDelta | None = None
        if given.kind == "tool_use" and given.said.calls:
            number, known = max(given.said.calls.items())
            call = ToolCallDelta(number, known.text, "told", known.name)
        writer.go_on(given.index, given.kind, call)
        return told_by(given.said, writer, self.usage)

    def _fold(self) -> None:
        pieces, self._pieces, self._room = self._pieces, [], KEPT
        self._given.read(pieces)


def reader_of(mint: Mint) -> MessagesReader:
    """Reads a client's stream of this dialect. Calls of this dialect have their ids."""
    return MessagesReader(backend=_SOURCE, limit=LIMIT)

"""Answers of a backend that speaks the client's own dialect: the bytes go through, and what passes is
understood.

A stream is relayed in the pieces in which it comes. Until the first content every event is read. From then on
most pieces are known to be like one read before but for its text (`frame`). Others are tested: whole
events in the server's own style, sound JSON, and nothing inside that means something here (usage, an error, a
finish reason, the terminator); the model's words cannot be mistaken for those, because in JSON a quotation
mark inside a string has a backslash before it. A piece that fails a test is taken apart, event by event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ghostllm import jsonx
from ghostllm.api.openai import events, reasoning
from ghostllm.api.openai.errors import error_event
from ghostllm.api.openai.failures import stream_error
from ghostllm.api.openai.frame import Frame, learn
from ghostllm.api.openai.usage import take_usage
from ghostllm.api.splice import edit, find
from ghostllm.errors import (
    GhostError,
    RequestError,
    UpstreamAnswered,
    UpstreamCut,
    UpstreamError,
    UpstreamProtocolError,
)
from ghostllm.message import Call, Usage

FRAMES = 16
"""Attempts to learn a frame in one answer: reasoning and text have one each, and some events have none."""


class PassThrough:
    """Implements ports.Answer for one call. choices: how many the answer will have. limit: bytes of the
    largest event.

    backend: how messages name it. blot: takes secrets out of the backend's own messages. The model's name in
    the answer becomes the one that the client asked for; usage that it did not ask for is taken out; thinking
    is called `reasoning_content`, where `other_reasoning` says that the backend may call it otherwise. Every
    other byte stays.
    """

    committed = False
    complete = False
    _finished: set[Any]  # of a stream: choices with a finish reason
    _held: events.Held  # of a stream
    _done = False
    _frame: Frame | None = None
    _learned = 0  # attempts to find a frame
    _rename: tuple[bytes, bytes] | None = None
    _seen = False  # some event with choices
    _smooth = False  # committed, style known, nothing held, not over: pieces may pass by the tests alone
    _style = events.COMPACT

    def __init__(
        self,
        call: Call,
        *,
        backend: str,
        limit: int,
        choices: int = 1,
        blot: Callable[[str], str] = str,
        other_reasoning: bool = False,
    ) -> None:
        self.usage = Usage()
        self.fault: UpstreamError | None = None
        self._call = call
        self._backend = backend
        self._blot = blot
        if call.stream:
            self._choices = choices
            self._finished = set()
            self._held = events.Held(limit, backend)
        self._other_reasoning = other_reasoning and call.operation == "chat"

    def __repr__(self) -> str:
        state = (
            "done"
            if self._done
            else "complete"
            if self.complete
            else "committed"
            if self.committed
            else "open"
        )
        return f"<PassThrough {self._backend} {state}>"

    # --- streams

    def feed(self, data: bytes) -> bytes:
        """The same object comes out wherever nothing has to change.

        If a piece holds sound events and then a fault, the events come out and the fault is raised by the
        next call; before the commit it is raised at once, since then another backend can still give the whole
        answer.
        """
        if self._smooth:
            frame = self._frame
            if frame is not None and (texts := frame.texts_in(data)) is not None:
                return data if frame.as_is else frame.swapped(data, texts)
            style = self._style
            size = len(data)
            if (
                (data.find(b"\n") == size - style.gap or self._is_row(data))
                and data.startswith(style.opening)
                and data.endswith(style.closing)
                and b'"error"' not in data
                and data.count(b'"finish_reason"') == data.count(style.null_finish)
                and not (self._other_reasoning and b'"reasoning"' in data)
                and self._is_json(data)
            ):
                if b'"usage"' not in data or data.count(b'"usage"') == data.count(style.null_usage):
                    if self._learned < FRAMES:
                        self._learned += 1
                        self._frame = learn(data, style.gap, self._edited) or frame
                    return self._edited(data)
        return self._take_apart(data)

    def finish(self) -> bytes:
        """The terminator, unless it has come. Raises UpstreamCut, or what an unfinished last event turns out
        to be.
        """
        if self.fault is not None:
            raise self.fault
        if self._done:
            return b""
        out = self._take_rest()
        if self._done:
            return out
        if self.complete:
            self._close()
            return out + events.LAST_EVENT
        if not self._seen:
            raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
        raise UpstreamCut(f"{self._backend} ended its stream before the answer was complete")

    def broken(self, error: GhostError) -> bytes:
        return error_event(error)

    def _edited(self, data: bytes) -> bytes:
        """A tested piece with the model's name and the usage members changed."""
        if not self._call.wants_usage:
            data = data.replace(self._style.null_usage, b"")
        return data if self._rename is None else data.replace(*self._rename)

    def _is_row(self, data: bytes) -> bool:
        """Whether several events, all in the known style, make up the piece."""
        return data.count(b"\n") == 2 * data.count(self._style.seam) + 2

    def _is_json(self, data: bytes) -> bool:
        """Whether every event of a row is: all of them are parsed at once, as an array."""
        style = self._style
        row = data[len(style.opening) - 1 : len(data) - len(style.closing) + 1]
        try:
            jsonx.loads(b"[%b]" % row.replace(style.seam, b"},{"))
        except jsonx.DecodeError:
            return False
        return True

    def _take_apart(self, data: bytes) -> bytes:
        if self.fault is not None:
            raise self.fault
        if self._done:
            return b""
        try:
            block = self._held.feed(data)
        except UpstreamProtocolError as error:
            self.fault = error
            self._smooth = False
            raise
        self._smooth = self.committed and self._style is not events.COMPACT and not self._held.size
        if not block:
            return b""
        was_committed = self.committed
        out: list[bytes] = []
        try:
            for event in events.split(block):
                out.append(self._event(event))
                if self._done:
                    break
        except UpstreamError as error:
            self.fault = error
            self._smooth = False
            if not (was_committed and any(out)):
                raise
        joined = b"".join(out)
        return block if joined == block else joined

    def _take_rest(self) -> bytes:
        """What stood at the end without an empty line: servers forget it after `[DONE]`, and errors come as
        bare JSON.
        """
        text = self._held.take().strip()
        if not text:
            return b""
        if text.startswith(b"{"):
            self._refuse_bare(text)
        try:
            return self._event(text + b"\n\n")
        except UpstreamProtocolError:
            if not self._seen:
                raise
            raise UpstreamCut(f"{self._backend} ended its stream in the middle of an event") from None

    def _refuse_bare(self, text: bytes) -> NoReturn:
        value = events.parse(text, self._backend)
        if events.is_bare_error(value):
            raise self._told(value)
        raise UpstreamProtocolError(f"{self._backend} answered with JSON where an event stream was asked for")

    # --- events

    def _event(self, event: bytes) -> bytes:
        """What the client gets of one event. Raises UpstreamAnswered, UpstreamProtocolError."""
        payload = events.data_of(event)
        if payload is None:
            return event
        if payload.strip() == events.DONE:
            if not self._seen:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            self._close()
            return event
        chunk = events.parse(payload, self._backend)
        choices = chunk.get("choices")
        if events.is_error(chunk):
            raise self._told(chunk)
        if isinstance(choices, list):
            self._note(choices)
            if choices:
                self._learn(event)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            take_usage(self.usage, usage)
            if not choices and not self._call.wants_usage:
                return b""
        return self._adapted(event, payload, chunk)

    def _note(self, choices: list[Any]) -> None:
        """Commit, finish reasons, and usage where Moonshot puts it."""
        for choice in choices:
            if not isinstance(choice, dict):
                raise UpstreamProtocolError(f"{self._backend} sent a choice that is not an object")
            self._seen = True
            if choice.get("finish_reason") is not None:
                self._finished.add(choice.get("index", 0))
                self.complete = len(self._finished) >= self._choices
            if not self.committed and events.has_content(choice):
                self.committed = True
            if isinstance(choice.get("usage"), dict):
                take_usage(self.usage, choice["usage"])

    def _learn(self, event: bytes) -> None:
        style = events.style_of(event, self._style)
        if style is not None:
            self._style = style
            self._smooth = self.committed and not self._held.size

    def _adapted(self, event: bytes, payload: bytes, chunk: dict[str, Any]) -> bytes:
        name, wanted = chunk.get("model"), self._call.model
        rename = isinstance(name, str) and name != wanted
        drop = ("usage",) if "usage" in chunk and not self._call.wants_usage else ()
        thinks = self._other_reasoning and b"reasoning" in payload and reasoning.count(chunk, "delta")
        if not rename and not drop and not thinks:
            return event
        try:
            if rename and self._rename is None:
                start, value, end = find(payload, chunk, "model")
                self._rename = payload[start:end], payload[start:value] + jsonx.dumps(wanted)
            buffers = edit(payload, chunk, {"model": wanted} if rename else {}, drop)
        except RequestError as error:
            raise UpstreamProtocolError(
                f"{self._backend} sent an event of two meanings: {error.message}"
            ) from None
        edited = b"".join(buffers)
        if thinks:
            edited = self._rethought(event, edited, thinks)
        return events.with_data(event, payload, edited)

    def _rethought(self, event: bytes, payload: bytes, times: int) -> bytes:
        """An event's value with its thinking under the name that clients read."""
        if self._learned < FRAMES and reasoning.only(event, times):
            self._learned += 1
            edited = self._edited
            self._frame = (
                learn(event, self._style.gap, lambda part: edited(reasoning.renamed(part))) or self._frame
            )
        return reasoning.rewritten(payload, "delta", times)

    def _told(self, value: dict[str, Any]) -> UpstreamAnswered:
        return stream_error(value, self._backend, self._blot)

    def _close(self) -> None:
        self.complete = self._done = True
        self._smooth = False
        self._held.take()

    # --- whole answers

    def whole(self, body: bytes) -> bytes:
        """The same object comes out unless the model's name has to change."""
        call = self._call
        answer = events.parse_whole(body, self._backend)
        if not isinstance(answer, dict):
            raise UpstreamProtocolError(f"{self._backend} answered with JSON that is no answer")
        if answer.get("error"):
            raise self._told(answer)
        if not _is_whole(answer, call.operation):
            raise UpstreamProtocolError(f"{self._backend} answered with JSON that is no answer")
        usage = answer.get("usage")
        if isinstance(usage, dict):
            take_usage(self.usage, usage)
        self.committed = self.complete = True
        name = answer.get("model")
        thinks = self._other_reasoning and b"reasoning" in body and reasoning.count(answer, "message")
        if name != call.model and isinstance(name, str):
            try:
                body = b"".join(edit(body, answer, {"model": call.model}))
            except RequestError as error:
                raise UpstreamProtocolError(
                    f"{self._backend} answered in two meanings: {error.message}"
                ) from None
        return reasoning.rewritten(body, "message", thinks) if thinks else body


def choices_of(call: Call, extra: Mapping[str, Any]) -> int:
    """How many choices the answer will have: `n` for each prompt. extra: members set by the configuration."""
    prompt = call.fields.get("prompt") if call.operation == "completions" else None
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    each = extra.get("n") or call.fields.get("n") or 1
    return each * prompts if isinstance(each, int) else prompts


def _is_whole(answer: dict[str, Any], operation: str) -> bool:
    """Whether there is something in it: choices with a message or text, or embeddings."""
    member, content = ("data", "embedding") if operation == "embeddings" else ("choices", "message")
    items = answer.get(member)
    if not isinstance(items, list) or not items:
        return False
    for item in items:
        if not isinstance(item, dict):
            return False
        if not (isinstance(item.get("text"), str) if operation == "completions" else item.get(content)):
            return False
    return True

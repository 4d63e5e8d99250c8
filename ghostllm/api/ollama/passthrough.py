"""Answers of an Ollama server for clients of Ollama's API: the bytes go through, and what passes is
understood.

All but a few lines of an answer are one piece of text or thinking inside a line that says nothing else. A
pattern tells them from the rest: it spells out the whole line, with sound JSON strings where the texts are,
so that what fits it needs no parser. Whatever does not fit is taken apart, line by line.
"""

from __future__ import annotations

import re
from typing import Any

from ghostllm import jsonx
from ghostllm.api.ollama import failures
from ghostllm.api.ollama.answer_reader import Lines
from ghostllm.api.ollama.errors import error_line
from ghostllm.api.splice import edit
from ghostllm.errors import GhostError, RequestError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import Call, Usage

STRING = (
    rb'"[^"\\\x00-\x1f]*+'
    rb'(?:\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2})[^"\\\x00-\x1f]*+)*+"'
)
"""A JSON string without surrogates, which are sound in pairs only: those are left to the parser."""

_TOKENS = re.compile(
    rb'(?:\{"model":(?:'
    + STRING
    + rb'),"created_at":"[0-9TZ:.+-]++",(?:"message":\{"role":"assistant","content":'
    + STRING
    + rb'(?:,"thinking":'
    + STRING
    + rb')?\}|"response":'
    + STRING
    + rb'(?:,"thinking":'
    + STRING
    + rb')?),"done":false\}\n)++'
)
"""Whole lines that carry a piece of text each, as Ollama writes them (Go's encoding/json puts in no blanks).
"""

_SAID = ("content", "thinking", "tool_calls", "response", "image")
"""The members in which a model's output is."""

EMPTY = ("load", "unload")
"""Reasons of an answer that has nothing in it, because nothing was asked."""


class LinesPassThrough:
    """Implements ports.Answer for one chat or generate call of the Ollama door.

    backend: how messages name it. limit: bytes of the largest line. The model's name in the answer becomes
    the one that the client asked for. Every other byte stays, but for empty lines, which clients cannot read.
    """

    __slots__ = (
        "_backend", "_call", "_limit", "_lines", "_rename", "_said", "committed", "complete", "fault",
        "usage",
    )  # fmt: skip

    def __init__(self, call: Call, *, backend: str, limit: int) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None
        self._call = call
        self._backend = backend
        self._limit = limit
        self._lines = Lines()
        self._said = False
        self._rename: tuple[bytes, bytes] | None = None  # how lines begin, and how they have to

    def __repr__(self) -> str:
        state = "complete" if self.complete else "committed" if self.committed else "open"
        return f"<LinesPassThrough {self._backend} {state}>"

    # --- streams

    def feed(self, data: bytes) -> bytes:
        """The same object comes out wherever nothing has to change.

        If a piece holds sound lines and then a fault, the lines come out and the fault is raised by the next
        call; before the commit it is raised at once, since then another backend can still give the whole
        answer.
        """
        if (
            self.committed
            and not self.complete
            and not self._lines.pending
            and self.fault is None
            and self._rename is not None
            and _TOKENS.fullmatch(data)
            and data.count(self._rename[0]) == data.count(b"\n")
            and (data.isascii() or _is_text(data))
        ):
            old, new = self._rename
            return data if old == new else data.replace(old, new)
        return self._take_apart(data)

    def finish(self) -> bytes:
        """A last line may lack its end. Raises UpstreamCut where the line with `done` has not come."""
        if self.fault is not None:
            raise self.fault
        rest = self._lines.rest()
        self._lines = Lines()
        if self.complete:
            return b""
        try:
            out = self._line(rest)
        except UpstreamProtocolError:
            if not self._said:
                raise
            raise UpstreamCut(f"{self._backend} ended its answer in the middle of a line") from None
        if not self.complete:
            raise UpstreamCut(f"{self._backend} ended its answer before it was done")
        return out

    def broken(self, error: GhostError) -> bytes:
        return error_line(error)

    def _take_apart(self, data: bytes) -> bytes:
        if self.fault is not None:
            raise self.fault
        if self.complete:
            return b""  # whatever follows the end is not part of the answer
        delivered = self.committed
        out: list[bytes] = []
        try:
            for line in self._lines.feed(data):
                self._bound(len(line))
                out.append(self._line(line))
                if self.complete:
                    break
            self._bound(self._lines.pending)
        except UpstreamError as error:
            self.fault = error
            if not (delivered and any(out)):
                raise
        joined = b"".join(out)
        return data if joined == data else joined

    def _bound(self, size: int) -> None:
        if size > self._limit and not self.complete:
            raise UpstreamProtocolError(f"{self._backend} sent a line larger than {self._limit} bytes")

    def _line(self, line: bytes) -> bytes:
        """What the client gets of a line. Raises UpstreamAnswered, UpstreamProtocolError."""
        if not line or line.isspace():
            return b""
        value = _parsed(line, self._backend)
        self._note(value)
        return self._renamed(line, value) + b"\n"

    def _note(self, value: dict[str, Any]) -> None:
        """Commit, end and counts."""
        message = value.get("message")
        if message is not None and not isinstance(message, dict):
            raise UpstreamProtocolError(f"{self._backend} sent a message that is not an object")
        if not self._said and _has_content(message or value):
            self._said = self.committed = True
        if value.get("done") is not True:
            return
        self.usage.prompt = _count(value, "prompt_eval_count")
        self.usage.completion = _count(value, "eval_count")
        if not self._said and not self.usage.completion and value.get("done_reason") not in EMPTY:
            raise UpstreamProtocolError(f"{self._backend} sent an answer with nothing in it")
        self.complete = True

    def _renamed(self, line: bytes, value: dict[str, Any]) -> bytes:
        renamed = _with_name(line, value, self._call.model, self._backend)
        if self._rename is None and isinstance(name := value.get("model"), str):
            self._rename = (
                b'{"model":%b,"created_at":"' % jsonx.dumps(name),
                b'{"model":%b,"created_at":"' % jsonx.dumps(self._call.model),
            )
        return renamed

    # --- whole answers

    def whole(self, body: bytes) -> bytes:
        """The same object comes out unless the model's name has to change."""
        value = _parsed(body, self._backend)
        self._note(value)
        if not self.complete:
            raise UpstreamProtocolError(f"{self._backend} sent an answer that is not finished")
        self.committed = True
        return _with_name(body, value, self._call.model, self._backend)


class EmbedPassThrough:
    """Implements ports.Answer for an embed or embeddings call of the Ollama door, which is never a stream."""

    __slots__ = ("_backend", "_call", "committed", "complete", "fault", "usage")

    def __init__(self, call: Call, *, backend: str) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None
        self._call = call
        self._backend = backend

    def feed(self, data: bytes) -> bytes:
        raise UpstreamProtocolError(f"{self._backend} streamed embeddings")

    def finish(self) -> bytes:
        raise UpstreamProtocolError(f"{self._backend} streamed embeddings")

    def broken(self, error: GhostError) -> bytes:
        raise error  # there is no stream that could break

    def whole(self, body: bytes) -> bytes:
        value = _parsed(body, self._backend)
        name = "embedding" if self._call.form == "embeddings" else "embeddings"
        vectors = value.get(name)
        if not isinstance(vectors, list) or len(vectors) < self._expected():
            raise UpstreamProtocolError(f"{self._backend} answered with JSON that has no {name}")
        if name == "embeddings":
            self.usage.prompt = _count(value, "prompt_eval_count")
        self.committed = self.complete = True
        return _with_name(body, value, self._call.model, self._backend)

    def _expected(self) -> int:
        """How many vectors (or, in the older form, numbers) there are at least."""
        wanted = self._call.fields.get("prompt" if self._call.form == "embeddings" else "input")
        return len(wanted) if isinstance(wanted, list) else int(bool(wanted))


def _parsed(text: bytes, backend: str) -> dict[str, Any]:
    """The object that a line or body is. Raises UpstreamAnswered if it tells an error,
    UpstreamProtocolError if it is none.
    """
    try:
        value = jsonx.loads(text)
    except jsonx.DecodeError as error:
        raise UpstreamProtocolError(f"{backend} sent something that is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UpstreamProtocolError(f"{backend} sent JSON that is not an object")
    if "error" in value:
        raise failures.inside(value["error"])
    return value


def _with_name(text: bytes, value: dict[str, Any], model: str, backend: str) -> bytes:
    name = value.get("model")
    if not isinstance(name, str) or name == model:
        return text
    try:
        return b"".join(edit(text, value, {"model": model}))
    except RequestError as error:
        raise UpstreamProtocolError(f"{backend} answered in two meanings: {error.message}") from None


def _has_content(said: dict[str, Any]) -> bool:
    return any(said.get(name) for name in _SAID)


def _count(value: dict[str, Any], name: str) -> int:
    """Ollama leaves out what is zero."""
    count = value.get(name)
    return count if type(count) is int and count > 0 else 0


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

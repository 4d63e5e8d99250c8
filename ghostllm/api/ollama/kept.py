"""A passed-through answer that remembers what it gave out, so that another backend can go on with it.

What was given is kept as it is, which costs a token next to nothing, and read once there is much of it. It is
in Ollama's dialect, so the reader of that dialect reads it; most of it is a row of lines that carry a piece
of text each, which are parsed all at once.
"""

from __future__ import annotations

import re
from typing import Final

from ghostllm import jsonx
from ghostllm.api.ollama.answer_reader import AnswerReader
from ghostllm.api.ollama.answer_writer import LineWriter
from ghostllm.api.ollama.passthrough import STRING, LinesPassThrough
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.api.told import Said, Told, told_by
from ghostllm.api.translation import Mint
from ghostllm.errors import GhostError
from ghostllm.message import Call

KEPT: Final = 8 << 10
"""Bytes that are kept as they are."""

LIMIT = 64 << 20  # bytes of a line; what comes here has passed the limit of its own answer before

_SOURCE = "the answer so far"
_TEXT = re.compile(
    rb'\{"model":'
    + STRING
    + rb',"created_at":"[0-9TZ:.+-]++",(?:"message":\{"role":"assistant","content"|"response"):('
    + STRING
    + rb')\}?,"done":false\}\n'
)
"""A line of nothing but text."""


class Given:
    """The reading of what was given out."""

    __slots__ = ("_reader", "said")

    def __init__(self) -> None:
        self.said = Said()
        self._reader = reader_of(str)

    def read(self, block: bytes) -> None:
        """Whole lines."""
        if self.said.unknown or not block:
            return
        texts: list[bytes] = _TEXT.findall(block)
        if len(texts) == block.count(b"\n"):
            self.said.more("text", jsonx.loads(b"[%b]" % b",".join(texts)))
            return
        try:
            self.said.add(self._reader.feed(block))
            self.said.close_calls()  # they come whole in this dialect
            if self._reader.fault is not None:
                raise self._reader.fault
        except GhostError as error:
            self.said.unknown = error.message


class KeptLines(LinesPassThrough):
    """A told.Telling."""

    __slots__ = ("_given", "_pieces", "_room")

    def __init__(self, call: Call, *, backend: str, limit: int) -> None:
        super().__init__(call, backend=backend, limit=limit)
        self._given = Given()
        self._pieces: list[bytes] = []
        self._room = KEPT

    def feed(self, data: bytes) -> bytes:
        out = LinesPassThrough.feed(self, data)  # which is cheaper than super()
        self._pieces.append(out)
        self._room -= len(out)
        if self._room < 0:
            self._fold()
        return out

    def told(self, created: int, mint: Mint) -> Told:
        """See told.Telling."""
        self._fold()
        call, said = self._call, self._given.said
        writer = LineWriter(
            call.model, created, chat=call.form == "chat", elapsed=call.elapsed, calls=len(said.calls)
        )
        return told_by(said, writer, self.usage)

    def _fold(self) -> None:
        pieces, self._pieces, self._room = self._pieces, [], KEPT
        self._given.read(b"".join(pieces))


def reader_of(mint: Mint) -> AnswerReader:
    """Reads a client's stream of this dialect."""
    request = OllamaRequest("/api/chat", {})
    return AnswerReader(request, lambda: mint("call_"), LIMIT, _SOURCE)

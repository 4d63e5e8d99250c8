"""Answers that are kept and given again, in the dialect in which they were given first.

A recording holds one answer in the form in which it came, a stream or whole, as ready-made pieces: to give it
again in that form is to put an id and a time between them. In the other form it is read and written anew,
which costs some microseconds more. A stream is kept as few events; nobody waits for the tokens of a kept one.
The ids of tool calls stay as they are: clients send them back, and the turns that follow can be found again
only if they are the same.
"""

from __future__ import annotations

import re
import struct
from dataclasses import asdict, replace
from typing import Any

from ghostllm import jsonx
from ghostllm.api import recorded
from ghostllm.api.anthropic import recorded as anthropic
from ghostllm.api.ollama import recorded as ollama
from ghostllm.api.ollama.times import stamp
from ghostllm.api.openai import recorded as openai
from ghostllm.api.responses import recorded as responses
from ghostllm.api.translation import Mint
from ghostllm.errors import GhostError
from ghostllm.message import Call, Usage

PREFIXES = {"chat": "chatcmpl-", "completions": "cmpl-"}
"""What ids of OpenAI's answers begin with."""

OVERHEAD = 1024
"""Bytes of memory that a recording takes besides its pieces, and each piece besides its bytes: generous."""
PIECE = 64

VERSION = 1  # of `dump`

_MARKS = re.compile(b'("%b"|"%b")' % (recorded.IDENTITY.encode(), recorded.CREATED.encode()))
_LENGTH = struct.Struct(">I")

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, GhostError,
              struct.error)  # fmt: skip
"""What reading an answer can raise whose members are not what they are called: it has been passed on as it
came, and was somebody else's to check.
"""


class Recording:
    """One answer. stream, told: the form it is kept in; told: with the figures in its stream. usage: what a
    request that gets it is told to have used: the whole prompt came out of a cache. size: bytes of memory.
    """

    __slots__ = ("_ids", "_parts", "_times", "door", "operation", "size", "stream", "told", "usage")

    def __init__(
        self, kind: tuple[str, str], form: tuple[bool, bool], usage: Usage, pieces: list[bytes]
    ) -> None:
        """kind: door and operation. form: stream and told. pieces: every second one is b"i" or b"c", for the
        id and the time.
        """
        self.door, self.operation = kind
        self.stream, self.told = form
        self.usage = usage
        self._parts = pieces
        holes = range(1, len(pieces), 2)
        self._ids = [at for at in holes if pieces[at] == b"i"]
        self._times = [at for at in holes if pieces[at] != b"i"]
        self.size = OVERHEAD + PIECE * len(pieces) + sum(map(len, pieces))

    def __repr__(self) -> str:
        form = "stream" if self.stream else "whole"
        return f"<Recording {self.door} {self.operation} {form} {self.size} B>"

    def replay(self, call: Call, created: int, mint: Mint) -> bytes:
        """The answer to `call`: its whole stream, or its body. created: seconds since 1970.

        Raises ValueError if it cannot be given in that form, which a recording read by `load` may do.
        """
        if self.door == "responses":
            return responses.written(jsonx.loads(self._parts[0]), self.usage, call, created, mint)
        told = call.stream and call.wants_usage
        if call.stream == self.stream and (told == self.told or not call.stream):
            return self._filled(created, mint)
        try:
            return self._otherwise(call, self._filled(created, mint))
        except UNREADABLE as error:
            raise ValueError("the recording cannot be read") from error

    def _filled(self, created: int, mint: Mint) -> bytes:
        parts = self._parts
        if len(parts) == 1:
            return parts[0]
        parts = list(parts)
        if self._ids:
            prefix = "msg_" if self.door == "anthropic" else PREFIXES.get(self.operation, "")
            identity = jsonx.dumps(mint(prefix))
            for at in self._ids:
                parts[at] = identity
        if self._times:
            time = b'"%b"' % stamp(created).encode() if self.door == "ollama" else b"%d" % created
            for at in self._times:
                parts[at] = time
        return b"".join(parts)

    def _otherwise(self, call: Call, data: bytes) -> bytes:
        """data: the answer in the form in which it is kept."""
        whole = _assembled(self.door, data) if self.stream else jsonx.loads(data)
        if self.door == "openai" and "usage" not in whole and (call.wants_usage or not call.stream):
            openai.mark(marked := dict(whole), self.usage)
            if "usage" in marked:
                whole["usage"] = marked["usage"]
        return _streamed(call, whole) if call.stream else jsonx.dumps(whole)

    # --- as bytes, for a store outside

    def dump(self) -> bytes:
        kinds = b"".join(self._parts[1::2]).decode()
        head = jsonx.dumps(
            {
                "version": VERSION, "door": self.door, "operation": self.operation, "stream": self.stream,
                "told": self.told, "usage": asdict(self.usage), "holes": kinds,
                "sizes": [len(piece) for piece in self._parts[::2]],
            }
        )  # fmt: skip
        return b"".join((_LENGTH.pack(len(head)), head, *self._parts[::2]))


def load(data: bytes) -> Recording | None:
    """What `dump` gave; None for anything else."""
    try:
        (size,) = _LENGTH.unpack_from(data)
        at = _LENGTH.size + size
        head = jsonx.loads(data[_LENGTH.size : at])
        holes, sizes = head["holes"], head["sizes"]
        if head["version"] != VERSION or len(sizes) != len(holes) + 1 or sum(sizes) != len(data) - at:
            return None
        pieces: list[bytes] = []
        for length, hole in zip(sizes, [*holes, ""], strict=True):
            pieces += (data[at : at + length], hole.encode())
            at += length
        kind = str(head["door"]), str(head["operation"])
        form = bool(head["stream"]), bool(head["told"])
        return Recording(kind, form, Usage(**head["usage"]), pieces[:-1])
    except UNREADABLE:
        return None


class Recorder:
    """Keeps what a client is given, up to `limit` bytes."""

    __slots__ = ("_left", "_pieces")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._pieces: list[bytes] = []

    def take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._pieces.append(data)
        elif self._pieces:
            self._pieces = []

    def recording(self, call: Call, usage: Usage) -> Recording | None:
        """See `record`; None also for what was too long."""
        return record(call, b"".join(self._pieces), usage) if self._left >= 0 else None


def record(call: Call, data: bytes, usage: Usage) -> Recording | None:
    """data: all that the client of `call` was given. None: it is not an answer that came to its own end, or
    it cannot be told from one.
    """
    try:
        whole = _assembled(call.door, data) if call.stream else jsonx.loads(data)
        if not isinstance(whole, dict) or whole.get("error") or not _is_sound(call.door, whole):
            return None
        kept = _marked(call, whole, usage)
    except UNREADABLE:
        return None
    pieces: list[bytes] = _MARKS.split(kept)
    identity = b'"%b"' % recorded.IDENTITY.encode()
    pieces[1::2] = [b"i" if mark == identity else b"c" for mark in pieces[1::2]]
    told = replace(usage, cached=usage.prompt, cache_write=None)
    form = call.stream, call.stream and call.wants_usage
    return Recording((call.door, call.operation), form, told, pieces)


def _marked(call: Call, whole: dict[str, Any], usage: Usage) -> bytes:
    if call.door == "responses":
        kept = responses.kept(whole)
        responses.check(kept)
        return jsonx.dumps(kept)
    if call.door == "openai":
        openai.mark(whole, usage)
    elif call.door == "anthropic":
        anthropic.mark(whole, usage)
    else:
        ollama.mark(whole)
    return _streamed(call, whole) if call.stream else jsonx.dumps(whole)


def _assembled(door: str, stream: bytes) -> dict[str, Any]:
    if door == "openai":
        return openai.assembled(stream)
    if door == "anthropic":
        return anthropic.assembled(stream)
    return responses.assembled(stream) if door == "responses" else ollama.assembled(stream)


def _is_sound(door: str, whole: dict[str, Any]) -> bool:
    if door == "openai":
        return openai.is_sound(whole)
    if door == "anthropic":
        return anthropic.is_sound(whole)
    return responses.is_sound(whole) if door == "responses" else ollama.is_sound(whole)


def _streamed(call: Call, whole: dict[str, Any]) -> bytes:
    if call.door == "openai":
        return openai.streamed(whole, usage=call.wants_usage)
    return anthropic.streamed(whole) if call.door == "anthropic" else ollama.streamed(whole)

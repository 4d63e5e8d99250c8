"""Body framing: what belongs to a message's body, by length, by chunks, or by the end of the connection.

All readers have one interface: `feed(data)` gives the payload in `data` (the same object where it passes
whole), `done` says that the body has ended, and `rest` is what followed its end.
"""

from __future__ import annotations

import re

from ghostllm.errors import GhostError

LAST_CHUNK = b"0\r\n\r\n"

SIZE_LINE_LIMIT = 1024  # with its extensions; h11 allows 20 digits and as much extension as fits a read
TRAILER_LIMIT = 8192

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


def chunk(data: bytes) -> bytes:
    """One chunk. Never of empty data: that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class LengthReader:
    """A body of exactly `length` bytes."""

    __slots__ = ("_left", "done", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._left = 0
        self.done = True
        if len(data) == left:
            return data
        self.rest += data[left:]
        return data[:left]


class UntilCloseReader:
    """A body that ends with its connection."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data


class ChunkedReader:
    """A body in chunks (RFC 9112 7.1). Sizes are hex digits and nothing else; extensions and trailers are
    read over.

    error: the class raised, with a message, for anything else. After an error nothing more may be fed.
    """

    __slots__ = ("_error", "_left", "_pending", "_state", "done", "rest")

    def __init__(self, error: type[GhostError]) -> None:
        self._error = error
        self._pending = b""  # an unfinished size line, chunk end or trailer section
        self._left = 0  # bytes of the current chunk still to come
        self._state = 0  # 0 size line, 1 data, 2 the line end after data, 3 trailers
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if self.done:
            self.rest += data
            return b""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, size, pieces = 0, len(data), []
        while at < size:
            if self._state == 0:
                at = self._read_size(data, at)
                if at < 0:
                    break
            if self._state == 1:
                piece = data[at : at + self._left] if at or self._left < size else data
                if piece:
                    pieces.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if self._left:
                    break
                self._state = 2
            if self._state == 2:
                end = data[at : at + 2]
                if end == b"\r\n":
                    at += 2
                    self._state = 0
                elif b"\r\n".startswith(end):
                    self._pending = end
                    break
                else:
                    raise self._error("a chunk is longer than its size says")
            elif self._state == 3:
                self._read_trailers(data, at)
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, data: bytes, at: int) -> int:
        """Where the chunk's data begins, or -1 when the size line is not whole."""
        match = _SIZE.match(data, at)
        if match is None:
            self._pending = data[at:]
            if b"\n" in self._pending or not _may_become_size(self._pending):
                raise self._error("a chunk size that is not a plain hexadecimal number")
            return -1
        if match.end() - at > SIZE_LINE_LIMIT:
            raise self._error("a chunk's size line is too long")
        self._left = int(match[1], 16)
        self._state = 1 if self._left else 3
        if self._state == 3:
            self._read_trailers(data, match.end())
            return -1
        return match.end()

    def _read_trailers(self, data: bytes, at: int) -> None:
        """Trailer fields are checked and dropped: merged into the head, they could change what it said."""
        match = _TRAILERS.match(data, at)
        if match is None:
            self._pending = data[at:]
            if len(self._pending) > TRAILER_LIMIT:
                raise self._error("the trailers of a chunked body are too long")
            lines, _, partial = self._pending.rpartition(b"\r\n")
            whole = lines + b"\r\n" if lines else b""
            if b"\n" in partial or b"\r\n\r\n" in self._pending or not _TRAILERS.fullmatch(whole + b"\r\n"):
                raise self._error("the trailers of a chunked body are not header fields")
            return
        if match.end() - at > TRAILER_LIMIT:
            raise self._error("the trailers of a chunked body are too long")
        self.done = True
        self.rest = data[match.end() :]


_PARTIAL_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?")


def _may_become_size(text: bytes) -> bool:
    return len(text) <= SIZE_LINE_LIMIT and _PARTIAL_SIZE.fullmatch(text) is not None

"""Body framing: what belongs to a message's body, by length, by chunks, or by the end of the connection.

All readers have one interface: `feed(data)` gives the payload in `data` (the same object where it passes
whole, b"" for none), `done` says that the body has ended, and `rest` is what followed its end. `between`: two
chunks, of the next of which nothing has come; then `only_chunk` may stand in for `feed`.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from ghostllm.errors import GhostError
from ghostllm.wire.fields import TOKEN, VALUE

LAST_CHUNK = b"0\r\n\r\n"

SIZE_LINE_LIMIT = 1024  # bytes of one size line with its extensions
EXTENSIONS_LIMIT = 16 * 1024  # bytes of all extensions in one body: nobody uses them, somebody may flood
TRAILER_LIMIT = 8192  # bytes of the whole trailer section
SHORT = 2048  # bytes of the chunks whose size lines are remembered

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;" + VALUE + rb"*+)?)")
_SHORT_SIZE = re.compile(rb"[0-9A-Fa-f]{1,3}")
_SIZE_BEGINS = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:;" + VALUE + rb"*+)?)?\r?")
_TRAILER = re.compile(TOKEN + rb"++:" + VALUE + rb"*+")
_TRAILER_BEGINS = re.compile(rb"(?:" + TOKEN + rb"++(?::" + VALUE + rb"*+)?)?\r?")


class _SizeLines(dict[int, bytes]):
    """Bytes of a chunk's data, up to SHORT -> its size line with the line end: a stream has few sizes."""

    __slots__ = ()

    def __missing__(self, size: int) -> bytes:
        line = b"%x\r\n" % size
        if size <= SHORT:
            self[size] = line
        return line


class _Openings(dict[int, bytes]):
    """Bytes of a read -> the size line with which it is exactly one chunk, as most servers write it; b"" if
    there is none, and for all that is longer than SHORT.
    """

    __slots__ = ()

    def __missing__(self, length: int) -> bytes:
        if length > SHORT:
            return b""
        lines = (_size_lines[length - digits - 4] for digits in (1, 2, 3) if length > digits + 4)
        line = self[length] = next((line for line in lines if len(line) + int(line, 16) + 2 == length), b"")
        return line


_size_lines = _SizeLines()
_openings = _Openings()


def chunk(data: bytes) -> bytes:
    """One chunk. Never of empty data: that would end the body."""
    return b"".join((_size_lines[len(data)], data, b"\r\n"))


def only_chunk(data: bytes) -> bytes:
    """The payload of a read that is exactly one chunk, as most reads of a stream are, since a server flushes
    each event by itself; b"" for any other.
    """
    opening = _openings[len(data)]
    payload = data.removeprefix(opening).removesuffix(b"\r\n")
    if len(payload) + len(opening) + 2 == len(data) and opening:
        return payload
    start = len(opening)
    if opening and data[:start].lower() == opening and data[-2:] == b"\r\n":  # servers in Rust write `1F`
        return data[start:-2]
    return b""


class LengthReader:
    """A body of exactly `length` bytes."""

    __slots__ = ("_left", "done", "rest")
    between: Final = False

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""

    def __repr__(self) -> str:
        return f"<LengthReader {self._left} B to come>"

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
    """A body that ends with its connection: never done by itself."""

    __slots__ = ("done", "rest")
    between: Final = False

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def __repr__(self) -> str:
        return "<UntilCloseReader>"

    def feed(self, data: bytes) -> bytes:
        return data


class _Part(enum.Enum):
    SIZE = "size line"
    DATA = "data"
    END = "line end after data"
    TRAILER = "trailers"


class _Sizes(dict[bytes, int]):
    """Size lines of up to three digits -> bytes, 0 for any other line: chunks of a stream have few sizes."""

    __slots__ = ()

    def __missing__(self, line: bytes) -> int:
        if _SHORT_SIZE.fullmatch(line) is None:
            return 0
        size = self[line] = int(line, 16)
        return size


_sizes = _Sizes()


class ChunkedReader:
    """A body in chunks (RFC 9112 7.1). Sizes are hex digits and nothing else; extensions and trailers are
    read over: merged into the head, a trailer could change what it said.

    error: the class raised, with a message, for anything else. After an error nothing more may be fed.
    """

    __slots__ = (
        "_error", "_extensions", "_left", "_part", "_pending", "_trailers", "between", "done", "rest",
    )  # fmt: skip

    def __init__(self, error: type[GhostError]) -> None:
        self._error = error
        self.between = True
        self._part = _Part.SIZE
        self._pending = b""  # an unfinished line
        self._left = 0  # bytes of the current chunk still to come
        self._extensions = 0
        self._trailers = 0
        self.done = False
        self.rest = b""

    def __repr__(self) -> str:
        return f"<ChunkedReader in {self._part.value}, {self._left} B to come>"

    def feed(self, data: bytes) -> bytes:
        if self.between:
            if payload := only_chunk(data):
                return payload
        elif self._part is _Part.DATA and len(data) < self._left:
            self._left -= len(data)
            return data
        payload = self._feed(data)
        self.between = self._part is _Part.SIZE and not self._pending and not self.done
        return payload

    def _feed(self, data: bytes) -> bytes:
        if self.done:
            self.rest += data
            return b""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        pieces: list[bytes] = []
        at = self._whole_chunks(data, pieces) if self._part is _Part.SIZE else 0
        while at < len(data) and not self.done:
            if self._part is _Part.DATA:
                piece = data[at : at + self._left] if at or len(data) > self._left else data
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._part = _Part.END
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._pending = data[at:]
                self._check_unfinished(self._pending)
                break
            self._read_line(data[at:end])
            at = end + 2
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @staticmethod
    def _whole_chunks(data: bytes, pieces: list[bytes]) -> int:
        """The chunks that lie whole at the beginning of `data` go to `pieces`; where the first other thing
        begins.
        """
        at = 0
        while True:
            start = data.find(b"\r\n", at) + 2
            size = _sizes[data[at : start - 2]] if start > 2 else 0
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                return at
            pieces.append(data[start:end])
            at = end + 2

    def _read_line(self, line: bytes) -> None:
        if self._part is _Part.SIZE:
            self._read_size(line)
        elif self._part is _Part.END:
            if line:
                raise self._error("a chunk is longer than its size says")
            self._part = _Part.SIZE
        elif line:
            self._trailers += len(line) + 2
            if self._trailers > TRAILER_LIMIT:
                raise self._error("the trailers of a chunked body are too long")
            if _TRAILER.fullmatch(line) is None:
                raise self._error("the trailers of a chunked body are not header fields")
        else:
            self.done = True

    def _read_size(self, line: bytes) -> None:
        self._left = _sizes[line]
        if not self._left:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise self._error("a chunk's size is not a plain hexadecimal number")
            self._extensions += len(match[2])
            if len(line) > SIZE_LINE_LIMIT or self._extensions > EXTENSIONS_LIMIT:
                raise self._error("the extensions of a chunked body are too long")
            self._left = int(match[1], 16)
        self._part = _Part.DATA if self._left else _Part.TRAILER

    def _check_unfinished(self, line: bytes) -> None:
        """Refuses at once what no continuation can make sound, so that nothing waits for a limit."""
        if self._part is _Part.SIZE:
            if len(line) > SIZE_LINE_LIMIT or _SIZE_BEGINS.fullmatch(line) is None:
                raise self._error("a chunk's size is not a plain hexadecimal number")
        elif self._part is _Part.END:
            if line != b"\r":
                raise self._error("a chunk is longer than its size says")
        elif self._trailers + len(line) > TRAILER_LIMIT:
            raise self._error("the trailers of a chunked body are too long")
        elif _TRAILER_BEGINS.fullmatch(line) is None:
            raise self._error("the trailers of a chunked body are not header fields")

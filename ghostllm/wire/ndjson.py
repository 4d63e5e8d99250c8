"""Streams of lines, one JSON value each, as Ollama sends them."""

from __future__ import annotations

from ghostllm.errors import UpstreamProtocolError


class LineSplitter:
    """Cuts a stream into lines, the same whatever the reads were. max_line: bytes that one may have."""

    __slots__ = ("_limit", "_pending")

    def __init__(self, max_line: int) -> None:
        self._limit = max_line
        self._pending = bytearray()

    def __repr__(self) -> str:
        return f"<LineSplitter {len(self._pending)} B pending>"

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends (LF or CRLF) and without empty ones.

        Raises UpstreamProtocolError for a line over the limit.
        """
        if b"\n" not in data:
            self._pending += data
            self._bound(len(self._pending))
            return []
        *lines, rest = data.split(b"\n")
        if self._pending:
            lines[0] = bytes(self._pending) + lines[0]
        self._bound(max(map(len, lines)))
        self._bound(len(rest))
        self._pending = bytearray(rest)
        return [line for line in [line.removesuffix(b"\r") for line in lines] if line]

    def rest(self) -> bytes:
        """The line that has begun: at the end of a stream, a last one without its end."""
        return bytes(self._pending)

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamProtocolError(f"a line of the backend's stream exceeds {self._limit} bytes")

"""Server-sent events as the HTML standard defines them (9.2.6 "Interpreting an event stream"), on bytes.

Nothing is decoded: UTF-8 never has a line end inside a character, so a character cut in two by the network is
whole again in its event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ghostllm.errors import UpstreamProtocolError

BOM = b"\xef\xbb\xbf"

_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(slots=True)
class Event:
    """One block of a stream, up to and including its empty line.

    raw: its bytes as they came; all `raw` of a stream make the stream again. data: the values of its data
    lines, joined with LF; None if it has none, as a comment or a heartbeat: the standard dispatches nothing
    then. event: its name, b"" for the default (`message`). id: the id it sets, None if it sets none.
    """

    raw: bytes
    data: bytes | None
    event: bytes = b""
    id: bytes | None = None


class SseSplitter:
    """Cuts a stream into events, the same whatever the reads were. max_event: bytes that one may have.

    An event whose last byte is CR waits for the next byte: it may be the LF of a CRLF.
    """

    __slots__ = ("_begun", "_limit", "_pending")

    def __init__(self, max_event: int) -> None:
        self._limit = max_event
        self._pending = bytearray()
        self._begun = False  # the first event has come, and with it the place for a byte order mark

    def __repr__(self) -> str:
        return f"<SseSplitter {len(self._pending)} B pending>"

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises UpstreamProtocolError for one over the limit; the events
        before it in `data` are lost then, as the stream is.
        """
        pending = self._pending
        resume = 0
        buffer: bytes | bytearray = data
        if pending:
            resume = max(0, len(pending) - 3)  # an event's end is at most four bytes long
            pending += data
            buffer = pending
        events, at = [], 0
        for end in self._ends(buffer, resume):
            self._bound(end - at)
            events.append(self._read(bytes(buffer[at:end])))
            at = end
        self._bound(len(buffer) - at)
        if buffer is pending:
            del pending[:at]
        elif at < len(data):
            pending += data[at:]
        return events

    def tail(self) -> bytes:
        """What came after the last whole event. By the standard it is dropped at the end of a stream."""
        return bytes(self._pending)

    @staticmethod
    def _ends(buffer: bytes | bytearray, start: int) -> list[int]:
        if buffer.find(b"\r", start) < 0:
            ends = []
            at = buffer.find(b"\n\n", start)
            while at >= 0:
                ends.append(at + 2)
                at = buffer.find(b"\n\n", at + 2)
            return ends
        ends = [match.end() for match in _EVENT_END.finditer(buffer, start)]
        if ends and ends[-1] == len(buffer) and buffer.endswith(b"\r"):
            ends.pop()
        return ends

    def _read(self, raw: bytes) -> Event:
        begun, self._begun = self._begun, True
        if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw:
            return Event(raw, raw[6:-2])
        return read_event(raw if begun else raw.removeprefix(BOM), raw)

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamProtocolError(f"an event of the backend's stream exceeds {self._limit} bytes")


def read_event(block: bytes, raw: bytes) -> Event:
    """The event in `block`, which is `raw` without a byte order mark."""
    values: list[bytes] = []
    name, identity = b"", None
    for line in _LINE_END.split(block):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            values.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            identity = value
    return Event(raw, b"\n".join(values) if values else None, name, identity)

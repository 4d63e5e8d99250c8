"""Events of OpenAI streams as bytes: where they end, what they carry, and how a server spells what recurs in
all of them.

A small reader of its own, since server-sent events here stay bytes; the rules are the HTML standard's (lines
end with LF, CRLF or CR, an empty line ends an event, several `data` lines are one value, a colon begins a
comment).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import UpstreamProtocolError

BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
LAST_EVENT = b"data: [DONE]\n\n"
TAIL = 3  # bytes before a piece that may belong to the event's end in it

_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_NULL_FINISH = re.compile(rb'"finish_reason"[ \t]*:[ \t]*null')
_NULL_USAGE = re.compile(rb',[ \t]*"usage"[ \t]*:[ \t]*null')
_IGNORED_FIELDS = (b"", b"event", b"id", b"retry")


@dataclass(slots=True, frozen=True)
class Style:
    """How one server writes its events, so that the next one can be recognised without reading it.

    opening, closing: the first and last bytes of an event. gap: how far before its end its first LF stands.
    seam: where one event ends and the next begins. null_finish, null_usage: these members while they say
    nothing.
    """

    opening: bytes = b"data: {"
    closing: bytes = b"}\n\n"
    gap: int = 2
    seam: bytes = b"}\n\ndata: {"
    null_finish: bytes = b'"finish_reason":null'
    null_usage: bytes = b',"usage":null'


COMPACT = Style()


class Held:
    """Cuts reads into whole events, and keeps the beginning of one whose end has not come.

    limit: bytes that may be kept. source: how errors name the server. size: bytes kept now.
    """

    __slots__ = ("_limit", "_parts", "_source", "_tail", "size")

    def __init__(self, limit: int, source: str) -> None:
        self._limit = limit
        self._source = source
        self._parts: list[bytes] = []
        self._tail = b""
        self.size = 0

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes; the same object where nothing is kept. Raises
        UpstreamProtocolError for an event beyond the limit.
        """
        if self._parts:
            if not last_end(self._tail + data):
                self._keep(data)
                return b""
            data = self.take() + data
        end = last_end(data)
        if end != len(data):
            self._keep(data[end:])
        return data[:end]

    def take(self) -> bytes:
        """What is kept, which then no longer is."""
        rest = b"".join(self._parts)
        self._parts, self._tail, self.size = [], b"", 0
        return rest

    def _keep(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)
        self._tail = (self._tail + data[-TAIL:])[-TAIL:]
        if self.size > self._limit:
            self.take()
            raise UpstreamProtocolError(f"{self._source} sent an event larger than {self._limit} bytes")


def parse(payload: bytes, source: str) -> dict[str, Any]:
    """The object that an event carries. source: how errors name the server. Raises UpstreamProtocolError."""
    try:
        value = jsonx.loads(payload)
    except jsonx.DecodeError as error:
        raise UpstreamProtocolError(f"{source} sent a malformed event: {error}") from None
    if not isinstance(value, dict):
        raise UpstreamProtocolError(f"{source} sent an event that is not an object")
    return value


def parse_whole(body: bytes, source: str) -> Any:
    """The value of a body that is not a stream. Raises UpstreamProtocolError."""
    try:
        return jsonx.loads(body)
    except jsonx.DecodeError as error:
        what = "nothing" if not body.strip() else f"something that is not JSON: {error}"
        raise UpstreamProtocolError(f"{source} answered with {what}") from None


def is_error(chunk: dict[str, Any]) -> bool:
    """Whether an event tells an error: OpenAI's shape, FastAPI's, or that of older vLLM."""
    if chunk.get("error"):
        return True
    return chunk.get("choices") is None and ("detail" in chunk or chunk.get("object") == "error")


def is_bare_error(value: dict[str, Any]) -> bool:
    """Whether JSON where an event stream was asked for tells an error."""
    return bool(value.get("error")) or "detail" in value or "message" in value


def last_end(data: bytes) -> int:
    """Where the last whole event in `data` ends; 0 if none does. A final CRLF is waited for when its CR is
    there.
    """
    end = data.rfind(b"\n\n")
    if b"\r" not in data:
        return end + 2 if end >= 0 else 0
    places = (
        (end, 2), (data.rfind(b"\n\r\n"), 3), (data.rfind(b"\r\r"), 2), (data.rfind(b"\n\r", 0, -1), 2),
    )  # fmt: skip
    return max((at + size for at, size in places if at >= 0), default=0)


def split(block: bytes) -> list[bytes]:
    """The events of a block that ends with a whole one, each with its empty line."""
    if block.find(b"\n") == len(block) - 2 and b"\r" not in block:
        return [block]
    ends = [match.end() for match in _EVENT_END.finditer(block)]
    return [block[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def data_of(event: bytes) -> bytes | None:
    """The value of an event's `data` lines, None if it has none. Raises UpstreamProtocolError for what is no
    event.
    """
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]  # as nearly every server writes them
    values: list[bytes] = []
    for line in _LINE_END.split(event.removeprefix(BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
        elif name not in _IGNORED_FIELDS:
            raise UpstreamProtocolError("what the backend sends is not an event stream")
    return b"\n".join(values) if values else None


def with_data(event: bytes, old: bytes, new: bytes) -> bytes:
    """The event with another value of its data; a line end inside JSON is only white space."""
    return event.replace(old, new, 1) if old in event else b"data: " + new.replace(b"\n", b" ") + b"\n\n"


def style_of(event: bytes, known: Style | None) -> Style | None:
    """The style that an event shows, None if it is not one line. What it does not show is as in `known`."""
    for opening in (b"data: {", b"data:{"):
        for closing, gap in ((b"}\n\n", 2), (b"}\r\n\r\n", 3)):
            if (
                event.startswith(opening)
                and event.endswith(closing)
                and event.find(b"\n") == len(event) - gap
            ):
                known = known or COMPACT
                finish, usage = _NULL_FINISH.search(event), _NULL_USAGE.search(event)
                return Style(
                    opening,
                    closing,
                    gap,
                    closing + opening,
                    finish[0] if finish is not None else known.null_finish,
                    usage[0] if usage is not None else known.null_usage,
                )
    return None


def has_content(choice: dict[str, Any]) -> bool:
    """Whether a choice of a chunk carries output: text, reasoning, a refusal, a tool fragment, anything but
    the role.
    """
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return any(value for name, value in delta.items() if name != "role")
    return bool(choice.get("text"))

"""Heads of HTTP/1.1 requests, as a proxy must read them: stricter than RFC 9112 asks, because two readers of
one message must agree.

A strict compiled grammar recognises nearly every head there is and serves it. What it does not recognise goes
to `h1_unusual`, where h11 has its say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ghostllm.errors import FramingError, GhostError, HeadTooLarge, TargetTooLong, VersionNotSupported
from ghostllm.message import Pairs, Request
from ghostllm.wire.fields import (
    FIELD_WITHOUT_UNDERSCORE,
    HOST,
    LENGTH,
    REMEMBERED_BYTES,
    REMEMBERED_LINES,
    TOKEN,
    Fields,
    field_block,
    joined,
    persistent,
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

CHUNKED = re.compile(rb"chunked", re.IGNORECASE)
EXPECTATION = re.compile(rb"100-continue", re.IGNORECASE)
START = re.compile(rb"([!-~]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*+")

SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"x-api-key",
     b"api-key", b"expect")
)  # fmt: skip
"""Fields of which a request may have one: two would leave open who asks, or what."""

_USUAL_START = re.compile(rb"([A-Z]{1,20}) (" + TARGET.pattern + rb") HTTP/1\.([01])")
_UPSTREAM_START = re.compile(TOKEN + rb"+ " + TARGET.pattern + rb" HTTP/1\.1")
_START_BEGINS = re.compile(rb"(?:[!-~]++(?: (?:[!-~]++(?: [!-~]*+)?)?)?)?\r?")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(slots=True, frozen=True)
class HeadLimits:
    """What a request head may measure: bytes in all, fields, bytes of the target."""

    head_bytes: int = 32_768
    header_count: int = 100
    target_bytes: int = 8_192


class _Starts(dict[bytes, tuple[str, str, int] | None]):
    """Request lines -> (method, target, minor version), None outside the grammar. Queries may hold secrets:
    not kept.
    """

    __slots__ = ()

    def __missing__(self, line: bytes) -> tuple[str, str, int] | None:
        match = _USUAL_START.fullmatch(line)
        if match is None or match[1] == b"CONNECT":
            return None
        start = match[1].decode(), match[2].decode(), int(match[3])
        if len(line) <= REMEMBERED_BYTES and b"?" not in line:
            if len(self) >= REMEMBERED_LINES:
                self.clear()
            self[line] = start
        return start


_starts = _Starts()
_field = Fields(
    FIELD_WITHOUT_UNDERSCORE,
    {b"host": HOST, b"content-length": LENGTH, b"transfer-encoding": CHUNKED, b"expect": EXPECTATION},
).__getitem__


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """The index just past the empty line that ends a head, or -1. start: where the search may begin; three
    bytes before what is new, so that a head that dribbles in costs no more than one that comes at once.
    """
    at = buffer.find(b"\r\n\r\n", start)
    return at if at < 0 else at + 4


def early_reject(buffer: bytes | bytearray, start: int = 0) -> GhostError | None:
    """An error for the beginning of a head that no continuation can make sound, so that it is answered at
    once and not at the time limit: TLS on a plain port, binary data, lines that end in a bare LF, HTTP/0.9.

    start: up to where an earlier call has found nothing wrong.
    """
    if bare_line_end(buffer, start):
        return FramingError("the request head has a bare CR or LF")
    if _CONTROLS.search(buffer, start) is not None:
        return FramingError("the request head has control characters (TLS on a plain port?)")
    end = buffer.find(b"\r\n")
    if end >= 0:
        return bad_start(bytes(buffer[:end])) if start <= end + 1 else None
    if _START_BEGINS.fullmatch(buffer) is None:
        return FramingError("this is not an HTTP/1.1 request")
    return None


def bare_line_end(buffer: bytes | bytearray, start: int = 0) -> bool:
    """Whether a LF lacks its CR or a CR its LF; one at the very end may still get it."""
    if start and buffer[start - 1] == 0x0D:
        start -= 1
    pairs = buffer.count(b"\r\n", start)
    return (
        buffer.count(b"\n", start) != pairs
        or buffer.count(b"\r", start) - buffer.endswith(b"\r", start) != pairs
    )


def bad_start(line: bytes) -> GhostError | None:
    """What is wrong with a request line, as far as its three parts go."""
    match = START.fullmatch(line)
    if match is None:
        if re.fullmatch(rb"[!-~]+ [!-~]+", line):
            return VersionNotSupported("HTTP/0.9 is not spoken here")
        return FramingError("the request line is not `METHOD target HTTP/1.1`")
    if match[3] != b"1":
        return VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are spoken here")
    return None


def read_request(head: bytes, limits: HeadLimits) -> Request:
    """`head`: all up to and including the first empty line. Raises GhostError: what is wrong, and how it is
    answered.
    """
    if len(head) > limits.head_bytes:
        raise _too_large(head, limits)
    lines = head[:-4].split(b"\r\n")
    start = _starts[lines.pop(0)]
    if len(lines) > limits.header_count:
        raise HeadTooLarge(f"the request has more than {limits.header_count} header fields")
    headers = dict(map(_field, lines))
    if start is None or b"" in headers or head[-4:] != b"\r\n\r\n":
        return _unusual(head, limits)
    method, target, minor = start
    if len(target) > limits.target_bytes:
        raise TargetTooLong(f"the request target exceeds {limits.target_bytes} bytes")
    if len(headers) != len(lines):
        headers = joined(map(_field, lines), SINGLE)
    request = Request(method, target, headers, minor)
    if minor and b"host" not in headers:
        raise FramingError("HTTP/1.1 requests need a Host field")
    length = headers.get(b"content-length")
    if length is not None:
        request.content_length = int(length)
    if b"transfer-encoding" in headers:
        if length is not None:
            raise FramingError("both Content-Length and Transfer-Encoding")
        if not minor:
            raise FramingError("Transfer-Encoding on HTTP/1.0")
        request.chunked = True
    return request


def _too_large(head: bytes, limits: HeadLimits) -> GhostError:
    if head.find(b"\r\n") > limits.target_bytes + 40:  # method and version are short
        return TargetTooLong(f"the request target exceeds {limits.target_bytes} bytes")
    return HeadTooLarge(f"the request head exceeds {limits.head_bytes} bytes")


def _unusual(head: bytes, limits: HeadLimits) -> Request:
    # Imported here: h11 costs 10 ms of the start, and most processes never meet such a head.
    from ghostllm.wire.h1_unusual import read_unusual

    return read_unusual(head, limits)


def keep_alive(request: Request) -> bool:
    """Whether the client wants its connection kept after this request."""
    return persistent(request.headers.get(b"connection"), request.minor)


def expects_continue(request: Request) -> bool:
    """Whether the client waits for `100 Continue` before it sends the body (an HTTP/1.0 client cannot)."""
    return request.minor == 1 and b"expect" in request.headers


def request_head(method: str, target: str, headers: Pairs) -> bytes:
    """The head of a request to an upstream, with its empty line. Raises ValueError for what would break its
    framing.
    """
    start = f"{method} {target} HTTP/1.1".encode()
    if _UPSTREAM_START.fullmatch(start) is None:
        raise ValueError(f"not a request line: {method!r} {target!r}")
    return b"%b\r\n%b\r\n" % (start, field_block(headers))

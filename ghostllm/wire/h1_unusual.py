"""Request heads outside the strict grammar: either an error, or one of the few legal forms that clients
rarely use (`OPTIONS *`, an absolute target, methods like `M-SEARCH`, names with an underscore).

First what a proxy must refuse though h11 takes it (http.md of the project's references names each: both
lengths, bare LF, folded lines…), told precisely; then h11's own verdict.
"""

from __future__ import annotations

import re

import h11

from ghostllm.errors import (
    ExpectationFailed,
    FramingError,
    HeadTooLarge,
    MethodNotAllowed,
    NotImplementedHere,
    TargetTooLong,
)
from ghostllm.message import Request
from ghostllm.wire.fields import FIELD, HOST, LENGTH, joined
from ghostllm.wire.h1_request import (
    CHUNKED,
    EXPECTATION,
    SINGLE,
    START,
    TARGET,
    HeadLimits,
    bad_start,
    bare_line_end,
)

SERVED = "GET, HEAD, POST, OPTIONS"

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


def read_unusual(head: bytes, limits: HeadLimits) -> Request:
    """Raises GhostError, as `h1_request.read_request` does; byte and field counts have been checked there."""
    if bare_line_end(head):
        raise FramingError("the request head has a bare CR or LF")
    if head.find(b"\r\n\r\n") != len(head) - 4:
        raise FramingError("the request head does not end with its first empty line")
    line, *lines = head[:-4].split(b"\r\n")
    start = START.fullmatch(line)
    if start is None or start[3] != b"1":
        raise bad_start(line) or FramingError("not a request line")
    method, target = start[1], start[2]
    if len(target) > limits.target_bytes:
        raise TargetTooLong(f"the request target exceeds {limits.target_bytes} bytes")
    if method == b"CONNECT":
        raise MethodNotAllowed("CONNECT is not served", allow=SERVED)
    headers = joined(map(_field, lines), SINGLE)
    path = _origin_form(method, target, headers)
    request = Request(method.decode(), path, headers, 0 if start[4] == b"0" else 1)
    _check_host(request)
    _check_framing(request)
    _check_with_h11(head, limits)
    # Only now: the field that another reader might take for Content-Length has been looked at like any other.
    request.headers = {name: value for name, value in headers.items() if b"_" not in name}
    return request


def _field(line: bytes) -> tuple[bytes, bytes]:
    if line[:1] in (b" ", b"\t"):
        raise FramingError("a header field is folded over several lines")
    match = FIELD.fullmatch(line)
    if match is None:
        name = line.partition(b":")[0][:40].decode("latin-1")
        raise FramingError(f"a header field with a bad name or a control character: {name!r}")
    return match[1].lower(), match[2].rstrip(b" \t")


def _origin_form(method: bytes, target: bytes, headers: dict[bytes, bytes]) -> str:
    """The path and query of a target. An absolute target's authority replaces Host (RFC 9112 3.2.2)."""
    if b"#" in target:
        raise FramingError("the request target has a fragment")
    if target == b"*" and method == b"OPTIONS":
        return "*"
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        if b"host" in headers:
            headers[b"host"] = absolute[1]
        elif not HOST.fullmatch(absolute[1]):
            raise FramingError("the authority of the request target is not a host name")
        target = absolute[2] if absolute[2][:1] == b"/" else b"/" + absolute[2]
    if TARGET.fullmatch(target) is None:
        raise FramingError("the request target must begin with a slash")
    return target.decode()


def _check_host(request: Request) -> None:
    host = request.headers.get(b"host")
    if host is None:
        if request.minor:
            raise FramingError("HTTP/1.1 requests need a Host field")
    elif not HOST.fullmatch(host):
        raise FramingError("the Host field is not a host name")


def _check_framing(request: Request) -> None:
    headers = request.headers
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise FramingError("both Content-Length and Transfer-Encoding")
        if not request.minor:
            raise FramingError("Transfer-Encoding on HTTP/1.0")
        if not CHUNKED.fullmatch(coding):
            known = coding[:40].decode("latin-1")
            raise NotImplementedHere(f"transfer coding {known!r}; only chunked is known")
        request.chunked = True
    elif length is not None:
        if not LENGTH.fullmatch(length):
            raise FramingError("Content-Length must be plain digits")
        request.content_length = int(length)
    expect = headers.get(b"expect")
    if expect is not None and not EXPECTATION.fullmatch(expect):
        raise ExpectationFailed("the only expectation that can be met is 100-continue")


def _check_with_h11(head: bytes, limits: HeadLimits) -> None:
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
    try:
        peer.receive_data(head)
        event = peer.next_event()
    except h11.RemoteProtocolError as error:
        raise FramingError(f"not a sound HTTP request: {error}") from None
    if not isinstance(event, h11.Request):
        raise HeadTooLarge("not a whole HTTP request head")

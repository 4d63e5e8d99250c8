"""HTTP/1.1 heads, as a proxy must read them: stricter than RFC 9112 asks, because two readers of one message
must agree.

Requests go through a strict compiled grammar. What it recognises is served from there; what it does not goes
to h11, which tells a legal but unusual head (`OPTIONS *`, an absolute target) from a protocol error, and then
our own refusals apply. h11 alone would take about ten times as long and accepts what a proxy must not (both
lengths at once, bare LF, folded lines…).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from http import HTTPStatus

from ghostllm.errors import (
    ExpectationFailed,
    FramingError,
    GhostError,
    HeadTooLarge,
    MethodNotAllowed,
    NotImplementedHere,
    TargetTooLong,
    UpstreamProtocolError,
    VersionNotSupported,
)
from ghostllm.message import Pairs, Request

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELDS = rb"((?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*)\r\n"

_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[\x21\x22\x24-\x7e]*) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n" + _FIELDS)
_FIELD = re.compile(rb"([^:\r\n]+):[\t ]*([^\r\n]*)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9_.~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9_.~-]+)?\])(?::[0-9]{1,5})?"
)
_NAME = re.compile(_TOKEN)
_REFUSED_IN_VALUES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")

_SINGLETONS = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"expect")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""RFC 9110 7.6.1, and the Proxy-* fields, which end at a proxy."""

_NOT_NOMINATED = frozenset(
    (b"host", b"content-length", b"content-type", b"authorization", b"x-api-key", b"api-key", b"cookie")
)
"""Fields that a `Connection` header cannot make disappear: framing, routing and credentials."""


@dataclass(slots=True, frozen=True)
class HeadLimits:
    """What a request head may measure: bytes in all, fields, bytes of the target."""

    head_bytes: int = 32_768
    header_count: int = 100
    target_bytes: int = 8_192


class ResponseHead:
    """One response head. bodiless: no body follows, whatever the fields say. keep_alive: the peer keeps the
    connection.
    """

    __slots__ = ("bodiless", "chunked", "content_length", "headers", "keep_alive", "minor", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes], minor: int = 1) -> None:
        self.status = status
        self.headers = headers
        self.minor = minor
        self.content_length: int | None = None
        self.chunked = False
        self.keep_alive = minor == 1
        self.bodiless = False

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"


# --- requests


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """The index just past the empty line that ends a head, or -1. start: where the search may begin."""
    at = buffer.find(b"\r\n\r\n", start)
    return -1 if at < 0 else at + 4


def early_reject(buffer: bytes | bytearray) -> GhostError | None:
    """An error for the beginning of a head that no continuation can make sound: answered at once, not at the
    time limit.
    """
    at = buffer.find(b"\n")
    line = bytes(buffer[: at if at >= 0 else 64])
    if at == 0 or (at > 0 and line[-1:] != b"\r"):
        return FramingError("a line of the request head ends in a bare LF")
    if re.match(rb"[!-~]*[^!-~ \r]", line) or line[:1] == b" ":
        return FramingError("this is not an HTTP/1.1 request (TLS on a plain port?)")
    if re.search(rb"[^\r]\n", buffer):
        return FramingError("a line of the request head ends in a bare LF")
    return None


def read_request(head: bytes, limits: HeadLimits) -> Request:
    """`head`: all up to and including the first empty line. Raises GhostError: what is wrong, and how it is
    answered.
    """
    if len(head) > limits.head_bytes:
        raise HeadTooLarge(f"the request head exceeds {limits.head_bytes} bytes")
    match = _REQUEST.fullmatch(head)
    if match is None:
        return _unusual_request(head, limits)
    method, target, minor, block = match.groups()
    if len(target) > limits.target_bytes:
        raise TargetTooLong(f"the request target exceeds {limits.target_bytes} bytes")
    fields = _FIELD.findall(block)
    if len(fields) > limits.header_count:
        raise HeadTooLarge(f"the request has more than {limits.header_count} header fields")
    headers = {name.lower(): value for name, value in fields}
    if len(headers) != len(fields):
        headers = _joined(fields)
    request = Request(method.decode(), target.decode(), headers, 1 if minor == b"1" else 0)
    _check_request(request)
    return request


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Repeated fields as one, as RFC 9110 5.3 allows; those that must be single are refused."""
    headers: dict[bytes, bytes] = {}
    for raw, value in fields:
        name = raw.lower()
        if name not in headers:
            headers[name] = value
        elif name in _SINGLETONS:
            raise FramingError(f"more than one {name.decode()} field")
        else:
            headers[name] = headers[name].rstrip(b" \t") + (b"; " if name == b"cookie" else b", ") + value
    return headers


def _check_request(request: Request) -> None:
    """What holds for every request, however it was recognised. Trims the values that are compared."""
    headers = request.headers
    for name, value in headers.items():
        if value[-1:] in (b" ", b"\t"):
            headers[name] = value.rstrip(b" \t")
    host = headers.get(b"host")
    if host is None:
        if request.minor:
            raise FramingError("HTTP/1.1 requests need a Host field")
    elif not _HOST.fullmatch(host):
        raise FramingError("the Host field is not a host name")
    length = headers.get(b"content-length")
    if length is not None:
        if not _LENGTH.fullmatch(length):
            raise FramingError("Content-Length must be plain digits")
        request.content_length = int(length)
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise FramingError("both Content-Length and Transfer-Encoding")
        if not request.minor:
            raise FramingError("Transfer-Encoding on HTTP/1.0")
        if coding.lower() != b"chunked":
            raise NotImplementedHere(
                f"transfer coding {coding[:40].decode('latin-1')!r}; only chunked is known"
            )
        request.chunked = True
    expect = headers.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise ExpectationFailed("the only expectation that can be met is 100-continue")


def _unusual_request(head: bytes, limits: HeadLimits) -> Request:
    """A head outside the grammar: an error, or one of the few legal forms that clients rarely use."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", head):
        raise FramingError("the request head has a bare CR or LF")
    line = _LINE.match(head)
    if line is None:
        if re.match(rb"[!-~]+ [!-~]+\r\n", head):
            raise VersionNotSupported("HTTP/0.9 is not spoken here")
        raise FramingError("the request line is not `METHOD target HTTP/1.1`")
    method, target, major, _ = line.groups()
    if major != b"1":
        raise VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are spoken here")
    if re.search(rb"\r\n[ \t]", head):
        raise FramingError("a header field is folded over several lines")
    if len(target) > limits.target_bytes:
        raise TargetTooLong(f"the request target exceeds {limits.target_bytes} bytes")
    if method == b"CONNECT":
        raise MethodNotAllowed("CONNECT is not served", allow="GET, HEAD, POST, OPTIONS")
    fields = _h11_fields(head, limits)
    request = Request(
        method.decode(), _origin_form(method, target, fields), _joined(fields), 1 if line[4] != b"0" else 0
    )
    _check_request(request)
    return request


def _h11_fields(head: bytes, limits: HeadLimits) -> list[tuple[bytes, bytes]]:
    import h11  # only here: most processes never meet such a head, and importing it costs 10 ms of the start

    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
    try:
        peer.receive_data(head)
        event = peer.next_event()
    except h11.RemoteProtocolError as error:
        raise FramingError(f"not a sound HTTP request: {error}") from None
    if not isinstance(event, h11.Request):
        raise FramingError("not a whole HTTP request head")
    raw = event.headers.raw_items()
    if len(raw) > limits.header_count:
        raise HeadTooLarge(f"the request has more than {limits.header_count} header fields")
    # h11 folds equal lengths into one, so the fields are counted on the bytes themselves.
    if len(raw) != head.count(b"\r\n") - 2:
        raise FramingError("a header field is repeated that must be single")
    for name, value in raw:
        if _REFUSED_IN_VALUES.search(value):
            raise FramingError(f"a control character in the field {name.decode('latin-1')}")
    return [(bytes(name), bytes(value)) for name, value in raw]


def _origin_form(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> str:
    """The path and query of an unusual target. An absolute one's authority replaces Host (RFC 9112 3.2.2)."""
    if b"#" in target:
        raise FramingError("the request target has a fragment")
    if target == b"*" and method == b"OPTIONS":
        return "*"
    absolute = re.fullmatch(rb"https?://([^/?#]+)((?:/[^#]*)?)", target, re.IGNORECASE)
    if absolute is not None:
        fields[:] = [(name, absolute[1] if name.lower() == b"host" else value) for name, value in fields]
        return absolute[2].decode() or "/"
    if target.startswith(b"/"):
        return target.decode()
    raise FramingError("the request target must begin with a slash")


def keep_alive(request: Request) -> bool:
    connection = request.headers.get(b"connection")
    if connection is None:
        return request.minor == 1
    return _says_keep(connection, request.minor)


def _says_keep(connection: bytes, minor: int) -> bool:
    options = [option.strip(b" \t") for option in connection.lower().split(b",")]
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def expects_continue(request: Request) -> bool:
    return request.minor == 1 and b"expect" in request.headers


def strip_hop_by_hop(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The fields that may be passed on: without those of one hop and those that Connection nominates."""
    nominated = {
        name.strip(b" \t") for name in headers.get(b"connection", b"").lower().split(b",")
    } - _NOT_NOMINATED
    return {
        name: value for name, value in headers.items() if name not in HOP_BY_HOP and name not in nominated
    }


def request_head(method: str, target: str, headers: Pairs) -> bytes:
    """The head of a request to an upstream, with its empty line. Raises ValueError for what would break its
    framing.
    """
    if (
        not method.isalpha()
        or not target.startswith("/")
        or not target.isascii()
        or not target.isprintable()
        or " " in target
    ):
        raise ValueError(f"not a request line: {method!r} {target!r}")
    return f"{method} {target} HTTP/1.1\r\n".encode() + _block(headers) + b"\r\n"


# --- responses

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nserver: ghostllm\r\ndate: ".encode()
    for status in HTTPStatus
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_date = (0, b"")


def date_value(seconds: int) -> bytes:
    """IMF-fixdate of a Unix time, made once a second; not by locale."""
    global _date
    if _date[0] != seconds:
        t = time.gmtime(seconds)
        day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
        text = f"{day} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
        _date = (seconds, text.encode())
    return _date[1]


def response_head(
    status: int, headers: Pairs, *, length: int | None, chunked: bool, close: bool, date: bytes
) -> bytes:
    """The head of an answer, with its empty line. Neither length nor chunked: the end of the connection ends
    the body.

    204 and 304 get no length (RFC 9110 8.6). Raises ValueError for what would break the framing.
    """
    if chunked:
        framing = b"transfer-encoding: chunked\r\n"
    elif length is None or status == 204 or status == 304:
        framing = b""
    else:
        framing = b"content-length: %d\r\n" % length
    start = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\nserver: ghostllm\r\ndate: " % status
    return b"%b%b\r\n%b%b%b\r\n" % (
        start,
        date,
        _block(headers),
        framing,
        b"connection: close\r\n" if close else b"",
    )


def _block(headers: Pairs) -> bytes:
    block = b"".join([b"%b: %b\r\n" % field for field in headers])
    if block.count(b"\n") != len(headers) or block.count(b"\r") != len(headers) or b"\0" in block:
        raise ValueError("a line break or NUL in a header field")
    return block


def read_response(head: bytes, request_method: str) -> ResponseHead:
    """`head`: all up to and including the empty line. As strict as with requests. Raises
    UpstreamProtocolError.
    """
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise UpstreamProtocolError("the backend's answer does not begin with a sound HTTP/1.1 head")
    minor, status, block = match.groups()
    fields = _FIELD.findall(block)
    headers = {name.lower(): value.rstrip(b" \t") for name, value in fields}
    if len(headers) != len(fields):
        try:
            headers = _joined(fields)
        except FramingError as error:
            raise UpstreamProtocolError(f"the backend's answer has {error.message}") from None
    response = ResponseHead(int(status), headers, 1 if minor == b"1" else 0)
    response.bodiless = request_method == "HEAD" or response.status < 200 or response.status in (204, 304)
    _frame_response(response)
    return response


def _frame_response(response: ResponseHead) -> None:
    headers = response.headers
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if length is not None:
        if not _LENGTH.fullmatch(length):
            raise UpstreamProtocolError("the backend's Content-Length is not a number")
        response.content_length = int(length)
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or not response.minor:
            raise UpstreamProtocolError("the backend's answer is framed in two ways or in an unknown one")
        response.chunked = True
    connection = headers.get(b"connection")
    if connection is not None:
        response.keep_alive = _says_keep(connection, response.minor)
    if not response.bodiless and length is None and coding is None:
        response.keep_alive = False

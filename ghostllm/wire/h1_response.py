"""Heads of HTTP/1.1 responses: those of our answers, made from prepared pieces, and those of backends, read
as strictly as requests are.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from time import gmtime

from ghostllm.errors import FramingError, UpstreamProtocolError
from ghostllm.message import Pairs
from ghostllm.wire.fields import FIELD, LENGTH, VALUE, Fields, field_block, joined, persistent

SINGLE = frozenset((b"content-length", b"transfer-encoding"))

_START = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: " + VALUE + rb"*+)?")
_field = Fields(
    FIELD, {b"content-length": LENGTH, b"transfer-encoding": re.compile(rb"chunked", re.IGNORECASE)}
).__getitem__

GUARDS: Pairs = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Of every answer that does not say otherwise itself: should a browser come upon one, it takes it for nothing
but what it is, runs and frames nothing of it, and keeps it nowhere.
"""

_BEGINNINGS: dict[tuple[int, Pairs], bytes] = {}
"""Status and fields -> the head up to the value of Date. There are few: what differs from answer to answer
(date, id, length) is none of it.
"""
_BEGINNINGS_LIMIT = 256
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_date = (0, b"Thu, 01 Jan 1970 00:00:00 GMT")


def date_value(seconds: int) -> bytes:
    """IMF-fixdate (RFC 9110 5.6.7) of a Unix time, made once a second and independent of the locale."""
    global _date
    if _date[0] != seconds:
        t = gmtime(seconds)
        day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d}"
        _date = seconds, f"{day} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT".encode()
    return _date[1]


def response_head(
    status: int,
    headers: Pairs,
    fields: bytes = b"",
    *,
    length: int | None = None,
    chunked: bool = False,
    close: bool,
    date: bytes,
) -> bytes:
    """The head of an answer, with its empty line. fields: lines known to be sound, each with its end. Neither
    length nor chunked: no body, or one that the end of the connection ends.

    To HEAD the head is the same as to GET, with the length that GET's body would have. 1xx and 204 never have
    framing fields, 304 no length, since ours would be that of an empty body (RFC 9110 8.6, 15.4.5; RFC 9112
    6.1). Raises ValueError for a header field that would break the framing.
    """
    start = _BEGINNINGS.get((status, headers)) or _beginning(status, headers)
    end = b"connection: close\r\n\r\n" if close else b"\r\n"
    if status < 200 or status == 204 or status == 304:
        return b"%b%b\r\n%b%b" % (start, date, fields, end)
    if length is not None:
        return b"%b%b\r\n%bcontent-length: %d\r\n%b" % (start, date, fields, length, end)
    if chunked:
        return b"%b%b\r\n%btransfer-encoding: chunked\r\n%b" % (start, date, fields, end)
    return b"%b%b\r\n%b%b" % (start, date, fields, end)


def _beginning(status: int, headers: Pairs) -> bytes:
    phrase = _PHRASES.get(status, "").encode()
    said = {name for name, _ in headers}
    fields = field_block((*headers, *[guard for guard in GUARDS if guard[0] not in said]))
    block = b"HTTP/1.1 %d %b\r\nserver: ghostllm\r\n%bdate: " % (status, phrase, fields)
    if len(_BEGINNINGS) >= _BEGINNINGS_LIMIT:
        _BEGINNINGS.clear()
    _BEGINNINGS[status, headers] = block
    return block


class ResponseHead:
    """One response head. headers: lower-case name -> value, repeated fields joined with `, `.

    content_length: declared length, None when absent; to HEAD, that of the body which is not sent. bodiless:
    no body follows, whatever the fields say (1xx, 204, 304, answers to HEAD). keep_alive: the peer keeps the
    connection. Neither bodiless nor chunked nor a length: the end of the connection ends the body.
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
        framing = (
            "no body" if self.bodiless
            else "chunked" if self.chunked
            else "until close" if self.content_length is None
            else f"{self.content_length} B"
        )  # fmt: skip
        return f"<ResponseHead {self.status} {framing}>"


def read_response(head: bytes, request_method: str) -> ResponseHead:
    """`head`: all up to and including the empty line. As strict as with requests, but an empty reason phrase
    and HTTP/1.0 are sound. Raises UpstreamProtocolError.
    """
    lines = head[:-4].split(b"\r\n")
    start = _START.fullmatch(lines.pop(0))
    headers = dict(map(_field, lines))
    if start is None or b"" in headers or head[-4:] != b"\r\n\r\n":
        raise UpstreamProtocolError("the backend's answer does not begin with a sound HTTP/1.1 head")
    if len(headers) != len(lines):
        try:
            headers = joined(map(_field, lines), SINGLE)
        except FramingError as error:
            raise UpstreamProtocolError(f"the backend's answer has {error.message}") from None
    status = int(start[2])
    response = ResponseHead(status, headers, int(start[1]))
    response.bodiless = status < 200 or status == 204 or status == 304 or request_method == "HEAD"
    length = headers.get(b"content-length")
    if length is not None:
        response.content_length = int(length)
    response.chunked = b"transfer-encoding" in headers
    if response.chunked and (length is not None or not response.minor):
        raise UpstreamProtocolError("the backend's answer is framed in two ways, or chunked in HTTP/1.0")
    if length is None and not response.chunked and not response.bodiless:
        response.keep_alive = False
    else:
        response.keep_alive = persistent(headers.get(b"connection"), response.minor)
    return response

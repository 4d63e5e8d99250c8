"""Heads that come again. On one connection a client sends mostly the same head again and again, and so does a
server within a second; what differs is the length of the body. Such a head is not read anew: what comes
before and behind the digits of its Content-Length is compared with the one before.

What is remembered of a client's heads may hold credentials: it lives no longer than its connection, and is
forgotten once that is idle.
"""

from __future__ import annotations

import re

from ghostllm.message import Request
from ghostllm.wire.h1_request import HeadLimits, read_request
from ghostllm.wire.h1_response import ResponseHead, read_response

LONGEST = 4096
"""Bytes of a head that is remembered: many connections have one each."""

_LENGTH = re.compile(rb"\r\ncontent-length:[\t ]*+([0-9]{1,18})[\t ]*+\r\n", re.IGNORECASE)
_DIGITS = 18

_TURNS = 64
_TRIES = 8
"""Of so many heads in a row that are all new, so many are taken apart: there are peers whose heads are never
the same.
"""


class _Parts:
    """A head around the digits of its length. vain: heads in a row that were new."""

    __slots__ = ("after", "before", "head", "vain")

    def __init__(self) -> None:
        self.head = b""
        self.before = self.after = b""  # both empty: not known
        self.vain = 0

    def digits(self, head: bytes) -> bytes:
        """Those of a head that is like the one before but for them; b"": it is another."""
        before, after = self.before, self.after
        if before and head.startswith(before) and head.endswith(after):
            digits = head[len(before) : len(head) - len(after)]
            if len(digits) <= _DIGITS and digits.isdigit():
                self.vain = 0
                return digits
        return b""

    def learn(self, head: bytes) -> None:
        self.head = self.before = self.after = b""
        if len(head) > LONGEST:
            return
        self.head = head
        self.vain = (self.vain + 1) % _TURNS
        if self.vain <= _TRIES:
            found = _LENGTH.search(head)
            if found is not None:
                self.before, self.after = head[: found.start(1)], head[found.end(1) :]


class RequestHeads:
    """Reads the heads of one connection."""

    __slots__ = ("_known", "_limits", "_parts")

    def __init__(self) -> None:
        self._parts = _Parts()
        self._known: Request | None = None
        self._limits: HeadLimits | None = None

    def forget(self) -> None:
        if self._known is not None:
            self._known = None
            self._parts = _Parts()

    def read(self, head: bytes, limits: HeadLimits) -> Request:
        """See h1_request.read_request. The headers of requests that are alike are one and the same dict."""
        known, parts = self._known, self._parts
        if known is not None and limits is self._limits:
            if head == parts.head:
                return _again(known, known.headers, known.content_length)
            digits = parts.digits(head)
            if digits and len(head) <= limits.head_bytes:
                return _again(known, {**known.headers, b"content-length": digits}, int(digits))
        request = read_request(head, limits)
        parts.learn(head)
        self._known = _again(request, request.headers, request.content_length) if parts.head else None
        self._limits = limits
        return request


def _again(known: Request, headers: dict[bytes, bytes], length: int | None) -> Request:
    request = Request(known.method, known.path, headers, known.minor)
    request.query = known.query
    request.content_length = length
    request.chunked = known.chunked
    return request


class ResponseHeads:
    """Reads the heads of the answers of one server, whose connections all send alike."""

    __slots__ = ("_known", "_method", "_parts")

    def __init__(self) -> None:
        self._parts = _Parts()
        self._known: ResponseHead | None = None
        self._method = ""

    def read(self, head: bytes, request_method: str) -> ResponseHead:
        """See h1_response.read_response. What it gives may be the same object as before."""
        known, parts = self._known, self._parts
        if known is not None and request_method == self._method:
            if head == parts.head:
                return known
            digits = parts.digits(head)
            if digits:
                answer = ResponseHead(known.status, {**known.headers, b"content-length": digits}, known.minor)
                answer.content_length = int(digits)
                answer.bodiless = known.bodiless
                answer.keep_alive = known.keep_alive
                return answer
        answer = read_response(head, request_method)
        parts.learn(head)
        self._known, self._method = answer if parts.head else None, request_method
        return answer

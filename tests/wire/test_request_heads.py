"""Request heads: what is understood, and every refusal that a proxy owes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import (
    ExpectationFailed,
    FramingError,
    GhostError,
    HeadTooLarge,
    MethodNotAllowed,
    NotImplementedHere,
    TargetTooLong,
    VersionNotSupported,
)
from ghostllm.wire import h1_request
from ghostllm.wire.fields import REMEMBERED_LINES
from ghostllm.wire.h1 import (
    HeadLimits,
    early_reject,
    expects_continue,
    find_head_end,
    keep_alive,
    read_request,
    strip_hop_by_hop,
)

LIMITS = HeadLimits()

SDK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 3.54.0\r\nX-Stainless-Lang: python\r\nX-Stainless-OS: Linux\r\n"
    b"Authorization: Bearer gk_secret\r\nX-Stainless-Retry-Count: 0\r\nContent-Length: 117\r\n\r\n"
)
CURL = b"GET /v1/models?limit=10 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nhost:h\r\ntransfer-encoding: chunked\r\ncookie: a=1\r\ncookie: b=2\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
SEEDS = (SDK, CURL, CHUNKED, OLD)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_it(data):
    for call in (lambda: read_request(data, LIMITS), lambda: read_request(data + b"\r\n\r\n", LIMITS)):
        try:
            call()
        except GhostError:
            pass
    early_reject(data)


@pytest.mark.parametrize("head", SEEDS)
def test_the_end_is_found_wherever_reads_cut(head):
    for cut in range(1, len(head)):
        assert find_head_end(head[:cut]) == -1
        assert find_head_end(head + b"rest", max(0, cut - 3)) == len(head)
        assert early_reject(head[:cut]) is None, head[:cut]


def test_a_typical_head():
    request = read_request(SDK, LIMITS)
    assert (request.method, request.path, request.query, request.minor) == (
        "POST",
        "/v1/chat/completions",
        "",
        1,
    )
    assert request.headers[b"authorization"] == b"Bearer gk_secret"
    assert request.headers[b"x-stainless-os"] == b"Linux"
    assert (request.content_length, request.chunked) == (117, False)
    assert keep_alive(request) and not expects_continue(request)
    assert read_request(CURL, LIMITS).query == "limit=10"
    assert read_request(CHUNKED, LIMITS).headers[b"cookie"] == b"a=1; b=2"


GET = b"GET / HTTP/1.1\r\nhost: h\r\n"


@pytest.mark.parametrize(
    ("head", "error"),
    [
        # the table of what h11 accepts and a proxy must not
        (GET + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", FramingError),
        (b"POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n", FramingError),
        (GET + b"content-length: 3\r\ncontent-length: 3\r\n\r\n", FramingError),
        (GET + b"content-length: 3, 3\r\n\r\n", FramingError),
        (b"GET / HTTP/1.1\nhost: h\n\r\n\r\n", FramingError),
        (GET + b"x: a\r\n b\r\n\r\n", FramingError),
        (GET + b"x: a\x01b\r\n\r\n", FramingError),
        (GET + b"x: a\x7fb\r\n\r\n", FramingError),
        (b"GET / HTTP/9.9\r\nhost: h\r\n\r\n", VersionNotSupported),
        (b"GET / HTTP/2.0\r\nhost: h\r\n\r\n", VersionNotSupported),
        (b"GET / HTTP/1.1\r\nhost: a b@/\r\n\r\n", FramingError),
        (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", FramingError),
        (b"GET x HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"GET /a#b HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"GET * HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n", MethodNotAllowed),
        (GET + b"expect: the-unexpected\r\n\r\n", ExpectationFailed),
        (b"GET http://u@h/ HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"GET http:/// HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (GET + b"host: " + b"a" * 200 + b" b\r\n\r\n", FramingError),
        (b"GET / HTTP/1.1\r\nhost: " + b"a" * 200 + b" b\r\n\r\n", FramingError),
        (GET + b"content-length: " + b" " * 200 + b"+3\r\n\r\n", FramingError),
        (GET + b"authorization: a\r\nauthorization: b\r\n\r\n", FramingError),
        (GET + b"x-api-key: a\r\nX-Api-Key: a\r\n\r\n", FramingError),
        (b"PRI * HTTP/2.0\r\n\r\n", VersionNotSupported),
        # what h11 refuses too
        (b"GET / HTTP/1.1\r\n\r\n", FramingError),
        (GET + b"host: h\r\n\r\n", FramingError),
        (GET + b"content-length: +3\r\n\r\n", FramingError),
        (GET + b"content-length:\r\n\r\n", FramingError),
        (GET + b"content-length: 1_0\r\n\r\n", FramingError),
        (GET + b"content-length: 0x3\r\n\r\n", FramingError),
        (GET + b"content-length: \xb2\r\n\r\n", FramingError),
        (GET + b"content-length: " + b"9" * 30 + b"\r\n\r\n", FramingError),
        (GET + b"transfer-encoding: gzip, chunked\r\n\r\n", NotImplementedHere),
        (GET + b"transfer-encoding: identity\r\n\r\n", NotImplementedHere),
        (GET + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", FramingError),
        (GET + b"x y: 1\r\n\r\n", FramingError),
        (GET + b"x : 1\r\n\r\n", FramingError),
        (GET + b": 1\r\n\r\n", FramingError),
        (GET + b"x: a\rb\r\n\r\n", FramingError),
        (GET + b"x: a\0b\r\n\r\n", FramingError),
        (b"GET  / HTTP/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"GET / http/1.1\r\nhost: h\r\n\r\n", FramingError),
        (b"GET /\r\nhost: h\r\n\r\n", VersionNotSupported),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", FramingError),
    ],
)
def test_refusals(head, error):
    with pytest.raises(error):
        read_request(head, LIMITS)


@pytest.mark.parametrize(
    ("limits", "head", "error"),
    [
        (HeadLimits(head_bytes=50), SDK, HeadTooLarge),
        (HeadLimits(header_count=10), SDK, HeadTooLarge),
        (HeadLimits(target_bytes=10), SDK, TargetTooLong),
        (HeadLimits(target_bytes=10), b"GET http://host/path HTTP/1.1\r\nhost: h\r\n\r\n", TargetTooLong),
        (LIMITS, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", TargetTooLong),
        (LIMITS, GET + b"x: " + b"a" * 40_000 + b"\r\n\r\n", HeadTooLarge),
        (LIMITS, GET + b"x: y\r\n" * 100 + b"\r\n", HeadTooLarge),
        (HeadLimits(header_count=1), b"OPTIONS * HTTP/1.1\r\nhost: h\r\nx: y\r\n\r\n", HeadTooLarge),
    ],
)
def test_limits_hold_for_whole_heads(limits, head, error):
    with pytest.raises(error):
        read_request(head, limits)


@pytest.mark.parametrize("value", [
    "+41", "-0", "4_1", "0x29", "4 1", "1e2", "41;", "\u0664\u0661", "9" * 19, "9" * 5000,
    *("41" + space for space in "\x0b\x0c\x1c\x85\xa0"),
])  # fmt: skip
@pytest.mark.parametrize("padding", [0, 200])  # short lines are remembered, long ones are not
def test_a_length_is_plain_digits(value, padding):
    """Python's int and strip take all of these."""
    for encoding in ("utf-8", "latin-1"):
        field = b"content-length: " + b" " * padding + value.encode(encoding, "replace")
        with pytest.raises(FramingError):
            read_request(GET + field.replace(b"??", b"\xb2\xb2") + b"\r\n\r\n", LIMITS)


def test_names_with_an_underscore_are_dropped():
    """The next server may read them as `content-length` and `x-forwarded-for`."""
    request = read_request(GET + b"Content_Length: 5\r\nX_Y: 1\r\nx: 2\r\n\r\n", LIMITS)
    assert request.headers == {b"host": b"h", b"x": b"2"}
    assert request.content_length is None


def test_upgrades_are_ignored():
    head = GET + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"
    request = read_request(head, LIMITS)
    assert keep_alive(request) and not request.chunked
    assert strip_hop_by_hop(request.headers) == {b"host": b"h"}


def test_what_is_remembered_is_bounded_and_holds_no_credentials():
    known = h1_request._field.__self__
    read_request(SDK.replace(b"gk_secret", b"gk_other"), LIMITS)
    assert b"X-Stainless-OS: Linux" in known
    assert not [line for line in known if b"gk_" in line]
    for number in range(30):
        fields = b"".join(b"x-%d: %d\r\n" % (number, at) for at in range(99))
        request = read_request(GET + fields + b"\r\n", LIMITS)
        assert request.headers[b"x-%d" % number] == b", ".join(b"%d" % at for at in range(99))
        read_request(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % number, LIMITS)
    assert len(known) <= REMEMBERED_LINES
    read_request(b"GET /x?key=gk_query HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS)
    assert not [line for line in h1_request._starts if b"gk_" in line]
    for number in range(2 * REMEMBERED_LINES):
        assert read_request(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % number, LIMITS).path == f"/{number}"
    assert len(h1_request._starts) <= REMEMBERED_LINES


@pytest.mark.parametrize("line", [b"x: a\rb", b"x: a\nb", b"x: a\r\rb", b"x: a\n\nb"])
def test_bare_line_ends_are_called_so(line):
    with pytest.raises(FramingError, match="bare CR or LF"):
        read_request(GET + line + b"\r\n\r\n", LIMITS)


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\nrest", b"\r\n\r\n\r\n\r\n", b"\r\nabcd"])
def test_a_head_ends_with_its_first_empty_line(end):
    with pytest.raises(FramingError):
        read_request(b"GET / HTTP/1.1\r\nhost: h" + end, LIMITS)


def test_unusual_but_legal_heads():
    assert read_request(b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS).path == "*"
    absolute = read_request(b"GET http://other:81/x?q HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS)
    assert (absolute.path, absolute.query, absolute.headers[b"host"]) == ("/x", "q", b"other:81")
    assert read_request(b"GET http://other HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS).path == "/"
    query = read_request(b"GET https://other?q HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS)
    assert (query.path, query.query) == ("/", "q")
    assert read_request(b"GET / HTTP/1.2\r\nhost: h\r\n\r\n", LIMITS).minor == 1
    assert read_request(b"M-SEARCH / HTTP/1.0\r\n\r\n", LIMITS).minor == 0
    assert read_request(b"get / HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS).method == "get"
    assert read_request(b"GET / HTTP/1.1\r\nhost: [::1]:80\r\nx:  a \t\r\n\r\n", LIMITS).headers[b"x"] == b"a"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (GET + b"\r\n", True),
        (GET + b"connection: close\r\n\r\n", False),
        (GET + b"connection: x, Close\r\n\r\n", False),
        (OLD, False),
        (b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_keep_alive(head, expected):
    assert keep_alive(read_request(head, LIMITS)) is expected


@pytest.mark.parametrize(
    "beginning",
    [
        b"\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nhost: h\n",
        b"\x16\x03\x01",
        b" GET",
        b"\x00",
        b"GET\x01",
        b"GET  /",
        b"GET / HTTP/1.1 x",
        b"GET\t/",
        b"G\xc3\x89T",
        b"GET / HTTP/1.1\rhost",
        b"GET / HTTP/1.1\r\nhost: h\r\nx: \0",
        b"GET / HTTP/1.1\r\nhost: h\rx",
        b"SSH-2.0-OpenSSH_9\r\n",
    ],
)
def test_hopeless_beginnings_are_refused_at_once(beginning):
    assert isinstance(early_reject(beginning), FramingError)


def test_other_versions_are_refused_at_once():
    assert isinstance(early_reject(b"GET /\r\n"), VersionNotSupported)
    assert isinstance(early_reject(b"PRI * HTTP/2.0\r\n"), VersionNotSupported)


def test_a_whole_request_with_bare_line_ends_is_refused_at_once():
    assert isinstance(early_reject(b"GET / HTTP/1.1\nHost: x\n\n"), FramingError)


def test_waiting_for_a_body():
    expecting = GET + b"Expect: 100-Continue\r\ncontent-length: 3\r\n\r\n"
    assert expects_continue(read_request(expecting, LIMITS))
    assert not expects_continue(read_request(expecting.replace(b"HTTP/1.1", b"HTTP/1.0"), LIMITS))

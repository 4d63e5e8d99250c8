"""Request heads: the scanner against h11, and every refusal that a proxy owes."""

import h11
import pytest
from hypothesis import example, given, settings
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
from ghostllm.wire.h1 import (
    HeadLimits,
    early_reject,
    expects_continue,
    find_head_end,
    keep_alive,
    read_request,
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

FRAGMENTS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\x0b", b"\x85", b"\xff", b"#", b"Content-Length: 5\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Host: other\r\n", b"X-Y: z\r\n", b" folded\r\n", b"+", b"_", b"0", b"HTTP/1.0",
     b"chunked, chunked", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"http://h2/"]
)  # fmt: skip


@st.composite
def mutated_heads(draw):
    head = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(head) - 4))
        kind = draw(st.sampled_from("ird"))
        size = draw(st.integers(1, 4))
        if kind == "i":
            head = head[:at] + draw(FRAGMENTS) + head[at:]
        elif kind == "r":
            head = head[:at] + draw(FRAGMENTS) + head[at + size :]
        else:
            head = head[:at] + head[at + size :]
    end = head.find(b"\r\n\r\n")
    return head[: end + 4] if end >= 0 else head + b"\r\n\r\n"


def by_h11(head):
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(head)
    return peer.next_event()


@settings(max_examples=1500, deadline=None)
@given(mutated_heads())
@example(b"GET /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n")
def test_what_is_accepted_means_the_same_to_h11(head):
    try:
        request = read_request(head, LIMITS)
    except GhostError:
        return
    event = by_h11(head)
    assert isinstance(event, h11.Request)
    assert event.method.decode() == request.method
    target = event.target.decode()
    assert target == request.path + (f"?{request.query}" if "?" in target else "") or target.startswith(
        "http"
    )
    assert event.http_version == b"1.%d" % request.minor
    theirs = {}
    for name, value in event.headers:
        joint = b"; " if name == b"cookie" else b", "
        theirs[name] = theirs[name] + joint + value if name in theirs else value
    if not target.startswith("http"):  # there the target's authority replaces Host
        assert request.headers == theirs
    length = theirs.get(b"content-length")
    assert request.content_length == (None if length is None else int(length))
    assert request.chunked == (b"transfer-encoding" in theirs)


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
        (HeadLimits(header_count=1), b"OPTIONS * HTTP/1.1\r\nhost: h\r\nx: y\r\n\r\n", HeadTooLarge),
    ],
)
def test_limits_hold_for_whole_heads(limits, head, error):
    with pytest.raises(error):
        read_request(head, limits)


def test_unusual_but_legal_heads():
    assert read_request(b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS).path == "*"
    absolute = read_request(b"GET http://other:81/x?q HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS)
    assert (absolute.path, absolute.query, absolute.headers[b"host"]) == ("/x", "q", b"other:81")
    assert read_request(b"GET http://other HTTP/1.1\r\nhost: h\r\n\r\n", LIMITS).path == "/"
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
    ],
)
def test_hopeless_beginnings_are_refused_at_once(beginning):
    assert isinstance(early_reject(beginning), FramingError)

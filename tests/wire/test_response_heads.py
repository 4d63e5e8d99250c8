"""Response heads, both ways, and the heads of upstream requests."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ghostllm.errors import UpstreamProtocolError
from ghostllm.wire.h1 import date_value, read_response, request_head, response_head, strip_hop_by_hop
from ghostllm.wire.h1_response import GUARDS
from tests.wire.heads import RESPONSES, spoiled

GUARD_LINES = (
    b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\ncache-control: no-store\r\n"
)
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_dates():
    assert date_value(784111777) == DATE
    assert date_value(0) == b"Thu, 01 Jan 1970 00:00:00 GMT"


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_any_date(moment):
    assert date_value(int(moment.timestamp())).decode() == format_datetime(moment, usegmt=True)


def heads(**options):
    return response_head(200, ((b"content-type", b"text/plain"),), date=DATE, **options)


def test_an_answer_with_a_length():
    assert heads(length=5, chunked=False, close=False) == (
        b"HTTP/1.1 200 OK\r\nserver: ghostllm\r\ncontent-type: text/plain\r\n" + GUARD_LINES + b"date: "
        + DATE + b"\r\ncontent-length: 5\r\n\r\n"
    )  # fmt: skip


def test_an_answer_may_say_itself_what_browsers_may_do_with_it():
    own = ((b"cache-control", b"no-cache"), (b"content-security-policy", b"default-src 'self'"))
    head = response_head(200, own, length=0, close=False, date=DATE)
    assert head.count(b"cache-control: ") == 1 and head.count(b"content-security-policy: ") == 1
    assert b"x-content-type-options: nosniff\r\n" in head and b"referrer-policy: no-referrer\r\n" in head


def test_framing_fields():
    assert b"transfer-encoding: chunked\r\n" in heads(length=None, chunked=True, close=False)
    bare = heads(length=None, chunked=False, close=True)
    assert b"connection: close" in bare and b"content-length" not in bare and b"chunked" not in bare
    for status in (204, 304):
        assert b"content-length" not in response_head(
            status, (), length=0, chunked=False, close=False, date=DATE
        )
    assert response_head(529, (), length=0, chunked=False, close=False, date=DATE).startswith(
        b"HTTP/1.1 529 \r\n"
    )


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b", b"\r\n", b"\x1f", b"\x7f"])
def test_a_value_cannot_break_the_framing(value):
    with pytest.raises(ValueError, match="line break"):
        response_head(200, ((b"x", value),), length=0, chunked=False, close=False, date=DATE)
    with pytest.raises(ValueError, match="line break"):
        request_head("GET", "/", ((b"x", value),))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/a b"),
        ("GET", "x"),
        ("GET", "/\r\nx"),
        ("G T", "/"),
        ("", "/"),
        ("GET", "/é"),
        ("GÉT", "/"),
        ("GET", "/ HTTP/1.1\r\nx: y\r\n\r\nGET /"),
        ("GET", "/a#b"),
        ("GET", "/a\t"),
        ("GET", ""),
        ("GET", "/a\n"),
    ],
)
def test_a_request_line_cannot_break_the_framing(method, target):
    with pytest.raises(ValueError, match="request line"):
        request_head(method, target, ())


def test_h11_reads_what_is_written():
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(heads(length=2, chunked=False, close=False) + b"ok")
    event = peer.next_event()
    assert event.status_code == 200 and (b"content-length", b"2") in list(event.headers)
    server = h11.Connection(h11.SERVER)
    server.receive_data(request_head("POST", "/v1/x?y", ((b"host", b"h"), (b"content-length", b"0"))))
    assert server.next_event().target == b"/v1/x?y"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", (200, 3, False, True)),
        (b"HTTP/1.1 200\r\nContent-Length:3 \r\n\r\n", (200, 3, False, True)),
        (b"HTTP/1.1 200 \r\ntransfer-encoding: Chunked\r\n\r\n", (200, None, True, True)),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\n", (200, 3, False, False)),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", (200, 3, False, False)),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\n", (200, 3, False, True)),
        (b"HTTP/1.1 200 OK\r\n\r\n", (200, None, False, False)),
        (b"HTTP/1.1 404 Nicht gef\xfcnden\r\ncontent-length: 0\r\n\r\n", (404, 0, False, True)),
    ],
)
def test_answers_of_servers(head, expected):
    answer = read_response(head, "POST")
    assert (answer.status, answer.content_length, answer.chunked, answer.keep_alive) == expected


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (b"HTTP/1.1 204 No\r\n\r\n", "POST"),
        (b"HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n", "GET"),
        (b"HTTP/1.1 100 C\r\n\r\n", "POST"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "HEAD"),
    ],
)
def test_answers_without_a_body(head, method):
    answer = read_response(head, method)
    assert answer.bodiless and answer.keep_alive


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
    ],
)
def test_unsound_answers(head):
    with pytest.raises(UpstreamProtocolError):
        read_response(head, "POST")


@settings(max_examples=600, deadline=None)
@given(head=spoiled(RESPONSES), method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_what_is_accepted_means_the_same_to_h11(head, method):
    end = head.find(b"\r\n\r\n") + 4
    if end < 4:
        return
    seen = []
    for _ in range(2):  # with new lines, then with known ones
        try:
            answer = read_response(head[:end], method)
        except UpstreamProtocolError:
            return
        seen.append((answer.status, answer.headers, answer.content_length, answer.chunked, answer.bodiless))
    assert seen[0] == seen[1]
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "h"), ("content-length", "0")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(head[:end])
    event = peer.next_event()
    assert event.status_code == answer.status
    headers = dict(answer.headers)
    if b"transfer-encoding" in headers:  # h11 gives its value in lower case
        headers[b"transfer-encoding"] = headers[b"transfer-encoding"].lower()
    assert joined(event.headers) == headers
    if answer.status < 200:
        assert answer.bodiless
        return
    following = peer.next_event()
    assert (following is h11.NEED_DATA) == (not answer.bodiless and answer.content_length != 0)
    if answer.chunked and not answer.bodiless:
        peer.receive_data(b"1\r\nx\r\n0\r\n\r\n")
        assert [type(peer.next_event()) for _ in range(2)] == [h11.Data, h11.EndOfMessage]
    if isinstance(following, h11.EndOfMessage):
        assert answer.keep_alive == (peer.their_state is h11.DONE)


def joined(fields):
    headers = {}
    for name, value in fields:
        glue = b"; " if name == b"cookie" else b", "
        headers[name] = headers[name] + glue + value if name in headers else value
    return headers


NAMES = st.text("abcXYZ-019_!~", min_size=1, max_size=9).map(str.encode)
VALUES = st.binary(max_size=12)


@settings(max_examples=300, deadline=None)
@given(fields=st.lists(st.tuples(NAMES | VALUES, VALUES), max_size=4).map(tuple), close=st.booleans())
@example(fields=((b"x: ", b""),), close=False)
@example(fields=((b"x", b"\r\ny: z"),), close=False)
def test_what_is_written_has_just_the_fields_given(fields, close):
    """Whatever bytes names and values have: refused, or read back as they were."""
    try:
        head = response_head(200, fields, length=0, chunked=False, close=close, date=DATE)
    except ValueError:
        return
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(head)
    ours = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    end = [(b"content-length", b"0"), *([(b"connection", b"close")] if close else [])]
    guards = [guard for guard in GUARDS if guard[0] not in {name for name, _ in fields}]
    assert list(peer.next_event().headers) == [
        (b"server", b"ghostllm"),
        *ours,
        *guards,
        (b"date", DATE),
        *end,
    ]


def test_answers_that_have_no_framing_fields():
    for status in (100, 103, 204, 304):
        for chunked in (True, False):
            head = response_head(status, (), length=5, chunked=chunked, close=False, date=DATE)
            assert b"content-length" not in head and b"transfer-encoding" not in head
            assert read_response(head, "GET").bodiless


def test_a_repeated_field_that_frames_nothing_is_joined():
    answer = read_response(b"HTTP/1.1 200 OK\r\nvary: a\r\nVary: b\r\ncontent-length: 0\r\n\r\n", "GET")
    assert answer.headers[b"vary"] == b"a, b"


@given(st.binary(max_size=120))
def test_no_bytes_break_it(data):
    try:
        read_response(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", "GET")
    except UpstreamProtocolError:
        pass


def test_hop_by_hop_fields_stay_behind():
    headers = {
        b"connection": b"close, x-mine, Host, authorization",
        b"x-mine": b"1",
        b"host": b"h",
        b"authorization": b"a",
        b"te": b"trailers",
        b"proxy-authorization": b"p",
        b"x-other": b"2",
    }
    assert set(strip_hop_by_hop(headers)) == {b"host", b"authorization", b"x-other"}

"""Response heads, both ways."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import UpstreamProtocolError
from ghostllm.wire.h1 import date_value, read_response, request_head, response_head, strip_hop_by_hop

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_dates():
    assert date_value(784111777) == DATE
    assert date_value(0) == b"Thu, 01 Jan 1970 00:00:00 GMT"


def heads(**options):
    return response_head(200, ((b"content-type", b"text/plain"),), date=DATE, **options)


def test_an_answer_with_a_length():
    assert heads(length=5, chunked=False, close=False) == (
        b"HTTP/1.1 200 OK\r\nserver: ghostllm\r\ndate: " + DATE + b"\r\ncontent-type: text/plain\r\n"
        b"content-length: 5\r\n\r\n"
    )


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


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"a\rb", b"a\0b"])
def test_a_value_cannot_break_the_framing(value):
    with pytest.raises(ValueError, match="line break"):
        response_head(200, ((b"x", value),), length=0, chunked=False, close=False, date=DATE)
    with pytest.raises(ValueError, match="line break"):
        request_head("GET", "/", ((b"x", value),))


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/a b"), ("GET", "x"), ("GET", "/\r\nx"), ("G T", "/"), ("", "/"), ("GET", "/é")],
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

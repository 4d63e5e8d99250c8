"""The request scanner against h11: on all that the scanner accepts both read the same, however it is cut."""

from __future__ import annotations

from urllib.parse import urlsplit

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ghostllm.errors import GhostError
from ghostllm.wire.h1 import HeadLimits, early_reject, find_head_end, read_request
from ghostllm.wire.h1_unusual import read_unusual
from tests.wire.heads import ABSOLUTE, CHUNKED, OPENAI, REQUESTS, spoiled

LIMITS = HeadLimits()


def attempt(head, read=read_request):
    """What a reader makes of a head: all that another reader must see alike, or the error's class."""
    try:
        request = read(head, LIMITS)
    except GhostError as error:
        return type(error)
    target = request.path + ("?" + request.query if request.query else "")
    framing = (request.content_length, request.chunked)
    return request.method, target, request.headers, request.minor, framing


def by_h11(head):
    """Raises RemoteProtocolError."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(head)
    event = peer.next_event()
    assert isinstance(event, h11.Request), event
    headers = {}
    for name, value in event.headers:
        if b"_" not in name:
            glue = b"; " if name == b"cookie" else b", "
            headers[name] = headers[name] + glue + value if name in headers else value
    return peer, event, headers


def body_end_by_h11(peer, data):
    """How many bytes of `data` h11 takes for the request's body."""
    peer.receive_data(data)
    while True:
        event = peer.next_event()
        if isinstance(event, h11.EndOfMessage):
            return len(data) - len(peer.trailing_data[0])
        assert isinstance(event, h11.Data), event


@settings(max_examples=1000, deadline=None)
@given(spoiled(REQUESTS))
@example(OPENAI)
@example(CHUNKED)
@example(ABSOLUTE)
def test_what_the_scanner_accepts_h11_reads_alike(data):
    end = find_head_end(data)
    if end < 0:
        return
    head = data[:end]
    seen = attempt(head)
    assert attempt(head) == seen  # now that its lines are known
    if isinstance(seen, type):
        return
    method, target, headers, minor, (length, chunked) = seen
    peer, event, expected = by_h11(head)
    assert method == event.method.decode()
    assert (minor == 0) == (event.http_version == b"1.0")
    if event.target.lower().startswith(b"http"):
        url = urlsplit(event.target.decode())
        if b"host" in expected:
            expected[b"host"] = url.netloc.encode()
        assert target == (url.path or "/") + ("?" + url.query if url.query else "")
    else:
        assert target.removesuffix("?") == event.target.decode().removesuffix("?")
    if b"transfer-encoding" in headers:  # h11 gives its value in lower case
        headers = {**headers, b"transfer-encoding": headers[b"transfer-encoding"].lower()}
    assert headers == expected
    if chunked:
        assert body_end_by_h11(peer, b"2\r\nab\r\n0\r\n\r\nGET") == 12
    elif (length or 0) < 4096:
        assert body_end_by_h11(peer, bytes(length or 0) + b"GET") == (length or 0)


@settings(max_examples=400, deadline=None)
@given(spoiled(REQUESTS))
def test_both_ways_of_reading_agree(data):
    """The strict grammar and the long way through h11: same requests, same refusals' statuses."""
    end = find_head_end(data)
    if end < 0:
        return
    quick, thorough = attempt(data[:end]), attempt(data[:end], read_unusual)
    if isinstance(quick, type):
        assert isinstance(thorough, type) and quick.status == thorough.status
    else:
        assert quick == thorough


@settings(max_examples=100, deadline=None)
@given(spoiled(REQUESTS), st.data())
def test_a_head_that_dribbles_in(data, draw):
    """Byte by byte: the same end is found, and nothing that would have been accepted is refused early."""
    whole = find_head_end(data)
    refused = None
    for count in range(1, (whole if whole > 0 else len(data)) + 1):
        buffer = bytearray(data[:count])
        end = find_head_end(buffer, max(0, count - 4))
        assert end == (whole if count == whole else -1)
        if end < 0:
            error = early_reject(buffer, count - 1)
            refused = refused or error
            assert (early_reject(buffer) is None) == (refused is None)
    if whole > 0 and not isinstance(attempt(data[:whole]), type):
        assert refused is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    attempt(data + b"\r\n\r\n")
    early_reject(data)


@given(st.sampled_from(REQUESTS), st.binary(min_size=1, max_size=30))
def test_bytes_after_the_head_are_no_part_of_it(head, rest):
    assert find_head_end(head + rest) == len(head)

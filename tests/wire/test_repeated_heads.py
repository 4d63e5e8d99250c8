"""Heads that come again are read as they would be by themselves, whatever came before them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ghostllm.errors import GhostError, HeadTooLarge
from ghostllm.wire.h1 import HeadLimits, read_request, read_response
from ghostllm.wire.h1_repeated import LONGEST, RequestHeads, ResponseHeads
from tests.wire.heads import OPENAI, REQUESTS, RESPONSES, spoiled

LIMITS = HeadLimits()
POST = b"POST /v1/x HTTP/1.1\r\nhost: h\r\ncontent-length: %b\r\nx: y\r\n\r\n"
LENGTHS = st.sampled_from(
    [b"0", b"5", b"12", b"007", b"1" * 18, b"1" * 19, b"", b"-1", b"+3", b"1_0", b" 7", b"\xb2", b"5\r\nx: y"]
)


def told(read, *args):
    try:
        found = read(*args)
    except GhostError as error:
        return type(error), error.message
    names = [name for name in type(found).__slots__ if name not in ("body", "peer")]
    return [(name, getattr(found, name)) for name in names]


def varied(head, length):
    return re.sub(rb"(?i)(content-length: *)[0-9]+", lambda found: found[1] + length, head)


def series(heads):
    """Heads of which many are alike but for their lengths."""
    return st.lists(
        st.one_of(spoiled(heads), st.builds(varied, st.sampled_from(heads), LENGTHS), st.sampled_from(heads)),
        max_size=12,
    )


@settings(max_examples=300, deadline=None)
@given(series(REQUESTS))
@example([OPENAI, varied(OPENAI, b"1"), varied(OPENAI, b"1" * 19), OPENAI])
def test_requests_are_read_as_by_themselves(heads):
    repeated = RequestHeads()
    for head in heads:
        assert told(repeated.read, head, LIMITS) == told(read_request, head, LIMITS)


@settings(max_examples=300, deadline=None)
@given(series(RESPONSES), st.sampled_from(["GET", "HEAD", "POST"]))
def test_responses_are_read_as_by_themselves(heads, method):
    repeated = ResponseHeads()
    for head in heads:
        assert told(repeated.read, head, method) == told(read_response, head, method)
        assert told(repeated.read, head, "POST") == told(read_response, head, "POST")


@pytest.mark.parametrize("length", [b"1" * 19, b"", b"+3", b"-1", b" 3", b"1_0", b"\xb2", b"3\r\nhost: i"])
def test_only_digits_may_differ(length):
    repeated = RequestHeads()
    for head in (POST % b"3", POST % b"77", POST % length, POST % b"3"):
        assert told(repeated.read, head, LIMITS) == told(read_request, head, LIMITS)


def test_the_parts_of_a_head_do_not_overlap():
    head = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\nhos: h\r\n\r\n"
    shorter = head.replace(b"1\r\nhos", b"\r\nhos")
    repeated = RequestHeads()
    repeated.read(head, LIMITS)
    assert told(repeated.read, shorter, LIMITS) == told(read_request, shorter, LIMITS)


def test_a_head_that_grows_past_the_limit_is_refused():
    limits = HeadLimits(head_bytes=len(POST % b"99"))
    repeated = RequestHeads()
    assert repeated.read(POST % b"1", limits).content_length == 1
    assert repeated.read(POST % b"99", limits).content_length == 99
    with pytest.raises(HeadTooLarge):
        repeated.read(POST % b"100", limits)


def test_new_limits_count_for_a_head_that_was_read_under_others():
    repeated = RequestHeads()
    repeated.read(POST % b"1", LIMITS)
    with pytest.raises(HeadTooLarge):
        repeated.read(POST % b"1", HeadLimits(header_count=2))


def test_requests_have_bodies_and_peers_of_their_own():
    repeated = RequestHeads()
    first = repeated.read(POST % b"1", LIMITS)
    first.body, first.peer = b"x", "192.0.2.1"
    second = repeated.read(POST % b"1", LIMITS)
    assert second is not first
    assert (second.body, second.peer) == (b"", "")
    assert second.headers is first.headers
    assert repeated.read(POST % b"2", LIMITS).headers[b"content-length"] == b"2"
    assert first.headers[b"content-length"] == b"1"


def test_what_is_forgotten_is_read_anew():
    repeated = RequestHeads()
    repeated.forget()
    first = repeated.read(POST % b"1", LIMITS)
    repeated.forget()
    second = repeated.read(POST % b"1", LIMITS)
    assert second.headers == first.headers
    assert second.headers is not first.headers


def test_long_heads_are_not_kept():
    repeated = RequestHeads()
    head = b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"a" * LONGEST + b"\r\n\r\n"
    first, second = repeated.read(head, LIMITS), repeated.read(head, LIMITS)
    assert first.headers is not second.headers
    assert first.headers == second.headers


def test_one_that_always_varies_is_recognised_again_later():
    repeated = RequestHeads()
    for number in range(70):
        head = (POST % b"1").replace(b"x: y", b"x: %d" % number)
        assert repeated.read(head, LIMITS).headers[b"x"] == b"%d" % number
    for _ in range(70):
        repeated.read(POST % b"1", LIMITS)
        assert repeated.read(POST % b"2", LIMITS).content_length == 2

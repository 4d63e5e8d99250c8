"""Server-sent events against a naive reading of the standard, under every split."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ghostllm.errors import UpstreamProtocolError
from ghostllm.wire.sse import Event, SseSplitter

LIMIT = 1 << 20


def by_the_standard(stream):
    """(event, data) as 9.2.6 dispatches them, read one byte at a time and step by step."""
    if stream.startswith(b"\xef\xbb\xbf"):
        stream = stream[3:]
    lines, line, at = [], b"", 0
    while at < len(stream):
        byte = stream[at : at + 1]
        if byte in (b"\r", b"\n"):
            lines.append(line)
            line = b""
            at += 2 if stream[at : at + 2] == b"\r\n" else 1
        else:
            line += byte
            at += 1
    dispatched, data, name = [], b"", b""
    for line in lines:  # an unfinished last line is dropped, as an unfinished last event is
        if line == b"":
            if data != b"":
                dispatched.append((name, data[:-1]))
            data = name = b""
        elif line[:1] == b":":
            pass
        else:
            colon = line.find(b":")
            field, value = (line, b"") if colon < 0 else (line[:colon], line[colon + 1 :])
            if value[:1] == b" ":
                value = value[1:]
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
    return dispatched


def events_of(parts, limit=LIMIT):
    splitter = SseSplitter(limit)
    return [event for part in parts for event in splitter.feed(part)], splitter.tail()


def single_bytes(stream):
    return [stream[at : at + 1] for at in range(len(stream))]


ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"", b"data: {}", b"data:x", b"data", b"data:", b"data:  two spaces", b"data: a:b", b": comment", b":",
     b"event: message_start", b"event:", b"id: 7", b"id", b"id: \0", b"retry: 10", b"Data: x", b"unknown: y",
     b"data: caf\xc3\xa9", b"data: \xf0\x9f\x91\xbb", b"\xef\xbb\xbfdata: not first", b" data: x"]
)  # fmt: skip
STREAMS = st.builds(
    lambda bom, lines, tail: bom + b"".join(line + end for line, end in lines) + tail,
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, ENDS), max_size=14) | st.lists(st.tuples(LINES, st.just(b"\n")), max_size=14),
    LINES,
) | st.text("ad:\r\n ", max_size=30).map(str.encode)


@settings(max_examples=600, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 300), max_size=6))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [11])
@example(b"data: a\r\rdata: b\n\r\ndata: c\r\n\n", [])
def test_the_same_events_under_any_split(stream, cuts):
    events, tail = events_of([stream])
    assert b"".join(event.raw for event in events) + tail == stream
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    parts = [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert events_of(parts) == (events, tail)
    assert events_of(single_bytes(stream)) == (events, tail)


@settings(max_examples=600, deadline=None)
@given(STREAMS)
def test_the_events_are_the_standards(stream):
    """One more byte decides whether a CR at the very end was a line end by itself."""
    for follow in (b"", b":"):
        events, tail = events_of([stream + follow])
        seen = [(event.event, event.data) for event in events if event.data is not None]
        expected = by_the_standard(stream)
        if not (follow == b"" and tail.endswith(b"\r")):
            assert seen == expected


def test_fields():
    (event,), _ = events_of([b"event: message_delta\nid: 12\ndata: one\ndata: two\n: note\n\n"])
    assert event == Event(
        b"event: message_delta\nid: 12\ndata: one\ndata: two\n: note\n\n",
        b"one\ntwo",
        b"message_delta",
        b"12",
    )
    (comment,), _ = events_of([b": keepalive\n\n"])
    assert comment.data is None and comment.raw == b": keepalive\n\n"
    (empty,), _ = events_of([b"data:\n\n"])
    assert empty.data == b""
    (odd,), _ = events_of([b"id: a\0b\ndata: x\n\n"])
    assert odd.id is None


def test_a_byte_order_mark_counts_only_at_the_beginning():
    stream = b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"
    for parts in ([stream], single_bytes(stream)):
        events, _ = events_of(parts)
        assert [event.data for event in events] == [b"a", None]


def test_a_character_cut_in_two_arrives_whole():
    stream = "data: grüße 👻\n\n".encode()
    for cut in range(len(stream)):
        events, _ = events_of([stream[:cut], stream[cut:]])
        assert [event.data.decode() for event in events] == ["grüße 👻"]


def test_a_whole_event_is_given_as_it_is_and_at_once():
    data = b"data: {}\n\n"
    splitter = SseSplitter(LIMIT)
    assert splitter.feed(data)[0].raw is data
    assert len(splitter.feed(data + b"data: [DO")) == 1
    assert splitter.tail() == b"data: [DO"
    assert splitter.feed(b"NE]\n\n")[0].data == b"[DONE]"
    assert splitter.tail() == b""


def test_a_large_event_passes_whole():
    large = b"data: " + b"x" * 300_000 + b"\n\n"
    events, _ = events_of([large[at : at + 1000] for at in range(0, len(large), 1000)])
    assert [event.raw for event in events] == [large]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_limit_holds_for_whole_and_for_unfinished_events(end):
    fitting = b"data: " + b"x" * 90 + end
    limit = len(fitting)
    assert len(events_of([fitting * 3], limit)[0]) == 3
    assert len(events_of(single_bytes(fitting * 3), limit)[0]) == 3
    over = b"data: " + b"x" * 91 + end
    for parts in ([over], [fitting + over], single_bytes(over)):
        with pytest.raises(UpstreamProtocolError, match="exceeds"):
            events_of(parts, limit)


def test_what_never_ends_is_held_in_bounded_memory():
    splitter = SseSplitter(10_000)
    with pytest.raises(UpstreamProtocolError):
        for _ in range(1000):
            assert splitter.feed(b"x" * 100) == []
            assert len(splitter.tail()) <= 10_000

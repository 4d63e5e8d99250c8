"""Body framing: against h11, under every split, and what must be refused."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import FramingError, UpstreamProtocolError
from ghostllm.wire.body import LAST_CHUNK, ChunkedReader, LengthReader, UntilCloseReader, chunk, only_chunk

PIECES = st.lists(st.binary(min_size=1, max_size=60), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def split(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]


def read(reader, parts):
    return b"".join(reader.feed(part) for part in parts)


@settings(deadline=None)
@given(
    pieces=PIECES,
    cuts=CUTS,
    rest=st.binary(max_size=20),
    extension=st.sampled_from([b"", b";a=b", b'; q="x"']),
)
def test_chunks_under_any_split(pieces, cuts, rest, extension):
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    wire = body + b"0\r\nx-trailer: 1\r\n\r\n" + rest
    reader = ChunkedReader(FramingError)
    assert read(reader, split(wire, cuts)) == b"".join(pieces)
    assert reader.done and reader.rest == rest


def test_every_split_in_two():
    wire = b"5;x\r\nhello\r\n1F\r\n" + b"y" * 31 + b"\r\n000\r\nt: 1\r\n\r\nNEXT"
    for cut in range(len(wire) + 1):
        reader = ChunkedReader(FramingError)
        assert read(reader, [wire[:cut], wire[cut:]]) == b"hello" + b"y" * 31
        assert reader.done and reader.rest == b"NEXT", cut


def by_h11(wire):
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + wire)
    assert isinstance(peer.next_event(), h11.Request)
    body = b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body, peer.trailing_data[0]
        else:
            return body, None


@settings(max_examples=800, deadline=None)
@given(data=st.data())
def test_what_is_accepted_means_the_same_to_h11(data):
    wire = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(wire)))
        fragment = data.draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b"0", b"5", b" ", b";", b"x", b"+", b"_", b"t: v\r\n"]
            )
        )
        wire = wire[:at] + fragment + wire[at + data.draw(st.integers(0, 3)) :]
    reader = ChunkedReader(FramingError)
    try:
        body = reader.feed(wire)
    except FramingError:
        return
    theirs, rest = by_h11(wire)
    assert theirs.startswith(body) or body.startswith(theirs)
    if reader.done:
        assert (theirs, rest) == (body, reader.rest)


@pytest.mark.parametrize(
    "wire",
    [b"0x5\r\n", b"+5\r\n", b"-5\r\n", b"5_0\r\n", b" 5\r\n", b"5 \r\n", b"\xb2\r\n", b"g\r\n", b"5\n",
     b"\r\n", b"1" * 17, b"5\r\nhelloX", b"5\r\nhello\n", b"5;\x01\r\n", b"5;a\nb\r\n",
     b"0\r\nbad trailer\r\n\r\n", b"0\r\n\n", b"5\r\nhello\rx", b"\n5\r\n", b"5\x0b\r\n", b"5\x85\r\n",
     b"\xd9\xa3\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"0\r\nt : 1\r\n\r\n", b"0\r\n folded\r\n\r\n",
     b"0\r\nt: \0\r\n\r\n",
     b"0;" + b"x" * 2000 + b"\r\n\r\n", b"0\r\n" + b"t: v\r\n" * 2000 + b"\r\n",
     b"5;" + b"x" * 2000, b"0\r\nt: " + b"v" * 9000],
)  # fmt: skip
@pytest.mark.parametrize("error", [FramingError, UpstreamProtocolError])
def test_refusals(wire, error):
    with pytest.raises(error):
        ChunkedReader(error).feed(wire)
    with pytest.raises(error):
        read(ChunkedReader(error), [wire[at : at + 1] for at in range(len(wire))])


def outcome(parts):
    """All that a reader tells of a body, or that it refused."""
    reader = ChunkedReader(FramingError)
    try:
        payload = read(reader, parts)
    except FramingError:
        return "refused"
    return payload, reader.done, reader.rest


POISON = st.sampled_from(
    [
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b"0",
        b"5",
        b"ff",
        b" ",
        b"\t",
        b"\0",
        b";",
        b":",
        b"x",
        b"+",
        b"t: v\r\n",
        b"0\r\n\r\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    pieces=PIECES,
    edits=st.lists(st.tuples(st.integers(0, 400), POISON, st.integers(0, 3)), max_size=3),
    cuts=CUTS,
)
def test_the_outcome_is_the_same_under_any_split(pieces, edits, cuts):
    wire = b"".join(map(chunk, pieces)) + b"0\r\nt: v\r\n\r\nrest"
    for at, piece, gone in edits:
        at %= len(wire) + 1
        wire = wire[:at] + piece + wire[at + gone :]
    whole = outcome([wire])
    assert outcome(split(wire, cuts)) == whole
    assert outcome([wire[at : at + 1] for at in range(len(wire))]) == whole


def test_extensions_are_bounded_over_the_whole_body():
    reader = ChunkedReader(FramingError)
    with pytest.raises(FramingError, match="extensions"):
        for _ in range(100):
            assert reader.feed(b"1;" + b"x" * 1000 + b"\r\ny\r\n") == b"y"


def test_trailers_are_read_over_and_change_nothing():
    reader = ChunkedReader(FramingError)
    assert reader.feed(b"1\r\nx\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\nrest") == b"x"
    assert reader.done and reader.rest == b"rest"
    assert reader.feed(b" more") == b"" and reader.rest == b"rest more"


def test_the_middle_of_a_chunk_is_passed_on_as_it_is():
    reader = ChunkedReader(FramingError)
    assert reader.feed(b"FFFF\r\n") == b""
    data = b"x" * 1000
    assert reader.feed(data) is data
    last = b"y" * (0xFFFF - 1000)
    assert reader.feed(last) is last
    assert reader.feed(b"\r\n0\r\n\r\n") == b"" and reader.done


def test_a_chunk_is_given_as_it_is():
    reader = LengthReader(5)
    data = b"hello"
    assert reader.feed(data) is data and reader.done
    until_close = UntilCloseReader()
    assert until_close.feed(data) is data and not until_close.done


@given(size=st.integers(0, 50), data=st.binary(max_size=100), cuts=CUTS)
def test_lengths_under_any_split(size, data, cuts):
    reader = LengthReader(size)
    assert read(reader, split(data, cuts)) == data[:size]
    assert reader.done is (len(data) >= size)
    assert reader.rest == data[size:]


@given(PIECES)
def test_written_chunks_are_read_back(pieces):
    reader = ChunkedReader(FramingError)
    assert reader.feed(b"".join(map(chunk, pieces)) + LAST_CHUNK) == b"".join(pieces)
    assert reader.done


def test_a_read_that_is_one_chunk_is_known_at_every_size():
    for size in [*range(1, 2100), 4095, 4096, 70_000]:
        payload = b"\r" * size
        assert chunk(payload) == b"%x\r\n%b\r\n" % (size, payload)
        assert only_chunk(chunk(payload)) in (payload, b""), size
        assert size > 2000 or only_chunk(chunk(payload)) == payload, size
        assert size > 2000 or only_chunk(b"%X\r\n%b\r\n" % (size, payload)) == payload, size


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3),
    st.integers(0, 80),
    st.binary(max_size=3),
    st.integers(0, 3),
)
def test_whatever_is_taken_for_one_chunk_is_one(payloads, at, put, less):
    wire = b"".join(map(chunk, payloads))
    at %= len(wire)
    wire = wire[:at] + put + wire[at + less :]
    payload = only_chunk(wire)
    if payload:
        assert wire in (chunk(payload), b"%X\r\n%b\r\n" % (len(payload), payload))
        reader = ChunkedReader(FramingError)
        assert b"".join(reader.feed(wire[at : at + 1]) for at in range(len(wire))) == payload
        assert reader.between and not reader.done


def test_a_reader_knows_when_it_is_between_two_chunks():
    reader = ChunkedReader(FramingError)
    states = []
    for part in (
        b"3\r\nabc\r\n",
        b"3",
        b"\r\nab",
        b"c\r",
        b"\n",
        b"3\r\nabc\r\n1",
        b"\r\nx\r\n",
        b"0\r\n",
        b"\r\n",
    ):
        reader.feed(part)
        states.append(reader.between)
    assert states == [True, False, False, False, True, False, True, False, False] and reader.done

"""Content-Encoding, undone under a limit."""

import gzip
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import BodyTooLarge, GhostError, RequestError, UnsupportedMediaType
from ghostllm.wire.encoding import decode_body
from ghostllm.wire.zstd import inflate

zstd = pytest.mark.skipif(inflate is None, reason="no zstandard on this Python; it is in the dev extra")


def zstd_compress(data):
    import zstandard

    return zstandard.compress(data)


ENCODERS = [
    pytest.param(b"gzip", gzip.compress, id="gzip"),
    pytest.param(b"zstd", zstd_compress, id="zstd", marks=zstd),
]


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=5000))
def test_round_trip(name, encode, data):
    assert decode_body(bytearray(encode(data)), name, 5000) == data
    assert decode_body(encode(data) + encode(b"more"), name.upper(), 6000) == data + b"more"


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
def test_a_bomb_stops_at_the_limit(name, encode):
    bomb = encode(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(BodyTooLarge):
        decode_body(bomb, name, 1_000_000)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
def test_cut_short_and_corrupt(name, encode):
    body = encode(b"hello world " * 50)
    for broken in (body[:-5], body[:10], b"", b"not compressed at all", body + b"trailing junk"):
        with pytest.raises(RequestError):
            decode_body(broken, name, 10_000)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
@settings(deadline=None, max_examples=100)
@given(at=st.integers(0, 60), value=st.integers(0, 255))
def test_no_byte_changed_crashes(name, encode, at, value):
    body = bytearray(encode(b"hello world " * 50))
    body[at % len(body)] = value
    try:
        decode_body(body, name, 10_000)
    except GhostError:
        pass


def test_several_encodings_and_none():
    assert decode_body(gzip.compress(gzip.compress(b"x")), b"gzip, gzip", 99) == b"x"
    assert decode_body(b"x", b"identity", 99) == b"x"


@pytest.mark.parametrize("name", [b"br", b"deflate", b"gzip, br", b"\xff"])
def test_unknown_encodings_say_what_is_accepted(name):
    with pytest.raises(UnsupportedMediaType, match="accepted: gzip"):
        decode_body(zlib.compress(b"x"), name, 99)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
@pytest.mark.parametrize("size", [65535, 65536, 65537, 300_000])
def test_bodies_around_the_size_of_a_step(name, encode, size):
    for data in (b"\0" * size, bytes(range(256)) * (size // 256), random.Random(1).randbytes(size)):
        assert decode_body(encode(data), name, len(data)) == data
        with pytest.raises(BodyTooLarge):
            decode_body(encode(data), name, len(data) - 1)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
def test_parts_are_counted(name, encode):
    """Thousands of empty ones would cost much for nothing."""
    assert decode_body(encode(b"x") * 500, name, 500) == b"x" * 500
    with pytest.raises(RequestError, match="more than 1024"):
        decode_body(encode(b"") * 2000, name, 500)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
def test_every_cut_is_seen(name, encode):
    body = encode(b"hello world " * 20)
    for end in range(len(body)):
        with pytest.raises(RequestError):
            decode_body(body[:end], name, 10_000)


@zstd
def test_a_frame_may_not_ask_for_a_huge_window():
    import zstandard

    wide = zstandard.ZstdCompressionParameters(window_log=27)
    body = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    frame = body.compress(b"x" * 1_000_000) + body.flush()
    with pytest.raises(RequestError, match="corrupt"):
        decode_body(frame, b"zstd", 10_000_000)


def test_the_body_itself_where_nothing_encodes_it():
    body = bytearray(b"x")
    assert decode_body(body, b"identity, ,", 0) is body


def test_layers_are_counted():
    with pytest.raises(UnsupportedMediaType, match="more than 2"):
        decode_body(b"", b"gzip, gzip, gzip", 99)


def test_without_zstd_gzip_is_what_is_accepted(monkeypatch):
    monkeypatch.setattr("ghostllm.wire.zstd.inflate", None)
    with pytest.raises(UnsupportedMediaType, match="accepted: gzip$"):
        decode_body(b"", b"zstd", 99)

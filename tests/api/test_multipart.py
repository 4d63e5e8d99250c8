"""Finding a field in a multipart body, and refusing what two readers could read differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.multipart import PARTS_LIMIT, boundary_of, find_field
from ghostllm.errors import RequestError


def form(*fields: tuple[str, bytes], boundary: bytes = b"B") -> bytes:
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--%b--\r\n" % boundary


def value(body: bytes, name: str = "model", boundary: bytes = b"B") -> bytes | None:
    span = find_field(body, boundary, name)
    return None if span is None else body[slice(*span)]


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; boundary="a b:c"', b"a b:c"),
        (b"multipart/form-data; charset=utf-8; Boundary=abc; x=y", b"abc"),
    ],
)
def test_the_boundary(header, boundary):
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header", [b"multipart/form-data", b"multipart/form-data; boundary=", b'x; boundary="']
)
def test_no_boundary_is_an_error(header):
    with pytest.raises(RequestError, match="boundary"):
        boundary_of(header)


def test_a_field_is_found_wherever_it_stands():
    audio = bytes(range(256)) * 10
    for body in (
        form(("model", b"whisper"), ("file", audio)),
        form(("file", audio), ("model", b"whisper")),
        b"preamble\r\n" + form(("file", audio), ("model", b"whisper")) + b"epilogue",
        bytearray(form(("file", audio), ("model", b"whisper"))),
    ):
        assert value(body) == b"whisper"


def test_other_ways_to_write_the_head_of_a_part():
    part = b"--B\r\nContent-Type: text/plain\r\ncontent-disposition:form-data;name=model\r\n\r\nx\r\n--B--"
    assert value(part) == b"x"
    named = b'--B\r\nContent-Disposition: form-data; filename="x; name=model"; name="file"\r\n\r\nx\r\n--B--'
    assert value(named) is None
    assert value(named, "file") == b"x"


def test_an_empty_field_and_no_field():
    assert value(form(("model", b""))) == b""
    assert value(form(("file", b"x"))) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"--B", b"--Bx\r\n", b"--B\r\n",
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nx',
        form(("model", b"x"))[:-8], form(("model", b"a"), ("model", b"b")),
        form(*[("f", b"")] * (PARTS_LIMIT + 1)),
    ],
)  # fmt: skip
def test_what_is_broken_or_ambiguous_is_refused(body):
    with pytest.raises(RequestError):
        find_field(body, b"B", "model")


@given(st.binary(max_size=300), st.integers(0, 300))
def test_arbitrary_bytes_never_crash(noise, cut):
    body = form(("file", b"data"), ("model", b"m"))
    for hostile in (noise, body[:cut] + noise + body[cut:]):
        try:
            span = find_field(hostile, b"B", "model")
        except RequestError:
            continue
        assert span is None or 0 <= span[0] <= span[1] <= len(hostile)


@given(
    st.lists(st.tuples(st.sampled_from(["file", "prompt", "x"]), st.binary(max_size=50)), max_size=4),
    st.binary(max_size=20),
)
def test_any_value_is_found_as_it_is(others, model):
    boundary = b"0123456789abcdef0123456789abcdef"
    body = form(*others, ("model", model), boundary=boundary)
    assert value(body, boundary=boundary) == model

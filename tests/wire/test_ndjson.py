"""Streams of lines, under every split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import UpstreamProtocolError
from ghostllm.wire.ndjson import LineSplitter


def lines_of(parts, limit=1000):
    splitter = LineSplitter(limit)
    return [line for part in parts for line in splitter.feed(part)], splitter.rest()


LINES = st.lists(st.text('{"ü\x85\x0b }', max_size=12).map(str.encode), max_size=8)


@given(
    LINES, st.sampled_from([b"\n", b"\r\n"]), st.binary(max_size=9), st.lists(st.integers(0, 200), max_size=6)
)
def test_the_same_lines_under_any_split(lines, end, rest, cuts):
    """Only LF ends a line: str.splitlines would also split at the others."""
    rest = rest.replace(b"\n", b"")
    stream = b"".join(line + end for line in lines) + rest
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    expected = ([line for line in lines if line], rest)
    assert lines_of([stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]) == expected
    assert lines_of([stream[at : at + 1] for at in range(len(stream))]) == expected


@pytest.mark.parametrize("step", [1, 7, 2000])
def test_a_line_over_the_limit(step):
    fitting = b"x" * 1000 + b"\n"
    parts = [(fitting * 2)[at : at + step] for at in range(0, 2002, step)]
    assert lines_of(parts)[0] == [b"x" * 1000] * 2
    over = b"y\n" + b"x" * 1001
    for stream in (over, over + b"\n"):
        with pytest.raises(UpstreamProtocolError, match="exceeds 1000"):
            lines_of([stream[at : at + step] for at in range(0, len(stream), step)])

"""Frames: events that are like one read before but for their text, one by one and in rows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.openai.frame import SEAM, learn, unquoted
from ghostllm.api.openai.kept import KEPT, KeptPassThrough
from ghostllm.message import Call

TEXT = st.text('ab \n",\\é{}😀', max_size=5)
TRICKS = (b'"', b"\\", b"\n", b'","', b'\\"', b"}\n\ndata: {", b'"content":"', b"x")


def event(text, *, member="content", model="m", padding=None):
    chunk = {"id": "c1", "model": model, "choices": [{"index": 0, "delta": {member: text}}]}
    more = {} if padding is None else {"obfuscation": padding}
    return b"data: " + json.dumps({**chunk, **more}, separators=(",", ":")).encode() + b"\n\n"


def frame(*, padding=None, renamed=False):
    old, new = b'"model":"m"', b'"model":"alias"'
    found = learn(event("x", padding=padding), 2, lambda part: part.replace(old, new) if renamed else part)
    assert found is not None and found.as_is is not renamed
    return found


def parsed(events):
    """The texts of a row of events, as a client reads them; None where one of them is another event."""
    texts = []
    for one in events.split(b"\n\n")[:-1]:
        try:
            chunk = json.loads(one.removeprefix(b"data: "))
            text = chunk["choices"][0]["delta"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return None
        texts.append(text)
    return texts


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5), st.booleans())
def test_texts_are_found_one_by_one_and_in_rows(texts, renamed):
    found = frame(renamed=renamed)
    row = b"".join(map(event, texts))
    raw = found.texts_in(row)
    if raw is None:  # a quotation mark or a last backslash inside a text is left to the parser
        assert any('"' in text or text.endswith("\\") for text in texts)
        return
    assert unquoted(raw) == texts
    out = found.swapped(row, raw) if renamed else row
    assert out == b"".join(event(text, model="alias" if renamed else "m") for text in texts)


@settings(deadline=None)
@given(TEXT, st.text("aB1", max_size=6), st.booleans())
def test_padding_goes_along(text, padding, renamed):
    found = frame(padding="abc", renamed=renamed)
    one = event(text, padding=padding)
    raw = found.texts_in(one)
    if raw is not None:
        assert unquoted(raw) == [text]
        out = found.swapped(one, raw) if renamed else one
        assert out == event(text, model="alias" if renamed else "m", padding=padding)
    assert found.texts_in(one + one) is None and found.texts_in(event(text)) is None


@settings(deadline=None)
@given(
    st.lists(TEXT, min_size=1, max_size=3), st.integers(0, 400), st.sampled_from(TRICKS), st.integers(0, 12)
)
def test_what_is_not_like_it_does_not_fit(texts, at, trick, less):
    """Whatever is put in or taken out: what fits is a row of events with just these texts."""
    row = b"".join(map(event, texts))
    at %= len(row)
    odd = row[:at] + trick + row[at + less :]
    raw = frame().texts_in(odd)
    if raw is not None:
        assert odd == b"".join(event("").replace(b'""', b'"%b"' % text) for text in raw.split(SEAM))
        if values := unquoted(raw):
            assert parsed(odd) == values


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", event("x")[:-1], event("x") + b"\n", event("x")[1:], event("x", member="text")]
)
def test_other_bytes_do_not_fit(data):
    assert frame().texts_in(data) is None and frame(padding="abc").texts_in(data) is None


def kept(pieces):
    call = Call("openai", "chat", "m", b"{}", {"model": "m"}, True, True)
    answer = KeptPassThrough(call, backend="b", limit=1 << 20)
    for piece in pieces:
        assert answer.feed(piece) is piece
    return answer


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["content", "reasoning_content"]), TEXT, st.integers(1, 3)), max_size=200
    )
)
def test_what_was_told_is_kept_in_order_however_it_came(told):
    """Thinking and text in turns, in reads of one event and of several, one of them no frame fits."""
    answer = kept(event(text, member=member) * times for member, text, times in told)
    said = answer.told(0, lambda begin: begin).said
    assert not said.unknown
    runs = [("reasoning" if member != "content" else "text", text * times) for member, text, times in told]
    for sort in ("reasoning", "text"):
        assert said.of(sort) == "".join(text for one, text in runs if one == sort)
    shown = [sort for sort, text in runs if text]
    turns = [sort for at, sort in enumerate(shown) if at == 0 or sort != shown[at - 1]]
    assert [run.sort for run in said.runs] == turns


def test_a_long_answer_takes_no_more_memory_than_its_text_and_a_bit():
    answer = kept(event(f"word {number}") for number in range(20_000))
    unread = sum(len(piece if isinstance(piece, bytes) else piece[1]) for piece in answer._kept)
    assert unread <= KEPT
    said = answer.told(0, lambda begin: begin).said
    assert said.deltas == 20_000 and said.of("text").endswith("word 19999")

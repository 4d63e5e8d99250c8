"""Several answers as one: every choice whole and under its own index, figures added up, one end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.choices import Interleave, merge_whole
from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.jsonx import dumps, loads

DONE = b"data: [DONE]\n\n"


def body(text, usage=None, name="c"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return dumps({"id": name, "model": "m", "choices": [choice], **({"usage": usage} if usage else {})})


def usage(prompt, completion, reasoning=None):
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return (
        counts
        if reasoning is None
        else {**counts, "completion_tokens_details": {"reasoning_tokens": reasoning}}
    )


@given(
    st.lists(st.tuples(st.text(max_size=5), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=5)
)
def test_whole_answers_become_one(said):
    bodies = [
        body(text, usage(7, count, thought), f"c{at}") for at, (text, count, thought) in enumerate(said)
    ]
    merged = loads(merge_whole(bodies))
    assert [choice["index"] for choice in merged["choices"]] == list(range(len(said)))
    assert [choice["message"]["content"] for choice in merged["choices"]] == [text for text, _, _ in said]
    assert (merged["id"], merged["model"]) == ("c0", "m")
    total = sum(count for _, count, _ in said)
    assert merged["usage"] == usage(7 * len(said), total, sum(thought for _, _, thought in said))


def test_figures_of_which_one_is_unknown_are_unknown():
    assert "usage" not in loads(merge_whole([body("a", usage(1, 2)), body("b")]))


@pytest.mark.parametrize(
    "wrong", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[5]}', b'{"choices":[{},{}]}']
)
def test_what_is_no_answer_of_one_choice_is_a_fault(wrong):
    with pytest.raises(UpstreamProtocolError):
        merge_whole([body("a"), wrong])


def test_nothing_cannot_be_merged():
    with pytest.raises(ValueError, match="nothing"):
        merge_whole([])


def event(stream, delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return (
        b"data: "
        + dumps({"id": f"c{stream}", "created": stream, "model": "m", "choices": choices, **more})
        + b"\n\n"
    )


def stream(number, words, *, on_finish):
    counts = usage(5, len(words))
    yield event(number, {"role": "assistant", "content": ""}, usage=None)
    for word in words:
        yield event(number, {"content": word}, usage=None)
    yield event(number, {}, "stop", usage=counts if on_finish else None)
    if not on_finish:
        yield event(number, usage=counts)
    yield DONE


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text(min_size=1, max_size=5), max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_streams_in_any_order_and_any_cuts_become_one(said, wants, on_finish, random):
    streams = [b"".join(stream(at, words, on_finish=on_finish)) for at, words in enumerate(said)]
    merged = Interleave(len(said), usage=wants)
    out = b""
    while any(streams):
        at = random.choice([at for at, rest in enumerate(streams) if rest])
        size = random.randint(1, 200)
        assert not merged.over
        out += merged.feed(at, streams[at][:size])
        streams[at] = streams[at][size:]
    assert merged.over and out.endswith(DONE) and out.count(DONE) == 1
    chunks = [loads(each[6:]) for each in out.split(b"\n\n")[:-2]]
    assert len({(one["id"], one["created"]) for one in chunks}) == 1
    texts = {
        index: [choice["delta"].get("content") or "" for choice in choices]
        for index, choices in itertools.groupby(
            sorted(
                (one["choices"][0] for one in chunks if one["choices"]), key=lambda choice: choice["index"]
            ),
            key=lambda choice: choice["index"],
        )
    }
    assert ["".join(texts[at]) for at in range(len(said))] == ["".join(words) for words in said]
    figures = [one["usage"] for one in chunks if one.get("usage")]
    assert figures == ([usage(5 * len(said), sum(map(len, said)))] if wants else [])
    assert all(("usage" in one) == wants for one in chunks)
    if wants:
        assert chunks[-1]["choices"] == []


def test_comments_pass_and_nothing_comes_after_an_end():
    merged = Interleave(2, usage=False)
    assert merged.feed(1, b": ping\n\n") == b": ping\n\n"
    assert merged.feed(0, DONE + event(0, {"content": "late"})) == b""
    assert merged.feed(0, event(0, {"content": "late"})) == b""
    assert merged.feed(1, DONE) == DONE and merged.over
    assert merged.feed(1, DONE) == b""


def test_an_error_in_one_stream_ends_all():
    merged = Interleave(2, usage=False)
    error = b'data: {"error":{"message":"x"}}\n\n'
    assert merged.feed(1, error + DONE) == error
    assert merged.over and merged.feed(0, event(0, {"content": "x"})) == b""


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_bytes_are_more_than_an_error(one, two):
    try:
        merged = Interleave(1, usage=True)
        merged.feed(0, b"data: " + one + b"\n\n")
        merged.feed(0, two)
        merge_whole([one])
    except GhostError:
        pass

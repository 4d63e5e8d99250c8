"""Thinking under one name in what passes through: as every event parsed and renamed would be, to the byte."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.openai.passthrough import PassThrough
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call

DONE = b"data: [DONE]\n\n"


def answer(*, model="m", wants=True, operation="chat", renames=True):
    call = Call("openai", operation, model, b"{}", {"model": model}, True, wants)
    return PassThrough(call, backend="b", limit=9999, other_reasoning=renames)


def chunk(delta, finish=None, spaced=False, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    text = json.dumps(
        {"id": "c", "model": "m", "choices": [choice], **more},
        separators=None if spaced else (",", ":"),
        ensure_ascii=False,
    )
    return b"data: " + text.encode() + b"\n\n"


def renamed(delta):
    return {"reasoning_content" if name == "reasoning" else name: value for name, value in delta.items()}


@pytest.mark.parametrize("spaced", [False, True])
def test_each_event_of_thinking_is_renamed_and_nothing_else_in_it(spaced):
    reader = answer()
    for word in ("", "h", "m", "é", 'the "reasoning": x', "\n", "z"):
        for delta in ({"reasoning": word}, {"reasoning": None, "content": word}):
            said = reader.feed(chunk(delta, spaced=spaced, usage=None))
            assert said == chunk(renamed(delta), spaced=spaced, usage=None)


def test_a_server_that_needs_no_renaming_is_left_alone():
    for reader in (answer(renames=False), answer(operation="completions")):
        piece = chunk({"reasoning": "x"})
        assert reader.feed(piece) is piece


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "x", "reasoning_content": "x"},
        {"reasoning": {"effort": "low"}},
        {"content": "x", "extra": {"reasoning": "x"}},
        {"content": '"reasoning":'},
        {'a"reasoning': "x"},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"reasoning":1}'}}]},
    ],
)
def test_what_is_not_thinking_under_the_other_name_alone_stays(delta):
    reader = answer()
    for piece in (chunk({"content": "a"}), chunk({"reasoning_content": "b"}), chunk(delta), chunk(delta)):
        assert reader.feed(piece) is piece


def test_a_key_of_that_name_elsewhere_stays():
    reader = answer()
    reader.feed(chunk({"content": "a"}))
    for _ in range(3):
        out = reader.feed(chunk({"reasoning": "x"}, usage={"prompt_tokens": 1, "details": {"reasoning": 5}}))
        value = loads(out[6:])
        assert value["choices"][0]["delta"] == {"reasoning_content": "x"}
        assert value["usage"]["details"] == {"reasoning": 5}
    assert reader.usage.prompt == 1


def test_a_key_that_only_ends_so_costs_no_byte():
    for delta in ({'a"reasoning': "x", "reasoning": "y"}, {"reasoning": "y", 'a"reasoning': "x"}):
        assert answer().feed(chunk(delta, spaced=True)) == chunk(renamed(delta), spaced=True)


def test_whole_answers_are_renamed_too():
    message = {"role": "assistant", "reasoning": "hm", "content": 'say "reasoning": x'}
    body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    out = answer().whole(dumps(body))
    assert loads(out)["choices"][0]["message"] == renamed(message)
    assert out == dumps(body).replace(b'"reasoning":"hm"', b'"reasoning_content":"hm"')
    assert loads(answer(model="alias").whole(dumps(body)))["model"] == "alias"
    odd = {**body, "usage": {"reasoning": {"x": 1}}}
    value = loads(answer().whole(dumps(odd)))
    assert value["choices"][0]["message"] == renamed(message) and value["usage"] == {"reasoning": {"x": 1}}
    untouched = dumps({**body, "choices": [{"message": {"content": "x", "reasoning_content": "y"}}]})
    assert answer().whole(untouched) is untouched


deltas = st.one_of(
    st.builds(lambda text: {"reasoning": text}, st.text(max_size=9)),
    st.builds(lambda text: {"content": text}, st.text(max_size=9)),
    st.builds(lambda text: {"reasoning": None, "content": text}, st.text(max_size=9)),
    st.builds(lambda text: {"reasoning": text, "reasoning_content": text}, st.text(max_size=9)),
    st.just({"content": "a", "more": {"reasoning": 1}}),
)


@settings(deadline=None)
@given(
    st.lists(deltas, min_size=2, max_size=12),
    st.lists(st.integers(0, 10_000), max_size=20),
    st.booleans(),
    st.sampled_from(["m", "alias"]),
)
def test_any_cuts_give_what_a_reader_of_events_would_give(said, cuts, wants, model):
    data = b"".join(chunk(delta, usage=None) for delta in said) + chunk({}, "stop", usage=None) + DONE
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    reader = answer(model=model, wants=wants)
    out = b"".join(reader.feed(data[a:b]) for a, b in itertools.pairwise(places)) + reader.finish()
    values = [loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
    assert [value["choices"][0]["delta"] for value in values] == [
        *(delta if "reasoning_content" in delta else renamed(delta) for delta in said),
        {},
    ]
    assert all(value["model"] == model and ("usage" in value) == wants for value in values)

"""A whole answer is its events put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Answer,
    Finish,
    Fold,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Start,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.message import Usage

STOP = Finish("stop")


def fold(*events):
    return Fold(events).answer()


def test_deltas_of_one_kind_are_one_part_and_the_order_of_parts_is_kept():
    answer = fold(
        Start(),
        ReasoningDelta("think"),
        ReasoningDelta("ing"),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCallDelta(0, "{}", "call_1", "f"),
        Finish("tool_calls"),
        UsageEvent(Usage(3, 4)),
    )
    assert answer == Answer(
        (Reasoning("thinking"), Text("Hello"), ToolCall("call_1", "f", "{}")),
        Finish("tool_calls"),
        Usage(3, 4),
    )


def test_fragments_of_interleaved_calls_stay_apart():
    answer = fold(
        ToolCallDelta(0, "", "a", "first"),
        ToolCallDelta(1, '{"y":', "b", "second"),
        ToolCallDelta(0, '{"x":'),
        ToolCallDelta(1, "2}"),
        ToolCallDelta(0, "1}"),
        Finish("tool_calls"),
    )
    assert answer.parts == (ToolCall("a", "first", '{"x":1}'), ToolCall("b", "second", '{"y":2}'))


def test_text_in_which_nothing_was_said_is_no_part():
    assert fold(Start(), TextDelta(""), STOP).parts == ()


def test_a_signature_ends_its_block_and_sealed_thinking_stands_alone():
    answer = fold(
        ReasoningDelta("a"),
        ReasoningDelta("", signature="sig"),
        ReasoningDelta("b"),
        ReasoningDelta("", redacted="sealed"),
        ReasoningDelta("c"),
        STOP,
    )
    assert answer.parts == (
        Reasoning("a", "sig"),
        Reasoning("b"),
        Reasoning("", "", "sealed"),
        Reasoning("c"),
    )


def test_refusals_and_logprobs_are_kept():
    token = TokenLogprob("no", -0.5)
    answer = fold(TextDelta("no", (token,)), RefusalDelta("I "), RefusalDelta("won't"), STOP)
    assert answer.parts == (Text("no"), Refusal("I won't"))
    assert answer.logprobs == (token,)


def test_usage_is_the_last_word_and_not_a_sum():
    answer = fold(UsageEvent(Usage(3, 1)), TextDelta("x"), UsageEvent(Usage(3, 9)), STOP)
    assert answer.usage == Usage(3, 9)


def test_an_answer_without_an_end_is_none():
    with pytest.raises(ValueError):
        fold(TextDelta("half"))


@given(st.lists(st.text(), max_size=20))
def test_however_a_text_is_cut_it_is_the_same(pieces):
    text = "".join(pieces)
    assert fold(*map(TextDelta, pieces), STOP).parts == ((Text(text),) if text else ())

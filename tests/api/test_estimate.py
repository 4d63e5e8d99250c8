"""The estimate of tokens: about right for text of known length, and never less for more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Audio,
    Conversation,
    CustomTool,
    File,
    FunctionTool,
    Image,
    Message,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    ToolCall,
    ToolResult,
)
from ghostllm.api.estimate import estimate_text
from ghostllm.api.estimate_prompt import estimate_tokens
from ghostllm.errors import RequestError

EMPTY = Conversation("m", (Message("user", ()),))


def deep(levels):
    schema = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("The quick brown fox jumps over the lazy dog.", 11),  # 10 in the vocabularies of today
        ("Übergröße", 3),
        ("Быстрая лиса", 6),
        ("素早い茶色の狐", 7),
        ("ab 素早い", 4),
        ("🙂🙂", 2),
    ],
)
def test_a_rule_of_thumb(text, tokens):
    assert estimate_text(text) == tokens


@given(st.text(), st.text())
def test_longer_text_never_counts_less(first, second):
    both = estimate_text(first + second)
    assert max(estimate_text(first), estimate_text(second)) <= both
    assert both <= estimate_text(first) + estimate_text(second)


words = st.text(max_size=20)
parts = st.one_of(
    st.builds(Text, words),
    st.builds(Refusal, words),
    st.builds(Reasoning, words, words, words),
    st.builds(Image, words),
    st.builds(Audio, words, st.just("wav")),
    st.builds(File, words),
    st.builds(ToolCall, words, words, words),
    st.builds(ToolResult, words, st.tuples(st.builds(Text, words))),
)
tools = st.builds(FunctionTool, words, words, st.none() | st.dictionaries(words, words, max_size=3))
custom = st.builds(CustomTool, words, words, st.none() | st.dictionaries(words, words, max_size=3))


@given(
    st.lists(st.lists(parts, max_size=3), min_size=1, max_size=3), parts, st.lists(tools | custom, max_size=2)
)
def test_more_of_anything_never_counts_less(turns, more, offered):
    asked = replace(EMPTY, messages=tuple(Message("user", tuple(turn)) for turn in turns))
    count = estimate_tokens(asked)
    assert count > 0
    longer = replace(asked, messages=(Message("user", (*asked.messages[0].parts, more)), *asked.messages[1:]))
    assert estimate_tokens(longer) >= count
    assert estimate_tokens(replace(asked, messages=(*asked.messages, Message("user", (more,))))) > count
    with_tools = replace(asked, tools=tuple(offered))
    assert (estimate_tokens(with_tools) > count) is bool(offered)
    shaped = replace(with_tools, response_format=ResponseFormat("json_schema", schema={"type": "object"}))
    assert estimate_tokens(shaped) > estimate_tokens(with_tools)


def one(part):
    return estimate_tokens(replace(EMPTY, messages=(Message("user", (part,)),)))


def test_an_image_counts_the_same_whatever_its_bytes():
    assert one(Image("A" * 4, "image/png")) == one(Image("A" * 400_000, "image/png")) > 500


def test_a_large_file_counts_more_than_a_small_one():
    assert one(File("A" * 4)) < one(File("A" * 400_000))


def test_a_schema_that_cannot_be_written_is_the_clients_fault():
    with pytest.raises(RequestError):
        estimate_tokens(replace(EMPTY, tools=(FunctionTool("f", "", deep(100_000)),)))

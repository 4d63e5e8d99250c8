"""OpenAI chat requests: nothing is lost on the way to the neutral form and back; errors name the place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
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
    Sampling,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ghostllm.api.openai.request_reader import read_request
from ghostllm.api.openai.request_writer import write_request
from ghostllm.api.openai.text_reader import read_continuation, read_embeddings
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

USER = {"role": "user", "content": "hi"}


def read(**members):
    return read_request({"model": "m", "messages": [USER], **members})


def refused(error=RequestError, **members):
    with pytest.raises(error) as caught:
        read(**members)
    return caught.value.param


# --- there and back

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
some = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
schemas = st.dictionaries(some, st.one_of(words, st.booleans(), st.lists(words, max_size=2)), max_size=3)
texts = st.builds(Text, words)
images = st.one_of(
    st.builds(
        Image,
        data=st.sampled_from(["", "AAAA"]),
        media_type=st.sampled_from(["image/png", "image/webp"]),
        detail=st.sampled_from(["", "low"]),
    ),
    st.builds(Image, url=st.just("https://example.com/a.png"), detail=st.sampled_from(["", "high"])),
)
contents = st.lists(
    st.one_of(
        texts,
        images,
        st.builds(Audio, words, st.sampled_from(["wav", "mp3"])),
        st.builds(File, data=words, file_id=words, filename=words),
    ),
    max_size=3,
).map(tuple)
calls = st.builds(ToolCall, some, some, words, st.booleans())
results = st.builds(ToolResult, some, st.lists(st.one_of(texts, images), max_size=2).map(tuple), words)
assistants = st.builds(
    lambda reasoning, said, refusal, called, name: Message(
        "assistant", (*reasoning, *said, *refusal, *called), name
    ),
    st.lists(st.builds(Reasoning, some), max_size=1),
    st.lists(texts, max_size=2),
    st.lists(st.builds(Refusal, some), max_size=1),
    st.lists(calls, max_size=2),
    words,
)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "developer", "user"]), contents, words),
    assistants,
    st.builds(lambda result: Message("tool", (result,)), results),
)
tools = st.one_of(
    st.builds(FunctionTool, some, words, st.one_of(st.none(), schemas), st.sampled_from([None, True, False])),
    st.builds(CustomTool, some, words, st.one_of(st.none(), schemas)),
)
choices = st.one_of(
    st.none(),
    st.sampled_from([ToolChoice("none"), ToolChoice("auto"), ToolChoice("required")]),
    st.builds(
        ToolChoice, st.sampled_from(["auto", "required"]), st.lists(some, min_size=1, max_size=2).map(tuple)
    ),
)
formats = st.one_of(
    st.none(),
    st.sampled_from([ResponseFormat("text"), ResponseFormat("json_object")]),
    st.builds(
        ResponseFormat,
        st.just("json_schema"),
        some,
        st.one_of(st.none(), schemas),
        st.sampled_from([None, True]),
        words,
    ),
)
optional_numbers = st.one_of(st.none(), numbers)
optional_counts = st.one_of(st.none(), st.integers(0, 2**40))
samplings = st.builds(
    Sampling,
    temperature=optional_numbers,
    top_p=optional_numbers,
    top_k=optional_counts,
    min_p=optional_numbers,
    presence_penalty=optional_numbers,
    frequency_penalty=optional_numbers,
    repetition_penalty=optional_numbers,
    seed=st.one_of(st.none(), st.integers(-(2**40), 2**40)),
    stop=st.lists(words, max_size=2).map(tuple),
    max_tokens=optional_counts,
    logit_bias=st.dictionaries(some, numbers, max_size=2),
    logprobs=st.booleans(),
    top_logprobs=optional_counts,
    n=optional_counts,
)


@st.composite
def conversations(draw):
    stream = draw(st.booleans())
    return Conversation(
        model=draw(some),
        messages=tuple(draw(st.lists(messages, min_size=1, max_size=4))),
        tools=tuple(draw(st.lists(tools, max_size=2))),
        tool_choice=draw(choices),
        parallel_tool_calls=draw(st.sampled_from([None, True, False])),
        response_format=draw(formats),
        sampling=draw(samplings),
        reasoning_effort=draw(st.sampled_from([None, "none", "high"])),
        stream=stream,
        wants_usage=draw(st.booleans()) if stream else True,
        metadata=draw(st.dictionaries(some, words, max_size=2)),
        extensions=draw(st.dictionaries(st.sampled_from(["user", "store", "verbosity"]), some)),
    )


@given(conversations())
def test_any_conversation_survives_the_way_through_openai_json(conversation):
    assert read_request(jsonx.loads(jsonx.dumps(write_request(conversation)))) == conversation


FULL = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "free form"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "42"},
        {"role": "assistant", "content": "a", "refusal": "no"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
        },
        {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
    ],
    "tool_choice": {"type": "custom", "custom": {"name": "g"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
    },
    "max_completion_tokens": 5,
    "stop": ["a", "b"],
    "logit_bias": {"5": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "seed": 7,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": False,
    "service_tier": "auto",
    "prediction": {"type": "content", "content": "x"},
}


def test_a_request_with_everything_comes_back_as_it_was():
    assert write_request(read_request(FULL)) == FULL


def test_null_means_absent():
    nulls = dict.fromkeys(FULL)
    assert read(**{**nulls, "model": "m", "messages": [USER]}) == read()


@pytest.mark.parametrize(
    ("given", "neutral"),
    [
        ("auto", ToolChoice("auto")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ("f",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            ToolChoice("auto", ("f",)),
        ),
    ],
)
def test_every_form_of_tool_choice_is_read(given, neutral):
    assert read(tool_choice=given).tool_choice == neutral


def test_the_newer_name_of_the_token_limit_rules():
    assert read(max_tokens=5).sampling.max_tokens == 5
    assert read(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_read_under_each_of_its_names(name):
    conversation = read(messages=[{"role": "assistant", "content": "x", name: "hm"}])
    assert conversation.messages[0].parts == (Reasoning("hm"), Text("x"))


def test_an_empty_list_of_tool_calls_is_ignored():
    conversation = read(messages=[{"role": "assistant", "content": "x", "tool_calls": []}])
    assert conversation.messages[0].parts == (Text("x"),)


def test_usage_in_a_stream_is_wanted_only_when_asked_for():
    assert read().wants_usage
    assert not read(stream=True).wants_usage
    assert not read(stream=True, stream_options={"include_usage": False}).wants_usage
    assert read(stream=True, stream_options={"include_usage": True}).wants_usage


# --- errors that name the place


def test_wrong_types_are_told_with_their_path():
    assert refused(temperature="hot") == "temperature"
    assert refused(temperature=True) == "temperature"
    assert refused(max_tokens=1.5) == "max_tokens"
    assert refused(max_tokens=-1) == "max_tokens"
    assert refused(stop=["a", 3]) == "stop[1]"
    assert refused(logit_bias={"5": "x"}) == "logit_bias.5"
    assert refused(messages="hi") == "messages"
    assert refused(messages=[]) == "messages"
    assert refused(messages=[3]) == "messages[0]"
    assert refused(messages=[USER, {"role": "user"}]) == "messages[1].content"
    assert (
        refused(messages=[{"role": "user", "content": [{"type": "text"}]}]) == "messages[0].content[0].text"
    )
    assert refused(tools=[{"type": "function"}]) == "tools[0].function"
    assert refused(response_format={"type": "json_schema"}) == "response_format.json_schema"
    assert refused(stream_options=[]) == "stream_options"
    with pytest.raises(RequestError) as caught:
        read_request({"messages": [USER]})
    assert caught.value.param == "model"


def test_unknown_values_are_told_with_their_path():
    unknown_part = {"role": "user", "content": [{"type": "video_url"}]}
    assert refused(UnsupportedValue, messages=[USER, USER, unknown_part]) == "messages[2].content[0].type"
    assert refused(UnsupportedValue, messages=[{"role": "robot", "content": "x"}]) == "messages[0].role"
    assert refused(UnsupportedValue, tools=[{"type": "web_search"}]) == "tools[0].type"
    assert refused(UnsupportedValue, tool_choice="maybe") == "tool_choice"
    assert refused(UnsupportedValue, response_format={"type": "xml"}) == "response_format.type"
    audio = {"role": "tool", "tool_call_id": "a", "content": [FULL["messages"][1]["content"][2]]}
    assert refused(UnsupportedValue, messages=[audio]) == "messages[0].content"


def test_what_was_deprecated_is_refused_by_name():
    assert refused(UnsupportedParameter, functions=[{"name": "f"}]) == "functions"
    assert refused(UnsupportedParameter, function_call="auto") == "function_call"
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    assert refused(UnsupportedValue, messages=[old]) == "messages[0].function_call"


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
members = st.sampled_from([name for name in FULL if name not in ("model", "messages")])


@given(members, json_values)
def test_nothing_hostile_in_a_member_is_more_than_a_request_error(name, value):
    try:
        read(**{name: value})
    except RequestError as error:
        assert error.param is not None and error.param.startswith(name)


@given(json_values)
def test_nothing_hostile_in_a_message_is_more_than_a_request_error(value):
    for message in ({"role": "user", "content": value}, {"role": "assistant", "tool_calls": value}, value):
        try:
            read(messages=[message])
        except RequestError as error:
            assert error.param is not None and error.param.startswith("messages")


# --- completions and embeddings


def test_a_completions_request_is_read():
    continuation = read_continuation(
        {"model": "m", "prompt": ["Once"], "max_tokens": 3, "logprobs": 2, "stop": "x", "user": "u"}
    )
    assert continuation.prompt == "Once"
    assert continuation.sampling == Sampling(max_tokens=3, logprobs=True, top_logprobs=2, stop=("x",))
    assert continuation.extensions == {"user": "u"}


@pytest.mark.parametrize("prompt", [[1, 2], [[1], [2]], ["a", "b"]])
def test_prompts_that_cannot_be_served_are_refused(prompt):
    with pytest.raises(UnsupportedValue) as caught:
        read_continuation({"model": "m", "prompt": prompt})
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["", [], None, {}, [{}], ["a", 1]])
def test_prompts_that_are_none_are_wrong(prompt):
    with pytest.raises(RequestError) as caught:
        read_continuation({"model": "m", "prompt": prompt})
    assert caught.value.param.startswith("prompt")


def test_an_embeddings_request_is_read():
    assert read_embeddings({"model": "m", "input": "a"}).inputs == ("a",)
    request = read_embeddings(
        {"model": "m", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"}
    )
    assert (request.inputs, request.dimensions, request.base64) == (("a", "b"), 2, True)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_embeddings_requests_that_are_wrong_say_where(members, param):
    with pytest.raises(RequestError) as caught:
        read_embeddings({"model": "m", **members})
    assert caught.value.param == param

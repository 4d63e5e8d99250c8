"""Neutral requests to Ollama's: everything arrives under Ollama's name or is refused under the client's."""

from __future__ import annotations

import pytest

from ghostllm.api.ollama.request_writer import (
    IGNORED,
    NEUTRAL_VALUES,
    chat_request,
    embed_request,
    generate_request,
)
from ghostllm.api.openai.request_reader import read_request
from ghostllm.api.openai.text_reader import read_continuation, read_embeddings
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

USER = {"role": "user", "content": "hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def chat(**members):
    return chat_request(read_request({"model": "m", "messages": [USER], **members}), "llama3.2")


def refused(error, **members):
    with pytest.raises(error) as caught:
        chat(**members)
    return caught.value.param


def message(member, *before):
    return chat(messages=[*before, member]).body["messages"][len(before)]


# --- parameters


def test_a_plain_request_leaves_the_models_own_settings_alone():
    request = chat()
    assert request.path == "/api/chat"
    assert request.body == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "truncate": False,
        "shift": False,
    }


def test_parameters_become_options():
    body = chat(
        max_completion_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        seed=7,
        stop="END",
        presence_penalty=0.1,
        frequency_penalty=0.2,
        repetition_penalty=1.1,
        num_ctx=4096,
        options={"typical_p": 0.3, "num_ctx": 1},
        keep_alive="5m",
    ).body
    assert body["options"] == {
        "num_predict": 9,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "repeat_penalty": 1.1,
        "num_ctx": 4096,
        "typical_p": 0.3,
    }
    assert body["keep_alive"] == "5m"


def test_logprobs_are_native():
    body = chat(logprobs=True, top_logprobs=3).body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert refused(UnsupportedValue, logprobs=True, top_logprobs=21) == "top_logprobs"
    assert refused(RequestError, top_logprobs=2) == "top_logprobs"


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")],
)
def test_reasoning_effort_becomes_think(effort, think):
    assert chat(reasoning_effort=effort).body["think"] == think


def test_unknown_effort_is_refused_and_ollamas_own_word_rules():
    assert refused(UnsupportedValue, reasoning_effort="heroic") == "reasoning_effort"
    assert chat(reasoning_effort="high", think=True).body["think"] is True


def test_response_formats():
    assert "format" not in chat(response_format={"type": "text"}).body
    assert chat(response_format={"type": "json_object"}).body["format"] == "json"
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"type": "integer", "minimum": 1}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert chat(response_format=wanted).body["format"] == {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1}},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logit_bias", {"5": 1}),
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("store", True),
        ("service_tier", "flex"),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("moderation", {}),
        ("an_invention", 1),
    ],
)
def test_what_ollama_cannot_do_is_refused_by_name(name, value):
    assert refused(UnsupportedParameter, **{name: value}) == name


def test_no_tokens_at_all_is_refused_because_ollama_takes_it_for_no_limit():
    assert refused(UnsupportedValue, max_tokens=0) == "max_tokens"


def test_what_changes_nothing_is_accepted():
    harmless = {name: values[0] for name, values in NEUTRAL_VALUES.items()} | dict.fromkeys(IGNORED, "x")
    harmless |= {"metadata": {"a": "b"}, "n": 1, "parallel_tool_calls": True, "logit_bias": {}}
    assert chat(**harmless).body == chat().body


# --- messages


def test_text_parts_are_one_message_and_images_go_with_them():
    parts = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}},
        {"type": "text", "text": "two"},
        {"type": "image_url", "image_url": {"url": "data:image/JPEG;base64,/9j/"}},
    ]
    assert message({"role": "user", "content": parts}) == {
        "role": "user",
        "content": "one\ntwo",
        "images": ["iVBOR", "/9j/"],
    }


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/a.png"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}}, "image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "type"),
        ({"type": "file", "file": {"file_id": "f"}}, "type"),
    ],
)
def test_parts_that_ollama_cannot_take_are_refused_with_their_path(part, param):
    content = [{"type": "text", "text": "x"}, part]
    where = refused(UnsupportedValue, messages=[USER, {"role": "user", "content": content}])
    assert where == f"messages[1].content[1].{param}"


def test_developer_is_system():
    assert message({"role": "developer", "content": "x"})["role"] == "system"


CALLED = {
    "role": "assistant",
    "content": None,
    "reasoning_content": "hm",
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"z": 1, "a": [2.5]}'}},
        {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
    ],
}


def test_calls_become_objects_and_keep_the_order_of_keys():
    written = message(CALLED)
    assert (written["content"], written["thinking"]) == ("", "hm")
    assert written["tool_calls"] == [
        {"id": "a", "function": {"index": 0, "name": "weather", "arguments": {"z": 1, "a": [2.5]}}},
        {"id": "b", "function": {"index": 1, "name": "clock", "arguments": {}}},
    ]
    assert list(written["tool_calls"][0]["function"]["arguments"]) == ["z", "a"]


def test_results_find_the_names_of_their_calls():
    result = {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]}
    assert message(result, CALLED) == {
        "role": "tool",
        "content": "noon",
        "tool_call_id": "b",
        "tool_name": "clock",
    }
    orphan = message({"role": "tool", "tool_call_id": "zz", "content": "x"})
    assert "tool_name" not in orphan


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", '"{}"', "NaN"])
def test_arguments_that_are_no_object_are_refused_with_their_path(arguments):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    param = refused(RequestError, messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert param == "messages[1].tool_calls[0].function.arguments"


def test_custom_tools_are_refused():
    assert (
        refused(UnsupportedValue, tools=[CLOCK, {"type": "custom", "custom": {"name": "x"}}])
        == "tools[1].type"
    )
    call = {"id": "a", "type": "custom", "custom": {"name": "x", "input": ""}}
    param = refused(UnsupportedValue, messages=[{"role": "assistant", "tool_calls": [call]}])
    assert param == "messages[0].tool_calls[0].type"


# --- tools


def test_tools_are_offered():
    request = chat(tools=[WEATHER, CLOCK])
    assert request.offered and not request.forced
    assert request.body["tools"] == [
        WEATHER,
        {
            "type": "function",
            "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
        },
    ]


def test_tool_choice_none_drops_the_tools_and_auto_among_some_the_others():
    none = chat(tools=[WEATHER, CLOCK], tool_choice="none")
    assert "tools" not in none.body and not none.offered
    some = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "clock"}}]},
    }
    (tool,) = chat(tools=[WEATHER, CLOCK], tool_choice=some).body["tools"]
    assert tool["function"]["name"] == "clock"


def test_a_named_tool_is_forced_by_the_format_and_told_in_the_prompt():
    named = {"type": "function", "function": {"name": "weather"}}
    request = chat(tools=[WEATHER, CLOCK], tool_choice=named)
    assert request.forced == ("weather",)
    assert "tools" not in request.body
    assert request.body["format"]["properties"] == {
        "name": {"type": "string", "enum": ["weather"]},
        "arguments": WEATHER["function"]["parameters"],
    }
    system, user = request.body["messages"]
    assert system["role"] == "system" and "tells the weather" in system["content"]
    assert "clock" not in system["content"]
    assert user == USER


def test_required_may_be_any_tool_and_the_prompt_joins_the_system_message():
    system = {"role": "system", "content": "be kind"}
    request = chat(messages=[system, USER], tools=[WEATHER, CLOCK], tool_choice="required")
    assert request.forced == ("weather", "clock")
    names = [item["properties"]["name"]["enum"] for item in request.body["format"]["anyOf"]]
    assert names == [["weather"], ["clock"]]
    told, user = request.body["messages"]
    assert told["content"].startswith("be kind\n") and '"clock"' in told["content"]


def test_a_choice_without_its_tool_is_refused():
    named = {"type": "function", "function": {"name": "zzz"}}
    assert refused(RequestError, tools=[CLOCK], tool_choice=named) == "tool_choice"
    assert refused(RequestError, tool_choice="required") == "tool_choice"


def test_no_parallel_calls_means_a_single_one():
    assert chat(tools=[CLOCK], parallel_tool_calls=False).single
    assert not chat(tools=[CLOCK]).single


# --- completions and embeddings


def generate(**members):
    return generate_request(read_continuation({"model": "m", "prompt": "Once", **members}), "llama3.2")


def test_a_completion_goes_on_raw():
    request = generate(max_tokens=5, logprobs=2)
    assert request.path == "/api/generate"
    assert request.body == {
        "model": "llama3.2",
        "prompt": "Once",
        "raw": True,
        "think": False,
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {"num_predict": 5},
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_a_suffix_needs_the_models_template():
    body = generate(suffix="end").body
    assert body["suffix"] == "end" and "raw" not in body


def test_completions_that_ollama_cannot_do_are_refused():
    for name, value in {"best_of": 2, "n": 2, "logit_bias": {"1": 1}, "echo": True}.items():
        with pytest.raises(UnsupportedParameter) as caught:
            generate(**{name: value}, logprobs=1 if name == "echo" else None)
        assert caught.value.param == name
    assert generate(echo=True).echo == "Once"


def test_embeddings():
    read = read_embeddings({"model": "m", "input": ["a", "b"], "dimensions": 2, "user": "u", "num_ctx": 512})
    request = embed_request(read, "nomic")
    assert request.path == "/api/embed"
    assert request.body == {
        "model": "nomic",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 512},
    }

"""The neutral form to Anthropic's requests: what is written, and what is refused by name."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.anthropic.request_writer import EFFORT, changes, write_request
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
from ghostllm.errors import GhostError, RequestError, UnsupportedParameter, UnsupportedValue
from ghostllm.jsonx import dumps
from ghostllm.message import Parameters

HELLO = (Message("user", (Text("hi"),)),)
F = FunctionTool("f", "does f", {"properties": {"a": {"type": "integer"}}, "required": ["a"]})
G = FunctionTool("g")


def write(messages=HELLO, default=1000, **members):
    return write_request(Conversation("alias", tuple(messages), **members), "claude", default)


def turns(*messages, **members):
    return write(messages, **members)["messages"]


def said(role, *parts):
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def refused(error, param, *messages, **members):
    with pytest.raises(error) as caught:
        write(messages or HELLO, **members)
    assert type(caught.value) is error and caught.value.param == param
    return caught.value


def text(value):
    return {"type": "text", "text": value}


def test_the_least_request():
    assert write() == {
        "model": "claude",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": [text("hi")]}],
    }
    assert write(stream=True)["stream"] is True


# --- system


def test_a_leading_system_text_stands_apart():
    body = write([said("system", "Be brief."), *HELLO])
    assert body["system"] == "Be brief." and len(body["messages"]) == 1
    body = write([said("system", "a", "b"), said("developer", "c"), *HELLO])
    assert body["system"] == [text("a"), text("b"), text("c")]


def test_a_later_system_text_is_part_of_the_users_turn():
    later = said("system", "Speak French.")
    assert turns(*HELLO, said("assistant", "yes"), later, said("user", "go on"))[2:] == [
        {"role": "user", "content": [text("<system>\nSpeak French.\n</system>"), text("go on")]}
    ]
    assert turns(*HELLO, later)[0]["content"][1] == text("<system>\nSpeak French.\n</system>")


def test_a_system_text_alone_is_what_the_user_says():
    body = write([said("system", "Write a poem.")])
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("Write a poem.")]}]


def test_a_system_message_is_text_only():
    refused(UnsupportedValue, "messages[0].content[1].type", said("system", "a", Image(url="u")), *HELLO)


# --- turns


def test_turns_of_one_role_are_one_turn():
    assert turns(said("user", "a"), said("user", "b"), said("assistant", "c"), said("assistant", "d")) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
    ]


def test_blank_text_is_nothing_said():
    assert turns(said("user", " ", "a"), said("assistant", ""), said("user", "b")) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]
    for nothing in (said("user", ""), said("system", " "), said("assistant", Reasoning("hm"))):
        refused(RequestError, "messages", nothing)


def test_the_beginning_of_an_answer_ends_without_white_space():
    assert turns(*HELLO, said("assistant", "Once \n"))[-1]["content"] == [text("Once")]
    assert turns(*HELLO, said("assistant", "Once "), *HELLO)[1]["content"] == [text("Once ")]


def test_refusals_are_text():
    assert turns(*HELLO, said("assistant", Refusal("No.")))[1]["content"] == [text("No.")]


def test_calls_and_their_results():
    conversation = turns(
        *HELLO,
        said("assistant", "let me see", ToolCall("c1", "f", '{"b":1,"a":[2]}'), ToolCall("c2", "g", " ")),
        said("tool", ToolResult("c1", (Text("one"),))),
        said("tool", ToolResult("c2", (), error=True)),
        said("user", "so?"),
    )
    assert conversation[1]["content"] == [
        text("let me see"),
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"b": 1, "a": [2]}},
        {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
    ]
    assert list(conversation[1]["content"][1]["input"]) == ["b", "a"]
    assert conversation[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
            text("so?"),
        ],
    }


def test_results_come_first_in_their_turn():
    conversation = turns(
        *HELLO,
        said("assistant", ToolCall("c1", "f", "{}")),
        said("system", "Mind the gap."),
        said("tool", ToolResult("c1", (Text("a"), Image(data="iVBORw0KGgoAAA")))),
    )
    result, rest = conversation[2]["content"]
    assert result["content"] == [
        text("a"),
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAA"},
        },
    ]
    assert rest == text("<system>\nMind the gap.\n</system>")


def ids(*messages):
    return [
        block.get("id") or block["tool_use_id"]
        for turn in turns(*HELLO, *messages)[1:]
        for block in turn["content"]
    ]


def test_ids_that_anthropic_refuses_are_written_otherwise_and_stay_apart():
    assert ids(
        said("assistant", ToolCall("functions.f:0", "f", "{}"), ToolCall("functions_f_0", "f", "{}")),
        said("tool", ToolResult("functions_f_0", ()), ToolResult("functions.f:0", ())),
    ) == ["functions_f_0", "functions_f_0_2", "functions_f_0_2", "functions_f_0"]


def test_ids_that_are_used_again_or_missing_go_by_order():
    for known in ("0", ""):
        first = known or "call"
        turn = (
            said("assistant", ToolCall(known, "f", "{}"), ToolCall(known, "g", "{}")),
            said("tool", ToolResult(known, ()), ToolResult(known, ())),
        )
        expected = [first, f"{first}_2", first, f"{first}_2"]
        assert ids(*turn) == expected
        assert ids(*turn, *turn) == expected + [f"{first}_3", f"{first}_4"] * 2


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "null"])
def test_arguments_that_are_no_object(arguments):
    calls = said("assistant", ToolCall("a", "f", "{}"), ToolCall("b", "f", arguments))
    refused(RequestError, "messages[1].tool_calls[1].function.arguments", *HELLO, calls)


def test_calls_of_custom_tools():
    call = said("assistant", ToolCall("a", "f", "x", custom=True))
    refused(UnsupportedValue, "messages[1].tool_calls[0].type", *HELLO, call)


def test_thinking_goes_back_only_with_a_proof():
    proven = Reasoning("hm", "EqQB==")
    thoughts = (Reasoning("idle"), proven, Reasoning("", redacted="sealed"), Reasoning("", "EqQC=="))
    assert turns(*HELLO, said("assistant", *thoughts, "so"))[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "EqQB=="},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "thinking", "thinking": "", "signature": "EqQC=="},
        text("so"),
    ]


# --- images and files


def test_images():
    sources = [
        block["source"]
        for block in turns(
            said(
                "user",
                Image(data="QUJD", media_type="image/jpg"),
                Image(data="/9j/4AAQ"),
                Image(url="https://x/y.png", detail="high"),
            )
        )[0]["content"]
    ]
    assert sources == [
        {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"},
        {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AAQ"},
        {"type": "url", "url": "https://x/y.png"},
    ]


@pytest.mark.parametrize("image", [Image(data="QUJD", media_type="image/tiff"), Image(data="QUJD")])
def test_images_of_other_kinds(image):
    refused(UnsupportedValue, "messages[0].content[1].image_url.url", said("user", "a", image))


def test_files():
    plain = base64.b64encode("größer".encode()).decode()
    files = (
        File(data="data:application/pdf;base64,JVBERi0=", filename="a.pdf"),
        File(data="JVBERi0=", media_type="application/pdf"),
        File(data="JVBERi0=", filename="B.PDF"),
        File(data=f"data:text/csv;charset=utf-8;base64,{plain}"),
        File(data=plain, filename="n.txt"),
        File(url="https://x/y.pdf"),
        File(file_id="file_1"),
    )
    blocks = turns(said("user", *files))[0]["content"]
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    note = {"type": "text", "media_type": "text/plain", "data": "größer"}
    url, stored = {"type": "url", "url": "https://x/y.pdf"}, {"type": "file", "file_id": "file_1"}
    assert [block["source"] for block in blocks] == [pdf, pdf, pdf, note, note, url, stored]
    assert [block.get("title") for block in blocks][:2] == ["a.pdf", None]


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (File(data="QUJD"), UnsupportedValue),
        (File(data="QUJD", filename="a.docx"), UnsupportedValue),
        (File(data="data:application/zip;base64,QUJD"), UnsupportedValue),
        (File(data="data:text/plain,abc"), RequestError),
        (File(data="!!!", media_type="text/plain"), RequestError),
        (File(data="/w==", media_type="text/plain"), RequestError),
    ],
)
def test_files_of_other_kinds(file, error):
    refused(error, "messages[0].content[0].file.file_data", said("user", file))


def test_audio():
    refused(UnsupportedValue, "messages[0].content[0].type", said("user", Audio("QUJD", "wav")))


# --- tools


def test_tools():
    body = write(tools=(F, G, FunctionTool("h", strict=True)))
    assert body["tools"] == [
        {
            "name": "f",
            "description": "does f",
            "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
            },
        },
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        {"name": "h", "input_schema": {"type": "object", "properties": {}}, "strict": True},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("choice", "parallel", "chosen", "names"),
    [
        (ToolChoice("none"), None, {"type": "none"}, "fg"),
        (ToolChoice("none"), False, {"type": "none"}, "fg"),
        (ToolChoice("auto"), None, {"type": "auto"}, "fg"),
        (ToolChoice("auto", ("g",)), True, {"type": "auto"}, "g"),
        (ToolChoice("required"), None, {"type": "any"}, "fg"),
        (ToolChoice("required", ("f",)), None, {"type": "tool", "name": "f"}, "fg"),
        (ToolChoice("required", ("f", "g")), False, {"type": "any", "disable_parallel_tool_use": True}, "fg"),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}, "fg"),
        (None, True, None, "fg"),
    ],
)
def test_choices(choice, parallel, chosen, names):
    body = write(tools=(F, G), tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == chosen
    assert [tool["name"] for tool in body["tools"]] == list(names)


def test_a_choice_without_tools():
    for choice in (None, ToolChoice("none"), ToolChoice("auto")):
        assert write(tool_choice=choice, parallel_tool_calls=False) == write()
    refused(RequestError, "tool_choice", tool_choice=ToolChoice("required"))
    refused(RequestError, "tool_choice", tools=(F,), tool_choice=ToolChoice("required", ("x",)))


@pytest.mark.parametrize("choice", [None, ToolChoice("none")])
def test_custom_tools(choice):
    refused(UnsupportedValue, "tools[1].type", tools=(F, CustomTool("c")), tool_choice=choice)


# --- parameters


def test_sampling():
    sampling = Sampling(temperature=0, top_p=0.5, top_k=3, stop=("a", "b"), max_tokens=7)
    body = write(sampling=sampling)
    assert {name: body[name] for name in body if name not in ("model", "messages")} == {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["a", "b"],
        "max_tokens": 7,
    }


def test_sampling_that_asks_for_nothing():
    harmless = Sampling(n=1, min_p=0, presence_penalty=0.0, frequency_penalty=0, repetition_penalty=1.0)
    assert write(sampling=harmless) == write()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("seed", 0),
        ("logit_bias", {"5": 1.0}),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("min_p", 0.1),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("repetition_penalty", 1.1),
    ],
)
def test_sampling_that_anthropic_has_not(name, value):
    refused(UnsupportedParameter, name, sampling=Sampling(**{name: value}))


def test_sampling_out_of_anthropics_range():
    refused(UnsupportedValue, "temperature", sampling=Sampling(temperature=1.5))
    refused(UnsupportedValue, "stop", sampling=Sampling(stop=("a", "\n")))


@pytest.mark.parametrize(("effort", "shown"), EFFORT.items())
def test_an_effort(effort, shown):
    body = write(reasoning_effort=effort)
    assert body["output_config"] == {"effort": shown} and body["thinking"] == {"type": "adaptive"}


def test_an_effort_without_thinking_before_a_forced_call():
    for choice in (ToolChoice("required"), ToolChoice("required", ("f",))):
        body = write(reasoning_effort="low", tools=(F,), tool_choice=choice)
        assert body["output_config"] == {"effort": "low"} and "thinking" not in body
    assert "thinking" in write(reasoning_effort="low", tools=(F,), tool_choice=ToolChoice("auto"))


def test_no_thinking():
    for members in ({"reasoning_effort": "none"}, {"reasoning_budget": 0}):
        body = write(**members)
        assert body["thinking"] == {"type": "disabled"} and "output_config" not in body
    refused(UnsupportedValue, "reasoning_effort", reasoning_effort="huge")


def test_a_budget_comes_on_top_of_what_is_left_open():
    body = write(reasoning_budget=2048)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048} and body["max_tokens"] == 3048
    assert write(reasoning_budget=2048, sampling=Sampling(max_tokens=4000))["max_tokens"] == 4000


def test_formats():
    schema = {"type": "object", "properties": {}}
    body = write(response_format=ResponseFormat("json_schema", "n", schema), reasoning_effort="low")
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }
    assert write(response_format=ResponseFormat("text")) == write()
    refused(UnsupportedParameter, "response_format.type", response_format=ResponseFormat("json_object"))
    refused(
        RequestError,
        "response_format.json_schema.schema",
        response_format=ResponseFormat("json_schema", "n"),
    )


def test_the_users_id_is_the_only_label():
    assert write(metadata={"user_id": "u", "team": "x"})["metadata"] == {"user_id": "u"}
    assert write(metadata={"user": "u"})["metadata"] == {"user_id": "u"}
    assert write(metadata={"team": "x"}) == write()


def test_extensions():
    harmless = {"user": "u", "store": False, "service_tier": "auto", "keep_alive": "5m", "num_ctx": 4}
    assert write(extensions=harmless) == write()
    own = {"thinking": {"type": "adaptive", "display": "summarized"}, "cache_control": {"type": "ephemeral"}}
    assert {**write(), **own} == write(extensions=own)
    body = write(extensions={**own, "output_config": {"x": 1}}, reasoning_effort="low", reasoning_budget=9)
    assert body["thinking"] == own["thinking"] and body["output_config"] == {"x": 1, "effort": "low"}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("store", True, UnsupportedParameter),
        ("service_tier", "flex", UnsupportedParameter),
        ("audio", {"voice": "x"}, UnsupportedParameter),
        ("modalities", ["text", "audio"], UnsupportedParameter),
        ("prediction", {}, UnsupportedParameter),
        ("web_search_options", {}, UnsupportedParameter),
        ("output_config", 3, RequestError),
    ],
)
def test_extensions_that_would_change_the_answer(name, value, error):
    refused(error, name, extensions={name: value})


# --- parameters of the model, for requests of Anthropic's own


def test_configured_parameters_get_anthropics_names():
    parameters = Parameters(
        {"temperature": 0.5, "max_completion_tokens": 5, "stop": "x", "reasoning_effort": "low"},
        {"top_k": 3, "thinking": {"type": "disabled"}},
    )
    assert changes(parameters, {"max_tokens": 9, "temperature": None, "top_k": 1}) == {
        "temperature": 0.5,
        "stop_sequences": ["x"],
        "output_config": {"effort": "low"},
        "top_k": 3,
        "thinking": {"type": "disabled"},
    }
    assert changes(Parameters({}, {"max_tokens": 5}), {"max_tokens": 9}) == {"max_tokens": 5}
    assert changes(None, {}) == changes(Parameters({}, {}), {}) == {}


def test_configured_levels_and_the_clients_format_go_together():
    asked = {"output_config": {"format": {"type": "json_schema"}, "effort": "high"}}
    for parameters, effort in (
        (Parameters({"reasoning_effort": "low"}, {"thinking": {}}), "high"),
        (Parameters({}, {"reasoning_effort": "low", "thinking": {}}), "low"),
    ):
        written = changes(parameters, asked)["output_config"]
        assert written == {"format": {"type": "json_schema"}, "effort": effort}


def test_a_configured_parameter_that_anthropic_has_not():
    with pytest.raises(UnsupportedParameter) as caught:
        changes(Parameters({}, {"seed": 7}), {})
    assert caught.value.param == "seed"


# --- whatever is asked

words = st.text(max_size=6)
parts = {
    "system": words.map(Text),
    "user": st.one_of(
        words.map(Text),
        st.builds(Image, data=words, media_type=st.sampled_from(["", "image/png", "x"]), url=words),
        st.builds(File, data=words, url=words, filename=words, media_type=st.sampled_from(["", "text/x"])),
    ),
    "assistant": st.one_of(
        words.map(Text),
        st.builds(Reasoning, words, words, words),
        st.builds(ToolCall, words, words, st.sampled_from(["{}", "", '{"a":1}', "[", "3"])),
    ),
    "tool": st.builds(ToolResult, words, st.lists(words.map(Text), max_size=2).map(tuple)),
}
messages = st.sampled_from(sorted(parts)).flatmap(
    lambda role: st.lists(parts[role], max_size=3).map(lambda found: Message(role, tuple(found)))
)


@settings(deadline=None)
@given(st.lists(messages, max_size=6))
def test_turns_alternate_say_something_and_name_each_call_once(asked):
    try:
        body = write(asked)
    except GhostError as error:
        assert error.param is not None and error.param.startswith("messages")
        return
    dumps(body)
    roles = [turn["role"] for turn in body["messages"]]
    assert all(a != b for a, b in zip(roles, roles[1:], strict=False)) and all(
        turn["content"] for turn in body["messages"]
    )
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len(set(calls)) == len(calls)
    assert all(block["text"].strip() for block in blocks if block["type"] == "text")

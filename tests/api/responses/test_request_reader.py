"""Requests of the Responses dialect, as the neutral form has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.canonical import (
    Audio,
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
    ToolChoice,
    ToolResult,
)
from ghostllm.api.responses import door
from ghostllm.api.responses.items import SEALED, SIGNED
from ghostllm.errors import GhostError, RequestError, UnsupportedParameter, UnsupportedValue

USER = {"role": "user", "content": "hi"}


def read(previous=(), references=(), **fields):
    call = door.read_call("responses", jsonx.dumps({"model": "m", "input": "hi", **fields}))
    call.previous = list(previous)
    call.references = dict(references)
    return door.neutral(call)


def messages(*items, **more):
    return read(input=list(items), **more).messages


def function_call(name, identity="", **more):
    return {
        "type": "function_call", "call_id": identity or f"call_{name}", "name": name, "arguments": "{}",
        **more,
    }  # fmt: skip


def result(identity, said="ok", **more):
    return {"type": "function_call_output", "call_id": identity, "output": said, **more}


def called(name):
    return ToolCall(f"call_{name}", name, "{}")


def gave(name, said="ok"):
    return ToolResult(f"call_{name}", (Text(said),), name)


def fails(kind, param, **fields):
    with pytest.raises(kind) as caught:
        read(**fields)
    assert caught.value.param == param, caught.value
    assert caught.value.status == 400
    return caught.value.message


# --- items


def test_a_string_is_what_the_user_says():
    assert read(input="Grüße").messages == (Message("user", (Text("Grüße"),)),)


def test_instructions_stand_in_front():
    assert read(instructions="be brief").messages[0] == Message("system", (Text("be brief"),))


def test_messages_in_every_form():
    assert messages(
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "s"}]},
        USER,
        {"role": "assistant", "content": "a", "phase": "commentary"},
        {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [
                {"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "c"},
            ],
        },
        {"role": "user", "content": []},
    ) == (
        Message("developer", (Text("d"),)),
        Message("system", (Text("s"),)),
        Message("user", (Text("hi"),)),
        Message("assistant", (Text("a"), Text("b"), Refusal("c"))),
        Message("user", (Text(""),)),
    )  # fmt: skip


def test_what_a_user_may_show():
    parts = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/PNG;base64,aGk=", "detail": "auto"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://x.test/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
    ]
    assert messages({"role": "user", "content": parts})[0].parts == (
        Text("look"),
        Image(url="https://x.test/a.png", detail="low"),
        Image("aGk=", "image/png", detail="auto"),
        File("data:application/pdf;base64,aGk=", filename="a.pdf"),
        File(url="https://x.test/a.pdf"),
        Audio("aGk=", "wav"),
    )


def test_what_the_assistant_did_in_one_turn_is_one_message():
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    assert messages(
        USER, thought, {"role": "assistant", "content": "wait"}, function_call("f"), function_call("g"),
        result("call_f"), result("call_g"), {"role": "assistant", "content": "done"},
    ) == (
        Message("user", (Text("hi"),)),
        Message("assistant", (Reasoning("hm"), Text("wait"), called("f"), called("g"))),
        Message("tool", (gave("f"), gave("g"))),
        Message("assistant", (Text("done"),)),
    )  # fmt: skip


def test_results_follow_their_calls_wherever_they_come():
    assert messages(
        function_call("f"), function_call("g"), USER, result("call_g"), function_call("h"), result("call_f"),
        result("call_h"),
    ) == (
        Message("assistant", (called("f"), called("g"))),
        Message("tool", (gave("g"), gave("f"))),
        Message("user", (Text("hi"),)),
        Message("assistant", (called("h"),)),
        Message("tool", (gave("h"),)),
    )  # fmt: skip


def test_an_id_that_is_used_again_means_the_latest_call():
    rows = messages(
        function_call("f", "c"), result("c", "1"), USER, function_call("g", "c"), result("c", "2")
    )
    assert rows[1].parts == (ToolResult("c", (Text("1"),), "f"),)
    assert rows[4].parts == (ToolResult("c", (Text("2"),), "g"),)


def test_results_may_show_images():
    parts = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "https://x.test/a"}]
    rows = messages(function_call("f"), result("call_f", parts))
    assert rows[1].parts[0].parts == (Text("see"), Image(url="https://x.test/a"))


def test_custom_calls():
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "***"}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    assert messages(call, output) == (
        Message("assistant", (ToolCall("c", "patch", "***", custom=True),)),
        Message("tool", (ToolResult("c", (Text("ok"),), "patch"),)),
    )


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"summary": [{"type": "summary_text", "text": t} for t in "ab"]}, (Reasoning("a\n\nb"),)),
        (
            {
                "summary": [{"type": "summary_text", "text": "short"}],
                "content": [{"type": "reasoning_text", "text": "long"}],
            },
            (Reasoning("long"),),
        ),
        ({"summary": [], "encrypted_content": SIGNED + "sig"}, (Reasoning("", "sig"),)),
        ({"summary": [], "encrypted_content": SEALED + "box"}, (Reasoning("", redacted="box"),)),
        (
            {
                "content": [{"type": "reasoning_text", "text": "t"}],
                "encrypted_content": SIGNED + "sig",
                "summary": [],
            },
            (Reasoning("t", "sig"),),
        ),
        (
            {"summary": [{"type": "summary_text", "text": "a"}], "encrypted_content": "gAAA"},
            (Reasoning("a"),),
        ),
    ],
)  # fmt: skip
def test_thinking(item, parts):
    rows = messages({"type": "reasoning", "id": "rs_1", **item}, {"role": "assistant", "content": "x"})
    assert rows == (Message("assistant", (*parts, Text("x"))),)


def test_thinking_that_only_its_maker_can_read_is_left_out():
    assert messages(USER, {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}) == (
        Message("user", (Text("hi"),)),
    )


def test_the_turns_before_come_first_but_not_their_instructions():
    before = [
        {**USER, "type": "message", "id": "msg_1"}, function_call("f", id="fc_1"),
    ]  # fmt: skip
    asked = read(before, input=[result("call_f")], instructions="new", previous_response_id="resp_1")
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "tool"]


def test_references_to_items():
    said = {"type": "message", "id": "msg_1", "role": "assistant", "content": "stored"}
    point = {"type": "item_reference", "id": "msg_1"}
    assert messages(USER, point, references={"msg_1": said})[1] == Message("assistant", (Text("stored"),))
    assert len(messages(point, USER, previous=[said], previous_response_id="r")) == 2  # it is there already
    assert "send the item" in fails(UnsupportedValue, "input[1].id", input=[USER, point])


# --- tools


def test_tools_are_flat_and_namespaces_flattened():
    schema = {"type": "object", "properties": {}}
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    tools = [
        {"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": True},
        {"type": "custom", "name": "patch", "format": grammar},
        {"type": "custom", "name": "free", "description": "x", "format": {"type": "text"}},
        {"type": "namespace", "name": "crm", "description": "", "tools": [{"type": "function", "name": "f"}]},
        {"type": "namespace", "name": "mcp__a__", "tools": [{"type": "function", "name": "g"}]},
    ]
    assert read(tools=tools).tools == (
        FunctionTool("f", "d", schema, True),
        CustomTool(
            "patch", "", {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}}
        ),
        CustomTool("free", "x", {"type": "text"}),
        FunctionTool("crm__f"),
        FunctionTool("mcp__a__g"),
    )
    [turn] = messages(function_call("g", "c", namespace="mcp__a__"))
    assert turn.parts[0].name == "mcp__a__g"


def test_tools_may_come_as_an_item():
    item = {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "g"}]}
    asked = read(input=[item, USER], tools=[{"type": "function", "name": "f"}])
    assert [tool.name for tool in asked.tools] == ["f", "g"] and len(asked.messages) == 1


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, None),
        *((mode, ToolChoice(mode)) for mode in ("none", "auto", "required")),
        ({"type": "function", "name": "f"}, ToolChoice("required", ("f",))),
        ({"type": "custom", "name": "p"}, ToolChoice("required", ("p",))),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice("auto", ("f",)),
        ),
    ],
)
def test_tool_choice(choice, wanted):
    assert read(tool_choice=choice).tool_choice == wanted


# --- parameters


def test_parameters():
    asked = read(
        temperature=0.5, top_p=0.9, max_output_tokens=7, parallel_tool_calls=False, metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"}, top_logprobs=3, text={"verbosity": "low"},
        include=["message.output_text.logprobs", "reasoning.encrypted_content"], stream=True,
        truncation="auto", store=False, safety_identifier="s", prompt_cache_key="k", service_tier="flex",
        user="u", background=False, stream_options={"include_obfuscation": False}, top_k=5,
    )  # fmt: skip
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.top_k) == (0.5, 0.9, 7, 5)
    assert sampling.logprobs and sampling.top_logprobs == 3
    assert asked.parallel_tool_calls is False and asked.metadata == {"a": "b"}
    assert asked.reasoning_effort == "low" and asked.stream and asked.wants_usage
    assert asked.extensions == {
        "verbosity": "low", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex",
        "user": "u",
    }  # fmt: skip


def test_what_is_left_open_stays_open():
    asked = read()
    assert asked.sampling.temperature is asked.sampling.max_tokens is asked.parallel_tool_calls is None
    assert not asked.sampling.logprobs and asked.extensions == {} and not asked.stream


def test_the_form_of_the_answer():
    schema = {"type": "object"}
    shape = {"type": "json_schema", "name": "n", "schema": schema, "strict": True, "description": "d"}
    assert read(text={"format": shape}).response_format == ResponseFormat(
        "json_schema", "n", schema, True, "d"
    )
    assert read(text={"format": {"type": "json_object"}}).response_format == ResponseFormat("json_object")
    assert read(text={"format": {"type": "text"}}).response_format == ResponseFormat("text")
    assert read(text={}).response_format is None


# --- what is refused


@pytest.mark.parametrize(
    "fields",
    [
        {"background": True}, {"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}}, {"context_management": [{"type": "compaction"}]},
        {"max_tokens": 5}, {"max_completion_tokens": 5}, {"messages": [USER]}, {"n": 2},
        {"response_format": {"type": "json_object"}}, {"reasoning_effort": "low"}, {"logprobs": True},
    ],
)  # fmt: skip
def test_parameters_that_are_not_supported(fields):
    assert "not supported: " in fails(UnsupportedParameter, *fields, **fields)


@pytest.mark.parametrize(
    "kind", ["web_search", "mcp", "file_search", "computer", "shell", "code_interpreter"]
)
def test_hosted_tools_are_refused_by_name(kind):
    tools = [{"type": "function", "name": "f"}, {"type": kind}]
    message = fails(UnsupportedValue, "tools[1].type", tools=tools)
    assert kind in message and "function" in message
    assert fails(UnsupportedValue, "tool_choice.type", tool_choice={"type": kind})


@pytest.mark.parametrize(
    ("kind", "param", "item"),
    [
        (UnsupportedValue, "input[0].type", {"type": "web_search_call", "id": "ws_1"}),
        (UnsupportedValue, "input[0].role", {"role": "tool", "content": "x"}),
        (RequestError, "input[0].type", {"content": "x"}),
        (RequestError, "input[0].content", {"role": "user"}),
        (RequestError, "input[0].content", {"role": "user", "content": 5}),
        (UnsupportedValue, "input[0].content[0].type", {"role": "user", "content": [{"type": "image_url"}]}),
        (
            UnsupportedValue, "input[0].content[0].file_id",
            {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
        ),
        (
            UnsupportedValue, "input[0].content[0].file_id",
            {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]},
        ),
        (
            RequestError, "input[0].content[0].file_data",
            {"role": "user", "content": [{"type": "input_file"}]},
        ),
        (
            RequestError, "input[0].content[0].image_url",
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png,x"}]},
        ),
        (RequestError, "input[0].call_id", {"type": "function_call", "name": "f"}),
        (RequestError, "input[0].name", {"type": "function_call", "call_id": "f"}),
        (RequestError, "input[0].call_id", result("call_x")),
        (RequestError, "input[0]", "text"),
    ],
)  # fmt: skip
def test_items_that_are_wrong(kind, param, item):
    fails(kind, param, input=[item])


@pytest.mark.parametrize(
    ("kind", "param", "fields"),
    [
        (RequestError, "input", {"input": None}),
        (RequestError, "input", {"input": 5}),
        (RequestError, "input", {"input": []}),
        (RequestError, "instructions", {"instructions": ["x"]}),
        (RequestError, "previous_response_id", {"previous_response_id": 5}),
        (RequestError, "previous_response_id", {"previous_response_id": "x" * 300}),
        (RequestError, "stream", {"stream": "yes"}),
        (RequestError, "store", {"store": 1}),
        (UnsupportedValue, "truncation", {"truncation": "middle"}),
        (UnsupportedValue, "tool_choice", {"tool_choice": "always"}),
        (UnsupportedValue, "tool_choice.mode", {"tool_choice": {"type": "allowed_tools", "mode": "none"}}),
        (RequestError, "tool_choice.tools", {"tool_choice": {"type": "allowed_tools", "mode": "auto"}}),
        (RequestError, "tools[1].name", {"tools": [{"type": "function", "name": "f"}] * 2}),
        (RequestError, "tools[0].name", {"tools": [{"type": "function"}]}),
        (
            UnsupportedValue, "tools[0].format.type",
            {"tools": [{"type": "custom", "name": "p", "format": {"type": "x"}}]},
        ),
        (UnsupportedValue, "text.format.type", {"text": {"format": {"type": "xml"}}}),
        (RequestError, "text.format.schema", {"text": {"format": {"type": "json_schema", "name": "n"}}}),
        (RequestError, "max_output_tokens", {"max_output_tokens": 0}),
        (RequestError, "metadata.a", {"metadata": {"a": 1}}),
        (RequestError, "include", {"include": 5}),
        (RequestError, "reasoning", {"reasoning": "low"}),
    ],
)  # fmt: skip
def test_members_that_are_wrong(kind, param, fields):
    fails(kind, param, **fields)


@pytest.mark.parametrize("depth", [240, 250, 252, 253, 254, 255, 300, 900])
def test_what_cannot_be_written_again_is_refused_before_it_is_answered(depth):
    """Parsers take more levels than writers do, and a response echoes its request."""
    tools = '[{"type":"function","name":"f","parameters":' + '{"a":' * depth + "1" + "}" * depth + "}]"
    call = door.read_call("responses", b'{"model":"m","input":"hi","tools":%b}' % tools.encode())
    try:
        door.neutral(call)
    except RequestError as error:
        assert "nested too deeply" in error.message and depth > 245
        return
    door.writer(call, 1700, lambda prefix: f"{prefix}1").end()
    assert call.response is not None


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KNOWN = st.sampled_from([
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "item_reference",
    "additional_tools", "input_text", "input_image", "input_file", "input_audio", "refusal", "function",
    "namespace", "custom", "user", "assistant", "grammar", "json_schema", "allowed_tools", "auto", "c",
])  # fmt: skip
NAMES = st.sampled_from([
    "type", "role", "content", "call_id", "name", "arguments", "output", "input", "tools", "id", "summary",
    "encrypted_content", "text", "image_url", "file_data", "input_audio", "format", "mode", "effort",
    "namespace", "schema", "definition", "syntax", "refusal",
])  # fmt: skip
LIKELY = st.recursive(
    KNOWN | JUNK,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)
MEMBERS = st.sampled_from([
    "input", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "instructions", "stream",
    "store", "top_logprobs", "max_output_tokens", "previous_response_id", "truncation", "stop",
])  # fmt: skip


@given(st.dictionaries(MEMBERS, LIKELY, max_size=4))
def test_whatever_comes_is_read_or_refused(fields):
    """And whoever is served can be answered."""
    body = jsonx.dumps({"model": "m", "input": "hi", **fields})
    try:
        call = door.read_call("responses", body)
        door.neutral(call)
    except GhostError as error:
        assert error.status == 400
        return
    door.writer(call, 1700, lambda prefix: f"{prefix}1").end()
    assert call.response is not None

"""A call that must be made: what the model is told, what its output is bound to, and what comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api import forced_call
from ghostllm.api.canonical import Conversation, CustomTool, FunctionTool, Message, Text, ToolChoice
from ghostllm.errors import RequestError, UnsupportedValue
from ghostllm.jsonx import dumps

USER = Message("user", (Text("hi"),))
F = FunctionTool(
    "f", "does f", {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}}
)
G = FunctionTool("g")


def conversation(choice=None, tools=(F, G)):
    return Conversation("m", (USER,), tools=tools, tool_choice=choice)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (None, ["f", "g"]),
        (ToolChoice("none"), []),
        (ToolChoice("auto"), ["f", "g"]),
        (ToolChoice("required"), ["f", "g"]),
        (ToolChoice("required", ("g",)), ["g"]),
    ],
)
def test_the_choice_says_which_tools_there_are(choice, names):
    assert [tool.name for tool in forced_call.callable_tools(conversation(choice), "S")] == names


def test_a_choice_that_cannot_be_made_is_refused_by_name():
    with pytest.raises(RequestError) as caught:
        forced_call.callable_tools(conversation(ToolChoice("required", ("h",))), "S")
    assert caught.value.param == "tool_choice"
    with pytest.raises(RequestError):
        forced_call.callable_tools(conversation(ToolChoice("required"), ()), "S")
    with pytest.raises(UnsupportedValue) as refused:
        forced_call.callable_tools(conversation(tools=(F, CustomTool("c"))), "S")
    assert refused.value.param == "tools[1].type" and refused.value.message.startswith("S ")


def test_the_model_is_told_in_the_one_system_message():
    told = forced_call.told((Message("developer", (Text("brief"),)), USER), [F])
    assert [message.role for message in told] == ["system", "user"]
    assert told[0].parts[0] == Text("brief") and '"does f"' in told[0].parts[1].text
    assert [message.role for message in forced_call.told((USER,), [F])] == ["system", "user"]


def test_the_schema_is_of_one_call_and_follows_references():
    one = forced_call.schema([F])
    assert one["properties"]["arguments"] == {"type": "object", "properties": {"x": {}}}
    assert [each["properties"]["name"]["enum"] for each in forced_call.schema([F, G])["anyOf"]] == [
        ["f"],
        ["g"],
    ]


@given(st.text(max_size=20))
def test_anything_but_a_call_is_none(text):
    with pytest.raises(forced_call.NoCall):
        forced_call.read(text, ["f"], cut=False)


def test_half_a_call_is_none_where_the_limit_cut_it():
    assert forced_call.read('{"name":"f"', ["f"], cut=True) is None
    with pytest.raises(forced_call.NoCall):
        forced_call.read('{"name":"h","arguments":{}}', ["f"], cut=True)


@given(st.dictionaries(st.text(max_size=3), st.integers(-(2**53), 2**53)))
def test_a_call_is_read(arguments):
    text = dumps({"name": "f", "arguments": arguments}).decode()
    assert forced_call.read(text, ["f", "g"], cut=False) == ("f", arguments)

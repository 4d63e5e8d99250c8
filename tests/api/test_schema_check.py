"""Answers held against the schema that was asked for: what does not fit is found, what fits never refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import Answer, Conversation, Finish, Message, ResponseFormat, Text, ToolCall
from ghostllm.api.schema_check import check_for, violation
from ghostllm.errors import UpstreamProtocolError
from ghostllm.message import Usage

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "pet": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pet"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"pet": {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}},
}


def checked(text: str, schema=PERSON, finish="stop", extra=()) -> None:
    wanted = ResponseFormat("json_schema", "person", schema)
    check = check_for(
        Conversation("m", (Message("user", (Text("Hi"),)),), response_format=wanted), "backend 'b'"
    )
    assert check is not None
    check(Answer((Text(text), *extra), Finish(finish), Usage()))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "age": 3}',
        '{"name": "x", "age": null, "tags": ["a"], "pet": null}',
        '{"name": "x", "age": 3.0, "pet": {"kind": "cat", "more": 1}}',
    ],
)
def test_what_fits_passes(text):
    checked(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Sure! Here it is", "something else than JSON"),
        ("[]", "not of type object"),
        ('{"name": "x"}', "lacks 'age'"),
        ('{"name": "x", "age": 1, "b": 2}', "has 'b'"),
        ('{"name": "x", "age": true}', "the answer.age is not of type integer or null"),
        ('{"name": "x", "age": 1, "tags": ["a", "c"]}', r"the answer.tags\[1\] is none of the values"),
        ('{"name": "x", "age": 1, "pet": {"kind": "dog"}}', "the answer.pet is not"),
    ],
)
def test_what_does_not_fit_is_told(text, fault):
    with pytest.raises(UpstreamProtocolError, match=fault):
        checked(text)


def test_an_answer_that_was_cut_or_calls_a_tool_is_no_document():
    checked('{"name": "x', finish="length")
    checked("", extra=(ToolCall("1", "f", "{}"),))


def test_nothing_is_checked_where_nothing_was_asked():
    asked = Conversation("m", (Message("user", (Text("Hi"),)),))
    assert check_for(asked, "b") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(JSON, JSON)
def test_any_value_and_any_schema_end_in_words_or_none(value, schema):
    found = violation(value, schema)
    assert found is None or isinstance(found, str)


@given(JSON)
def test_a_schema_made_of_a_value_takes_it(value):
    assert violation(value, {"const": value}) is None
    assert violation(value, {"enum": [value]}) is None
    assert violation(value, {}) is None

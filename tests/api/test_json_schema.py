"""Schemas for Ollama: references inlined, narrowed to the words it keeps, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.json_schema import inline, narrow
from ghostllm.errors import RequestError, UnsupportedValue


def test_references_are_replaced_and_their_neighbours_kept():
    schema = {
        "$defs": {"Name": {"type": "string"}, "Person": {"properties": {"name": {"$ref": "#/$defs/Name"}}}},
        "properties": {"who": {"$ref": "#/$defs/Person", "description": "the one"}},
    }
    assert inline(schema, "p") == {
        "properties": {"who": {"properties": {"name": {"type": "string"}}, "description": "the one"}}
    }


def test_a_property_may_be_called_like_a_keyword():
    schema = {"properties": {"definitions": {"type": "string"}, "$ref": {"type": "integer"}}}
    assert inline(schema, "p") == schema


def test_data_is_not_taken_for_schemas():
    schema = {"enum": [{"$ref": "#/nowhere"}], "default": {"$defs": 1}}
    assert inline(schema, "p") == schema


def test_recursion_ends_in_the_bare_type():
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    inlined = inline(tree, "p")
    assert "$ref" not in jsonx.dumps(inlined).decode()
    leaf = inlined["properties"]["children"]["items"]["properties"]["children"]["items"]
    assert leaf == {"type": "object"}


def test_pointers_are_unescaped():
    assert inline({"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {"type": "null"}}}, "p") == {"type": "null"}


@pytest.mark.parametrize(
    ("reference", "error"),
    [("#/$defs/missing", RequestError), ("https://example.com/s.json", UnsupportedValue)],
)
def test_references_to_nowhere_are_refused(reference, error):
    with pytest.raises(error) as caught:
        inline({"properties": {"a": {"$ref": reference}}}, "tools[0].function.parameters")
    assert caught.value.param == "tools[0].function.parameters"


def test_a_reference_to_a_schema_that_allows_anything():
    assert inline({"$ref": "#/$defs/any", "$defs": {"any": True}}, "p") == {}


def test_references_that_multiply_are_bounded():
    bomb = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 10} for i in range(9)}
    with pytest.raises(RequestError):
        inline({"$ref": "#/$defs/d0", "$defs": {**bomb, "d9": {}}}, "p")


def test_deep_schemas_are_bounded():
    schema: dict = {}
    for _ in range(500):
        schema = {"items": schema}
    with pytest.raises(RequestError):
        inline(schema, "p")


def test_narrowing_says_what_can_be_said():
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "kind": {"const": "a"},
            "value": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "any": True,
            "both": {"allOf": [{"properties": {"x": {"type": "string"}}}, {"required": ["x"]}]},
            "many": {"type": "array", "items": {"const": 1}, "minItems": 1},
        },
        "required": ["kind"],
    }
    assert narrow(schema) == {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a"]},
            "value": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "any": {},
            "both": {"properties": {"x": {"type": "string"}}, "required": ["x"]},
            "many": {"type": "array", "items": {"enum": [1]}},
        },
        "required": ["kind"],
    }


keywords = st.sampled_from(
    ["$ref", "$defs", "type", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "required", "const"]
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["#", "#/$defs/x", "object"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keywords, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(keywords, values, max_size=4))
def test_hostile_schemas_end_in_a_schema_or_a_request_error(schema):
    try:
        narrow(inline(schema, "p"))
    except RequestError as error:
        assert error.param == "p"

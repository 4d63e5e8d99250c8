"""The JSON Schema: well-formed, complete, of one mind with the loader. Judged by a small evaluator."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.fields import fields_of, is_section
from ghostllm.config.jsonschema import json_schema
from ghostllm.config.kinds import Secret
from ghostllm.config.load import build
from ghostllm.config.schema import Config
from ghostllm.errors import ConfigError

SCHEMA = json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
KNOWN = set(
    "$schema title $defs $ref type description default properties additionalProperties required anyOf enum "
    "items minItems minimum maximum minLength pattern format writeOnly".split()
)


def sound(value, schema):
    """Whether `value` is valid, of the keywords in KNOWN (draft 2020-12); raises on any other keyword."""
    assert set(schema) <= KNOWN
    if "$ref" in schema and not sound(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]):
        return False
    if "anyOf" in schema and not any(sound(value, one) for one in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema:
        if isinstance(value, bool) and schema["type"] != "boolean":
            return False
        if not isinstance(value, TYPES[schema["type"]]):
            return False
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list):
        items = schema.get("items", {})
        return len(value) >= schema.get("minItems", 0) and all(sound(item, items) for item in value)
    if isinstance(value, dict):
        rest = schema.get("additionalProperties", {})
        known = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            (key in known or rest is not False) and sound(item, known.get(key, rest))
            for key, item in value.items()
        )
    if isinstance(value, (int, float)):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


def taken(value):
    try:
        build(value, {"A": "x"})
    except ConfigError:
        return False
    return True


def test_is_json_and_refers_only_to_what_it_has():
    text = json.dumps(SCHEMA, allow_nan=False)
    assert json.loads(text) == SCHEMA
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) == set(SCHEMA["$defs"])


def test_every_class_and_key_is_in_it_with_its_meaning():
    def classes(cls):
        yield cls
        for field in fields_of(cls).values():
            for part in (field.type, *getattr(field.type, "__args__", ())):
                for inner in (part, *getattr(part, "__args__", ())):
                    if is_section(inner) and inner is not Secret and inner is not cls:
                        yield from classes(inner)

    found = set(classes(Config))
    assert {"Limits", "TargetConfig", "Timeouts", "Cors"} <= {cls.__name__ for cls in found}
    for cls in found - {Config}:
        described = SCHEMA["$defs"][cls.__name__]["properties"]
        assert set(described) == {field.name for field in dataclasses.fields(cls)}
        assert all(described[field.name]["description"] == field.meaning for field in fields_of(cls).values())
    assert set(SCHEMA["properties"]) == {field.name for field in dataclasses.fields(Config)} | {"profile"}


def test_defaults_are_sound_and_secrets_have_none():
    def walk(schema):
        if isinstance(schema, dict):
            if "default" in schema and "type" in schema:
                assert sound(schema["default"], schema), schema
            for value in schema.values():
                walk(value)

    walk(SCHEMA)
    assert SCHEMA["$defs"]["KeyConfig"]["properties"]["key"]["anyOf"][0]["writeOnly"]
    assert SCHEMA["properties"]["timeouts"]["properties"]["connect"]["default"] == 5.0
    assert SCHEMA["$defs"]["Timeouts"]["properties"]["connect"]["default"] is None
    assert SCHEMA["$defs"]["Limits"]["properties"]["body_bytes"] == {
        "type": "integer",
        "minimum": 1,
        "default": 33_554_432,
        "description": "Largest request body, also after decompression; above: 413.",
    }


def test_the_example_is_valid_both_ways(example, uncommented_example):
    assert sound(tomllib.loads(example), SCHEMA)
    assert sound(tomllib.loads(uncommented_example), SCHEMA)


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({}, True),
        ({"server": {"listen": ["127.0.0.1:1"]}}, True),
        ({"server": {"listen": "127.0.0.1:1"}}, False),
        ({"server": {"listen": []}}, False),
        ({"server": {"lisen": []}}, False),
        ({"log": {"level": "loud"}}, False),
        ({"backends": [{"name": "a", "url": "http://a"}]}, True),
        ({"backends": [{"url": "http://a"}]}, False),
        ({"backends": [{"name": "a b", "url": "http://a"}]}, False),
        ({"backends": [{"name": "a", "url": "ftp://a"}]}, False),
        ({"backends": [{"name": "a", "url": "http://a", "api_key": "env:A", "headers": {"a": "b"}}]}, True),
        ({"backends": [{"name": "a", "url": "http://a", "gpu_layers": -2}]}, False),
        ({"backends": [{"name": "a", "url": "http://a", "weight": True}]}, False),
        ({"models": [{"name": "a", "targets": []}]}, False),
        ({"keys": [{"name": "a", "hash": "sha256:" + "0" * 64}]}, True),
        ({"keys": [{"name": "a", "hash": "sha256:" + "0" * 63}]}, False),
        ({"timeouts": {"total": None, "idle": 0}}, True),
        ({"timeouts": {"total": -1}}, False),
    ],
)
def test_schema_and_loader_agree(data, valid):
    assert sound(data, SCHEMA) is valid
    assert taken(data) is valid


def test_profiles_are_described():
    assert sound({"profile": {"p": {"log": {"level": "debug"}}}}, SCHEMA)
    assert not sound({"profile": {"p": {"log": {"level": "loud"}}}}, SCHEMA)
    assert not sound({"profile": {"p": {"profile": {}}}}, SCHEMA)


SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "log": st.dictionaries(
            st.sampled_from(["level", "access", "x"]), st.sampled_from(["info", "loud", True, 1, None])
        ),
        "routing": st.dictionaries(
            st.sampled_from(["attempts", "backoff", "balance"]),
            st.sampled_from([0, 1, 0.5, -1, "weighted", "failover", True, [], None]),
        ),
        "timeouts": st.dictionaries(
            st.sampled_from(["idle", "total"]), st.sampled_from([0, 1.5, -1, None, "1", True])
        ),
    },
)


@given(SECTIONS)
def test_schema_and_loader_agree_on_all_of_these(data):
    assert sound(data, SCHEMA) == taken(data)

"""Does an answer fit the JSON Schema that was asked for? For backends that hold models to it in part.

What grammars do not hold a model to (bounds, patterns, formats of strings) and what is not known here is left
unchecked: a sound answer must never be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import Answer, Conversation, Text, ToolCall
from ghostllm.api.json_schema import inline
from ghostllm.errors import UpstreamProtocolError

DEEPEST = 64

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
}


def check_for(asked: Conversation, label: str) -> Callable[[Answer], None] | None:
    """What is to be checked of the whole answer to a conversation; None for nothing. Raises
    UpstreamProtocolError, so that another attempt is made. label: how errors name the backend.
    """
    wanted = asked.response_format
    if asked.stream or wanted is None or wanted.kind == "text":
        return None
    schema = inline(wanted.schema, "response_format.json_schema.schema") if wanted.schema else {}

    def check(answer: Answer) -> None:
        if answer.finish.reason != "stop" or any(isinstance(part, ToolCall) for part in answer.parts):
            return
        text = "".join(part.text for part in answer.parts if isinstance(part, Text))
        try:
            value = jsonx.loads(text)
        except jsonx.DecodeError as error:
            raise UpstreamProtocolError(f"{label} answered with something else than JSON: {error}") from None
        if (fault := violation(value, schema)) is not None:
            raise UpstreamProtocolError(f"{label} answered with JSON outside the schema: {fault}")

    return check


def violation(value: Any, schema: Any, place: str = "the answer", depth: int = 0) -> str | None:
    """The first thing in `value` that the schema forbids, in words; None if there is none. schema: without
    references.
    """
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return f"{place} may not be there" if schema is False else None
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if kinds and not any(_TYPES.get(kind, _anything)(value) for kind in kinds):
        return f"{place} is not of type {' or '.join(map(str, kinds))}"
    if "const" in schema and value != schema["const"]:
        return f"{place} is not {schema['const']!r}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{place} is none of the values allowed"
    if isinstance(value, dict) and (fault := _members(value, schema, place, depth)) is not None:
        return fault
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            if (fault := violation(item, schema["items"], f"{place}[{index}]", depth + 1)) is not None:
                return fault
    return _combined(value, schema, place, depth)


def _members(value: dict[str, Any], schema: Mapping[str, Any], place: str, depth: int) -> str | None:
    known = schema.get("properties")
    known = known if isinstance(known, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            return f"{place} lacks {name!r}"
    for name, member in value.items():
        if name in known:
            if (fault := violation(member, known[name], f"{place}.{name}", depth + 1)) is not None:
                return fault
        elif schema.get("additionalProperties") is False and "patternProperties" not in schema:
            return f"{place} has {name!r}, which is not in the schema"
    return None


def _combined(value: Any, schema: Mapping[str, Any], place: str, depth: int) -> str | None:
    for part in schema.get("allOf") or ():
        if (fault := violation(value, part, place, depth + 1)) is not None:
            return fault
    for name in ("anyOf", "oneOf"):
        parts = schema.get(name)
        if isinstance(parts, list) and parts:
            faults = [violation(value, part, place, depth + 1) for part in parts]
            if None not in faults:
                return faults[0]
    return None


def _anything(value: Any) -> bool:
    return True

"""JSON Schema (draft 2020-12) of the configuration, from the dataclasses: for editors and tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ghostllm.config.constraints import Count, Form, Pattern, Range
from ghostllm.config.fields import REQUIRED, fields_of, is_section, unwrapped
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import Config

_FORMS: dict[str, dict[str, Any]] = {
    "url": {"format": "uri", "pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"},
    "listen": {"pattern": r"^(\[[^\[\]\s]*\]|[^:\[\]\s]*):[0-9]{1,5}$"},
    "origin": {"pattern": r"^(\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@]+)$"},
    "file": {},
    "network": {"pattern": r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"},
    "reach": {"pattern": r"^(\*\.)?[A-Za-z0-9_.:-]+(/[0-9]{1,3})?$"},
}
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Secret: {"type": "string", "minLength": 1, "writeOnly": True},
}


def json_schema() -> dict[str, Any]:
    """The schema of a configuration file: Config's keys, and `profile`, named sets of the same."""
    defs: dict[str, Any] = {}
    top = _section(Config, defs)
    defs["Profile"] = top
    profile = {
        "type": "object",
        "description": "Named sets of settings; the one that --profile names is laid over the rest.",
        "additionalProperties": {"$ref": "#/$defs/Profile"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "GhostLLM configuration",
        **top,
        "properties": {**top["properties"], "profile": profile},
        "$defs": defs,
    }


def _section(cls: type, defs: dict[str, Any], default: Any = None) -> dict[str, Any]:
    properties = {}
    for field in fields_of(cls).values():
        value = getattr(default, field.name) if default is not None else field.default
        schema = _kind(field.type, defs, value if is_section(unwrapped(field.type)[0]) else None)
        properties[field.name] = {**schema, "description": field.meaning}
        if value is not REQUIRED and not dataclasses.is_dataclass(value):
            properties[field.name]["default"] = _json(value)
    required = [field.name for field in fields_of(cls).values() if field.default is REQUIRED]
    return {
        "type": "object",
        "description": (cls.__doc__ or "").split("\n", 1)[0],
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _kind(kind: Any, defs: dict[str, Any], default: Any = None) -> dict[str, Any]:
    kind, marks = unwrapped(kind)
    schema = _bare(kind, defs, default)
    for mark in marks:
        if isinstance(mark, Range):
            bounds = {"minimum": mark.low, "maximum": mark.high}
            schema |= {name: bound for name, bound in bounds.items() if bound is not None}
        elif isinstance(mark, Pattern):
            schema["pattern"] = f"^(?:{mark.regex})$"
        elif isinstance(mark, Count):
            schema["minItems"] = mark.low
        elif isinstance(mark, Form):
            schema |= _FORMS[mark.name]
    return schema


def _bare(kind: Any, defs: dict[str, Any], default: Any) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_kind(member, defs) for member in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _kind(inner[0], defs)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _kind(inner[1], defs)}
    if kind is Any:
        return {}
    if kind is NoneType:
        return {"type": "null"}
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    return _reference(kind, defs, default)


def _reference(cls: type, defs: dict[str, Any], default: Any) -> dict[str, Any]:
    """A section under $defs; one whose holder gives it defaults of its own is written out in place."""
    if default is not None and default != cls():
        return _section(cls, defs, default)
    if cls.__name__ not in defs:
        defs[cls.__name__] = _section(cls, defs)
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

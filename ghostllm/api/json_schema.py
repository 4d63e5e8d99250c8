"""JSON Schemas made fit for local servers: their grammars and tool templates do not follow `$ref`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.errors import RequestError, UnsupportedValue

DEPTH_LIMIT = 64
SIZE_LIMIT = 20_000  # subschemas after inlining; references that multiply each other would never end

_NAMED = (
    "properties",
    "patternProperties",
    "dependentSchemas",
)  # keywords whose members are named by the author
_DATA = ("enum", "const", "default", "examples")  # keywords whose values are data, not schemas


def inline(schema: Mapping[str, Any], param: str) -> dict[str, Any]:
    """`schema` with every local `$ref` replaced by what it points to, and without `$defs`.

    A reference back into what is being replaced (a recursive type) ends as its bare type: less strict than
    the author's schema, never stricter. Raises UnsupportedValue for references to elsewhere, RequestError for
    broken ones.
    """
    result = _Inliner(schema, param).schema(schema, (), 0)
    return result if isinstance(result, dict) else {}  # a reference to `true`: anything goes


class _Inliner:
    __slots__ = ("_param", "_root", "_size")

    def __init__(self, root: Mapping[str, Any], param: str) -> None:
        self._root = root
        self._param = param
        self._size = 0

    def schema(self, node: Any, within: tuple[str, ...], depth: int) -> Any:
        """within: the references being replaced around `node`."""
        self._size += 1
        if depth > DEPTH_LIMIT or self._size > SIZE_LIMIT:
            raise RequestError(
                f"{self._param} is too large once its references are followed", param=self._param
            )
        if isinstance(node, list):
            return [self.schema(item, within, depth + 1) for item in node]
        if not isinstance(node, Mapping):
            return node
        plain = {
            name: self._member(name, value, within, depth + 1)
            for name, value in node.items()
            if name not in ("$ref", "$defs", "definitions")
        }
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return plain
        target = self._find(reference)
        if reference in within:
            bare = target.get("type") if isinstance(target, Mapping) else None
            return {"type": bare, **plain} if isinstance(bare, str) else plain
        found = self.schema(target, (*within, reference), depth + 1)
        return {**found, **plain} if isinstance(found, dict) else found

    def _member(self, name: str, value: Any, within: tuple[str, ...], depth: int) -> Any:
        if name in _DATA:
            return value
        if name in _NAMED and isinstance(value, Mapping):
            return {inner: self.schema(item, within, depth) for inner, item in value.items()}
        return self.schema(value, within, depth)

    def _find(self, reference: str) -> Any:
        """The value at a JSON pointer (RFC 6901) below the root."""
        if not reference.startswith("#"):
            raise UnsupportedValue(
                f"{self._param} refers to {reference!r}, outside itself", param=self._param
            )
        node: Any = self._root
        for token in reference[1:].split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            else:
                raise RequestError(
                    f"{self._param} refers to {reference!r}, which is not there", param=self._param
                )
        return node


def narrow(schema: Any) -> dict[str, Any]:
    """An inlined schema in the words that Ollama's tools keep: type, anyOf, items, description, enum,
    properties, required.

    Of what it would lose, what can be said with those is: oneOf as anyOf, const as enum, allOf merged.
    """
    if not isinstance(schema, Mapping):
        return {}  # true: anything goes
    result: dict[str, Any] = {}
    _merge(result, schema)
    for part in _schemas(schema, "allOf"):
        _merge(result, narrow(part))
    return result


def _schemas(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _merge(result: dict[str, Any], schema: Mapping[str, Any]) -> None:
    for name in ("type", "description", "enum"):
        if name in schema:
            result.setdefault(name, schema[name])
    if "const" in schema:
        result.setdefault("enum", [schema["const"]])
    if alternatives := _schemas(schema, "anyOf") or _schemas(schema, "oneOf"):
        result.setdefault("anyOf", [narrow(item) for item in alternatives])
    if "items" in schema:
        result.setdefault("items", narrow(schema["items"]))
    if isinstance(schema.get("properties"), Mapping):
        properties = result.setdefault("properties", {})
        properties.update({name: narrow(item) for name, item in schema["properties"].items()})
    if isinstance(schema.get("required"), list):
        result["required"] = [*result.get("required", ()), *schema["required"]]

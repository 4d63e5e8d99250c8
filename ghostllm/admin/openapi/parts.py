"""The words in which routes are described: schemas in few characters, operations, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]

JSON, EVENTS, LINES = "application/json", "text/event-stream", "application/x-ndjson"

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
OBJECT: Schema = {"type": "object"}


def obj(required: str = "", /, **members: Schema) -> Schema:
    """An object that may have more members than these. required: their names, with spaces between."""
    made: dict[str, Any] = {"type": "object", "properties": members}
    if required:
        made["required"] = required.split()
    return made


def arr(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def table(values: Schema) -> Schema:
    """An object whose member names are not known beforehand."""
    return {"type": "object", "additionalProperties": values}


def word(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def maybe(schema: Schema) -> Schema:
    """Or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def says(schema: Schema, words: str) -> Schema:
    return {**schema, "description": words}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def query(name: str, words: str, schema: Schema = TEXT) -> Schema:
    """An optional parameter of the query."""
    return {"name": name, "in": "query", "description": words, "schema": schema}


def header(name: str, words: str, schema: Schema = TEXT, *, required: bool = False) -> Schema:
    return {"name": name, "in": "header", "description": words, "schema": schema, "required": required}


@dataclass(slots=True, frozen=True, kw_only=True)
class Operation:
    """What one method of one template does. summary: one sentence without its full stop. words: more of them.

    body: of the request. answer: of status `status`; None: it has no body. kinds: the answer's content types,
    the first for the whole answer, a second one for a stream of it. takes: content type of the request.
    """

    summary: str
    tag: str
    words: str = ""
    parameters: tuple[Schema, ...] = ()
    body: Schema | None = None
    takes: str = JSON
    needs_body: bool = True
    answer: Schema | None = None
    status: int = 200
    kinds: tuple[str, ...] = (JSON,)


@dataclass(slots=True, frozen=True)
class Description:
    """paths: template -> method -> operation. schemas: what `ref` names."""

    paths: Mapping[str, Mapping[str, Operation]]
    schemas: Mapping[str, Schema] = field(default_factory=dict)

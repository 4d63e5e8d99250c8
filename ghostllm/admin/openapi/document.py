"""The document: every route of the table with what is said of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ghostllm
from ghostllm.admin.openapi import anthropic, managing, ollama, openai, operating, passages, responses
from ghostllm.admin.openapi.parts import JSON, Description, Operation
from ghostllm.gateway.routes import Route, Routes

DESCRIBED: tuple[Description, ...] = (
    openai.DESCRIPTION, responses.DESCRIPTION, passages.DESCRIPTION, anthropic.DESCRIPTION,
    ollama.DESCRIPTION, operating.DESCRIPTION, *managing.DESCRIPTIONS,
)  # fmt: skip

ERRORS = {
    "openai": openai.ERROR,
    "responses": openai.ERROR,
    "anthropic": anthropic.ERROR,
    "ollama": ollama.ERROR,
}
"""How each door tells its clients of an error. Where the path does not tell the door, it may be any."""

INTRODUCTION = (
    "An LLM gateway. Below `/v1` it speaks OpenAI's and Anthropic's APIs, below `/api` Ollama's, and below "
    "`/admin/api` its own, for those who run it. Requests may have members that are not described here: they "
    "go to the backend as they are, or are refused by name where it cannot do what they ask for. Every "
    "answer has `x-request-id`, which `/admin/api/requests/{id}` explains. A key is asked for where keys are "
    "configured."
)
UNDESCRIBED = Operation(summary="Not described", tag="Gateway")
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of the gateway."},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
}


def document(table: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for template, method, operation, route in (*described(table), *undescribed(table)):
        paths.setdefault(template, {})[method.lower()] = _operation(template, method, operation, route)
    schemas = {name: schema for one in DESCRIBED for name, schema in one.schemas.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GhostLLM",
            "version": ghostllm.__version__,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in SECURITY],
        "tags": [{"name": name} for name in dict.fromkeys(_tags(paths))],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY,
            "schemas": schemas,
            "responses": {name: _error(door) for door, name in _error_names().items()},
        },
    }


def described(table: Sequence[Route]) -> Iterator[tuple[str, str, Operation, Route]]:
    """Template, method, what is said of it, and its route: of all that is in the table."""
    routes = Routes(list(table))
    for one in DESCRIBED:
        for template, methods in one.paths.items():
            route = routes.find(re.sub(r"\{\w+\}", "x", template))
            for method, operation in methods.items():
                if route is not None and method in route.handlers:
                    yield template, method, operation, route


def undescribed(table: Sequence[Route]) -> Iterator[tuple[str, str, Operation, Route]]:
    """What somebody has forgotten to describe is shown as that."""
    done = {(route.path, method) for _, method, _, route in described(table)}
    for route in table:
        for method in route.handlers:
            if (route.path, method) not in done:
                template = route.path + ("{rest}" if route.prefix else "")
                yield template, method, UNDESCRIBED, route


def _operation(template: str, method: str, told: Operation, route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{template}").strip("_"),
        "summary": told.summary,
        "tags": [told.tag],
    }
    if told.words:
        made["description"] = told.words
    parameters = [*_in_path(template), *told.parameters]
    if parameters:
        made["parameters"] = parameters
    if told.body is not None:
        made["requestBody"] = {"content": {told.takes: {"schema": told.body}}, "required": told.needs_body}
    answer: dict[str, Any] = {"description": "As asked for."}
    if told.answer is not None:
        answer["content"] = _content(told)
    made["responses"] = {
        str(told.status): answer,
        "default": {"$ref": f"#/components/responses/{_error_names()[route.door]}"},
    }
    if route.open:
        made["security"] = []
    return made


def _content(told: Operation) -> dict[str, Any]:
    """A stream's events are its door's own; a schema of OpenAPI describes whole bodies only."""
    whole, *streams = told.kinds
    return {whole: {"schema": told.answer}} | {kind: {"schema": {"type": "string"}} for kind in streams}


def _in_path(template: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", template)
    ]


def _error_names() -> Mapping[str, str]:
    return {door: f"{(door or 'any').capitalize()}Error" for door in ("", *ERRORS)}


def _error(door: str) -> dict[str, Any]:
    shapes = [ERRORS[door]] if door else [openai.ERROR, anthropic.ERROR]
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    retry = {"description": "Seconds until trying again makes sense.", "schema": {"type": "integer"}}
    return {
        "description": "An error, in the form that clients of this door expect.",
        "headers": {"retry-after": retry},
        "content": {JSON: {"schema": schema}},
    }


def _tags(paths: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    return (tag for methods in paths.values() for made in methods.values() for tag in made["tags"])

"""`/openapi.json` of a running gateway: sound, whole, and true of what the gateway answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from ghostllm.admin.openapi.document import DESCRIBED, ERRORS, UNDESCRIBED
from tests.e2e.conftest import Fakes
from tests.e2e.traffic import backend, model
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.smoke

KEY = {"Authorization": "Bearer gk_boss"}


@pytest.fixture(scope="module")
def described(started: Fakes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "state": {"file": str(tmp_path_factory.mktemp("openapi") / "state.db")},
        "backends": [backend("primary", started.primary), backend("second", started.second, max_inflight=2)],
        "models": [
            model("m", "primary", "second"),
            model("split", "primary", split={"by": "key", "arms": [{"model": "m"}, {"model": "split"}]}),
        ],
        "keys": [{"name": "boss", "key": "gk_boss", "manage": True}],
    }
    with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def document(described: Gateway) -> dict[str, Any]:
    answer = described.ask("GET", "/openapi.json")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (template, method.upper()): told
        for template, methods in document["paths"].items()
        for method, told in methods.items()
    }


def test_the_document_is_sound(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1.")


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """A route that is missing here belongs into a module of ghostllm/admin/openapi."""
    bare = [key for key, told in operations(document).items() if told["summary"] == UNDESCRIBED.summary]
    assert bare == []


def test_a_description_is_of_routes_as_a_whole_or_not_at_all(document: dict[str, Any]) -> None:
    """Of what this gateway does not have there may be one."""
    there = set(operations(document))
    for one in DESCRIBED:
        told = {(template, method) for template, ways in one.paths.items() for method in ways}
        assert not told & there or told <= there, told - there


def test_names_are_given_once_and_words_are_there(document: dict[str, Any]) -> None:
    found = list(operations(document).values())
    names = [told["operationId"] for told in found]
    assert len(set(names)) == len(names)
    assert all(told["summary"] and not told["summary"].endswith(".") for told in found)
    templates = [set(one.paths) for one in DESCRIBED]
    assert sum(map(len, templates)) == len(set.union(*templates)), "a path is described in one module"
    schemas = [set(one.schemas) for one in DESCRIBED]
    assert sum(map(len, schemas)) == len(set.union(*schemas)), "and a schema"


def test_what_is_open_needs_no_key(document: dict[str, Any], described: Gateway) -> None:
    for (template, method), told in operations(document).items():
        if method == "GET" and "{" not in template:
            status = described.ask("GET", template).status
            assert (status == 401) == (told.get("security") != []), template


def checked(document: dict[str, Any], schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_what_is_answered_is_what_is_described(document: dict[str, Any], described: Gateway) -> None:
    """Every page without a name in its path, and one of each with."""
    chat = described.ask("POST", "/v1/chat/completions", CALLS["/v1/chat/completions"], KEY)
    names = {"id": chat.headers["x-request-id"], "name": "primary", "model": "m", "key": "boss"}
    seen = 0
    for (template, method), told in operations(document).items():
        if method != "GET" or "passed" in told["tags"][0] or "Responses" in told["tags"][0]:
            continue
        answer = described.ask("GET", template.format(**names), None, KEY)
        content = told["responses"]["200"]["content"]
        assert answer.status == 200, (template, answer.body)
        if "application/json" in content:
            checked(document, content["application/json"]["schema"], answer.json())
            seen += 1
    assert seen > 10


USER = {"role": "user", "content": "Hi"}
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": [USER]},
    "/v1/completions": {"model": "m", "prompt": "Hi"},
    "/v1/embeddings": {"model": "m", "input": "Hi"},
    "/v1/responses": {"model": "m", "input": "Hi"},
    "/v1/responses/input_tokens": {"model": "m", "input": "Hi"},
    "/v1/messages": {"model": "m", "max_tokens": 9, "messages": [USER]},
    "/v1/messages/count_tokens": {"model": "m", "messages": [USER]},
    "/api/chat": {"model": "m", "messages": [USER], "stream": False},
    "/api/generate": {"model": "m", "prompt": "Hi", "stream": False},
    "/api/embed": {"model": "m", "input": "Hi"},
    "/api/show": {"model": "m"},
}


@pytest.mark.parametrize("path", CALLS)
def test_calls_and_their_answers_are_as_described(
    document: dict[str, Any], described: Gateway, fakes: Fakes, path: str
) -> None:
    told = operations(document)[path, "POST"]
    checked(document, told["requestBody"]["content"]["application/json"]["schema"], CALLS[path])
    answer = described.ask("POST", path, CALLS[path], KEY)
    assert answer.status == 200, answer.body
    checked(document, told["responses"]["200"]["content"]["application/json"]["schema"], answer.json())


@pytest.mark.parametrize(
    ("path", "door"),
    [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic"), ("/api/chat", "ollama")],
)
def test_errors_are_as_described(document: dict[str, Any], described: Gateway, path: str, door: str) -> None:
    answer = described.ask("POST", path, {**CALLS[path], "model": "nobody"}, KEY)
    assert answer.status == 404
    checked(document, ERRORS[door], answer.json())
    name = operations(document)[path, "POST"]["responses"]["default"]["$ref"].rpartition("/")[2]
    error = document["components"]["responses"][name]
    assert error["content"]["application/json"]["schema"] == ERRORS[door]


def test_the_document_is_made_once(described: Gateway, document: dict[str, Any]) -> None:
    assert json.loads(described.ask("GET", "/openapi.json").body) == document

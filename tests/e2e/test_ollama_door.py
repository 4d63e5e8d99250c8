"""Ollama's own API in front of any backend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import KINDS, Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

pytestmark = pytest.mark.smoke

WHOLE = "".join(TEXT)
HI = [{"role": "user", "content": "Hi"}]


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.complete and answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.decode().splitlines()]


@pytest.mark.parametrize("model", ["m", *KINDS])
def test_a_chat_streams_unless_told_otherwise(gateway: Gateway, model: str) -> None:
    said = lines(gateway.ask("POST", "/api/chat", {"model": model, "messages": HI}))
    assert "".join(line["message"]["content"] for line in said) == WHOLE
    assert said[-1]["done"] and said[-1]["done_reason"] == "stop" and said[-1]["eval_count"] == 6
    assert {line["model"] for line in said} == {model}
    asked = {"model": model, "messages": HI, "stream": False, "options": {"num_predict": 50}}
    answer = gateway.ask("POST", "/api/chat", asked).json()
    assert (answer["message"]["content"], answer["done"]) == (WHOLE, True)


@pytest.mark.parametrize("model", ["m", "ollama", "anthropic"])
def test_generate(gateway: Gateway, model: str) -> None:
    said = lines(
        gateway.ask("POST", "/api/generate", {"model": model, "prompt": "Hi", "system": "Be brief."})
    )
    assert "".join(line["response"] for line in said) == WHOLE and said[-1]["done"]


def test_parameters_reach_the_backend_in_its_own_words(gateway: Gateway, fakes: Fakes) -> None:
    options = {"num_predict": 5, "temperature": 0.5, "stop": ["x"]}
    gateway.ask("POST", "/api/chat", {"model": "m", "messages": HI, "stream": False, "options": options})
    sent = fakes.primary.call().json()
    assert (sent["max_completion_tokens"], sent["temperature"], sent["stop"]) == (5, 0.5, ["x"])
    gateway.ask("POST", "/api/chat", {"model": "ollama", "messages": HI, "options": options, "novel": 1})
    assert fakes.ollama.call().json()["novel"] == 1  # its own server gets what its client wrote


@pytest.mark.parametrize("model", ["m", "ollama"])
def test_embeddings(gateway: Gateway, model: str) -> None:
    answer = gateway.ask("POST", "/api/embed", {"model": model, "input": ["a", "b"]}).json()
    assert len(answer["embeddings"]) == 2 and answer["model"] == model


def test_an_empty_request_loads_the_model(gateway: Gateway, fakes: Fakes) -> None:
    answer = gateway.ask("POST", "/api/generate", {"model": "m"}).json()
    assert answer["done_reason"] == "load" and not fakes.primary.calls


def test_the_models(gateway: Gateway) -> None:
    tags = gateway.ask("GET", "/api/tags").json()["models"]
    assert {"m", "ollama", "anthropic"} <= {entry["name"] for entry in tags}
    assert all({"size", "digest", "details", "modified_at"} <= set(entry) for entry in tags)
    shown = gateway.ask("POST", "/api/show", {"model": "m"}).json()
    assert "completion" in shown["capabilities"] and "model_info" in shown
    assert gateway.ask("POST", "/api/show", {"model": "nobody"}).status == 404
    assert "models" in gateway.ask("GET", "/api/ps").json()
    assert gateway.ask("GET", "/api/version").json()["version"]
    assert gateway.ask("GET", "/").body == b"Ollama is running"
    assert gateway.ask("HEAD", "/").status == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/chat", b"{", 400),
        ("/api/chat", b'{"messages":[]}', 400),
        ("/api/chat", b'{"model":"m","messages":[7]}', 400),
        ("/api/chat", b'{"model":"nobody","messages":[{"role":"user","content":"x"}]}', 404),
        ("/api/generate", b'{"model":"m","prompt":7}', 400),
        ("/api/nowhere", b"{}", 404),
    ],
)
def test_errors_are_words(gateway: Gateway, path: str, body: bytes, status: int) -> None:
    answer = gateway.ask("POST", path, body)
    assert answer.status == status and isinstance(answer.json()["error"], str)
    assert set(answer.json()) == {"error"}


def test_a_stream_that_breaks_ends_in_an_error_line(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "fin", "at": 3})
    said = lines(gateway.ask("POST", "/api/chat", {"model": "m", "messages": HI}))
    assert set(said[-1]) == {"error"} and not any(line.get("done") for line in said)


# --- management


@pytest.fixture(scope="module")
def locked(started: Fakes) -> Iterator[Gateway]:
    keys = [
        {"name": "boss", "key": "sk-boss-0123456789", "manage": True},
        {"name": "user", "key": "sk-user-0123456789"},
    ]
    with Gateway({**settings(started), "keys": keys}) as gateway:
        yield gateway


PULLED = '{"status":"pulling manifest"}\n{"status":"success"}\n'


def test_models_are_managed_by_keys_that_may(locked: Gateway, fakes: Fakes) -> None:
    boss, user = ({"Authorization": f"Bearer sk-{name}-0123456789"} for name in ("boss", "user"))
    body, kind = {"model": "new:1b"}, "application/x-ndjson"
    fakes.ollama.script({"path": "/api/pull", "body": PULLED, "content_type": kind})
    refused = locked.ask("POST", "/api/pull", body, user)
    assert refused.status == 403 and "permits 'models:write'" in refused.json()["error"]
    pulled = locked.ask("POST", "/api/pull", body, boss)
    assert (pulled.status, pulled.body.decode()) == (200, PULLED)
    [asked] = [one for one in fakes.ollama.requests if one.target == "/api/pull"]
    assert asked.json() == body
    fakes.ollama.script({"path": "/api/delete", "body": ""})
    assert locked.ask("DELETE", "/api/delete", {"model": "ollama"}, boss).status == 200
    fakes.ollama.script({"path": "/api/copy", "body": ""})
    copied = locked.ask("POST", "/api/copy", {"source": "ollama", "destination": "o2"}, boss)
    assert copied.status == 200
    assert locked.ask("POST", "/api/copy", {"source": "ollama"}, boss).status == 400


def test_a_model_of_another_server_cannot_be_deleted(gateway: Gateway) -> None:
    answer = gateway.ask("DELETE", "/api/delete", {"model": "m"})
    assert answer.status == 501 and "'m'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/show", b'"model":"m"'),
        ("/api/pull", b'"model":"m"'),
        ("/api/copy", b'"source":"m","destination":"n"'),
    ],
)
def test_what_is_asked_of_models_is_no_deeper_than_calls(
    gateway: Gateway, fakes: Fakes, path: str, names: bytes
) -> None:
    with_depth = b'{%b,"x":%b}' % (names, b"[" * 1000 + b"]" * 1000)
    answer = gateway.ask("POST", path, with_depth)
    assert answer.status == 400 and "deep" in answer.json()["error"]
    assert not [one for one in fakes.ollama.requests if one.target == path]

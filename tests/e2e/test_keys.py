"""Who may ask for what, and what no backend and no log gets to see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Fakes, settings
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import ask

pytestmark = pytest.mark.smoke

ALL, SOME = "sk-all-0123456789abcdef", "sk-some-0123456789abcdef"


@pytest.fixture(scope="module")
def started_locked(started: Fakes) -> Iterator[Gateway]:
    digest = hashlib.sha256(SOME.encode()).hexdigest()
    keys = [
        {"name": "everyone", "key": "env:TEST_KEY_ALL"},
        {"name": "some", "hash": f"sha256:{digest}", "models": ["m", "oll*"]},
    ]
    with Gateway({**settings(started), "keys": keys}, environment={"TEST_KEY_ALL": ALL}) as gateway:
        yield gateway


@pytest.fixture
def locked(started_locked: Gateway, fakes: Fakes) -> Gateway:
    return started_locked


def chat(gateway: Gateway, model: str, authorization: str | None) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = gateway.ask("POST", "/v1/chat/completions", body, headers)
    if answer.status != 200:
        assert answer.error["code"] in ("invalid_api_key", "model_not_found", "upstream_refused", None)
        assert ALL not in str(answer.body) and SOME not in str(answer.body)
    return answer.status


def test_keys_open(locked: Gateway, fakes: Fakes) -> None:
    assert chat(locked, "m", f"Bearer {ALL}") == 200
    assert chat(locked, "m", f"bearer {SOME}") == 200
    assert [call.headers["authorization"] for call in fakes.primary.calls] == ["Bearer secret-of-primary"] * 2


@pytest.mark.parametrize("wrong", [
    None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {ALL}x", f"Bearer {ALL[:-1]}",
    f"Bearer {ALL.upper()}",
    f"Basic {ALL}", "Bearer " + hashlib.sha256(SOME.encode()).hexdigest(),
    "Bearer sha256:" + hashlib.sha256(SOME.encode()).hexdigest(), "Bearer env:TEST_KEY_ALL", "Bearer é",
])  # fmt: skip
def test_nothing_else_does(locked: Gateway, fakes: Fakes, wrong: str | None) -> None:
    assert chat(locked, "m", wrong) == 401
    assert not fakes.primary.calls


def test_a_key_is_held_to_its_models(locked: Gateway, fakes: Fakes) -> None:
    assert chat(locked, "ollama", f"Bearer {SOME}") == 200
    assert chat(locked, "pair", f"Bearer {SOME}") in (403, 404)
    assert chat(locked, "unknown-model", f"Bearer {SOME}") in (403, 404)
    assert not fakes.primary.calls


def test_an_alias_is_no_way_around(locked: Gateway) -> None:
    assert chat(locked, "also-m", f"Bearer {SOME}") == 200, "an alias of a model that is allowed"
    assert chat(locked, "renamed", f"Bearer {SOME}") in (403, 404)


def test_a_key_sees_its_models(locked: Gateway) -> None:
    listed = locked.ask("GET", "/v1/models", None, {"Authorization": f"Bearer {SOME}"}).json()["data"]
    assert {"m", "ollama"} <= {item["id"] for item in listed}
    assert not {"pair", "vllm"} & {item["id"] for item in listed}
    assert locked.ask("GET", "/v1/models/pair", None, {"Authorization": f"Bearer {SOME}"}).status in (
        403,
        404,
    )


def test_what_is_open_and_what_is_not(locked: Gateway) -> None:
    for path in ("/health", "/ready", "/version"):
        assert locked.ask("GET", path).status == 200
    for path in ("/v1/models", "/v1/models/m", "/metrics"):
        assert locked.ask("GET", path).status == 401
    assert locked.ask("GET", "/v1/models", None, {"Authorization": f"Bearer {ALL}"}).status == 200
    assert locked.ask("GET", "/metrics", None, {"Authorization": f"Bearer {ALL}"}).status == 403


def test_a_body_is_not_read_for_a_stranger(locked: Gateway) -> None:
    with locked.open() as raw:
        answer = raw.ask(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 30000000\r\n\r\n"
        )
        assert answer.status == 401


def test_each_backend_sees_its_own_secret_only(locked: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500})
    assert chat(locked, "pair", f"Bearer {ALL}") == 200
    first, second = fakes.primary.call().headers, fakes.second.call().headers
    assert (first["authorization"], first["x-primary-only"]) == ("Bearer secret-of-primary", "hidden")
    assert second["authorization"] == "Bearer secret-of-second" and "x-primary-only" not in second
    assert chat(locked, "vllm", f"Bearer {ALL}") == 200
    third = fakes.vllm.call().headers
    assert "authorization" not in third and "x-primary-only" not in third


def test_no_secret_is_logged(locked: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {"status": 401, "message": "Incorrect API key provided: secret-of-primary", "times": 3}
    )
    chat(locked, "m", f"Bearer {ALL}")
    chat(locked, "m", "Bearer guessed-secret")
    answer = locked.ask("POST", "/v1/chat/completions", b"{", {"Authorization": f"Bearer {ALL}"})
    locked.record(answer.headers["x-request-id"])
    for secret in (ALL, SOME, "secret-of-primary", "secret-of-second", "hidden", "guessed-secret"):
        assert secret not in locked.log
    record = locked.record(answer.headers["x-request-id"])
    assert "everyone" in record.values(), "the key is named, not shown"


def test_a_backends_own_refusal_of_its_key_is_not_the_clients(locked: Gateway, fakes: Fakes) -> None:
    """The client's key is fine; telling it 401 would send it looking for a mistake that is ours."""
    fakes.primary.script(
        {"status": 401, "times": 3, "message": "Incorrect API key provided: secret-of-primary"}
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    answer = locked.ask("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {ALL}"})
    assert answer.status == 502
    assert "secret-of-primary" not in answer.body.decode()


def test_listening_beyond_this_machine_without_keys_is_refused(started: Fakes) -> None:
    everywhere = {**settings(started), "server": {"listen": ["0.0.0.0:0"]}}
    with Gateway(everywhere, wait=False) as gateway:
        until(lambda: gateway.over, "it refuses")
        assert gateway.wait() == 2
        assert "--insecure" in gateway.log and "keys" in gateway.log
    with Gateway(everywhere, arguments=("--insecure",)) as gateway:
        port = gateway.address.rpartition(":")[2]
        assert ask(f"127.0.0.1:{port}", "GET", "/health").status == 200

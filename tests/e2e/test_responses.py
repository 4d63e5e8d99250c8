"""OpenAI's Responses through the gateway: turns that build on each other, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.conftest import KINDS, Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.smoke

TEXT_WHOLE = "".join(TEXT)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", ["m", *KINDS])
def test_an_answer_from_any_backend(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="Hi", max_output_tokens=100)
    assert (answer.status, answer.output_text) == ("completed", TEXT_WHOLE)
    assert answer.usage is not None and answer.usage.output_tokens == 6
    with client.responses.stream(model=model, input="Hi", max_output_tokens=100) as stream:
        numbers = [event.sequence_number for event in stream]
        assert numbers == list(range(len(numbers)))
        assert stream.get_final_response().output_text == TEXT_WHOLE


def test_a_turn_builds_on_the_one_before(client: openai.OpenAI, fakes: Fakes) -> None:
    first = client.responses.create(model="m", input="Remember seven.", instructions="Be brief.")
    second = client.responses.create(model="m", input="Which?", previous_response_id=first.id)
    messages = fakes.primary.calls[-1].json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == TEXT_WHOLE
    third = client.responses.create(model="m", input="Sure?", previous_response_id=second.id)
    assert len(fakes.primary.calls[-1].json()["messages"]) == 5
    items = client.responses.input_items.list(third.id)
    assert [item.type for item in items.data] == ["message"]


def test_what_is_kept_can_be_read_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="m", input="Hi", metadata={"a": "b"})
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="Go on", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"
    kept = client.responses.create(model="m", input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(kept.id)


def test_a_response_is_there_right_after_its_stream(client: openai.OpenAI) -> None:
    for _ in range(20):
        with client.responses.stream(model="m", input="Hi") as stream:
            stream.until_done()
            done = stream.get_final_response()
        assert client.responses.retrieve(done.id).output_text == TEXT_WHOLE


def test_tokens_are_counted(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/responses/input_tokens", {"model": "m", "input": "Hello there"})
    assert answer.status == 200 and answer.json()["input_tokens"] > 0
    assert answer.headers["x-ghostllm-estimated"] == "true"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses/resp_nowhere", 404),
        ("DELETE", "/v1/responses/resp_nowhere", 404),
        ("POST", "/v1/responses/resp_nowhere", 405),
        ("POST", "/v1/responses/resp_nowhere/cancel", 404),
        ("GET", "/v1/responses/resp_nowhere/parts", 404),
        ("GET", "/v1/responses/resp_nowhere/input_items?limit=x", 404),
    ],
)
def test_what_is_not_there_is_told(gateway: Gateway, method: str, path: str, status: int) -> None:
    answer = gateway.ask(method, path)
    assert answer.status == status and answer.error["message"]


def test_a_stream_that_breaks_says_so(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "fin", "at": 3})
    answer = gateway.ask("POST", "/v1/responses", {"model": "m", "input": "Hi", "stream": True})
    kinds = [chunk["type"] for chunk in answer.chunks]
    assert kinds[0] == "response.created" and kinds[-1] == "response.failed"
    response = answer.chunks[-1]["response"]
    assert gateway.ask("GET", f"/v1/responses/{response['id']}").status == 404


def test_responses_outlive_the_process(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    kept = {**settings(started), "state": {"file": str(tmp_path / "state.db")}}
    with Gateway(kept) as gateway:
        made = gateway.ask("POST", "/v1/responses", {"model": "m", "input": "Hi"}).json()
        gateway.terminate()
        assert gateway.wait() == 0
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600
    with Gateway(kept) as gateway:
        assert gateway.ask("GET", f"/v1/responses/{made['id']}").json() == made
        asked = {"model": "m", "input": "On", "previous_response_id": made["id"]}
        assert gateway.ask("POST", "/v1/responses", asked).status == 200
        assert len(fakes.primary.calls[-1].json()["messages"]) == 3


def test_a_state_file_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("not a database, and long enough to be looked at as one" * 20)
    gateway = Gateway({"state": {"file": str(tmp_path / "state.db")}}, wait=False)
    try:
        assert gateway.wait() == 1
        until(lambda: "state.db" in gateway.log, "the reason")
    finally:
        gateway.stop()

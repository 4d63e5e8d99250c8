"""Several answers to one request (`n`) from backends that give one at a time."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Fakes
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway


@pytest.mark.parametrize("model", ["ollama", "transformers"])
def test_each_choice_is_an_answer_of_its_own(gateway: Gateway, fakes: Fakes, model: str) -> None:
    answer = gateway.chat(model, n=3)
    assert answer.status == 200
    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in choices} == {"".join(TEXT)}
    assert answer.json()["usage"]["completion_tokens"] == 18
    assert len(getattr(fakes, model).calls) == 3
    record = gateway.record(answer.headers["x-request-id"])
    assert (record["attempts"], record["completion_tokens"], record["outcome"]) == (3, 18, "ok")


def test_streams_are_one_stream(gateway: Gateway, fakes: Fakes) -> None:
    answer = gateway.chat("ollama", stream=True, n=2, stream_options={"include_usage": True})
    assert answer.complete and answer.events[-1] == "[DONE]" and answer.events.count("[DONE]") == 1
    said = {0: "", 1: ""}
    for chunk in answer.chunks:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"].get("content") or ""
    assert set(said.values()) == {"".join(TEXT)}
    assert answer.chunks[-1]["usage"]["completion_tokens"] == 12
    assert len({chunk["id"] for chunk in answer.chunks}) == 1


def test_one_that_fails_fails_the_request(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({}, {"status": 400, "message": "no more"})
    answer = gateway.chat("ollama", n=2)
    assert answer.status == 400 and "no more" in answer.error["message"]


def test_one_that_breaks_breaks_the_stream(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"token_delay": 0.02}, {"fault": "fin", "at": 3})
    answer = gateway.chat("ollama", stream=True, n=2)
    assert "error" in answer.chunks[-1] and answer.events[-1] != "[DONE]"
    until(
        lambda: fakes.ollama.open_connections == 0 or all(seen.ended for seen in fakes.ollama.calls),
        "the end",
    )


def test_who_leaves_ends_all_of_them(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"token_delay": 0.1, "tokens": 100, "times": None})
    with gateway.open() as raw:
        from tests.fakes.raw import request

        body = b'{"model":"ollama","n":2,"stream":true,"messages":[{"role":"user","content":"Hi"}]}'
        raw.send(request("POST", "/v1/chat/completions", body))
        until(lambda: len(fakes.ollama.calls) == 2, "both")
    until(lambda: all(seen.outcome == "gone" for seen in fakes.ollama.calls), "both closed")


def test_too_many_are_refused(gateway: Gateway) -> None:
    answer = gateway.chat("ollama", n=33)
    assert answer.status == 400 and answer.error["param"] == "n"

"""OpenAI in front, Ollama's native API behind: what is translated on the wire, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.fakes.gateway import Gateway

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def sent(gateway: Gateway, fakes: Fakes, **members: Any) -> dict[str, Any]:
    answer = gateway.chat("ollama", **members)
    assert answer.status == 200, answer.body
    call = fakes.ollama.call()
    assert call.target == "/api/chat"
    return dict(call.json())


def test_parameters(gateway: Gateway, fakes: Fakes) -> None:
    body = sent(gateway, fakes, temperature=0.2, top_p=0.9, seed=3, max_completion_tokens=5, stop=["a", "b"],
                frequency_penalty=0.1, presence_penalty=0.2)  # fmt: skip
    options = body["options"]
    assert (options["temperature"], options["top_p"], options["seed"]) == (0.2, 0.9, 3)
    assert (options["num_predict"], options["stop"]) == (5, ["a", "b"])
    assert (options["frequency_penalty"], options["presence_penalty"]) == (0.1, 0.2)
    assert body["stream"] is False and body["model"] == "ollama"


def test_absent_sampling_is_left_to_the_model(gateway: Gateway, fakes: Fakes) -> None:
    options = sent(gateway, fakes).get("options", {})
    assert not {"temperature", "top_p"} & set(options)


def test_a_prompt_is_never_truncated_in_silence(gateway: Gateway, fakes: Fakes) -> None:
    body = sent(gateway, fakes)
    assert (body["truncate"], body["shift"]) == (False, False)


def test_images_and_schema(gateway: Gateway, fakes: Fakes) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    content = [{"type": "text", "text": "What?"},
               {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]  # fmt: skip
    fakes.ollama.script({"tokens": ['{"a":"b"}']})
    body = sent(
        gateway, fakes, messages=[{"role": "user", "content": content}],
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )  # fmt: skip
    assert body["messages"][0]["images"] == [PIXEL]
    assert body["messages"][0]["content"] == "What?"
    assert body["format"] == schema


def test_the_answer_names_the_model_that_was_asked_for(gateway: Gateway) -> None:
    assert gateway.chat("ollama").json()["model"] == "ollama"


@pytest.mark.parametrize("members", [{"logit_bias": {"5": 1}}, {"audio": {"voice": "x", "format": "wav"}}])
def test_what_cannot_be_done_is_said(gateway: Gateway, fakes: Fakes, members: dict[str, Any]) -> None:
    answer = gateway.chat("ollama", **members)
    assert answer.status == 400
    assert answer.error["code"] in ("unsupported_parameter", "unsupported_value")
    assert next(iter(members)) in (answer.error["param"] or "")
    assert not fakes.ollama.calls


def test_thinking_becomes_reasoning(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"reasoning": "let me see"}, {"reasoning": "let me see"})
    message = gateway.chat("ollama").json()["choices"][0]["message"]
    assert "let me see" in (message.get("reasoning"), message.get("reasoning_content"))
    deltas = [chunk["choices"][0]["delta"] for chunk in gateway.chat("ollama", stream=True).chunks]
    thought = "".join((d.get("reasoning") or d.get("reasoning_content") or "") for d in deltas)
    assert thought == "let me see"


def test_a_length_stop(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"finish": "length"}, {"finish": "length"})
    assert gateway.chat("ollama").json()["choices"][0]["finish_reason"] == "length"
    assert gateway.chat("ollama", stream=True).chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_lines_cut_anywhere(gateway: Gateway, fakes: Fakes) -> None:
    plain = gateway.chat("ollama", stream=True).text
    for drip in (1, 2, 7):
        fakes.ollama.script({"drip": drip})
        assert gateway.chat("ollama", stream=True).text == plain


def test_an_unknown_model_there_is_a_404_here(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"status": 404, "message": "model 'ollama' not found", "times": 3})
    answer = gateway.chat("ollama")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "words",
    [
        "the input length exceeds the context length",
        "prompt too long; exceeded max context length by 42 tokens",
    ],
)
def test_a_prompt_too_long(gateway: Gateway, fakes: Fakes, words: str) -> None:
    fakes.ollama.script({"status": 400, "message": words})
    answer = gateway.chat("ollama")
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    fakes.ollama.script({"fault": "error", "at": 0, "message": words})  # inside a stream that has just begun
    answer = gateway.chat("ollama", stream=True)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")


def test_completions_and_embeddings_use_the_native_routes(gateway: Gateway, fakes: Fakes) -> None:
    assert gateway.ask("POST", "/v1/completions", {"model": "ollama", "prompt": "Once"}).status == 200
    assert gateway.ask("POST", "/v1/embeddings", {"model": "ollama", "input": ["a"]}).status == 200
    assert [call.target for call in fakes.ollama.calls] == ["/api/generate", "/api/embed"]
    assert fakes.ollama.call(1).json()["input"] in (["a"], "a")


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def test_an_answer_outside_its_schema_is_asked_for_again(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"tokens": ["Sure, here"]}, {"tokens": ['{"a":', "1}"]})
    answer = gateway.chat("ollama", response_format=FORMAT)
    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, '{"a":1}')
    assert gateway.record(answer.headers["x-request-id"])["attempts"] == 2


def test_asking_again_has_an_end(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"tokens": ['{"a":"x"}'], "times": None})
    answer = gateway.chat("ollama", response_format=FORMAT)
    assert answer.status == 502 and "a is not of type integer" in answer.error["message"]
    assert len(fakes.ollama.calls) == 3  # routing.attempts

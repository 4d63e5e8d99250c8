"""The providers' own Python clients in front of any backend: their parsing must accept what they get.

A conversation with a tool goes three turns through each door: asked, called, answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.e2e.conftest import KINDS, Fakes
from tests.e2e.matrix_doors import PARAMETERS
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)
BACKENDS = ["m", *KINDS]
CALL = {"tool_calls": [{"name": "f", "arguments": '{"x": 1}'}], "tokens": [], "finish": "tool_calls"}


def behind(fakes: Fakes, model: str) -> Fake:
    fake: Fake = getattr(fakes, "primary" if model == "m" else model)
    return fake


def calling(model: str) -> dict[str, Any]:
    return {**CALL, "finish": "tool_use"} if model == "anthropic" else CALL


@pytest.fixture
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def llama(gateway: Gateway) -> Iterator[ollama.Client]:
    client = ollama.Client(gateway.url)
    yield client
    client._client.close()  # it has no way of its own


# --- Anthropic's


@pytest.mark.parametrize("model", BACKENDS)
def test_anthropic_messages(claude: anthropic.Anthropic, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script({"reasoning": "hm", "usage": "always", "times": None})
    asked: Any = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    message = claude.messages.create(**asked)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[-1].text == WHOLE and message.stop_reason == "end_turn"
    with claude.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[-1].text == WHOLE and final.usage.output_tokens > 6  # the thought counts, too
    assert stream.response.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("model", BACKENDS)
def test_a_tool_through_the_anthropic_door(claude: anthropic.Anthropic, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script(calling(model), calling(model), {})
    tools: Any = [{"name": "f", "description": "F.", "input_schema": PARAMETERS}]
    turns: list[Any] = [{"role": "user", "content": "Use f twice."}]
    for number in (1, 2):
        with claude.messages.stream(model=model, max_tokens=50, messages=turns, tools=tools) as stream:
            message = stream.get_final_message()
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert (message.stop_reason, call.name, call.input) == ("tool_use", "f", {"x": 1})
        turns.append({"role": "assistant", "content": message.content})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": f"result-{number}"}
        turns.append({"role": "user", "content": [result]})
    last = claude.messages.create(model=model, max_tokens=50, messages=turns, tools=tools)
    assert last.content[0].text == WHOLE
    assert all(word in behind(fakes, model).calls[-1].body for word in (b"result-1", b"result-2"))


def test_anthropic_errors(claude: anthropic.Anthropic, fakes: Fakes) -> None:
    asked: Any = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="nobody", **asked)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(model="m", max_tokens=0, messages=asked["messages"])
    fakes.primary.script({"status": 429, "times": None})
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model="m", **asked)
    fakes.primary.reset()
    fakes.primary.script({"fault": "fin", "at": 3})
    with pytest.raises(anthropic.APIStatusError), claude.messages.stream(model="m", **asked) as stream:
        stream.until_done()
    assert claude.messages.count_tokens(model="m", messages=asked["messages"]).input_tokens > 0
    assert {"m", "ollama"} <= {model.id for model in claude.models.list()}


# --- OpenAI's


@pytest.mark.parametrize("model", BACKENDS)
def test_a_tool_through_the_chat_door(gpt: openai.OpenAI, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script(calling(model), calling(model), {})
    function = {"name": "f", "description": "F.", "parameters": PARAMETERS}
    tools: Any = [{"type": "function", "function": function}]
    turns: list[Any] = [{"role": "user", "content": "Use f twice."}]
    for number in (1, 2):
        with gpt.chat.completions.stream(model=model, messages=turns, tools=tools, max_tokens=50) as stream:
            message = stream.get_final_completion().choices[0].message
        (call,) = message.tool_calls or ()
        assert (call.function.name, json.loads(call.function.arguments)) == ("f", {"x": 1})
        turns.append(
            {"role": "assistant", "content": None, "tool_calls": [call.to_dict(exclude_unset=False)]}
        )
        turns[-1]["tool_calls"][0]["function"].pop("parsed_arguments", None)
        turns[-1]["tool_calls"][0].pop("index", None)
        turns.append({"role": "tool", "tool_call_id": call.id, "content": f"result-{number}"})
    last = gpt.chat.completions.create(model=model, messages=turns, tools=tools, max_tokens=50)
    assert last.choices[0].message.content == WHOLE
    assert all(word in behind(fakes, model).calls[-1].body for word in (b"result-1", b"result-2"))


@pytest.mark.parametrize("model", BACKENDS)
def test_a_tool_through_the_responses_door(gpt: openai.OpenAI, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script(calling(model), calling(model), {})
    tools: Any = [
        {"type": "function", "name": "f", "description": "F.", "parameters": PARAMETERS, "strict": False}
    ]
    asked: Any = {"model": model, "tools": tools, "max_output_tokens": 50}
    with gpt.responses.stream(input="Use f twice.", **asked) as stream:
        response: Any = stream.get_final_response()
    for number in (1, 2):
        (call,) = [item for item in response.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == ("f", {"x": 1})
        output = {"type": "function_call_output", "call_id": call.call_id, "output": f"result-{number}"}
        response = gpt.responses.create(input=[output], previous_response_id=response.id, **asked)
    assert response.output_text == WHOLE
    assert all(word in behind(fakes, model).calls[-1].body for word in (b"result-1", b"result-2"))


# --- Ollama's


@pytest.mark.parametrize("model", BACKENDS)
def test_ollama_chat(llama: ollama.Client, fakes: Fakes, model: str) -> None:
    asked: Any = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_predict": 50},
    }
    whole = llama.chat(**asked)
    assert (whole.message.content, whole.done_reason, whole.eval_count) == (WHOLE, "stop", 6)
    parts = list(llama.chat(stream=True, **asked))
    assert "".join(part.message.content or "" for part in parts) == WHOLE and parts[-1].done


@pytest.mark.parametrize("model", BACKENDS)
def test_a_tool_through_the_ollama_door(llama: ollama.Client, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script(calling(model), calling(model), {})
    tools: Any = [
        {"type": "function", "function": {"name": "f", "description": "F.", "parameters": PARAMETERS}}
    ]
    turns: list[Any] = [{"role": "user", "content": "Use f twice."}]
    asked: Any = {"model": model, "tools": tools, "options": {"num_predict": 50}}
    for number in (1, 2):
        message = llama.chat(messages=turns, **asked).message
        (call,) = message.tool_calls or ()
        assert (call.function.name, dict(call.function.arguments)) == ("f", {"x": 1})
        turns += [message, {"role": "tool", "tool_name": "f", "content": f"result-{number}"}]
    assert llama.chat(messages=turns, **asked).message.content == WHOLE
    assert all(word in behind(fakes, model).calls[-1].body for word in (b"result-1", b"result-2"))


def test_ollama_models_and_errors(llama: ollama.Client, fakes: Fakes) -> None:
    assert {"m", "anthropic"} <= {entry.model for entry in llama.list().models}
    assert llama.show("m").modelinfo is not None
    with pytest.raises(ollama.ResponseError) as caught:
        llama.chat(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.status_code == 404
    fakes.primary.script({"fault": "fin", "at": 3})
    with pytest.raises(ollama.ResponseError):
        list(llama.chat(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True))

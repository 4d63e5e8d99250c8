"""The real OpenAI SDK through the gateway, over every kind of backend, with and without native modules."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.e2e.conftest import Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake
from tests.fakes.formats import PROMPT_TOKENS, vector
from tests.fakes.gateway import Gateway

HELLO = [{"role": "user", "content": "Hi"}]
WHOLE = "".join(TEXT)
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}
CALLS = [
    {"name": "look", "arguments": '{"at":"Zürich \\"old\\" town 🙂"}'},
    {"name": "count", "arguments": '{"to":3}'},
]
MODELS = ["m", "vllm", "llamacpp", "transformers", "lmstudio", "ollama"]


@pytest.fixture(scope="session", params=["native", "pure"])
def either(request: pytest.FixtureRequest, started: Fakes) -> Iterator[Gateway]:
    """A gateway with uvloop and orjson, and one without."""
    with Gateway(settings(started), pure=request.param == "pure") as gateway:
        yield gateway


@pytest.fixture
def sdk(either: Gateway, fakes: Fakes) -> Iterator[OpenAI]:
    with OpenAI(base_url=either.url + "/v1", api_key="unused", max_retries=0, timeout=20) as client:
        yield client


def behind(fakes: Fakes, model: str) -> Fake:
    return fakes.primary if model == "m" else getattr(fakes, model)


def test_pure_is_what_it_says(either: Gateway) -> None:
    version = either.ask("GET", "/version").json()
    assert (version["loop"], version["json"]) in [("uvloop", "orjson"), ("asyncio", "json")]


@pytest.mark.parametrize("model", MODELS)
def test_chat(sdk: OpenAI, model: str) -> None:
    answer = sdk.chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content == WHOLE
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, len(TEXT))
    assert answer.usage.total_tokens == PROMPT_TOKENS + len(TEXT)
    assert answer._request_id


@pytest.mark.parametrize("model", MODELS)
def test_streamed_chat(sdk: OpenAI, model: str) -> None:
    options = {"include_usage": True}
    chunks = list(
        sdk.chat.completions.create(model=model, messages=HELLO, stream=True, stream_options=options)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == WHOLE
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert len({c.id for c in chunks}) == 1
    counts = [(c.usage.prompt_tokens, c.usage.completion_tokens) for c in chunks if c.usage]
    assert counts == [(PROMPT_TOKENS, len(TEXT))]


@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "ollama"])
def test_tool_calls(sdk: OpenAI, fakes: Fakes, model: str) -> None:
    behind(fakes, model).script({"tool_calls": CALLS})
    answer = sdk.chat.completions.create(model=model, messages=HELLO, tools=[TOOL])
    calls = answer.choices[0].message.tool_calls or []
    assert [(c.type, c.function.name, c.function.arguments) for c in calls] == [
        ("function", call["name"], call["arguments"]) for call in CALLS
    ]
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "ollama"])
def test_streamed_tool_calls(sdk: OpenAI, fakes: Fakes, model: str, interleaved: bool) -> None:
    behind(fakes, model).script({"tool_calls": CALLS, "fragment": 3, "interleaved": interleaved})
    names: dict[int, str] = {}
    ids: dict[int, str] = {}
    arguments: dict[int, str] = {}
    finish = []
    for chunk in sdk.chat.completions.create(model=model, messages=HELLO, tools=[TOOL], stream=True):
        choice = chunk.choices[0]
        finish.append(choice.finish_reason)
        for call in choice.delta.tool_calls or ():
            assert call.function is not None
            if call.id:
                assert call.index not in ids, "an id comes once"
                ids[call.index] = call.id
            if call.function.name:
                names[call.index] = names.get(call.index, "") + call.function.name
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert names == {0: "look", 1: "count"}
    assert arguments == {0: CALLS[0]["arguments"], 1: CALLS[1]["arguments"]}
    assert len(set(ids.values())) == 2
    assert [reason for reason in finish if reason] == ["tool_calls"]


def test_a_tool_result_goes_back(sdk: OpenAI, fakes: Fakes) -> None:
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]  # fmt: skip
    for model in ("m", "ollama"):
        sdk.chat.completions.create(model=model, messages=messages, tools=[TOOL])
    assert fakes.primary.call().json()["messages"] == messages
    sent = fakes.ollama.call().json()["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": "x"}} | (
        {"index": 0} if "index" in sent[1]["tool_calls"][0]["function"] else {}
    )
    assert sent[2]["role"] == "tool" and sent[2]["content"] == "sunny"


@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "lmstudio", "ollama"])
def test_embeddings(sdk: OpenAI, model: str) -> None:
    default = sdk.embeddings.create(model=model, input=["a", "b"])  # the SDK asks for base64 and decodes it
    assert [item.embedding for item in default.data] == [vector(0, 8), vector(1, 8)]
    assert [item.index for item in default.data] == [0, 1]
    floats = sdk.embeddings.create(model=model, input="a", encoding_format="float")
    assert floats.data[0].embedding == vector(0, 8)
    encoded = sdk.embeddings.create(model=model, input="a", encoding_format="base64").data[0].embedding
    assert isinstance(encoded, str)
    assert list(struct.unpack("<8f", b64decode(encoded))) == vector(0, 8)


@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "transformers", "ollama"])
def test_completions(sdk: OpenAI, model: str) -> None:
    whole = sdk.completions.create(model=model, prompt="Once")
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (WHOLE, "stop")
    chunks = list(sdk.completions.create(model=model, prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == WHOLE


def test_models(sdk: OpenAI) -> None:
    listed = [model.id for model in sdk.models.list()]
    assert len(listed) == len(set(listed))
    assert set(MODELS) <= set(listed)
    assert sdk.models.retrieve("m").id == "m"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nothing/like-it")


def test_errors_become_the_sdks_own(sdk: OpenAI, fakes: Fakes) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="nobody", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    fakes.primary.script({"status": 400, "message": "bad temperature"}, {"status": 429, "times": 3})
    with pytest.raises(openai.BadRequestError, match="bad temperature"):
        sdk.chat.completions.create(model="m", messages=HELLO)
    with pytest.raises(openai.RateLimitError):
        sdk.chat.completions.create(model="m", messages=HELLO)
    fakes.primary.script({"status": 500, "times": 3})
    with pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize("model", ["m", "ollama"])
def test_a_broken_stream_raises_in_the_sdk(sdk: OpenAI, fakes: Fakes, model: str) -> None:
    fake = behind(fakes, model)
    fake.script({"fault": "rst", "at": 3, "fault_gate": "seen"})
    got = ""
    with pytest.raises(openai.APIError):
        for chunk in sdk.chat.completions.create(model=model, messages=HELLO, stream=True):
            got += chunk.choices[0].delta.content or ""
            if got == "".join(TEXT[:3]):
                fake.release("seen")
    assert got == "".join(TEXT[:3])


@pytest.mark.parametrize("model", ["m", "ollama"])
def test_leaving_a_stream_is_seen_upstream(sdk: OpenAI, fakes: Fakes, model: str) -> None:
    fake = behind(fakes, model)
    fake.script({"fault": "stall", "at": 2})
    with sdk.chat.completions.create(model=model, messages=HELLO, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content == TEXT[1]:
                break
    assert fake.ended().outcome == "gone"

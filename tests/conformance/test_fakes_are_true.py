"""The fake upstreams as the real OpenAI SDK sees them: what the SDK cannot read, no test should rest on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import APIError, InternalServerError, OpenAI, RateLimitError

from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake, until
from tests.fakes.formats import PROMPT_TOKENS, vector
from tests.fakes.raw import Raw, request

HELLO = [{"role": "user", "content": "Hi"}]
CALLS = [{"name": "look", "arguments": '{"at": "Zürich"}'}, {"name": "count", "arguments": '{"to": 3}'}]


@pytest.fixture(scope="module", params=["openai", "vllm", "llamacpp", "transformers", "lmstudio"])
def started(request: pytest.FixtureRequest) -> Iterator[Fake]:
    with Fake(request.param) as fake:
        yield fake


@pytest.fixture
def fake(started: Fake) -> Fake:
    started.reset()
    return started


@pytest.fixture
def sdk(fake: Fake) -> Iterator[OpenAI]:
    with OpenAI(base_url=fake.url + "/v1", api_key="x", max_retries=0) as client:
        yield client


def test_whole_chat(sdk: OpenAI) -> None:
    answer = sdk.chat.completions.create(model="m", messages=HELLO)
    assert answer.choices[0].message.content == "".join(TEXT)
    assert answer.usage is not None and answer.usage.prompt_tokens == PROMPT_TOKENS


def test_streamed_chat(sdk: OpenAI, fake: Fake) -> None:
    stream = sdk.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "".join(TEXT)
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [len(TEXT)]
    assert fake.ended().outcome == "answered"


@pytest.mark.parametrize("interleaved", [False, True])
def test_parallel_tool_calls(sdk: OpenAI, fake: Fake, interleaved: bool) -> None:
    fake.script({"tool_calls": CALLS, "interleaved": interleaved, "fragment": 2})
    arguments: dict[int, str] = {}
    for chunk in sdk.chat.completions.create(model="m", messages=HELLO, stream=True):
        for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert arguments == {0: CALLS[0]["arguments"], 1: CALLS[1]["arguments"]}


def test_embeddings_in_both_formats(sdk: OpenAI, fake: Fake) -> None:
    as_base64 = sdk.embeddings.create(model="m", input=["a", "b"])
    assert [item.embedding for item in as_base64.data] == [vector(0, 8), vector(1, 8)]
    assert fake.call().json()["encoding_format"] == "base64"
    as_floats = sdk.embeddings.create(model="m", input="a", encoding_format="float")
    assert as_floats.data[0].embedding == vector(0, 8)


def test_status_and_error_in_the_stream(sdk: OpenAI, fake: Fake) -> None:
    fake.script({"status": 429}, {"status": 500}, {"fault": "error", "at": 2})
    with pytest.raises(RateLimitError):
        sdk.chat.completions.create(model="m", messages=HELLO)
    with pytest.raises(InternalServerError):
        sdk.chat.completions.create(model="m", messages=HELLO)
    with pytest.raises(APIError, match="told to fail"):
        list(sdk.chat.completions.create(model="m", messages=HELLO, stream=True))


def test_a_gone_client_is_noticed(fake: Fake) -> None:
    fake.script({"hang": True})
    with Raw(fake.address) as raw:
        raw.send(request("POST", "/v1/chat/completions", b'{"model":"m"}'))
        until(lambda: fake.calls, "the call")
        assert fake.call().outcome == "open"
    assert fake.ended().outcome == "gone"


def test_cut_reset_and_refuse(fake: Fake) -> None:
    fake.script({"fault": "fin", "at": 2}, {"cut_after_bytes": 30, "fault": "rst"}, {"reset": True})
    ask = request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}')
    for length in (2, 0, 0):
        with Raw(fake.address) as raw:
            answer = raw.ask(ask)
            assert not answer.complete
            assert answer.body.count(b'"content":"') >= length
    fake.listen(False)
    with pytest.raises(ConnectionRefusedError):
        Raw(fake.address)
    fake.listen(True)
    with Raw(fake.address) as raw:
        assert raw.ask(ask).complete

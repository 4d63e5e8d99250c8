"""What a real server must give through the gateway; a test module adds a subclass and a fixture `real`."""

from __future__ import annotations

import array
import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.fakes.gateway import Gateway
from tests.real import doors

ASK = [{"role": "user", "content": "Name three colours."}]
SUM = [{"role": "user", "content": "What is 2+2?"}]
PLAIN = {"temperature": 0, "seed": 7, "max_tokens": 16}
COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@dataclass
class Real:
    """A gateway with a real server behind it, and the SDK pointed at it."""

    gateway: Gateway
    sdk: openai.OpenAI
    model: str

    @classmethod
    def through(cls, gateway: Gateway, model: str) -> Iterator[Real]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=50) as sdk:
            yield cls(gateway, sdk, model)

    def chat(self, **members: Any) -> Any:
        return self.sdk.chat.completions.create(**{"model": self.model, "messages": ASK, **PLAIN, **members})

    def complete(self, prompt: str, **members: Any) -> Any:
        return self.sdk.completions.create(**{"model": self.model, "prompt": prompt, **PLAIN, **members})


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


class Contract:
    def test_every_door_gives_the_same_answer(self, real: Real) -> None:
        said = {door: doors.whole(real.gateway, door, real.model) for door in doors.DOORS}
        assert len(set(said.values())) == 1, said
        text, tokens = said["openai"]
        assert text and 0 < tokens <= doors.LIMIT
        assert {doors.streamed(real.gateway, door, real.model) for door in doors.DOORS} == {text}

    def test_chat(self, real: Real) -> None:
        answer = real.chat(messages=SUM, max_tokens=40)
        assert answer.object == "chat.completion" and answer.model == real.model
        assert answer.choices[0].message.content.strip()
        assert answer.choices[0].message.role == "assistant"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.prompt_tokens > 5 and 0 < answer.usage.completion_tokens <= 40

    def test_a_stream_says_the_same_as_a_whole_answer(self, real: Real) -> None:
        whole = real.chat()
        chunks = list(real.chat(stream=True))
        assert text_of(chunks) == whole.choices[0].message.content
        assert len({chunk.id for chunk in chunks}) == 1
        assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
            "length"
        ]
        assert all(chunk.usage is None for chunk in chunks)  # nobody asked
        assert all(chunk.choices for chunk in chunks)

    def test_a_stream_tells_usage_when_asked(self, real: Real) -> None:
        whole = real.chat()
        chunks = list(real.chat(stream=True, stream_options={"include_usage": True}))
        *before, last = chunks
        assert last.choices == [] and all(chunk.usage is None for chunk in before)
        assert last.usage.completion_tokens == whole.usage.completion_tokens == 16
        assert last.usage.prompt_tokens == whole.usage.prompt_tokens

    def test_a_stream_ends_with_done(self, real: Real) -> None:
        answer = real.gateway.ask(
            "POST", "/v1/chat/completions", {"model": real.model, "messages": ASK, "stream": True, **PLAIN}
        )
        assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
        assert answer.body.count(b"[DONE]") == 1

    def test_tokens_come_one_by_one(self, real: Real) -> None:
        chunks = [chunk for chunk in real.chat(stream=True) if text_of([chunk])]
        assert len(chunks) >= 8

    def test_max_tokens_and_its_newer_name(self, real: Real) -> None:
        for members in ({"max_tokens": 3}, {"max_tokens": openai.omit, "max_completion_tokens": 3}):
            answer = real.chat(**members)
            assert answer.choices[0].finish_reason == "length"
            assert answer.usage.completion_tokens == 3

    def test_an_answer_that_ends_by_itself(self, real: Real) -> None:
        answer = real.chat(messages=SUM, max_tokens=200)
        assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens < 200

    def test_stop(self, real: Real) -> None:
        answer = real.complete(COUNT, stop=["25"], max_tokens=60)
        assert answer.choices[0].finish_reason == "stop"
        assert "24" in answer.choices[0].text and "25" not in answer.choices[0].text

    def test_completions(self, real: Real) -> None:
        answer = real.complete(COUNT)
        assert answer.object == "text_completion" and "21" in answer.choices[0].text
        assert answer.usage.completion_tokens == 16
        chunks = list(real.complete(COUNT, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == answer.choices[0].text
        assert all(chunk.usage is None for chunk in chunks)

    def test_json_schema(self, real: Real) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": COLOUR}}
        answer = real.chat(response_format=wanted, max_tokens=60)
        assert json.loads(answer.choices[0].message.content)["colour"] in ("red", "green")

    def test_embeddings(self, real: Real) -> None:
        words = ["a small dog", "a little dog", "quantum field theory"]
        plain = real.sdk.embeddings.create(model=real.model, input=words, encoding_format="float")
        assert [item.index for item in plain.data] == [0, 1, 2] and plain.usage.prompt_tokens >= 6
        small, little, theory = (item.embedding for item in plain.data)
        assert len(small) == 576 and math.isclose(math.dist(small, [0] * 576), 1, abs_tol=1e-3)
        assert math.dist(small, little) < math.dist(small, theory)
        by_default = real.sdk.embeddings.create(model=real.model, input=words[0])  # the SDK asks for base64
        assert by_default.data[0].embedding == pytest.approx(small, abs=1e-3)

    def test_embeddings_in_base64_are_floats_of_32_bits(self, real: Real) -> None:
        body = {"model": real.model, "input": "dog", "encoding_format": "base64"}
        answer = real.gateway.ask("POST", "/v1/embeddings", body)
        vector = array.array("f", base64.b64decode(json.loads(answer.body)["data"][0]["embedding"]))
        assert len(vector) == 576 and math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)

    def test_models(self, real: Real) -> None:
        assert real.model in [model.id for model in real.sdk.models.list()]
        assert real.sdk.models.retrieve(real.model).id == real.model

    def test_a_model_that_is_not_there(self, real: Real) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            real.chat(model="nobody")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            real.sdk.models.retrieve("nobody")

    def test_nonsense_is_the_clients_fault(self, real: Real) -> None:
        with pytest.raises(openai.BadRequestError):
            real.chat(messages="hello")

    def test_several_at_once(self, real: Real) -> None:
        streams = [real.chat(stream=True, seed=number) for number in range(4)]
        texts = [text_of(list(stream)) for stream in streams]
        assert len(texts) == 4 and all(texts)

    def test_the_log_tells_what_happened(self, real: Real) -> None:
        raw = real.sdk.chat.completions.with_raw_response.create(model=real.model, messages=ASK, **PLAIN)
        record = real.gateway.record(raw.headers["x-request-id"])
        assert record["model"] == real.model and record["outcome"] == "ok" and record["attempts"] == 1
        assert record["completion_tokens"] == 16 and record["prompt_tokens"] > 5

"""Signs of life for clients that wait: of the real client libraries, at every door that streams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import CHAT, Crowd, backend, body, model, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, request

WHOLE = "".join(TEXT)
HI: list[Any] = [{"role": "user", "content": "Hi"}]
BEHIND = ("primary", "ollama", "anthropic")
"""Backends that speak another dialect each: what is sent meanwhile is the door's business alone."""

BEFORE_HEAD: dict[str, Any] = {"gate": "go"}
BEFORE_TOKEN: dict[str, Any] = {"fault": "wait", "fault_gate": "go", "at": 0}
BETWEEN_TOKENS: dict[str, Any] = {"fault": "wait", "fault_gate": "go", "at": 2}


@pytest.fixture(scope="module")
def alive(started: Fakes) -> Iterator[Gateway]:
    settings = {
        "routing": {
            **FORGIVING, "balance": "failover", "backoff": 0.01, "backoff_max": 0.01, "keepalive": 0.4,
        },
        "backends": [
            *(backend(name, getattr(started, name)) for name in BEHIND),
            backend("second", started.second),
            backend("narrow", started.primary, max_inflight=1),
        ],
        "models": [
            *(model(name, name) for name in BEHIND),
            model("pair", "primary", "second"),
            model("narrow", "narrow"),
            model("relieved", "primary", fallback={"unavailable": "second", "context": "second"}),
            model("second", "second"),
        ],
    }  # fmt: skip
    with serving(settings) as gateway:
        yield gateway


def fake_of(fakes: Fakes, name: str) -> Fake:
    fake: Fake = getattr(fakes, name)
    return fake


# --- the client libraries. Each gives the text after the fake has been released, and that happens only when
# --- the library has made the stream: its head has come, and nothing but a sign of life can have brought it.


def openai_chat(gateway: Gateway, fake: Fake, name: str) -> str:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="x", max_retries=0, timeout=20) as client:
        chunks = client.chat.completions.create(model=name, messages=HI, stream=True)
        fake.release("go")
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def openai_completions(gateway: Gateway, fake: Fake, name: str) -> str:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="x", max_retries=0, timeout=20) as client:
        chunks = client.completions.create(model=name, prompt="Hi", stream=True)
        fake.release("go")
        return "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)


def openai_responses(gateway: Gateway, fake: Fake, name: str) -> str:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="x", max_retries=0, timeout=20) as client:
        events = client.responses.create(model=name, input="Hi", stream=True)
        fake.release("go")
        text = ""
        for event in events:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type in ("error", "response.failed"):
                raise AssertionError(event)
        assert event.type == "response.completed"
        return text


def anthropic_messages(gateway: Gateway, fake: Fake, name: str) -> str:
    with anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0, timeout=20) as client:
        with client.messages.stream(model=name, messages=HI, max_tokens=99) as stream:
            fake.release("go")
            text = "".join(stream.text_stream)
            assert stream.get_final_message().stop_reason == "end_turn"
            return text


def ollama_chat(gateway: Gateway, fake: Fake, name: str) -> str:
    with ollama.Client(gateway.url, timeout=20) as client:
        chunks = iter(client.chat(model=name, messages=HI, stream=True))
        first = next(chunks)  # says nothing, as there is nothing yet
        fake.release("go")
        rest = list(chunks)
    assert [chunk.done for chunk in (first, *rest)] == [False] * len(rest) + [True]
    return "".join(chunk.message.content or "" for chunk in (first, *rest))


def ollama_generate(gateway: Gateway, fake: Fake, name: str) -> str:
    with ollama.Client(gateway.url, timeout=20) as client:
        chunks = iter(client.generate(model=name, prompt="Hi", stream=True))
        first = next(chunks)
        fake.release("go")
        return str(first.response) + "".join(chunk.response for chunk in chunks)


LIBRARIES = {
    "openai chat": openai_chat,
    "openai completions": openai_completions,
    "openai responses": openai_responses,
    "anthropic": anthropic_messages,
    "ollama chat": ollama_chat,
    "ollama generate": ollama_generate,
}


PAIRS = [
    *((library, "primary") for library in LIBRARIES),
    ("openai chat", "ollama"),
    ("openai responses", "anthropic"),
    ("anthropic", "anthropic"),
    ("anthropic", "ollama"),
    ("ollama chat", "ollama"),
    ("ollama generate", "ollama"),
]


@pytest.mark.parametrize(("library", "behind"), PAIRS)
def test_libraries_take_signs_of_life_for_what_they_are(
    alive: Gateway, fakes: Fakes, library: str, behind: str
) -> None:
    fake = fake_of(fakes, behind)
    fake.script(BEFORE_HEAD if behind == "primary" else BEFORE_TOKEN)
    assert LIBRARIES[library](alive, fake, behind) == WHOLE
    assert len(fake.calls) == 1


@pytest.mark.parametrize("library", ["openai chat", "anthropic"])
def test_between_tokens_too(alive: Gateway, fakes: Fakes, library: str) -> None:
    """The library is not looking yet: what came meanwhile lies before it when it does."""
    fakes.primary.script({"gate": "go", **BETWEEN_TOKENS})
    assert LIBRARIES[library](alive, fakes.primary, "primary") == WHOLE


DOORS: dict[str, tuple[dict[str, Any], bytes]] = {
    CHAT: ({"messages": HI}, b": waiting\n\n"),
    "/v1/completions": ({"prompt": "Hi"}, b": waiting\n\n"),
    "/v1/responses": ({"input": "Hi"}, b": waiting\n\n"),
    "/v1/messages": (
        {"messages": HI, "max_tokens": 9},
        b': waiting\nevent: ping\ndata: {"type": "ping"}\n\n',
    ),
    "/api/chat": ({"messages": HI}, b',"message":{"role":"assistant","content":""},"done":false}\n'),
    "/api/generate": ({"prompt": "Hi"}, b',"response":"","done":false}\n'),
}


def opening(door: str, name: str) -> bytes:
    data = {"model": name, "stream": True, **DOORS[door][0]}
    return request("POST", door, json.dumps(data).encode())


def at_every_door(gateway: Gateway, fake: Fake, name: str) -> dict[str, Answer]:
    """All doors at the same time. The fake is released when each client has had a sign of life."""
    with ExitStack() as stack:
        clients = {door: stack.enter_context(gateway.open()) for door in DOORS}
        for door, raw in clients.items():
            raw.send(opening(door, name))
        for door, raw in clients.items():
            raw.read_until(DOORS[door][1])
        fake.release("go")
        answers = {door: raw.answer() for door, raw in clients.items()}
    assert {answer.status for answer in answers.values()} == {200}
    return answers


def test_before_the_first_token(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({**BEFORE_HEAD, "times": None})
    for door, answer in at_every_door(alive, fakes.primary, "primary").items():
        assert answer.complete, door
        for word in TEXT:
            assert json.dumps(word, ensure_ascii=False)[1:-1].encode() in answer.body, door
        assert alive.record(answer.headers["x-request-id"])["outcome"] == "ok"


def test_between_two_tokens(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({**BETWEEN_TOKENS, "tokens": ["one ", "two ", "three"], "times": None})
    for door, answer in at_every_door(alive, fakes.primary, "primary").items():
        assert answer.complete, door
        places = [answer.body.index(mark) for mark in (b"two ", DOORS[door][1], b"three")]
        assert places == sorted(places), door


def test_a_busy_stream_has_none(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"tokens": 30, "token_delay": 0.03})
    answer = alive.chat("primary", stream=True)
    assert whole(answer) and b": waiting" not in answer.body


def test_an_answer_that_is_not_streamed_has_none(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"delay": 1.2})
    assert whole(alive.chat("primary")) == WHOLE


# --- failures after a sign of life: the status has gone, so the stream has to tell


def failed(body: bytes, door: str) -> str:
    """The message of the error that ends a stream, in the door's shape."""
    assert b"[DONE]" not in body and b"message_stop" not in body and b"response.completed" not in body
    if door.startswith("/api/"):
        return str(json.loads(body.splitlines()[-1])["error"])
    event = json.loads(re.findall(rb"(?m)^data: (.*)$", body)[-1])
    if door == "/v1/responses":
        assert event["type"] in ("error", "response.failed"), event
        return str(event.get("message") or event["response"]["error"]["message"])
    if door == "/v1/messages":
        assert event["type"] == "error" and set(event["error"]) >= {"type", "message"}
    return str(event["error"]["message"])


@pytest.mark.parametrize("status", [400, 500])
def test_a_failure_is_told_inside(alive: Gateway, fakes: Fakes, status: int) -> None:
    fakes.primary.script({"gate": "go", "status": status, "message": "the GPU fell off", "times": None})
    for door, answer in at_every_door(alive, fakes.primary, "primary").items():
        assert "the GPU fell off" in failed(answer.body, door), door
        record = alive.record(answer.headers["x-request-id"])
        assert record["outcome"] == "broken" and "the GPU fell off" in record["error"]
    assert len(fakes.primary.calls) == len(DOORS) * (1 if status == 400 else 3)


def test_after_a_failure_the_connection_is_closed(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "status": 400})
    with alive.open() as raw:
        raw.send(opening(CHAT, "primary"))
        raw.read_until(DOORS[CHAT][1])
        fakes.primary.release("go")
        assert "error" in raw.answer().chunks[-1]
        assert raw.at_end()


def test_libraries_raise_what_is_told_inside(alive: Gateway, fakes: Fakes) -> None:
    errors: dict[str, type[Exception]] = {
        "openai chat": openai.APIError,
        "openai completions": openai.APIError,
        "anthropic": anthropic.APIStatusError,
        "ollama chat": ollama.ResponseError,
    }
    for library, error in errors.items():
        fakes.primary.reset()
        fakes.primary.script({"gate": "go", "status": 500, "message": "the GPU fell off", "times": None})
        with pytest.raises(error, match="the GPU fell off"):
            LIBRARIES[library](alive, fakes.primary, "primary")


# --- what may still happen after a sign of life


def test_another_target_may_still_answer(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "status": 500, "times": None})
    for door, answer in at_every_door(alive, fakes.primary, "pair").items():
        assert answer.complete and json.dumps(TEXT[-1])[1:-1].encode() in answer.body, door
        assert alive.record(answer.headers["x-request-id"])["outcome"] == "ok"
    assert len(fakes.second.calls) == len(DOORS)


def test_another_model_may_still_answer(alive: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "status": 500, "times": None})
    with Crowd(alive) as crowd:
        crowd.send(body("relieved")).read_until(b": waiting\n")
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE]
    assert len(fakes.second.calls) == 1


def test_libraries_wait_for_a_turn(alive: Gateway, fakes: Fakes) -> None:
    """The fake lets the occupant go when the library has its stream, which is then still in the queue."""
    for library in ("openai chat", "anthropic", "ollama chat"):
        fakes.primary.reset()
        fakes.primary.script({"gate": "go"})
        with Crowd(alive) as crowd:
            crowd.send(body("narrow"))
            fakes.primary.call()
            assert LIBRARIES[library](alive, fakes.primary, "narrow") == WHOLE
            assert whole(crowd.members[0].answer()) == WHOLE
        assert len(fakes.primary.calls) == 2

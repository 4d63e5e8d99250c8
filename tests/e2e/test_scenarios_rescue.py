"""Streams that break after their client has read a part: another backend goes on with them, at every door, or
the client is told in its dialect that the answer is not whole (correctness.md §2, after the commit).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.matrix_doors import Ask, read
from tests.e2e.scenario_doors import (
    DOORS,
    NAMES,
    SETTINGS,
    asked,
    asking,
    backend,
    broken,
    chained,
    deltas,
    explained,
    fake,
    model,
    once,
    recorded,
    tried,
    whole,
)
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

pytestmark = pytest.mark.wide

WHOLE = "".join(TEXT)
SAID = "".join(TEXT[:3])
"""What has been delivered when a stream breaks after three tokens."""
SIGN = b"rld"
"""The end of that, however the dialect escapes it."""

PAIRS = (("vllm", "llamacpp"), ("llamacpp", "vllm"), ("primary", "vllm"), ("ollama", "anthropic"),
         ("anthropic", "ollama"), ("lmstudio", "anthropic"), ("transformers", "llamacpp"))  # fmt: skip
UNABLE = ("primary", "second")
"""OpenAI takes an assistant's last message as finished, and answers it."""
THREE = (("vllm", "llamacpp", "anthropic"), ("anthropic", "vllm", "ollama"))


@pytest.fixture(scope="module")
def running(started: Fakes) -> Iterator[Gateway]:
    models = [each for names in (*PAIRS, *THREE, UNABLE) for each in chained(*names)]
    models += [*chained("vllm"), *chained("primary")]
    models.append(model("unrescued", "vllm", "llamacpp", rescue=False))
    settings = {**SETTINGS, "backends": [backend(started, name) for name in NAMES], "models": models}
    with Gateway(settings) as gateway:
        yield gateway


@dataclass
class Scene:
    """A stream at a door, asked for at the model `backends`."""

    gateway: Gateway
    fakes: Fakes
    door: str
    backends: tuple[str, ...]
    ask: Ask

    def script(self, name: str, *behaviours: dict[str, Any]) -> None:
        fake(self.fakes, name).script(*behaviours)

    def play(self, *, model: str = "", sign: bytes = SIGN, **members: Any) -> Answer:
        """Lets the first stream break once its client has seen `sign`: a fault in the same read would take
        with it what had not been delivered. members: of the request.
        """
        name = model or "-".join(self.backends)
        with self.gateway.open() as raw:
            raw.send(asking(self.door, name, self.ask, **members))
            raw.read_until(sign)
            fake(self.fakes, self.backends[0]).release("seen")
            return raw.answer()

    def rescued(self, answer: Answer, *backends: str, tokens: int | None = 6, times: int = 1) -> None:
        """It is whole, each of the backends has been asked once, and the books say who went on."""
        assert whole(self.door, self.ask, answer, tokens).text == WHOLE
        assert asked(self.fakes) == dict.fromkeys(backends, 1)
        record = recorded(self.gateway, answer)
        attempts = tried(record)
        assert [name for name, _ in attempts] == list(backends)
        assert [outcome for _, outcome in attempts].count("ok") == 1 and attempts[-1][1] == "ok"
        assert (record["backend"], record["outcome"]) == (backends[-1], "ok")
        assert record["rescued"] == times and "partial" not in record
        if tokens is not None:
            assert (record["prompt_tokens"], record["completion_tokens"]) == (PROMPT_TOKENS, tokens)
        if self.door != "ollama":
            remark = f": x-ghostllm-backend: {backends[-1]} (rescue)\n\n"
            assert answer.body.decode().count(remark) == 1

    def told(self, answer: Answer, text: str, *backends: str) -> dict[str, Any]:
        """It is flagged as broken after `text`; who was asked, and the record."""
        said = broken(self.door, answer)
        assert said.text == text and said.error
        assert asked(self.fakes) == dict.fromkeys(backends, 1)
        record = recorded(self.gateway, answer)
        assert record["outcome"] == "broken" and record["partial"] and "rescued" not in record
        assert "ok" not in [outcome for _, outcome in tried(record)]
        return record


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(running: Gateway, fakes: Fakes, door: str) -> Scene:
    return Scene(running, fakes, door, ("vllm", "llamacpp"), Ask(stream=True))


AFTER: dict[str, tuple[dict[str, Any], str]] = {
    "fin": ({"fault": "fin"}, "upstream_incomplete"),
    "rst": ({"fault": "rst"}, "upstream_incomplete"),
    "ends without a finish": ({"fault": "end"}, "upstream_incomplete"),
    "bad chunk": ({"fault": "bad_chunk"}, "upstream_invalid_response"),
    "bad JSON": ({"fault": "bad_json"}, "upstream_invalid_response"),
    "no event": ({"fault": "bad_event"}, "upstream_invalid_response"),
    "too large an event": ({"fault": "oversized", "size": 600_000}, "upstream_invalid_response"),
    "error object": ({"fault": "error", "message": "the GPU fell off"}, ""),
    "a late 429": ({"fault": "error", "code": 429}, ""),
    "stall": ({"fault": "stall"}, "upstream_timeout"),
}
"""What the backend does, and the outcome of its attempt where all kinds agree on it."""


def cut(fault: str = "fin", at: int = 3, **more: Any) -> dict[str, Any]:
    return {**AFTER[fault][0], "at": at, "fault_gate": "seen", **more}


# --- another one goes on


@pytest.mark.parametrize("fault", AFTER)
@pytest.mark.parametrize("backends", PAIRS[:5:2], ids="-".join)
def test_the_next_backend_goes_on(scene: Scene, backends: tuple[str, ...], fault: str) -> None:
    scene.backends = backends
    scene.script(backends[0], cut(fault))
    answer = scene.play(model="-".join((*backends, "hasty")) if fault == "stall" else "")
    scene.rescued(answer, *backends)
    [(_, outcome), _] = tried(recorded(scene.gateway, answer))
    assert AFTER[fault][1] in ("", outcome)


@pytest.mark.parametrize("backends", PAIRS, ids="-".join)
@pytest.mark.parametrize("at", [1, 5, 6])
def test_it_goes_on_where_the_other_stopped(scene: Scene, backends: tuple[str, ...], at: int) -> None:
    """After one token, before the last, and with nothing left to say but that it is over."""
    scene.backends = backends
    scene.script(backends[0], cut(at=at))
    answer = scene.play(sign={1: b"Hello", 5: b"quoted", 6: b"!"}[at])
    scene.rescued(answer, *backends, tokens=6 if at < 6 else None)  # some count the end as a token
    rescue = fake(scene.fakes, backends[1]).call().json()
    assert rescue["messages"][-1]["role"] == "assistant"
    content = rescue["messages"][-1]["content"]
    text = content if isinstance(content, str) else "".join(block["text"] for block in content)
    assert text == "".join(TEXT[:at])


def test_a_backend_may_go_on_with_its_own(scene: Scene) -> None:
    """An only backend, whose connection was cut."""
    scene.backends = ("vllm",)
    scene.script("vllm", cut())
    answer = scene.play()
    assert whole(scene.door, scene.ask, answer).text == WHOLE
    assert asked(scene.fakes) == {"vllm": 2}
    assert recorded(scene.gateway, answer)["rescued"] == 1


def test_the_books_tell_what_each_attempt_spent(scene: Scene) -> None:
    scene.script("vllm", cut())
    answer = scene.play()
    told = explained(scene.gateway, answer)
    assert (told["rescued"], told["outcome"], told["backend"]) == (1, "ok", "llamacpp")
    begun = [event for event in told["timeline"] if event["event"] == "attempt"]
    ended = [event for event in told["timeline"] if event["event"] == "attempt_ended"]
    assert [(event["backend"], event["purpose"]) for event in begun] == [
        ("vllm", "first"), ("llamacpp", "rescue"),
    ]  # fmt: skip
    assert [event["outcome"] for event in ended] == ["upstream_incomplete", "ok"]
    assert ended[0]["usage"]["completion"] in (None, 3), "it had not told by then"
    assert (told["usage"]["prompt"], told["usage"]["completion"]) == (PROMPT_TOKENS, 6)


@pytest.mark.parametrize("backends", THREE, ids="-".join)
def test_a_rescue_may_break_as_well(scene: Scene, backends: tuple[str, ...]) -> None:
    scene.backends = backends
    scene.script(backends[0], cut(at=2))
    scene.script(backends[1], {"fault": "fin", "at": 2, "fault_gate": "seen"})
    with scene.gateway.open() as raw:
        raw.send(asking(scene.door, "-".join(backends), scene.ask))
        raw.read_until(b"Hello")
        fake(scene.fakes, backends[0]).release("seen")
        raw.read_until(SIGN)
        fake(scene.fakes, backends[1]).release("seen")
        answer = raw.answer()
    if scene.door != "ollama":
        for name in backends[1:]:
            assert f": x-ghostllm-backend: {name} (rescue)\n\n" in answer.body.decode()
    scene.rescued(answer, *backends, times=2)


@pytest.mark.parametrize("fault", ["refused", "500", "429", "reset", "cut before a token", "nothing"])
@pytest.mark.parametrize("backends", THREE, ids="-".join)
def test_who_cannot_go_on_is_passed_over(scene: Scene, backends: tuple[str, ...], fault: str) -> None:
    """A refusal to take up the beginning of an answer is not the client's problem."""
    scene.backends = backends
    scene.script(backends[0], cut())
    scene.script(backends[1], PASSED_OVER[fault])
    scene.rescued(scene.play(), *backends)


PASSED_OVER: dict[str, dict[str, Any]] = {
    "refused": {"prefill": "refuse"},
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"Retry-After": "30"}},
    "reset": {"interim": [103], "reset": True},
    "cut before a token": {"fault": "fin"},
    "nothing": {"body": "", "content_type": "text/event-stream"},
}


@pytest.mark.parametrize("prefill", ["echo", "restart"])
def test_what_is_repeated_is_taken_out(scene: Scene, prefill: str) -> None:
    """Servers that send the beginning again, and those that begin anew but say the same."""
    scene.script("vllm", cut(at=5))
    scene.script("llamacpp", {"prefill": prefill})
    scene.rescued(scene.play(sign=b"quoted"), "vllm", "llamacpp", tokens=None)


def test_a_thought_goes_before_the_text(scene: Scene) -> None:
    scene.script("vllm", cut(at=4, reasoning="hm"))
    scene.script("llamacpp", {"reasoning": "hm"})
    answer = scene.play()
    said = whole(scene.door, scene.ask, answer, None)
    assert (said.text, said.reasoning) == (WHOLE, "hm")


# --- nobody can


@pytest.mark.parametrize("fault", AFTER)
@pytest.mark.parametrize("backends", [("primary",), UNABLE], ids="-".join)
def test_where_nobody_can_go_on_the_client_is_told(
    scene: Scene, backends: tuple[str, ...], fault: str
) -> None:
    """Nothing that was delivered is blindly asked for again."""
    scene.backends = backends
    scene.script("primary", cut(fault))
    answer = scene.play(model="-".join((*backends, "hasty")) if fault == "stall" else "")
    record = scene.told(answer, SAID, "primary")
    if fault == "error object":
        assert "the GPU fell off" in broken(scene.door, answer).error
    assert record["backend"] == "primary" and record["completion_tokens"] in (None, 3)
    assert not fake(scene.fakes, "second").calls


@pytest.mark.parametrize("backends", THREE, ids="-".join)
def test_when_all_refuse_the_client_is_told_why_it_broke(scene: Scene, backends: tuple[str, ...]) -> None:
    """And the books name the backend whose words it has."""
    scene.backends = backends
    scene.script(backends[0], cut("error object"))
    for name in backends[1:]:
        scene.script(name, {"prefill": "refuse", "times": None})
    answer = scene.play()
    record = scene.told(answer, SAID, *backends)
    error = broken(scene.door, answer).error
    assert "the GPU fell off" in error and "prefill" not in error.lower()
    assert record["backend"] == backends[0]
    if backends[0] == "anthropic":  # which says so at the beginning
        assert record["prompt_tokens"] == PROMPT_TOKENS


def test_a_model_without_rescue_breaks(scene: Scene) -> None:
    scene.script("vllm", cut())
    scene.told(scene.play(model="unrescued"), SAID, "vllm")


# --- calls of tools, formats, thoughts: only what is certain to be said again is asked for again

CALL = [{"name": "f", "arguments": '{"x": 1234567890}'}]
LEFT_TO_CHANCE: dict[str, Any] = {"temperature": 0.7}
CERTAIN: dict[str, Any] = {"temperature": 0}


def test_a_tool_call_half_made_is_not_gone_on_with(scene: Scene) -> None:
    if scene.door == "ollama":
        pytest.skip("calls are given out whole there")
    scene.ask = Ask(stream=True, tools=True)
    scene.script("vllm", cut(at=3, tool_calls=CALL))
    scene.told(scene.play(sign=b'"f"', **LEFT_TO_CHANCE), "", "vllm")


def test_a_certain_tool_call_is_asked_for_again(scene: Scene) -> None:
    if scene.door == "ollama":
        pytest.skip("calls are given out whole there")
    scene.ask = Ask(stream=True, tools=True)
    scene.script("vllm", cut(at=3, tool_calls=CALL))
    scene.script("llamacpp", {"tool_calls": CALL, "fragment": 3})
    answer = scene.play(sign=b'"f"', **CERTAIN)
    once(scene.door, answer)
    said = read(scene.door, scene.ask, answer)
    assert said.calls == [("f", {"x": 1234567890})]
    assert said.finish in ("tool_calls", "tool_use", "completed")
    if scene.door == "openai":
        calls = [call for _, delta in deltas(answer) for call in delta.get("tool_calls") or ()]
        assert [call["function"]["name"] for call in calls if call["function"].get("name")] == ["f"]
        assert len({call["id"] for call in calls if call.get("id")}) == 1
    record = recorded(scene.gateway, answer)
    assert (record["rescued"], record["backend"]) == (1, "llamacpp")
    assert "assistant" not in [
        each["role"] for each in fake(scene.fakes, "llamacpp").call().json()["messages"]
    ]


def test_a_certain_answer_that_turns_out_otherwise_is_not_glued_on(scene: Scene) -> None:
    if scene.door == "ollama":
        pytest.skip("calls are given out whole there")
    scene.ask = Ask(stream=True, tools=True)
    scene.script("vllm", cut(at=3, tool_calls=CALL))
    scene.script("llamacpp", {"tool_calls": [{"name": "f", "arguments": '{"y": 5}'}], "times": None})
    answer = scene.play(sign=b'"f"', **CERTAIN)
    assert broken(scene.door, answer).error
    record = recorded(scene.gateway, answer)
    assert record["outcome"] == "broken" and "rescued" not in record


DOCUMENT = ['{"a', '": 12', "345", "}"]


def test_a_bound_format_is_not_gone_on_with(scene: Scene) -> None:
    scene.ask = Ask(stream=True, schema=True)
    scene.script("vllm", cut(at=2, tokens=DOCUMENT))
    answer = scene.play(sign=b" 12", **LEFT_TO_CHANCE)
    scene.told(answer, "".join(DOCUMENT[:2]), "vllm")


def test_a_certain_document_is_asked_for_again(scene: Scene) -> None:
    scene.ask = Ask(stream=True, schema=True)
    scene.script("vllm", cut(at=2, tokens=DOCUMENT))
    scene.script("llamacpp", {"tokens": DOCUMENT})
    answer = scene.play(sign=b" 12", **CERTAIN)
    assert whole(scene.door, scene.ask, answer, 4).text == "".join(DOCUMENT)
    assert asked(scene.fakes) == {"vllm": 1, "llamacpp": 1}
    assert recorded(scene.gateway, answer)["rescued"] == 1


def test_openai_is_asked_again_where_nothing_is_left_to_chance(scene: Scene) -> None:
    scene.backends = UNABLE
    scene.script("primary", cut())
    scene.rescued(scene.play(**CERTAIN), *UNABLE)


def test_a_thought_half_thought_is_not_gone_on_with(scene: Scene) -> None:
    scene.script("vllm", cut(at=1, reasoning="hm, let me see"))
    answer = scene.play(sign=b"let me see", **LEFT_TO_CHANCE)
    scene.told(answer, "", "vllm")

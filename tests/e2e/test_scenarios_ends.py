"""What else becomes of requests whose backends fail: fallbacks, waits that were asked for, refusals that do
not change, ends without a terminator, whose the books are; at every door (correctness.md §1.9, §1.10, §2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
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
    chained,
    explained,
    fake,
    model,
    recorded,
    send,
    tried,
    whole,
)
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

pytestmark = pytest.mark.wide

WHOLE = "".join(TEXT)
EITHER_WAY = pytest.mark.parametrize("ask", [Ask(), Ask(stream=True)], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def running(started: Fakes) -> Iterator[Gateway]:
    def own(name: str) -> dict[str, Any]:
        return backend(started, name, api_key=f"secret-of-{name}", headers={f"x-only-{name}": "hidden"})

    models = [
        *chained("primary"), *chained("anthropic"), *chained("ollama"), *chained("vllm"),
        *chained("primary", "second"),
        model("small", "primary", fallback={"context": "large"}),
        model("large", "second"),
        model("strict", "primary", fallback={"content": "lenient"}),
        model("lenient", "second"),
        model("here", "primary", fallback={"unavailable": "there"}),
        model("there", "second", fallback={"unavailable": "here"}),
        {"name": "renamed", "targets": [{"backend": "primary", "model": "theirs"},
                                        {"backend": "second", "model": "another"}]},
    ]  # fmt: skip
    settings = {**SETTINGS, "models": models,
                "backends": [own(name) for name in NAMES]}  # fmt: skip
    settings["routing"] = {**SETTINGS["routing"], "keepalive": 0.5}
    with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def at_every_door(do: Callable[[str], Answer]) -> dict[str, Answer]:
    """At the same time: these tests wait."""
    with ThreadPoolExecutor(len(DOORS)) as pool:
        return dict(zip(DOORS, pool.map(do, DOORS), strict=True))


# --- another model


@EITHER_WAY
def test_a_larger_model_takes_a_prompt_that_is_too_long(
    running: Gateway, fakes: Fakes, door: str, ask: Ask
) -> None:
    fakes.primary.script({"status": 400, "code": "context_length_exceeded", "message": "maximum context"})
    answer = send(running, door, "small", ask)
    assert whole(door, ask, answer).text == WHOLE
    assert asked(fakes) == {"primary": 1, "second": 1}
    record = recorded(running, answer)
    assert tried(record) == [("primary", "context_length_exceeded"), ("second", "ok")]
    assert (record["model"], record["backend"]) == ("small", "second")
    told = explained(running, answer)
    assert [event["purpose"] for event in told["timeline"] if event["event"] == "attempt"] == [
        "first", "fallback",
    ]  # fmt: skip


@EITHER_WAY
def test_a_refused_prompt_goes_to_the_model_named_for_it(
    running: Gateway, fakes: Fakes, door: str, ask: Ask
) -> None:
    fakes.primary.script({"status": 400, "code": "content_filter", "message": "filtered"})
    answer = send(running, door, "strict", ask)
    assert whole(door, ask, answer).text == WHOLE
    assert tried(recorded(running, answer)) == [("primary", "content_filter"), ("second", "ok")]


@EITHER_WAY
def test_models_that_stand_in_for_each_other_end(running: Gateway, fakes: Fakes, door: str, ask: Ask) -> None:
    for name in ("primary", "second"):
        fake(fakes, name).script({"status": 500, "times": None})
    answer = send(running, door, "here", ask)
    assert answer.status in (500, 502) and read(door, ask, answer).error
    assert asked(fakes) == {"primary": 3, "second": 3}


@EITHER_WAY
def test_the_books_name_what_answered(running: Gateway, fakes: Fakes, door: str, ask: Ask) -> None:
    fakes.primary.script({"status": 500})
    answer = send(running, door, "renamed", ask)
    assert whole(door, ask, answer).text == WHOLE
    record = recorded(running, answer)
    assert [attempt["model"] for attempt in record["tried"]] == ["theirs", "another"]
    assert (record["backend"], record["prompt_tokens"], record["completion_tokens"]) == (
        "second", PROMPT_TOKENS, 6,
    )  # fmt: skip


# --- refusals


@EITHER_WAY
@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_a_refusal_that_would_not_change_is_not_asked_for_again(
    running: Gateway, fakes: Fakes, door: str, ask: Ask, status: int
) -> None:
    fakes.primary.script({"status": status, "times": None})
    answer = send(running, door, "primary", ask)
    assert answer.status >= 400 and read(door, ask, answer).error
    assert asked(fakes) == {"primary": 1}


FILTERED = {"openai": "content_filter", "anthropic": "refusal", "responses": "incomplete",
            "ollama": "content_filter"}  # fmt: skip


@EITHER_WAY
def test_an_answer_cut_by_a_filter_is_an_answer(running: Gateway, fakes: Fakes, door: str, ask: Ask) -> None:
    fakes.primary.script({"finish": "content_filter", "tokens": ["No"], "times": None})
    answer = send(running, door, "primary-second", ask)
    said = read(door, ask, answer)
    assert (said.text, said.finish) == ("No", FILTERED[door])
    assert asked(fakes) == {"primary": 1}
    assert tried(recorded(running, answer)) == [("primary", "ok")]


@EITHER_WAY
def test_nothing_of_one_provider_is_seen_by_the_next_or_by_the_client(
    running: Gateway, fakes: Fakes, door: str, ask: Ask
) -> None:
    theirs = {"X-Provider": "one", "Set-Cookie": "a=b", "OpenAI-Organization": "o"}
    fakes.primary.script({"status": 500, "headers": theirs})
    fakes.second.script({"headers": {"X-Provider": "two"}})
    answer = send(running, door, "primary-second", ask)
    assert whole(door, ask, answer).text == WHOLE
    seen = str(fakes.second.call().fields)
    assert "secret-of-second" in seen and "x-only-second" in seen
    assert "secret-of-primary" not in seen and "x-only-primary" not in seen
    head = answer.head.lower()
    assert b"x-provider" not in head and b"set-cookie" not in head and b"openai-organization" not in head


# --- ends of streams


@pytest.mark.parametrize("name", ["primary", "vllm"])
def test_a_finish_without_a_terminator_is_an_end(
    running: Gateway, fakes: Fakes, door: str, name: str
) -> None:
    ask = Ask(stream=True)
    fake(fakes, name).script({"done": False})
    answer = send(running, door, name, ask)
    assert whole(door, ask, answer).text == WHOLE
    assert tried(recorded(running, answer)) == [(name, "ok")]


# --- time

BEGINNINGS = {"openai": b"data:", "anthropic": b"event: message_start",
              "responses": b"event: response.created", "ollama": b"Hello"}  # fmt: skip
"""Of answers themselves."""


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
@EITHER_WAY
def test_what_was_asked_for_is_waited_for(running: Gateway, fakes: Fakes, ask: Ask, date: bool) -> None:
    """With signs of life for the streams."""
    # A date has whole seconds, so three from now may be little more than two.
    when = formatdate(time.time() + 3, usegmt=True) if date else "2"
    fakes.primary.script(*[{"status": 429, "headers": {"Retry-After": when}}] * len(DOORS))
    began = time.monotonic()
    answers = at_every_door(lambda door: send(running, door, "primary", ask))
    late = [call.received - began for call in fakes.primary.calls[len(DOORS) :]]
    assert len(late) == len(DOORS) and min(late) >= 1.9
    for door, answer in answers.items():
        if ask.stream:
            sign = {"anthropic": b"event: ping", "ollama": b'"content":""'}.get(door, b": waiting")
            head, beginning, rest = answer.body.partition(BEGINNINGS[door])
            assert sign in head
            if door != "ollama":  # there a sign is a line like any other
                answer.body = beginning + rest
        assert said_whole(door, ask, answer)
        assert [name for name, _ in tried(recorded(running, answer))] == ["primary"] * 2


def _sent(gateway: Gateway, name: str, ask: Ask, door: str) -> Answer:
    return send(gateway, door, name, ask)


def said_whole(door: str, ask: Ask, answer: Answer) -> bool:
    return whole(door, ask, answer).text == WHOLE


def test_the_limit_that_fired_is_named(running: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"hang": True, "times": None})
    for limit, ask, name in (
        ("head", Ask(stream=True), "primary-hasty"),
        ("complete answer", Ask(), "primary-brief"),
    ):
        answers = at_every_door(partial(_sent, running, name, ask))
        for door, answer in answers.items():
            assert answer.status == 504
            assert limit in read(door, ask, answer).error
            assert recorded(running, answer)["code"] == "upstream_timeout"


def test_a_late_first_token_of_the_last_one_is_better_than_none(running: Gateway, fakes: Fakes) -> None:
    """And a stream that produces is not cut by the limits meant for its start."""
    ask = Ask(stream=True)
    fakes.primary.script({"token_delay": 0.1, "times": None})  # in all, twice each limit
    for door, answer in at_every_door(lambda door: send(running, door, "primary-hasty", ask)).items():
        assert said_whole(door, ask, answer)
    fakes.primary.reset()
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "times": None})

    def later(door: str) -> Answer:
        with running.open() as raw:
            raw.send(asking(door, "primary-hasty", ask))
            return raw.answer()

    with ThreadPoolExecutor(len(DOORS)) as pool:
        late = [pool.submit(later, door) for door in DOORS]
        fakes.primary.call(len(DOORS) - 1)
        time.sleep(0.7)  # twice the limit
        fakes.primary.release("go")
        for door, future in zip(DOORS, late, strict=True):
            assert said_whole(door, ask, future.result())


ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/completions": ("primary", {"prompt": "Hi"}),
    "/v1/embeddings": ("primary", {"input": "Hi"}),
    "/v1/messages/count_tokens": ("anthropic", {"messages": [{"role": "user", "content": "Hi"}]}),
    "/api/generate": ("ollama", {"prompt": "Hi", "stream": False}),
    "/api/embed": ("ollama", {"input": "Hi"}),
}


def test_silence_is_bounded_at_every_endpoint(running: Gateway, fakes: Fakes) -> None:
    for name in ("primary", "anthropic", "ollama"):
        fake(fakes, name).script({"hang": True, "times": None})

    def silent(path: str) -> Answer:
        name, members = ENDPOINTS[path]
        return running.ask("POST", path, {"model": f"{name}-brief", **members})

    with ThreadPoolExecutor(len(ENDPOINTS)) as pool:
        for path, answer in zip(ENDPOINTS, pool.map(silent, ENDPOINTS), strict=True):
            assert answer.status == 504, (path, answer.body)


# --- a backend that comes and goes


@EITHER_WAY
def test_clients_do_not_notice_a_backend_that_flaps(started: Fakes, fakes: Fakes, ask: Ask) -> None:
    """Its breaker opens, is tried now and then, and opens again; answers come all the time."""
    flapping = {"failures": 2, "period": 0.05, "period_max": 0.2, "volume": 10**6}
    settings = {
        "routing": {**SETTINGS["routing"], "breaker": flapping},
        "backends": [backend(started, "primary"), backend(started, "second")],
        "models": [model("pair", "primary", "second")],
    }
    with Gateway(settings) as gateway:
        for turn in range(12):
            fakes.primary.reset()
            if turn % 2:
                fakes.primary.script({"status": 503, "times": None})
            for door in DOORS:
                assert said_whole(door, ask, send(gateway, door, "pair", ask))
            time.sleep(0.03)
        attempts = [tried(record) for record in gateway.records if record.get("event") == "request"
                    and "attempts" in record]  # fmt: skip
    assert {len(each) for each in attempts} <= {1, 2}
    failed = [each for each in attempts if len(each) == 2]
    assert 2 <= len(failed) < len(attempts) / 2, "it was found out, and then left alone"

"""Backends that fail again and again, and backends that are away: what they get, and how they come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.test_explain import explained
from tests.e2e.traffic import Crowd, backend, body, by, counted, model, row, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)
CALM = {"interval": 0, "load": 0}
POLICIES = ("failover", "round_robin", "weighted", "least_requests", "latency", "smart")
PAIRS = (*POLICIES, "row", "told-seconds", "told-date", "all-rest")
"""Pairs of backends, all of the same two fakes: what is known of each is of one test only."""


def pair(name: str, *fakes: Fake) -> list[dict[str, Any]]:
    return [backend(f"{letter}-{name}", fake) for letter, fake in zip("ab", fakes, strict=True)]


def paired(name: str, **more: Any) -> dict[str, Any]:
    return model(name, f"a-{name}", f"b-{name}", **{"balance": "failover", **more})


@pytest.fixture(scope="module")
def strict(started: Fakes) -> Iterator[Gateway]:
    """Its breakers open after three failures, for longer than a test takes."""
    settings = {
        "routing": {
            "backoff": 0.01, "health": CALM, "retry_budget": {"burst": 1000},
            "breaker": {"failures": 3, "period": 60.0},
        },
        "backends": [
            *(one for name in PAIRS for one in pair(name, started.primary, started.second)),
            backend("only", started.primary),
        ],
        "models": [
            *(paired(name, balance=name if name in POLICIES else "failover") for name in PAIRS),
            model("only", "only"),
        ],
    }  # fmt: skip
    with serving(settings) as gateway:
        yield gateway


def state(gateway: Gateway, name: str) -> str:
    return str(row(gateway, name)["breaker"])


# --- opening


def test_failures_in_a_row_open_it_and_it_is_passed_over(strict: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": None})
    tries = [strict.chat("row").headers["x-ghostllm-attempts"] for _ in range(6)]
    assert tries == ["2", "2", "2", "1", "1", "1"]
    assert len(fakes.primary.calls) == 3
    told = row(strict, "a-row")
    assert told["breaker"] == "open" and told["why"] == "breaker open" and 50 < told["open_for_s"] <= 60
    assert counted(strict, "ghostllm_backend_breaker", backend="a-row", state="open") == 1
    assert counted(strict, "ghostllm_backend_breaker", backend="b-row", state="closed") == 1
    plan = explained(strict, strict.chat("row"))["plan"]
    assert [place["backend"] for place in plan["targets"]] == ["b-row"]
    assert {"backend": "a-row", "model": "row", "why": "breaker open"} in plan["refused"]


def test_faults_of_requests_open_nothing(strict: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 400, "times": None})
    assert {strict.chat("only").status for _ in range(6)} == {400}
    fakes.primary.reset()
    fakes.primary.script({"fault": "wait", "fault_gate": "never", "at": 1, "times": 6})
    for _ in range(6):
        with Crowd(strict) as crowd:
            crowd.send(body("only")).read_until(b"Hello")
    until(lambda: not row(strict, "only")["in_flight"], "all have left")
    assert state(strict, "only") == "closed"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_who_says_when_to_come_back_is_left_alone_until_then(
    strict: Gateway, fakes: Fakes, form: str
) -> None:
    """One 429 is enough."""
    when = "40" if form == "seconds" else formatdate(time.time() + 40, usegmt=True)
    fakes.primary.script({"status": 429, "headers": {"Retry-After": when}})
    assert by([strict.chat(f"told-{form}") for _ in range(4)]) == [f"b-told-{form}"] * 4
    assert len(fakes.primary.calls) == 1
    told = row(strict, f"a-told-{form}")
    assert told["breaker"] == "open" and 30 < told["open_for_s"] <= 41


def test_the_only_target_is_tried_however_it_stands(strict: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": 9})
    assert [strict.chat("only").status for _ in range(3)] == [502] * 3
    assert state(strict, "only") == "open"
    assert len(fakes.primary.calls) == 9, "each time as often as ever"
    assert whole(strict.chat("only")) == WHOLE
    until(lambda: state(strict, "only") == "closed", "and one answer makes up for it")


def test_when_all_are_left_alone_one_is_tried_nevertheless(strict: Gateway, fakes: Fakes) -> None:
    for fake in (fakes.primary, fakes.second):
        fake.script({"status": 500, "times": None})
    for _ in range(4):
        assert strict.chat("all-rest").status == 502
    assert {state(strict, name) for name in ("a-all-rest", "b-all-rest")} == {"open"}
    fakes.primary.reset()
    fakes.second.reset()
    answer = strict.chat("all-rest", stream=True)
    assert whole(answer) == WHOLE and "forced" in answer.headers["x-ghostllm-reason"]


@pytest.mark.parametrize("policy", POLICIES)
def test_failing_fast_attracts_no_traffic(strict: Gateway, fakes: Fakes, policy: str) -> None:
    """Ten waves of six at a time: what is always free at once must not look like the best place to go."""
    fakes.primary.script({"status": 500, "times": None})
    fakes.second.script({"delay": 0.05, "times": None})
    for _ in range(10):
        with Crowd(strict) as crowd:
            for _ in range(6):
                crowd.send(body(policy))
            assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 6
    assert len(fakes.primary.calls) <= 8, "three, and those that were under way meanwhile"
    assert len(fakes.second.calls) == 60


# --- closing


@pytest.fixture
def brief(started: Fakes) -> Iterator[Gateway]:
    """Its breakers open after two failures, for a moment."""
    breaker = {"failures": 2, "period": 0.5, "period_max": 0.5, "retry_after_max": 1.0}
    settings = {
        "routing": {"balance": "failover", "health": CALM, "breaker": breaker},
        "backends": pair("it", started.primary, started.second),
        "models": [paired("it")],
    }
    with serving(settings) as gateway:
        yield gateway


def test_one_request_finds_out_whether_it_is_well_again(brief: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": 2}, {"gate": "go"})
    for _ in range(2):
        brief.chat("it")
    assert state(brief, "a-it") == "open"
    with Crowd(brief) as crowd:
        until(lambda: crowd.send(body("it")) and len(fakes.primary.calls) == 3, "one is let through")
        assert state(brief, "a-it") == "half_open"
        assert by([brief.chat("it") for _ in range(4)]) == ["b-it"] * 4, "one is enough"
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()][-1] == WHOLE
    assert state(brief, "a-it") == "closed"
    assert brief.chat("it").headers["x-ghostllm-backend"] == "a-it"


def test_a_trial_that_fails_or_is_given_up_leaves_it_open(brief: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": 3}, {"gate": "never"})
    until(lambda: whole(brief.chat("it")) == WHOLE and len(fakes.primary.calls) == 3, "the trial has failed")
    assert state(brief, "a-it") == "open"
    with Crowd(brief) as crowd:
        until(lambda: crowd.send(body("it")) and len(fakes.primary.calls) == 4, "there is another one")
    until(lambda: state(brief, "a-it") == "open", "its client has left")
    assert brief.chat("it").headers["x-ghostllm-backend"] == "a-it", "so that the next request is the trial"
    assert state(brief, "a-it") == "closed"


def test_a_rate_limit_is_over_when_it_was_said_to_be(brief: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 429, "headers": {"Retry-After": "30"}})
    assert brief.chat("it").headers["x-ghostllm-backend"] == "b-it"
    assert row(brief, "a-it")["open_for_s"] <= 1.0, "or after retry_after_max, if that is sooner"
    until(lambda: brief.chat("it").headers["x-ghostllm-backend"] == "a-it", "it is used again")
    first, second = fakes.primary.calls[:2]
    assert second.received - first.received > 0.9


# --- an outage of all


def test_retries_do_not_multiply_an_outage(started: Fakes, fakes: Fakes) -> None:
    """A hundred requests could be three hundred tries; the breaker is out of the way here."""
    settings = {
        "routing": {
            "balance": "round_robin", "backoff": 0.001, "backoff_max": 0.001, "health": CALM,
            "breaker": {"failures": 10**6, "volume": 10**6},
            "retry_budget": {"share": 0.2, "per_second": 0.0, "burst": 5},
        },
        "backends": pair("it", started.primary, started.second),
        "models": [paired("it", balance="round_robin")],
    }  # fmt: skip
    for fake in (fakes.primary, fakes.second):
        fake.script({"status": 500, "times": None})
    with serving(settings) as gateway:
        assert {gateway.chat("it").status for _ in range(100)} == {502}
        tries = len(fakes.primary.calls) + len(fakes.second.calls)
        assert 100 + 10 <= tries <= 100 + 20 + 10, tries
        assert row(gateway, "a-it")["retries_left"] < 1.2
        fakes.primary.reset()
        fakes.second.reset()
        assert {whole(gateway.chat("it")) for _ in range(4)} == {WHOLE}


# --- away


@pytest.fixture(scope="module")
def watched(started: Fakes) -> Iterator[Gateway]:
    """Its backends are looked at five times a second."""
    settings = {
        "routing": {
            "balance": "failover", "backoff": 0.01, "breaker": {"failures": 10**6, "volume": 10**6},
            "health": {"interval": 0.2, "timeout": 1.0, "fall": 2, "rise": 2, "load": 0.2, "slow_start": 0},
        },
        "backends": [
            backend("a", started.primary),
            backend("b", started.second),
            backend("v", started.vllm),
            backend("l", started.llamacpp),
        ],
        "models": [model("m", "a", "b"), model("lone", "a"), model("v", "v", "b"), model("l", "l", "b")],
    }  # fmt: skip
    with serving(settings) as gateway:
        yield gateway


def told_of(gateway: Gateway, name: str) -> list[str]:
    return [record["event"] for record in gateway.records if record.get("backend") == name]


def test_a_backend_that_refuses_connections_is_away_until_it_takes_them(
    watched: Gateway, fakes: Fakes
) -> None:
    fakes.vllm.listen(False)
    until(lambda: row(watched, "v")["state"] == "down", "the probes have seen it")
    assert counted(watched, "ghostllm_backend_health", backend="v", state="down") == 1
    until(lambda: "backend is away" in told_of(watched, "v"), "the log says so")
    answer = watched.chat("v")
    assert (answer.headers["x-ghostllm-backend"], answer.headers["x-ghostllm-attempts"]) == ("b", "1")
    assert {"backend": "v", "model": "v", "why": "down"} in explained(watched, answer)["plan"]["refused"]
    fakes.vllm.listen(True)
    until(lambda: row(watched, "v")["state"] == "up", "and that it is back")
    assert counted(watched, "ghostllm_backend_health", backend="v", state="up") == 1
    until(lambda: "backend is back" in told_of(watched, "v"), "the log says that, too")
    assert watched.chat("v").headers["x-ghostllm-backend"] == "v"


def test_a_backend_whose_health_page_fails_is_away(watched: Gateway, fakes: Fakes) -> None:
    fakes.llamacpp.script({"path": "/health", "status": 503, "message": "Loading model", "times": None})
    until(lambda: row(watched, "l")["state"] == "down", "the probes have seen it")
    until(lambda: "backend is away" in told_of(watched, "l"), "the log says so")
    away = [record for record in watched.records if record["event"] == "backend is away"]
    assert "Loading model" in [record for record in away if record["backend"] == "l"][-1]["reason"]
    assert watched.chat("l").headers["x-ghostllm-backend"] == "b"
    fakes.llamacpp.reset()
    until(lambda: row(watched, "l")["state"] == "up", "it is back")
    assert watched.chat("l").headers["x-ghostllm-backend"] == "l"


def test_a_backend_that_is_away_but_alone_is_still_tried(watched: Gateway, fakes: Fakes) -> None:
    """A kind without a page for it is not looked at, so here requests find out."""
    fakes.primary.listen(False)
    answer = watched.chat("lone")
    assert answer.status in (502, 503) and "a" in answer.error["message"]
    fakes.primary.listen(True)
    assert whole(watched.chat("lone")) == WHOLE

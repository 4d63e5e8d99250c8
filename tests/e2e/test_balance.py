"""How requests spread over the targets of a model, and what an operator's hand or a client's wish changes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.test_explain import ctl
from tests.e2e.traffic import CHAT, Crowd, act, backend, body, by, model, row, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)
THREE = ("a", "b", "c")
KEYS = tuple(f"team-{number}" for number in range(8))


@pytest.fixture(scope="module")
def spread(started: Fakes) -> Iterator[Gateway]:
    fakes = dict(zip(THREE, (started.primary, started.second, started.vllm), strict=True))
    own = ("round", "least", "quick", "smart", "drained", "named")
    settings: dict[str, Any] = {
        "routing": {**FORGIVING},
        "backends": [
            *(backend(name, fake) for name, fake in fakes.items()),
            *(backend(f"{name}-{policy}", fake) for policy in own for name, fake in fakes.items()),
            backend("heavy", started.primary, weight=3),
            backend("light", started.second, weight=1),
        ],
        "models": [
            *(
                model(policy, *(f"{name}-{policy}" for name in THREE), balance=balance)
                for policy, balance in (
                    ("round", "round_robin"),
                    ("least", "least_requests"),
                    ("quick", "latency"),
                    ("smart", "smart"),
                    ("drained", "round_robin"),
                    ("named", "failover"),
                )
            ),
            model("weighted", {"backend": "a", "weight": 3}, "b", balance="weighted"),
            model("by-pattern", "*v*", "light", balance="weighted"),
            model("by-conversation", *THREE, balance="sticky"),
            model("by-header", *THREE, balance="sticky", sticky="header:X-Session"),
            model("by-key", *THREE, balance="sticky", sticky="key"),
            model("alone", "a-drained"),
        ],
    }  # fmt: skip
    with serving(settings) as gateway:
        yield gateway


def ask(gateway: Gateway, name: str, text: str = "Hi", headers: dict[str, str] | None = None) -> str:
    """The backend that answers."""
    answer = gateway.ask("POST", CHAT, body(name, text), headers)
    assert whole(answer) == WHOLE
    return answer.headers["x-ghostllm-backend"]


def test_round_robin_goes_round(spread: Gateway, fakes: Fakes) -> None:
    asked = [ask(spread, "round") for _ in range(9)]
    assert Counter(asked) == {"a-round": 3, "b-round": 3, "c-round": 3}
    assert asked[:3] == asked[3:6] == asked[6:]
    assert len(fakes.primary.calls) == len(fakes.second.calls) == len(fakes.vllm.calls) == 3


@pytest.mark.parametrize("name", ["weighted", "by-pattern"])
def test_weights_are_shares(spread: Gateway, fakes: Fakes, name: str) -> None:
    """Three to one; outside of these bounds it is once in a hundred thousand runs."""
    heavier = {"weighted": "a", "by-pattern": "heavy"}[name]
    share = Counter(ask(spread, name) for _ in range(200))[heavier] / 200
    assert 0.61 < share < 0.89


def test_least_requests_goes_where_the_fewest_are(spread: Gateway, fakes: Fakes) -> None:
    every = fakes.primary, fakes.second, fakes.vllm
    for fake in every:
        fake.script({"gate": "go", "times": 2})
    with Crowd(spread) as crowd:
        for count in range(1, 7):
            crowd.send(body("least"))
            until(lambda want=count: sum(len(fake.calls) for fake in every) == want, "it is under way")
        assert [len(fake.calls) for fake in every] == [2, 2, 2]
        fakes.second.release("go")
        until(lambda: not row(spread, "b-least")["in_flight"], "one backend is free again")
        assert {ask(spread, "least") for _ in range(6)} == {"b-least"}
        fakes.primary.release("go")
        fakes.vllm.release("go")
        assert Counter(by(crowd.answers())) == {"a-least": 2, "b-least": 2, "c-least": 2}


def test_latency_prefers_the_quick_one_and_forgets_no_slow_one(spread: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"delay": 0.4, "times": None})
    fakes.vllm.script({"delay": 0.4, "times": None})
    asked = Counter(ask(spread, "quick") for _ in range(25))
    assert 0 < asked["a-quick"] <= 2 and 0 < asked["c-quick"] <= 2 and asked["b-quick"] >= 21


# --- what stays together


def test_a_conversation_stays_where_it_began(spread: Gateway, fakes: Fakes) -> None:
    places: list[str] = []
    for number in range(10):
        messages: list[dict[str, str]] = [{"role": "user", "content": f"conversation {number}"}]
        asked = set()
        for turn in range(3):
            data = json.dumps({"model": "by-conversation", "messages": messages})
            asked.add(spread.ask("POST", CHAT, data.encode()).headers["x-ghostllm-backend"])
            messages += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"turn {turn}"}]
        assert len(asked) == 1, number
        places += asked
    assert set(places) == set(THREE)


def test_a_header_names_what_stays_together(spread: Gateway, fakes: Fakes) -> None:
    places = []
    for number in range(10):
        session = {"X-Session": f"session-{number}"}
        asked = {ask(spread, "by-header", f"something else {turn}", session) for turn in range(3)}
        assert len(asked) == 1, number
        places += asked
    assert set(places) == set(THREE)
    assert {ask(spread, "by-header") for _ in range(30)} == set(THREE), "nothing names these"


def test_a_key_stays_with_its_backend(started: Fakes, fakes: Fakes) -> None:
    secrets = {name: f"sk-{name}-0123456789" for name in KEYS}
    settings = {
        "routing": {**FORGIVING, "balance": "sticky"},
        "keys": [
            {"name": name, "hash": f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"}
            for name, secret in secrets.items()
        ],
        "backends": [backend("a", started.primary), backend("b", started.second)],
        "models": [model("by-key", "a", "b", sticky="key")],
    }
    with Gateway(settings) as gateway:
        places = []
        for name in KEYS:
            headers = {"Authorization": f"Bearer {secrets[name]}"}
            asked = {ask(gateway, "by-key", f"text {turn}", headers) for turn in range(3)}
            assert len(asked) == 1, name
            places += asked
        assert set(places) == {"a", "b"}


def test_smart_keeps_a_conversation_where_its_beginning_is_cached(spread: Gateway, fakes: Fakes) -> None:
    homes = []
    for number in range(4):
        words = " ".join(f"word-{number}-{at}" for at in range(800))
        messages = [{"role": "user", "content": words}]
        asked = []
        for turn in range(4):
            data = json.dumps({"model": "smart", "messages": messages, "stream": True}).encode()
            answer = spread.ask("POST", CHAT, data)
            assert whole(answer) == WHOLE
            asked.append(answer.headers["x-ghostllm-backend"])
            if turn:
                assert "cached 0 of" not in answer.headers["x-ghostllm-reason"]
            messages += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"turn {turn}"}]
        assert len(set(asked)) == 1, asked
        homes.append(asked[0])


def test_smart_spreads_new_conversations_over_the_backends(spread: Gateway, fakes: Fakes) -> None:
    """By the prompts that wait to be read there, as none of them is cached anywhere."""
    every = fakes.primary, fakes.second, fakes.vllm
    for fake in every:
        fake.script({"gate": "go", "times": None})
    with Crowd(spread) as crowd:
        for number in range(9):
            crowd.send(body("smart", f"new-{number} " + "and so on, " * 700 + f"{number}"))
            until(lambda want=number + 1: sum(len(f.calls) for f in every) == want, "it is under way")
        assert [len(fake.calls) for fake in every] == [3, 3, 3]
        for fake in every:
            fake.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 9


# --- by hand


def test_a_client_may_name_the_backend(spread: Gateway, fakes: Fakes) -> None:
    assert ask(spread, "named") == "a-named"
    for name in ("c-named", "b-named", "a-named"):
        assert ask(spread, "named", headers={"X-Ghostllm-Backend": name}) == name
    for nobody in ("a-round", "nobody", "", "ü"):
        assert ask(spread, "named", headers={"X-Ghostllm-Backend": nobody}) == "a-named", nobody


def test_a_backend_that_is_named_and_fails_is_replaced(spread: Gateway, fakes: Fakes) -> None:
    fakes.vllm.script({"status": 500})
    answer = spread.ask("POST", CHAT, body("named"), {"X-Ghostllm-Backend": "c-named"})
    assert (answer.status, answer.headers["x-ghostllm-attempts"]) == (200, "2"), answer.body


def test_a_drained_backend_gets_nothing_while_another_is_there(spread: Gateway, fakes: Fakes) -> None:
    told = act(spread, "a-drained", "drain").json()
    assert (told["name"], told["state"]) == ("a-drained", "draining")
    assert {ask(spread, "drained") for _ in range(9)} == {"b-drained", "c-drained"}
    assert ask(spread, "alone") == "a-drained", "but where it is the only one it goes on"
    shown = ctl(spread, "undrain", "a-drained")
    assert shown.returncode == 0 and "draining" not in shown.stdout, shown.stderr
    assert {ask(spread, "drained") for _ in range(9)} == {"a-drained", "b-drained", "c-drained"}
    assert ctl(spread, "drain", "b-drained").returncode == 0
    assert "draining" in ctl(spread, "backends").stdout
    assert {ask(spread, "drained") for _ in range(9)} == {"a-drained", "c-drained"}
    assert act(spread, "b-drained", "undrain").json()["state"] == "up"

    def events() -> list[str]:
        told = [record["event"] for record in spread.records if record.get("backend") == "b-drained"]
        return [event for event in told if "draining" in event]

    until(lambda: events() == ["draining", "no longer draining"], "the log says so")


def test_draining_lets_what_is_under_way_finish(spread: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with Crowd(spread) as crowd:
        raw = crowd.send(body("alone"))
        raw.read_until(b"Hello")
        assert act(spread, "a-drained", "drain").status == 200
        assert row(spread, "a-drained")["in_flight"] == 1
        fakes.primary.release("go")
        assert whole(raw.answer()) == WHOLE
    assert act(spread, "a-drained", "undrain").status == 200


# --- coming back


@pytest.mark.parametrize("policy", ["weighted", "least_requests"])
def test_a_backend_that_comes_back_is_loaded_gently(started: Fakes, fakes: Fakes, policy: str) -> None:
    settings = {
        "routing": {
            "balance": policy,
            "breaker": {"failures": 1, "period": 0.05, "period_max": 0.05},
            "health": {"interval": 0, "load": 0, "slow_start": 60.0, "first_weight": 0.05},
        },
        "backends": [backend("a", started.primary), backend("b", started.second)],
        "models": [model("m", "a", "b")],
    }
    with serving(settings) as gateway:
        fakes.second.script({"status": 500})
        until(lambda: ask(gateway, "m") and fakes.second.calls, "it has failed")
        until(lambda: ask(gateway, "m") == "b", "it has come back")
        assert row(gateway, "b")["breaker"] == "closed"
        asked = Counter(ask(gateway, "m", f"{number}") for number in range(40))
        weight = row(gateway, "b")["weight"]
        assert asked["b"] <= 14 and 0.05 <= weight < 0.5, (asked, weight)
        until(lambda: row(gateway, "b")["weight"] > weight, "it gets more by and by")

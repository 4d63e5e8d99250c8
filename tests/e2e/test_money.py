"""Limits and budgets in the running gateway: who is let in, what is settled, what callers are told."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.matrix_doors import Ask, read
from tests.e2e.scenario_doors import DOORS, body
from tests.e2e.traffic import CHAT, Crowd, backend, counted, model, serving
from tests.e2e.traffic import body as chat
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer, request

TOKENS = PROMPT_TOKENS + len(TEXT)
PRICE = {"input": 1.0, "output": 10.0}
COST = (PROMPT_TOKENS + 10 * len(TEXT)) / 1e6
PLENTY = {"requests_per_minute": 1_000_000, "tokens_per_minute": 100_000_000, "concurrent": 10_000}
ONE = {"requests_per_minute": 1}


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "key": f"sk-{name}-0123456789", **more}


def auth(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


OPS = auth("ops")
KEYS = [
    key("ops", manage=True),
    key("free"),
    key("few", limits={"requests_per_minute": 50}),
    key("tokens", limits={"tokens_per_minute": 100}),
    key("open-tokens", limits={"tokens_per_minute": 100}),
    key("alice", team="blue", limits=PLENTY),
    key("one-at-once", limits={"concurrent": 1}),
    key("crowd", limits={"concurrent": 50}),
    key("in-team", team="tight"),
    key("poor", budget={"day": 0.0002}),
    key("poor-anthropic", budget={"day": 0.0}),
    key("soft", budget={"month": 0.001, "soft": 0.1}),
    *(key(f"tight-{door}-{way}", limits={**ONE, "tokens_per_minute": 1000})
      for door in DOORS for way in ("whole", "stream")),
]  # fmt: skip


def settings(fakes: Fakes, state: Path | None = None) -> Settings:
    arms = [{"model": "dear", "weight": 1}]
    return {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01},
        **({"state": {"file": str(state)}} if state is not None else {}),
        "keys": KEYS,
        "teams": [{"name": "blue", "limits": PLENTY}, {"name": "tight", "limits": ONE}],
        "backends": [
            backend("primary", fakes.primary), backend("second", fakes.second),
            backend("anthropic", fakes.anthropic), backend("ollama", fakes.ollama),
        ],
        "models": [
            model("m", "primary", price=PRICE),
            model("shared", "primary", price=PRICE, coalesce=True),
            model("limited", "primary", limits=ONE),
            model("first", "primary", price=PRICE, fallback={"unavailable": "dear"}),
            model("dear", "second", price={"input": 2.0, "output": 20.0}),
            model("ab", "primary", price=PRICE, split={"arms": arms}),
            model("counts", "anthropic", price=PRICE),
            model("theirs", "ollama", price=PRICE),
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def metered(started: Fakes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    state = tmp_path_factory.mktemp("state") / "state.db"
    with serving(settings(started, state), OPS) as gateway:
        yield gateway
        assert open_books(gateway) == 0


def ask(gateway: Gateway, who: str, name: str = "m", *, target: str = CHAT, **members: Any) -> Answer:
    data = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6, **members}
    return gateway.ask("POST", target, data, auth(who))


def open_books(gateway: Gateway) -> float:
    return counted(gateway, "ghostllm_reservations_open", OPS)


def records(gateway: Gateway, **filters: str) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    answer = gateway.ask("GET", f"/admin/api/usage/records?{query}", None, OPS)
    assert answer.status == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


def record(gateway: Gateway, answer: Answer | str) -> dict[str, Any]:
    """The ledger's, of one request."""
    name = answer if isinstance(answer, str) else answer.headers["x-request-id"]
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [row for row in records(gateway) if row["request"] == name]
        return bool(found)

    until(look, f"the ledger's record of {name}")
    assert len(found) == 1
    return found[0]


def limits(gateway: Gateway, which: str = "limits") -> dict[tuple[str, str], dict[str, Any]]:
    told = gateway.ask("GET", "/admin/api/limits", None, OPS).json()
    return {(row["kind"], row["name"]): row for row in told[which]}


def storm(gateway: Gateway, who: str, **members: Any) -> tuple[list[Answer], float]:
    """200 clients at once; how long it took."""
    begun = time.monotonic()
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: ask(gateway, who, **members), range(200)))
    return answers, time.monotonic() - begun


# --- not one over


def test_200_clients_against_50_requests_a_minute(metered: Gateway, fakes: Fakes) -> None:
    answers, seconds = storm(metered, "few")
    most = 50 + math.floor(50 * seconds / 60)
    served = [answer for answer in answers if answer.status == 200]
    assert 50 <= len(served) <= most
    assert len(fakes.primary.calls) == len(served)
    refused = [answer for answer in answers if answer.status == 429]
    assert len(served) + len(refused) == 200
    assert all(0 < int(answer.headers["retry-after-ms"]) <= 60_000 for answer in refused)
    remaining = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in served]
    assert max(remaining) == 49 and min(remaining) == 0


@pytest.mark.parametrize(("who", "members"), [("tokens", {}), ("open-tokens", {"max_tokens": None})])
def test_200_clients_against_100_tokens_a_minute(
    metered: Gateway, fakes: Fakes, who: str, members: dict[str, Any]
) -> None:
    fakes.primary.script({"prompt_tokens": 5, "times": None})
    answers, seconds = storm(metered, who, **members)
    served = [answer.json()["usage"]["total_tokens"] for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 429}
    assert 11 <= sum(served) <= 100 + 100 * seconds / 60
    assert len(fakes.primary.calls) == len(served)


def test_at_one_time(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(*[{"gate": "go", "times": None}])
    with Crowd(metered) as crowd:
        for _ in range(200):
            crowd.send(chat("m"), auth("crowd"))
        until(lambda: limits(metered)["key", "crowd"]["in_flight"] == 50, "fifty are under way")
        until(lambda: len(fakes.primary.calls) == 50, "they have all been sent")
        fakes.primary.release("go")
        statuses = [answer.status for answer in crowd.answers()]
    assert statuses.count(200) == 50 and statuses.count(429) == 150
    until(lambda: limits(metered)["key", "crowd"]["in_flight"] == 0, "all have left")


def test_a_slot_is_free_again(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"tokens": 40, "at": 3, "fault": "wait", "fault_gate": "go"})
    with metered.open() as raw:
        raw.send(request("POST", CHAT, chat("m"), auth("one-at-once")))
        fakes.primary.sent_tokens(3)
        refused = ask(metered, "one-at-once")
        assert refused.status == 429 and "retry-after" not in refused.headers
        assert refused.error["message"] == (
            "Rate limit reached for key 'one-at-once': 1 requests at one time. "
            "Try again when one of them has ended."
        )
    until(lambda: ask(metered, "one-at-once").status == 200, "its client has left")


# --- what callers are told


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_tells_what_is_left(metered: Gateway, fakes: Fakes, door: str, stream: bool) -> None:
    wanted = Ask(stream=stream, limit=6)
    who = auth(f"tight-{door}-{'stream' if stream else 'whole'}")
    path, data = body(door, "m", wanted)
    first = metered.ask("POST", path, data, who)
    assert first.status == 200, first.body
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert 900 < int(first.headers["x-ratelimit-remaining-tokens"]) < 1000
    second = metered.ask("POST", path, data, who)
    assert second.status == 429
    assert "1 requests a minute. Try again in" in read(door, wanted, second).error
    assert 0 < int(second.headers["retry-after"]) <= 60
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(second.headers["x-ratelimit-remaining-tokens"]) > 900
    if door == "anthropic":
        assert second.json()["error"]["type"] == "rate_limit_error"
    elif door != "ollama":
        assert second.error["type"] == "rate_limit_error" and second.error["code"] == "rate_limit_exceeded"
    told = record(metered, first)
    assert (told["prompt"], told["completion"], told["cost"]) == (PROMPT_TOKENS, len(TEXT), COST)
    assert record(metered, second)["status"] == 429


def test_who_is_not_limited_is_told_nothing(metered: Gateway, fakes: Fakes) -> None:
    answer = ask(metered, "free")
    assert answer.status == 200 and not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert record(metered, answer)["cost"] == COST


@pytest.mark.parametrize(
    ("who", "name", "whose"), [("in-team", "m", "team 'tight'"), ("free", "limited", "model 'limited'")]
)
def test_teams_and_models_have_limits(
    metered: Gateway, fakes: Fakes, who: str, name: str, whose: str
) -> None:
    assert ask(metered, who, name).status == 200
    refused = ask(metered, who, name)
    assert refused.status == 429 and f"Rate limit reached for {whose}" in refused.error["message"]
    kind = whose.split()[0]
    assert counted(metered, "ghostllm_limit_refusals_total", OPS, kind=kind, limit="requests") == 1


def test_a_request_that_never_fits(metered: Gateway, fakes: Fakes) -> None:
    refused = ask(metered, "tokens", max_tokens=5000)
    assert refused.status == 429 and "ask for a shorter answer" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
    assert fakes.primary.calls == []


def test_addresses_have_limits(started: Fakes, fakes: Fakes) -> None:
    own = {**settings(started), "address_limits": {"requests_per_minute": 3}}
    with serving(own, OPS) as gateway:
        statuses = [ask(gateway, who).status for who in ("free", "alice", "soft", "free", "alice")]
        assert statuses == [200, 200, 200, 429, 429]
        assert "address '127.0.0.1'" in ask(gateway, "free").error["message"]
        usage = gateway.ask("GET", "/admin/api/usage", None, OPS)
        assert usage.status == 404 and "state.file is not set" in usage.error["message"]


# --- what is settled


def test_a_client_that_leaves_pays_for_what_was_said(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"tokens": 40, "at": 3, "fault": "wait", "fault_gate": "never"})
    with metered.open() as raw:
        raw.send(
            request("POST", CHAT, chat("m", max_tokens=500), {**auth("alice"), "X-Request-Id": "left-1"})
        )
        raw.read_until(b"tok2")
        assert open_books(metered) == 1, "it is booked"
    told = record(metered, "left-1")
    assert (told["outcome"], told["partial"], told["estimated"]) == ("cancelled", True, True)
    assert told["completion"] == 3 and told["cost"] == pytest.approx((9 + 30) / 1e6)
    until(lambda: open_books(metered) == 0, "it is settled")


def test_a_stream_that_breaks_pays_for_what_was_said(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"tokens": 40, "at": 3, "fault": "fin"})
    answer = ask(metered, "alice", stream=True, max_tokens=500)
    told = record(metered, answer)
    assert (told["outcome"], told["completion"], told["partial"]) == ("broken", 3, True)
    assert told["cost"] == pytest.approx((9 + 30) / 1e6)


def test_a_refused_call_pays_nothing(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": None})
    answer = ask(metered, "alice")
    assert answer.status >= 500
    told = record(metered, answer)
    assert (told["outcome"], told["cost"], told["prompt"]) == ("error", 0, None)
    unknown = ask(metered, "alice", "nobody-s")
    told = record(metered, unknown)
    assert (told["asked"], told["model"], told["status"], told["cost"]) == ("nobody-s", "", 404, None)


def test_who_says_no_usage_is_paid_what_was_reserved(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"usage": "never"})
    told = record(metered, ask(metered, "alice", stream=True))
    assert told["estimated"] and told["cost"] == pytest.approx((9 + 60) / 1e6)


def test_a_shared_call_is_paid_once(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go"})
    with Crowd(metered) as crowd:
        for _ in range(3):
            crowd.send(chat("shared", "the same"), auth("alice"))
        until(lambda: open_books(metered) == 3, "three are booked")
        fakes.primary.release("go")
        answers = crowd.answers()
    told = [record(metered, answer) for answer in answers]
    assert len(fakes.primary.calls) == 1
    assert sorted(row["cost"] for row in told) == [0, 0, COST]
    assert sorted(row["prompt"] for row in told) == [0, 0, PROMPT_TOKENS]


@pytest.mark.parametrize("name", ["first", "ab"])
def test_the_model_that_answers_is_paid(metered: Gateway, fakes: Fakes, name: str) -> None:
    fakes.primary.script({"status": 500, "times": None})
    before = limits(metered, "budgets").get(("model", "dear"), {"day": 0.0})["day"]
    told = record(metered, ask(metered, "alice", name))
    assert (told["asked"], told["model"], told["backend"]) == (name, "dear", "second")
    assert told["cost"] == pytest.approx(2 * COST)
    after = limits(metered, "budgets")
    assert after["model", "dear"]["day"] - before == pytest.approx(2 * COST)
    assert after["model", name]["day"] == 0 and after["model", name]["held"] == 0


def test_several_answers_are_paid_together(metered: Gateway, fakes: Fakes) -> None:
    told = record(metered, ask(metered, "alice", "theirs", n=2))
    assert (told["prompt"], told["completion"]) == (2 * PROMPT_TOKENS, 2 * len(TEXT))
    assert told["cost"] == pytest.approx(2 * COST)


def test_counting_and_passages_are_requests_without_tokens(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"path": "/v1/moderations", "body": "{}"})
    question = {"model": "counts", "messages": [{"role": "user", "content": "Hi"}]}
    answers = [
        metered.ask("POST", "/v1/messages/count_tokens", question, auth("alice")),
        metered.ask("POST", "/v1/responses/input_tokens", {"model": "m", "input": "Hi"}, auth("alice")),
        metered.ask("POST", "/v1/moderations", {"model": "m", "input": "Hi"}, auth("alice")),
    ]
    for answer in answers:
        assert answer.status == 200, answer.body
        assert answer.headers["x-ratelimit-limit-requests"] == "1000000"
        told = record(metered, answer)
        assert told["cost"] == 0 and not told["estimated"]


def test_embeddings_pay_their_prompt(metered: Gateway, fakes: Fakes) -> None:
    answer = metered.ask("POST", "/v1/embeddings", {"model": "m", "input": ["a", "b"]}, auth("alice"))
    assert answer.status == 200, answer.body
    told = record(metered, answer)
    assert told["prompt"] and told["cost"] == pytest.approx(told["prompt"] / 1e6) and not told["completion"]


def test_a_turn_on_a_stored_response(metered: Gateway, fakes: Fakes) -> None:
    first = metered.ask("POST", "/v1/responses", {"model": "m", "input": "Hi"}, auth("alice"))
    turn = {"model": "m", "input": "More", "previous_response_id": first.json()["id"]}
    second = metered.ask("POST", "/v1/responses", turn, auth("alice"))
    assert second.status == 200, second.body
    assert [record(metered, answer)["cost"] for answer in (first, second)] == [COST, COST]


# --- money


def test_a_budget_ends(metered: Gateway, fakes: Fakes) -> None:
    statuses = [ask(metered, "poor").status for _ in range(4)]
    assert statuses == [200, 200, 429, 429], "two cost 71 millionths each, of 200; a third might cost 69"
    refused = ask(metered, "poor")
    assert refused.error["code"] == "insufficient_quota" and refused.headers["x-should-retry"] == "false"
    assert refused.error["message"].startswith(
        "The budget of key 'poor' for this day is 0.0002, of which 0.000142 is spent"
    )
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert counted(metered, "ghostllm_limit_refusals_total", OPS, kind="key", limit="day") == 3


def test_an_empty_purse_at_anthropic_s_door(metered: Gateway, fakes: Fakes) -> None:
    path, data = body("anthropic", "m", Ask(limit=6))
    refused = metered.ask("POST", path, data, auth("poor-anthropic"))
    assert refused.status == 402 and refused.json()["error"]["type"] == "billing_error"


def test_a_soft_budget_is_told_of_once(metered: Gateway, fakes: Fakes) -> None:
    answers = [ask(metered, "soft") for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert "x-ghostllm-budget" not in answers[1].headers
    assert answers[3].headers["x-ghostllm-budget"] == "key month 21%"
    ask(metered, "soft")
    until(lambda: "soft budget spent" in metered.log, "the log tells of it")
    warnings = [line for line in metered.records if line["event"] == "soft budget spent"]
    assert [(line["kind"], line["name"], line["period"]) for line in warnings] == [("key", "soft", "month")]
    assert counted(metered, "ghostllm_soft_budgets_spent_total", OPS, kind="key") == 1


def test_what_was_spent_is_counted(metered: Gateway, fakes: Fakes) -> None:
    before = counted(metered, "ghostllm_spend_total", OPS, key="free", model="m", currency="USD")
    ask(metered, "free")
    after = counted(metered, "ghostllm_spend_total", OPS, key="free", model="m", currency="USD")
    assert after - before == pytest.approx(COST)


# --- nothing stays reserved


def test_storms_of_every_end_leave_nothing_reserved(metered: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        *({"tokens": 40, "at": 3, "fault": fault, "fault_gate": ""} for fault in ("fin", "rst", "bad_json")),
        {"status": 500, "times": 5}, {"status": 429, "times": 5}, {"hang": True, "times": 20},
        {"reset": True}, {"tokens": 400, "token_delay": 0.002, "times": 40},
    )  # fmt: skip
    with Crowd(metered) as crowd:
        for number in range(120):
            raw = crowd.send(chat("m", stream=number % 3 != 0), auth("alice"))
            if number % 4 == 0:
                raw.socket.close()
        until(lambda: len(fakes.primary.calls) >= 60, "most have been sent")
        for raw in crowd.members:
            raw.socket.close()
    until(lambda: open_books(metered) == 0, "nothing is booked any more")
    assert all(row["in_flight"] == 0 for row in limits(metered).values())
    assert all(row["held"] == 0 for row in limits(metered, "budgets").values())


def test_limits_go_by_what_was_used(fakes: Fakes) -> None:
    """Reserved are nearly all of 100 tokens, used 17, so that it fits again before the minute is over."""
    own = settings(fakes)
    small = key("small", limits={"tokens_per_minute": 100})
    with serving({**own, "keys": [*KEYS, small]}, OPS) as gateway:
        assert ask(gateway, "small", max_tokens=80).status == 200
        told = limits(gateway)["key", "small"]
        assert 100 - TOKENS <= told["remaining_tokens"] <= 100 - TOKENS + 10
        assert ask(gateway, "small", max_tokens=60).status == 200

"""Two gateways on one real Redis: they exceed no limit and no budget together, while it comes and goes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.redis_server import RedisServer
from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.test_cache_redis import CALM, redis, said
from tests.e2e.traffic import CHAT, backend, body, counted, model, row, serving
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer, request

__all__ = ["redis"]  # the fixture

TOKENS = PROMPT_TOKENS + len(TEXT)
COST = TOKENS / 1000  # at a price of 1000 a million, each way
CLIENTS = 200


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "key": f"sk-{name}-0123456789", **more}


def auth(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


OPS = auth("ops")


def settings(fakes: Fakes, redis: RedisServer, **more: Any) -> Settings:
    price = {"input": 1000.0, "output": 1000.0}
    return {
        "redis": {"url": redis.url, "timeout": CALM, "pause": 0.05, **more},
        "routing": {**FORGIVING, "balance": "failover"},
        "keys": [
            key("ops", manage=True),
            key("few", limits={"requests_per_minute": 50}),
            key("few-again", limits={"requests_per_minute": 50}),
            key("tokens", limits={"tokens_per_minute": 100}),
            key("crowd", limits={"concurrent": 5}),
            key("leaver", limits={"tokens_per_minute": 1000, "concurrent": 1}),
            key("poor", budget={"month": 10 * COST}),
            key("free"),
        ],
        "backends": [backend("primary", fakes.primary)],
        "models": [model("m", "primary"), model("dear", "primary", price=price)],
    }


@pytest.fixture(scope="module")
def nodes(started: Fakes, redis: RedisServer) -> Iterator[tuple[Gateway, Gateway]]:
    with (
        serving(settings(started, redis), OPS) as one,
        serving(settings(started, redis), OPS) as two,
    ):
        yield one, two
        for node in (one, two):
            assert counted(node, "ghostllm_reservations_open", OPS) == 0


def ask(node: Gateway, who: str, name: str = "m", **members: Any) -> Answer:
    """Of a prompt that the fake counts as shorter than the gateway takes it to be."""
    return node.ask("POST", CHAT, body(name, "Hi " * 12, max_tokens=6, **members), auth(who))


def storm(nodes: tuple[Gateway, Gateway], who: str, name: str = "m") -> tuple[list[Answer], float]:
    """200 clients at once, every second one at the other node; how long it took."""
    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda number: ask(nodes[number % 2], who, name), range(CLIENTS)))
    return answers, time.monotonic() - begun


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def test_200_clients_at_two_nodes_against_50_requests(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> None:
    answers, seconds = storm(nodes, "few")
    count = statuses(answers)
    assert set(count) == {200, 429} and 50 <= count[200] <= 50 + math.floor(50 * seconds / 60)
    assert len(fakes.primary.calls) == count[200]
    by = Counter(number % 2 for number, answer in enumerate(answers) if answer.status == 200)
    assert len(by) == 2, "both took part"
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.error["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    told = [answer for answer in answers if answer.status == 200]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in told} == {"50"}
    assert min(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in told) == 0


def test_200_clients_at_two_nodes_against_100_tokens(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> None:
    answers, seconds = storm(nodes, "tokens")
    count = statuses(answers)
    most = math.floor(100 * (1 + seconds / 60) / TOKENS)
    assert set(count) == {200, 429} and 1 <= count[200] <= most


def test_requests_at_one_time(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": None})
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, nodes[number % 2], "crowd") for number in range(40)]
        until(lambda: sum(future.done() for future in asked) == 35, "all others have been refused")
        assert len(fakes.primary.calls) == 5
        fakes.primary.release("go")
        assert statuses([future.result() for future in asked]) == {200: 5, 429: 35}
    fakes.primary.reset()
    until(lambda: ask(nodes[1], "crowd").status == 200, "there is room again")


def test_what_a_client_held_that_left_is_free(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> None:
    fakes.primary.script({"gate": "never"})
    with nodes[0].open() as raw:
        raw.send(request("POST", CHAT, body("m", max_tokens=6), auth("leaver")))
        fakes.primary.call()
        assert ask(nodes[1], "leaver").status == 429
    fakes.primary.ended()
    until(lambda: ask(nodes[1], "leaver").status == 200, "its place is free")


def test_one_budget(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> None:
    answers, _ = storm(nodes, "poor", "dear")
    while ask(nodes[0], "poor", "dear").status == 200:
        pass  # what was reserved too much is spent in the end
    assert 5 <= len(fakes.primary.calls) <= 10
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.error["code"] for answer in refused} == {"insufficient_quota"}
    assert ask(nodes[1], "poor", "dear").status == 429
    assert ask(nodes[1], "free", "dear").status == 200


@pytest.mark.parametrize("policy", ["local", "refuse"])
def test_redis_killed_and_started_again(started: Fakes, fakes: Fakes, tmp_path: Path, policy: str) -> None:
    """Away, each node goes by its own books, or refuses; back, they are at one again."""
    server = RedisServer(tmp_path)
    server.start()
    chosen = settings(started, server, limits=policy, budgets=policy)
    try:
        with serving(chosen, OPS) as one, serving(chosen, OPS) as two:
            for node in (one, two):
                until(lambda node=node: said(node, "redis answers") == 1, "redis answers")
            begun = time.monotonic()
            served = sum(answer.status == 200 for answer in storm((one, two), "few")[0])
            assert served <= 50 * (1 + (time.monotonic() - begun) / 60)
            server.kill()
            away = [*storm((one, two), "few")[0], *storm((one, two), "few-again")[0]]
            if policy == "refuse":
                assert statuses(away) == {503: 400}
                assert {answer.error["code"] for answer in away} == {"shared_state_unavailable"}
            else:
                assert set(statuses(away)) == {200, 429}
            served += sum(answer.status == 200 for answer in away[:CLIENTS])
            assert ask(one, "free").status == 200, "who has no limits is not concerned"
            server.start()
            for node in (one, two):
                until(lambda node=node: ask(node, "few").status != 503, "it is asked again")
                until(lambda node=node: said(node, "redis is back") == 1, "and the log says so")
            served += sum(answer.status == 200 for answer in storm((one, two), "few")[0])
            seconds = time.monotonic() - begun
            assert served <= 2 * 50 * (1 + seconds / 60), "no node has exceeded the limit by itself"
            assert counted(one, "ghostllm_reservations_open", OPS) == 0
    finally:
        server.kill()


def test_nodes_hear_of_a_breaker_that_opens(started: Fakes, fakes: Fakes, redis: RedisServer) -> None:
    def breaker(node: Gateway, name: str) -> str:
        return str(row(node, name, OPS)["breaker"])

    chosen = settings(started, redis, prefix="breakers")
    chosen["routing"]["breaker"] = {"failures": 3, "period": 5.0, "period_max": 5.0}
    chosen["routing"]["attempts"] = 1
    chosen["backends"].append(backend("second", started.second))
    with serving(chosen, OPS) as one, serving(chosen, OPS) as two:
        until(lambda: said(two, "redis answers") == 1, "it listens")
        assert breaker(two, "primary") == "closed"
        fakes.primary.script({"status": 500, "times": 3})
        for _ in range(3):
            ask(one, "free", stream=False)
        assert breaker(one, "primary") == "open"
        until(lambda: breaker(two, "primary") == "open", "the other node hears of it")
        assert breaker(two, "second") == "closed"
        fakes.primary.reset()
        assert ask(two, "free").status == 200, "the last target there is is tried all the same"
        until(lambda: breaker(two, "primary") == "closed", "and found to be well")


def test_a_node_that_dies_gives_its_places_back(started: Fakes, fakes: Fakes, redis: RedisServer) -> None:
    chosen = settings(started, redis, lease=2.0, prefix="dying")
    fakes.primary.script({"gate": "never"})
    with serving(chosen, OPS) as one, serving(chosen, OPS) as two:
        with one.open() as raw:
            raw.send(request("POST", CHAT, body("m", max_tokens=6), auth("leaver")))
            fakes.primary.call()
            assert ask(two, "leaver").status == 429
            one.process.kill()
            until(lambda: ask(two, "leaver").status == 200, "its lease is over")
        assert counted(two, "ghostllm_redis_up", OPS) == 1

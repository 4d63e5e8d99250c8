"""Answers that two gateways share through a real Redis, which is killed and started again under load."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.redis_server import MISSING, PROGRAM, RedisServer, redis_server
from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import CHAT, backend, body, counted, model, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer

WHOLE = "".join(TEXT)
CALM = 5.0  # seconds of timeout where the test is not about it: the machine may be busy
ADMIN = {"x-ghostllm-admin": "1"}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def settings(fakes: Fakes, redis: RedisServer, **more: Any) -> Settings:
    return {
        "cache": {"backend": "redis", "requests": "all"},
        "redis": {"url": redis.url, "timeout": CALM, "pause": 0.05, **more},
        "routing": {**FORGIVING, "balance": "failover"},
        "backends": [backend("primary", fakes.primary), backend("second", fakes.second)],
        "models": [model("m", "primary"), model("other", "primary"), model("busy", "second")],
    }


@pytest.fixture(scope="module")
def nodes(started: Fakes, redis: RedisServer) -> Iterator[tuple[Gateway, Gateway]]:
    with serving(settings(started, redis)) as one, serving(settings(started, redis)) as two:
        yield one, two


@pytest.fixture
def pair(nodes: tuple[Gateway, Gateway], fakes: Fakes) -> tuple[Gateway, Gateway]:
    """Both with nothing in their caches, and with nothing more to hear of that."""
    for node in nodes:
        until(lambda node=node: figures(node)["redis"]["up"], "redis answers")
    flushed(nodes)
    return nodes


def figures(node: Gateway) -> dict[str, Any]:
    told: dict[str, Any] = node.ask("GET", "/admin/api/cache").json()
    return told


def flush(node: Gateway, **what: str) -> dict[str, Any]:
    answer = node.ask("POST", "/admin/api/cache/flush", json.dumps(what).encode(), ADMIN)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json()
    return told


def flushed(nodes: tuple[Gateway, Gateway]) -> None:
    """What is begun before a flush is not kept: waits until the other has heard of it."""
    one, two = nodes
    before = figures(two)["flushes"]
    assert flush(one)["complete"]
    until(lambda: figures(two)["flushes"] > before, "the other hears of it")


def ask(node: Gateway, name: str = "m", text: str = "Hi", **members: Any) -> Answer:
    answer = node.ask("POST", CHAT, body(name, text, **members))
    assert whole(answer) == WHOLE
    return answer


def state(answer: Answer) -> str:
    return answer.headers["x-ghostllm-cache"]


def said(node: Gateway, event: str) -> int:
    return sum(record.get("event") == event for record in node.records)


def shared(redis: RedisServer, count: int) -> None:
    """Waits until the server has so many answers: nobody waits for them to get there."""

    def there() -> bool:
        with socket.create_connection(("127.0.0.1", redis.port), 5.0) as raw:
            raw.sendall(b"KEYS *:answer:*\r\n")
            return raw.recv(65536).startswith(b"*%d\r\n" % count)

    until(there, f"{count} answers are shared")


def test_one_node_gives_what_the_other_was_told(
    pair: tuple[Gateway, Gateway], fakes: Fakes, redis: RedisServer
) -> None:
    one, two = pair
    hits = counted(two, "ghostllm_cache_hits_total", store="redis")
    assert state(ask(one)) == "miss"
    shared(redis, 1)
    assert state(ask(two)) == "hit"
    again = ask(two, stream=False)
    assert state(again) == "hit" and again.json()["usage"]["completion_tokens"] == len(TEXT)
    assert counted(two, "ghostllm_cache_hits_total", store="redis") - hits == 1, "the second was in memory"
    assert int(ask(two).headers["age"]) >= 0
    assert counted(two, "ghostllm_redis_up") == 1 and counted(two, "ghostllm_redis_commands_total") > 0


def test_all_nodes_hear_of_a_flush(pair: tuple[Gateway, Gateway], fakes: Fakes, redis: RedisServer) -> None:
    one, two = pair
    for number, name in enumerate(("m", "other"), 1):
        ask(one, name)
        shared(redis, number)
        assert state(ask(two, name)) == "hit"
    heard = figures(two)["redis"]["news"]["flushes"]
    assert flush(one, model="m") == {"flushed": 1, "complete": True}
    until(lambda: figures(two)["redis"]["news"]["flushes"] > heard, "the other hears of it")
    until(lambda: figures(two)["entries"] == 1, "and forgets")
    assert state(ask(two, "other")) == "hit" and state(ask(two)) == "miss"


def test_a_node_that_starts_finds_them(
    pair: tuple[Gateway, Gateway], fakes: Fakes, redis: RedisServer
) -> None:
    ask(pair[0])
    shared(redis, 1)
    with serving(settings(fakes, redis)) as third:
        assert state(ask(third)) == "hit"
    with serving(settings(fakes, redis, prefix="another")) as stranger:
        assert state(ask(stranger)) == "miss", "other clusters' are not its own"


@contextmanager
def load(node: Gateway) -> Iterator[list[tuple[str, float]]]:
    """Requests all the time, of which every second one is new. Gives state and seconds of each."""
    over, seen = threading.Event(), []

    def work(worker: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            began = time.monotonic()
            answer = ask(node, "busy", f"{worker} {number // 2}")
            seen.append((state(answer), time.monotonic() - began))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def more_of(seen: list[tuple[str, float]], count: int = 40) -> None:
    wanted = len(seen) + count
    until(lambda: len(seen) >= wanted, f"{count} more answers")


def test_killed_and_started_again_under_load(
    pair: tuple[Gateway, Gateway], fakes: Fakes, redis: RedisServer
) -> None:
    one, two = pair
    away, back = said(one, "redis is away"), said(one, "redis is back")
    with load(one) as seen:
        more_of(seen)
        redis.kill()
        until(lambda: said(one, "redis is away") == away + 1, "the log says so")
        assert counted(one, "ghostllm_redis_up") == 0
        more_of(seen)
        assert not flush(one, model="nothing")["complete"]
        assert said(one, "redis is away") == away + 1, "it is told once"
        redis.start()
        until(lambda: said(one, "redis is back") == back + 1, "it is used again, without a restart")
        more_of(seen)
    states = [state for state, _ in seen]
    assert states.count("hit") > len(states) / 3 and set(states) == {"hit", "miss"}
    assert counted(one, "ghostllm_redis_up") == 1
    assert counted(one, "ghostllm_redis_failures_total") >= 1
    until(lambda: figures(two)["redis"]["up"], "the other has seen it, too")
    flushed(pair)
    ask(one, text="after it")
    shared(redis, 1)
    assert state(ask(two, text="after it")) == "hit", "nodes share again"


def test_slow_is_as_good_as_away(started: Fakes, fakes: Fakes, redis: RedisServer) -> None:
    """One request waits as long as it may; those after it do not wait at all."""
    with serving(settings(started, redis, timeout=0.3, pause=60.0)) as node:
        until(lambda: said(node, "redis answers") == 1, "it is there")
        ask(node, text="before")
        redis.stop()
        try:
            assert state(ask(node, text="while it is slow")) == "miss"
            until(lambda: said(node, "redis is away") == 1, "the log says so")
            skipped = figures(node)["redis"]["skipped"]
            for number in range(20):
                assert state(ask(node, text=f"{number}")) == "miss"
            assert figures(node)["redis"]["skipped"] > skipped
            assert state(ask(node, text="before")) == "hit", "memory has its own"
        finally:
            redis.resume()


def test_it_need_not_be_there_at_the_start(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip(MISSING)
    pytest.importorskip("redis", reason="the extra redis is not installed")
    late = RedisServer(tmp_path)
    with serving(settings(started, late)) as node:
        until(lambda: said(node, "redis is away") == 1, "the log says so")
        assert [state(ask(node)) for _ in range(2)] == ["miss", "hit"]
        late.start()
        try:
            until(lambda: said(node, "redis answers") == 1, "it is found")
        finally:
            late.kill()


def test_a_missing_extra_is_named(started: Fakes, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text("raise ImportError('not here')\n")
    chosen = {
        "cache": {"backend": "redis"},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "backends": [backend("primary", started.primary)],
    }
    with Gateway(chosen, environment={"PYTHONPATH": str(tmp_path)}, wait=False) as node:
        assert node.wait() == 1
        assert "pip install 'ghostllm[redis]'" in node.log

"""One gateway in front of one fake of each kind, shared by the run; each test finds the fakes as new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway, Settings

HERE = Path(__file__).parent
KINDS = ("vllm", "llamacpp", "transformers", "lmstudio", "ollama", "anthropic")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "smoke or not e2e"`: of these tests few, of the others all."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker("e2e")


FORGIVING: dict[str, Any] = {
    "breaker": {"failures": 10**6, "volume": 10**6, "period": 0, "period_max": 0, "retry_after_max": 0},
    "retry_budget": {"burst": 10**6},
    "health": {"interval": 0, "load": 0},
}
"""Routing that remembers no failure: one test's faults must not move the next one's requests."""


class Fakes(NamedTuple):
    """primary and second are of kind openai; the others are named after their kind."""

    primary: Fake
    second: Fake
    vllm: Fake
    llamacpp: Fake
    transformers: Fake
    lmstudio: Fake
    ollama: Fake
    anthropic: Fake


def settings(fakes: Fakes) -> Settings:
    """Short back-offs, and models named after what is behind them; the model `m` is the ordinary one."""
    hasty = {"head": 0.4, "first_token": 0.4, "idle": 0.4}
    primary, both = [{"backend": "primary"}], [{"backend": "primary"}, {"backend": "second"}]
    backends: list[dict[str, Any]] = [
        {"name": "primary", "kind": "openai", "url": fakes.primary.url, "api_key": "secret-of-primary",
         "headers": {"x-primary-only": "hidden"}},
        {"name": "second", "kind": "openai", "url": fakes.second.url + "/v1", "api_key": "secret-of-second"},
    ]  # fmt: skip
    backends += [{"name": kind, "kind": kind, "url": getattr(fakes, kind).url} for kind in KINDS]
    return {
        "routing": {
            "balance": "failover",
            "rescue": False,
            "attempts": 3,
            "backoff": 0.01,
            "backoff_max": 0.05,
            "retry_after_max": 3.0,
            **FORGIVING,
        },
        "timeouts": {"connect": 2.0, "head": 15.0, "first_token": 15.0, "idle": 15.0, "total": 30.0},
        "backends": backends,
        "models": [
            {"name": "m", "aliases": ["also-m"], "targets": primary},
            {"name": "pair", "targets": both},
            {"name": "renamed", "targets": [{"backend": "primary", "model": "upstream-name"}]},
            {"name": "hasty", "targets": primary, "timeouts": hasty},
            {"name": "hasty-pair", "targets": both, "timeouts": hasty},
            {"name": "brief-pair", "targets": both, "timeouts": {"total": 0.5}},
            {"name": "tuned", "targets": primary, "defaults": {"temperature": 0.5}, "forced": {"seed": 7}},
            *({"name": kind, "targets": [{"backend": kind}]} for kind in KINDS),
        ],
    }


@contextmanager
def some_fakes() -> Iterator[Fakes]:
    with ExitStack() as stack:
        pair = [stack.enter_context(Fake("openai", name)) for name in ("m", "pair")]
        yield Fakes(*pair, *(stack.enter_context(Fake(kind, kind)) for kind in KINDS))


@pytest.fixture(scope="session")
def started() -> Iterator[Fakes]:
    with some_fakes() as fakes:
        yield fakes


@pytest.fixture(scope="session")
def running(started: Fakes) -> Iterator[Gateway]:
    with Gateway(settings(started)) as gateway:
        yield gateway


@pytest.fixture
def fakes(started: Fakes) -> Fakes:
    for fake in started:
        fake.reset()
    return started


@pytest.fixture
def gateway(running: Gateway, fakes: Fakes) -> Gateway:
    """The shared gateway; a test that needs other settings starts its own."""
    assert not running.over, running.log
    return running

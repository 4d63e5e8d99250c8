"""A client that leaves, in every phase of a request, at every door: what was begun for it upstream is closed
at once, and every counter goes back to where it was (correctness.md §1.8, B4).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.backends.gguf_files import gguf
from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.matrix_doors import Ask
from tests.e2e.scenario_doors import DOORS, asking, backend, fake, model, tried
from tests.e2e.test_cancelling import SOON
from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Raw

pytestmark = pytest.mark.wide

OWN = {"openai": "primary", "responses": "vllm", "anthropic": "anthropic", "ollama": "ollama"}
"""The backend behind each door, which speaks its dialect, or nearly."""
SIGN = b"rld"
"""Of the third token, the last one before the stream breaks or stalls."""
STREAM, WHOLE = Ask(stream=True), Ask()

LOADS_FOR_EVER = "import time\nprint('0.1 E asked to load', flush=True)\ntime.sleep(600)\n"
"""In the place of the module that loads models. It says so as llama.cpp says what must not be missed."""

STORM: dict[str, dict[str, Any]] = {
    "good": {},
    "slow": {"delay": 0.002, "token_delay": 0.001},
    "mute": {"hang": True},
    "stuck": {"fault": "stall", "at": 3},
    "failing": {"status": 500},
    "refusing": {"status": 400},
    "resetting": {"reset": True},
    "cutting": {"fault": "rst", "at": 3},
}
"""Models of the storm, and what their backends do; the last one has a backend that goes on."""


def settings(started: Fakes, folder: Path) -> Settings:
    """Pauses between attempts that are longer than these tests; slots and connections that are few."""
    backends = [backend(started, name) for name in (*OWN.values(), "second", "llamacpp")]
    backends += [
        backend(started, "primary", "narrow", max_inflight=1),
        backend(started, "second", "wide"),
        backend(started, "primary", "single", max_connections=1),
        backend(started, "primary", "few", max_inflight=6),
        {"name": "local", "kind": "gguf", "path": str(folder / "tiny.gguf"), "load_timeout": 60.0},
    ]
    models = [model(name, name) for name in ("narrow", "single", "local", *OWN.values())]
    models.append(model("bounded", "wide", max_inflight=1))
    models.append(model("rescued", "vllm", "llamacpp"))
    models.append(model("rescued-late", "vllm", "narrow"))
    models += [model(name, "few", "second", balance="smart") for name in STORM if name != "cutting"]
    models.append(model("cutting", "few", "llamacpp"))
    return {
        "routing": {"balance": "failover", "rescue": True, "attempts": 2, "backoff": 6.0, "backoff_max": 6.0,
                    **FORGIVING},
        "timeouts": {"connect": 2.0, "head": 30.0, "first_token": 30.0, "idle": 30.0, "total": 60.0},
        "backends": backends,
        "models": models,
    }  # fmt: skip


@pytest.fixture(scope="module")
def running(started: Fakes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny.gguf").write_bytes(gguf())
    (folder / "xllamacpp.py").write_text(LOADS_FOR_EVER)
    with Gateway(settings(started, folder), environment={"PYTHONPATH": str(folder)}) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway, fakes: Fakes) -> Gateway:
    """Overrides the shared one."""
    return running


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what is counted

COUNTED = ("ghostllm_requests_in_flight", "ghostllm_backend_in_flight", "ghostllm_queue_waiting",
           "ghostllm_queue_running", "ghostllm_upstream_connections", "ghostllm_backend_backlog_seconds",
           "ghostllm_connections", "ghostllm_tasks")  # fmt: skip
OF_THE_QUESTION = ("ghostllm_requests_in_flight", "ghostllm_connections", "ghostllm_tasks")
"""Those in which the request for the metrics itself may be counted, or what always runs, or what is left of
the last such request: afterwards they may be less.
"""

Counts = dict[tuple[str, ...], float]


def counts(gateway: Gateway) -> Counts:
    """Everything that a request holds while it is under way; connections that wait for the next are none of
    it.
    """
    answer = gateway.ask("GET", "/metrics", None, {"Accept": "text/plain"})
    assert answer.status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
        if sample.name in COUNTED and sample.labels.get("state") != "idle"
    }


def queued(gateway: Gateway, name: str, number: int) -> None:
    def waiting() -> bool:
        return any(
            key[0] == "ghostllm_queue_waiting" and name in key and value == number
            for key, value in counts(gateway).items()
        )

    until(waiting, f"{number} in the queue of {name}")


class Quiet:
    """The counters as they are while nothing is under way, and as they must be again after the block."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._last: Counts = {}

    def __enter__(self) -> Quiet:
        before = self.before = until(self._alone, "no connection but the question's")
        held = [key for key in _held(before) if key[0] not in OF_THE_QUESTION]
        assert not held, "something is under way"
        assert before["ghostllm_requests_in_flight",] <= 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                until(self._as_before, "every counter as before")
            except AssertionError as error:
                changed = _held(self._last).items() ^ _held(self.before).items()
                raise AssertionError(f"{error}: {sorted(changed)}") from None

    def _alone(self) -> Counts | None:
        now = counts(self._gateway)
        return now if now["ghostllm_connections",] <= 1 else None

    def _as_before(self) -> bool:
        self._last = counts(self._gateway)
        of_question = [(key,) for key in OF_THE_QUESTION]
        less = {key: self.before[key] for key in of_question if self._last[key] <= self.before[key]}
        return _held(self._last | less) == _held(self.before)


def _held(counted: Counts) -> Counts:
    """A queue is made when somebody first comes to it: before, it has no counters."""
    return {key: value for key, value in counted.items() if value}


@pytest.fixture
def quiet(gateway: Gateway) -> Iterator[None]:
    with Quiet(gateway):
        yield


# --- leaving

IDS = iter(range(10**6))


class Client:
    """A request on a connection of its own."""

    def __init__(self, gateway: Gateway, door: str, name: str, ask: Ask) -> None:
        self._gateway = gateway
        self.id = f"leaver-{next(IDS)}"
        self.raw: Raw = gateway.open()
        self.raw.send(asking(door, name, ask, self.id))

    def leave(self) -> float:
        """When."""
        now = time.monotonic()
        self.raw.close()
        return now

    def gone(self, *attempts: tuple[str, str]) -> dict[str, Any]:
        """It has left, after these attempts: as the access log says."""
        record = self._gateway.record(self.id)
        assert (record["outcome"], record["partial"]) == ("cancelled", True)
        assert (tried(record) if attempts else record["attempts"]) == (list(attempts) or 0)
        return record


def closed(upstream: Fake, left: float, number: int = 0) -> None:
    seen = upstream.ended(number)
    assert seen.outcome == "gone" and seen.ended is not None
    assert seen.ended - left < SOON


# --- the phases


def test_in_the_queue_of_a_backend(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    _in_a_queue(gateway, fakes.primary, door, "narrow")


def test_in_the_queue_of_a_model(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    _in_a_queue(gateway, fakes.second, door, "bounded")


def _in_a_queue(gateway: Gateway, upstream: Fake, door: str, name: str) -> None:
    """Whoever holds the slot notices nothing, and the backend never hears of who left."""
    upstream.script({"gate": "go"})
    occupant = Client(gateway, "openai", name, WHOLE)
    upstream.call()
    leaver = Client(gateway, door, name, STREAM)
    queued(gateway, name, 1)
    leaver.leave()
    queued(gateway, name, 0)
    leaver.gone()
    upstream.release("go")
    assert occupant.raw.answer().status == 200
    occupant.raw.close()
    assert len(upstream.calls) == 1


def test_just_as_its_turn_comes(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    """Many times: the slot that is given to one who leaves goes on to the next."""
    for _ in range(20):
        fakes.primary.reset()
        fakes.primary.script({"gate": "go"})
        occupant = Client(gateway, "openai", "narrow", WHOLE)
        fakes.primary.call()
        leaver = Client(gateway, door, "narrow", STREAM)
        patient = Client(gateway, door, "narrow", STREAM)
        queued(gateway, "narrow", 2)
        fakes.primary.release("go")
        leaver.leave()
        for client in (occupant, patient):
            answer = client.raw.answer()
            assert (answer.status, answer.complete) == (200, True)
            client.raw.close()


def test_waiting_for_a_connection(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    fakes.primary.script({"gate": "go"})
    occupant = Client(gateway, "openai", "single", WHOLE)
    fakes.primary.call()
    leaver = Client(gateway, door, "single", STREAM)
    until(lambda: counts(gateway)["ghostllm_upstream_connections", "single", "waiting"] == 1, "a wait")
    leaver.leave()
    leaver.gone(("single", "cancelled"))
    fakes.primary.release("go")
    assert occupant.raw.answer().status == 200
    occupant.raw.close()
    assert len(fakes.primary.calls) == 1


def test_while_a_model_is_loaded(gateway: Gateway, door: str) -> None:
    """The load goes on, for whoever comes next; the request is over."""
    if "asked to load" not in gateway.log:  # who watches over the child stays, and so does its task
        first = Client(gateway, door, "local", STREAM)
        until(lambda: "asked to load" in gateway.log, "the load")
        first.leave()
        first.gone(("local", "cancelled"))
    with Quiet(gateway):
        clients = [Client(gateway, door, "local", ask) for ask in (STREAM, WHOLE)]
        key = "ghostllm_backend_in_flight", "local"
        until(lambda: counts(gateway)[key] == len(clients), "both wait")
        for client in clients:
            client.leave()
            client.gone(("local", "cancelled"))


HELD: dict[str, tuple[Ask, dict[str, Any]]] = {
    "for the head": (STREAM, {"hang": True}),
    "for the head of a whole answer": (WHOLE, {"hang": True}),
    "for the first token": (STREAM, {"fault": "stall"}),
    "inside a whole answer": (WHOLE, {"cut_after_bytes": 40, "fault": "stall"}),
    "between two tokens": (STREAM, {"fault": "stall", "at": 3}),
    "amid tokens": (STREAM, {"tokens": [*"hello", "world", *" tok" * 1000], "token_delay": 0.002}),
}


@pytest.mark.parametrize("phase", HELD)
def test_waiting(gateway: Gateway, fakes: Fakes, door: str, phase: str, quiet: None) -> None:
    ask, behaviour = HELD[phase]
    name = OWN[door]
    upstream = fake(fakes, name)
    upstream.script(behaviour)
    client = Client(gateway, door, name, ask)
    if phase.endswith("tokens"):
        client.raw.read_until(SIGN)
    elif behaviour.get("hang"):
        upstream.call()
    else:
        until(lambda: upstream.call().bytes_sent, "the beginning of the answer")
    closed(upstream, client.leave())
    client.gone((name, "cancelled"))
    assert len(upstream.calls) == 1, "a client that left is no failure to be repaired"


@pytest.mark.parametrize("ask", [WHOLE, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("told", [{}, {"Retry-After": "15"}], ids=["backing off", "told to wait"])
def test_between_two_attempts(
    gateway: Gateway, fakes: Fakes, door: str, ask: Ask, told: dict[str, str], quiet: None
) -> None:
    name = OWN[door]
    fake(fakes, name).script({"status": 429, "headers": told})
    client = Client(gateway, door, name, ask)
    fake(fakes, name).ended()
    until(lambda: not counts(gateway)["ghostllm_backend_in_flight", name], "the end of the attempt")
    client.leave()
    [(_, outcome)] = tried(gateway.record(client.id))
    assert outcome not in ("ok", "cancelled", "open")
    assert gateway.record(client.id)["outcome"] == "cancelled"
    assert len(fake(fakes, name).calls) == 1


# --- while a stream is being rescued


def _broken(gateway: Gateway, fakes: Fakes, door: str, name: str) -> Client:
    """A stream whose backend, vllm, has broken off after three tokens."""
    fakes.vllm.script({"fault": "fin", "at": 3, "fault_gate": "seen"})
    client = Client(gateway, door, name, STREAM)
    client.raw.read_until(SIGN)
    fakes.vllm.release("seen")
    fakes.vllm.ended()
    return client


def test_in_the_pause_before_a_rescue(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    client = _broken(gateway, fakes, door, "vllm")
    until(lambda: not counts(gateway)["ghostllm_backend_in_flight", "vllm"], "the end of the attempt")
    client.leave()
    client.gone(("vllm", "upstream_incomplete"))
    assert len(fakes.vllm.calls) == 1


@pytest.mark.parametrize("behaviour", [{"hang": True}, {"fault": "stall"}], ids=["head", "first token"])
def test_while_a_rescue_is_under_way(
    gateway: Gateway, fakes: Fakes, door: str, behaviour: dict[str, Any], quiet: None
) -> None:
    fakes.llamacpp.script(behaviour)
    client = _broken(gateway, fakes, door, "rescued")
    fakes.llamacpp.call()
    closed(fakes.llamacpp, client.leave())
    client.gone(("vllm", "upstream_incomplete"), ("llamacpp", "cancelled"))


def test_after_a_rescue(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    fakes.llamacpp.script({"fault": "stall", "at": 2})
    client = _broken(gateway, fakes, door, "rescued")
    client.raw.read_until(b"quoted")
    closed(fakes.llamacpp, client.leave())
    record = client.gone(("vllm", "upstream_incomplete"), ("llamacpp", "cancelled"))
    assert (record["rescued"], record["backend"]) == (1, "llamacpp")


def test_while_a_rescue_waits_for_its_turn(gateway: Gateway, fakes: Fakes, door: str, quiet: None) -> None:
    fakes.primary.script({"gate": "go"})
    occupant = Client(gateway, "openai", "narrow", WHOLE)
    fakes.primary.call()
    client = _broken(gateway, fakes, door, "rescued-late")
    queued(gateway, "narrow", 1)
    client.leave()
    queued(gateway, "narrow", 0)
    client.gone(("vllm", "upstream_incomplete"))
    fakes.primary.release("go")
    assert occupant.raw.answer().status == 200
    occupant.raw.close()
    assert len(fakes.primary.calls) == 1


# --- many at once

CONNECTIONS, REQUESTS = 32, 2_000


def _one_of_many(gateway: Gateway, number: int) -> str:
    """What became of the request: its model with the status, or with `left`."""
    chance = Random(number)
    name = list(STORM)[number % len(STORM)]
    door, ask = chance.choice(DOORS), Ask(stream=chance.random() < 0.7)
    leaves = name in ("mute", "stuck") or chance.random() < 0.3
    with gateway.open() as raw:
        raw.send(asking(door, name, ask))
        if not leaves:
            return f"{name} {raw.answer().status}"
        if name == "stuck" and ask.stream:
            raw.read_until(SIGN)
        else:
            time.sleep(chance.random() * 0.02)
        if chance.random() < 0.5:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return f"{name} left"


def test_a_storm_leaves_nothing_behind(gateway: Gateway, fakes: Fakes) -> None:
    """Good, failing, broken, rescued, refused and left requests, through a queue and beside it."""
    for upstream in (fakes.primary, fakes.second):
        upstream.script(*({**what, "model": name, "times": None} for name, what in STORM.items()))
    with Quiet(gateway), ThreadPoolExecutor(CONNECTIONS) as pool:
        ends = list(pool.map(lambda number: _one_of_many(gateway, number), range(REQUESTS)))
    assert len(ends) == REQUESTS
    seen = set(ends)
    assert {"good 200", "slow 200", "cutting 200", "refusing 400"} <= seen
    assert {f"{name} left" for name in STORM} <= seen
    assert not {end for end in seen if end.endswith(" 0")}, "an answer was due"
    for upstream in (fakes.primary, fakes.second):
        assert not [seen for seen in upstream.requests if seen.outcome == "open"]

"""Requests that wait for a turn: who is next, what they are told, and what becomes of those who cannot."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import CHAT, Crowd, backend, body, counted, model, said, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, Raw, request

WHOLE = "".join(TEXT)
KEYS: dict[str, dict[str, Any]] = {
    "alice": {},
    "carol": {},
    "bob": {"weight": 3.0},
    "boss": {"priority": 5, "manage": True},
}
NARROW = ("fair", "weighed", "first", "seen", "left", "cut")
"""Backends of one request at a time, all of them the same fake, and models of their names."""


def auth(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


BOSS = auth("boss")


def keys() -> list[dict[str, Any]]:
    return [
        {"name": name, **more,
         "hash": "sha256:" + hashlib.sha256(f"sk-{name}-0123456789".encode()).hexdigest()}
        for name, more in KEYS.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def queues(started: Fakes) -> Iterator[Gateway]:
    one, two = started.primary, started.second
    settings = {
        "routing": {**FORGIVING, "balance": "failover", "keepalive": 0.3, "queue": {"wait": 20.0}},
        "keys": keys(),
        "backends": [
            *(backend(name, one, max_inflight=1) for name in NARROW),
            backend("double", one, max_inflight=2),
            backend("left-hand", one, max_inflight=1),
            backend("right-hand", two, max_inflight=1),
            backend("swapping", one, max_inflight=1, swap=2),
            backend("wide", one),
            backend("wider", two),
        ],
        "models": [
            *(model(name, name) for name in NARROW),
            model("double", "double"),
            model("hands", "left-hand", "right-hand"),
            model("by-two", "wide", "wider", balance="round_robin", max_inflight=2),
            model("x", "swapping"),
            model("y", "swapping"),
        ],
    }
    with serving(settings, BOSS) as gateway:
        yield gateway


def waiting(gateway: Gateway, queue: str, headers: dict[str, str] | None = BOSS) -> float:
    return counted(gateway, "ghostllm_queue_waiting", headers, queue=queue)


def wait_for(gateway: Gateway, queue: str, count: int, headers: dict[str, str] | None = BOSS) -> None:
    until(lambda: waiting(gateway, queue, headers) == count, f"{count} wait at {queue}")


def occupy(crowd: Crowd, fake: Fake, name: str) -> Raw:
    """Takes the only slot until `go` is released."""
    fake.script({"gate": "go", "model": name})
    before = len(fake.calls)
    raw = crowd.send(body(name, "occupant"), BOSS)
    fake.call(before)
    return raw


SLOW: dict[str, Any] = {"delay": 0.1, "times": None}
"""Answers that last longer than two processes need to agree on when one has ended."""

AGREED = 0.05


def most_at_once(*fakes: Fake) -> int:
    """A fake notes an end after its last byte has gone, when the next request may be there already."""
    calls = [call for fake in fakes for call in fake.calls]
    marks = [(call.received, 1) for call in calls]
    marks += [(call.ended - AGREED, -1) for call in calls if call.ended is not None]
    running = most = 0
    for _, step in sorted(marks):
        running += step
        most = max(most, running)
    return most


# --- how many at one time


def test_a_backend_gets_no_more_at_one_time_than_it_may(queues: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": 2}, SLOW)
    with Crowd(queues) as crowd:
        for _ in range(6):
            crowd.send(body("double"), BOSS)
        wait_for(queues, "double", 4)
        assert len(fakes.primary.calls) == 2
        assert counted(queues, "ghostllm_queue_running", BOSS, queue="double") == 2
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 6
    assert len(fakes.primary.calls) == 6 and most_at_once(fakes.primary) == 2
    until(lambda: not counted(queues, "ghostllm_queue_running", BOSS, queue="double"), "slots are given back")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_gets_no_more_at_one_time_than_it_may(queues: Gateway, fakes: Fakes, stream: bool) -> None:
    """Over all its targets, which have no limit of their own."""
    fakes.primary.script({"gate": "go", "times": 1}, SLOW)
    fakes.second.script({"gate": "go", "times": 1}, SLOW)
    with Crowd(queues) as crowd:
        for _ in range(5):
            crowd.send(body("by-two", stream=stream), BOSS)
        wait_for(queues, "by-two", 3)
        assert (len(fakes.primary.calls), len(fakes.second.calls)) == (1, 1)
        fakes.primary.release("go")
        fakes.second.release("go")
        answers = crowd.answers()
    assert [whole(answer) for answer in answers] == [WHOLE] * 5
    assert most_at_once(fakes.primary, fakes.second) == 2
    waited = ["x-ghostllm-queue-ms" in answer.headers for answer in answers]
    assert waited == [False, False, True, True, True]


def test_slots_come_back_however_a_request_ends(queues: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 400}, {"status": 500, "times": 3}, {"fault": "fin", "at": 2, "times": 3})
    for _ in range(3):
        queues.ask("POST", CHAT, body("seen"), BOSS)
    fakes.primary.reset()
    fakes.primary.script({"gate": "never"})
    with Crowd(queues) as crowd:
        crowd.send(body("seen"), BOSS)
        fakes.primary.call()
    until(lambda: not counted(queues, "ghostllm_queue_running", BOSS, queue="seen"), "its slot is free")
    assert whole(queues.ask("POST", CHAT, body("seen"), BOSS)) == WHOLE


# --- who is next


def order_of(gateway: Gateway, fake: Fake, queue: str, *batches: tuple[str, list[str]]) -> list[str]:
    """What the fake was asked when, after these batches of (key, texts) had lined up behind an occupant."""
    with Crowd(gateway) as crowd:
        occupy(crowd, fake, queue)
        count = 0
        for key, texts in batches:
            for text in texts:
                crowd.send(body(queue, text), auth(key))
                count += 1
                wait_for(gateway, queue, count)
        fake.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * (count + 1)
    return said(fake)[1:]


def test_keys_take_turns_however_many_one_has_lined_up(queues: Gateway, fakes: Fakes) -> None:
    lined_up = ("alice", ["a1", "a2", "a3", "a4", "a5"]), ("carol", ["c1", "c2", "c3"])
    order = order_of(queues, fakes.primary, "fair", *lined_up)
    assert order == ["a1", "c1", "a2", "c2", "a3", "c3", "a4", "a5"]


def test_a_key_of_three_times_the_weight_gets_three_times_the_turns(queues: Gateway, fakes: Fakes) -> None:
    lined_up = ("alice", [f"a{n}" for n in range(4)]), ("bob", [f"b{n}" for n in range(8)])
    order = order_of(queues, fakes.primary, "weighed", *lined_up)
    assert "".join(word[0] for word in order[:8]).count("b") == 6, order
    assert [word for word in order if word[0] == "b"] == [f"b{n}" for n in range(8)]


def test_a_higher_priority_goes_first(queues: Gateway, fakes: Fakes) -> None:
    lined_up = ("alice", ["a1", "a2"]), ("bob", ["b1"]), ("boss", ["z1", "z2"])
    assert order_of(queues, fakes.primary, "first", *lined_up)[:2] == ["z1", "z2"]


def test_a_backend_of_one_model_at_a_time_serves_them_in_batches(queues: Gateway, fakes: Fakes) -> None:
    with Crowd(queues) as crowd:
        occupy(crowd, fakes.primary, "x")
        for count, name in enumerate("yxyxyx", 1):
            crowd.send(body(name), BOSS)
            wait_for(queues, "swapping", count)
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 7
    assert "".join(call.json()["model"] for call in fakes.primary.calls) == "x" + "xxyyxy"


def test_whichever_backend_is_free_first_takes_it(queues: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go"})
    fakes.second.script({"gate": "go"})
    with Crowd(queues) as crowd:
        crowd.send(body("hands"), BOSS)
        fakes.primary.call()
        crowd.send(body("hands"), BOSS)
        fakes.second.call()
        third = crowd.send(body("hands", stream=False), BOSS)
        wait_for(queues, "left-hand", 1)
        assert waiting(queues, "right-hand") == 1, "it stands in both queues"
        fakes.second.release("go")
        answer = third.answer()
        assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "right-hand"
        assert int(answer.headers["x-ghostllm-queue-ms"]) > 0
        assert waiting(queues, "left-hand") == 0, "and has left the other one"
        fakes.primary.release("go")
        assert whole(crowd.members[0].answer()) == WHOLE
    assert (len(fakes.primary.calls), len(fakes.second.calls)) == (1, 2)
    until(lambda: not counted(queues, "ghostllm_queue_running", BOSS, queue="left-hand"), "no slot is kept")


# --- those who wait


def test_who_waits_is_told_the_place_and_the_time(queues: Gateway, fakes: Fakes) -> None:
    assert whole(queues.ask("POST", CHAT, body("seen"), BOSS)) == WHOLE  # from here on it can be expected
    fakes.primary.reset()
    with Crowd(queues) as crowd:
        occupy(crowd, fakes.primary, "seen")
        first, second = (crowd.send(body("seen", text), BOSS) for text in ("one", "two"))
        for place, raw in enumerate((first, second), 1):
            raw.read_until(b": waiting, position %d, about " % place)
        fakes.primary.release("go")
        answers = crowd.answers()
    assert [whole(answer) for answer in answers] == [WHOLE] * 3
    for answer in answers[1:]:
        assert re.search(rb"(?m)^: waiting, position [12], about [0-9]+ s$", answer.body), answer.body
    name = answers[2].headers["x-request-id"]
    explained = queues.ask("GET", f"/admin/api/requests/{name}", None, BOSS).json()
    assert explained["outcome"] == "ok" and explained["queued_ms"] > 300
    assert "queued" in [event["event"] for event in explained["timeline"]]


def test_who_leaves_the_queue_leaves_a_place(queues: Gateway, fakes: Fakes) -> None:
    with Crowd(queues) as crowd:
        occupy(crowd, fakes.primary, "left")
        impatient = crowd.send(body("left", "impatient"), auth("alice"))
        wait_for(queues, "left", 1)
        crowd.send(body("left", "patient"), auth("bob"))
        wait_for(queues, "left", 2)
        impatient.close()
        crowd.members.remove(impatient)
        wait_for(queues, "left", 1)
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 2
    assert said(fakes.primary) == ["occupant", "patient"]


def test_who_leaves_while_being_served_lets_the_next_one_in(queues: Gateway, fakes: Fakes) -> None:
    with Crowd(queues) as crowd:
        occupant = occupy(crowd, fakes.primary, "cut")
        crowd.send(body("cut", "next"), BOSS)
        wait_for(queues, "cut", 1)
        occupant.close()
        crowd.members.remove(occupant)
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE]
    assert fakes.primary.ended().outcome == "gone"


# --- those who cannot


@pytest.fixture(scope="module")
def hasty(started: Fakes) -> Iterator[Gateway]:
    """Two may wait, for a second and a half."""
    settings = {
        "routing": {**FORGIVING, "keepalive": 0.3, "queue": {"waiting": 2, "wait": 1.5}},
        "backends": [backend("narrow", started.primary, max_inflight=1), backend("wide", started.second)],
        "models": [
            model("narrow", "narrow"),
            model("relieved", "narrow", fallback={"unavailable": "wide"}),
            model("wide", "wide"),
        ],
    }
    with serving(settings) as gateway:
        yield gateway


HI = [{"role": "user", "content": "Hi"}]
DOORS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 9},
    "/api/chat": {"messages": HI},
    "/api/generate": {"prompt": "Hi"},
}


def told(answer: Answer, door: str) -> str:
    """The message of an error, whose shape is checked to be the door's, and its code where that has one."""
    error = answer.json()
    if door.startswith("/api/"):
        assert set(error) == {"error"}
        return str(error["error"])
    if door == "/v1/messages":
        assert error["type"] == "error"
        return f"{error['error']['type']}: {error['error']['message']}"
    return f"{error['error']['code']}: {error['error']['message']}"


def test_a_full_queue_and_one_that_is_too_slow(hasty: Gateway, fakes: Fakes) -> None:
    with Crowd(hasty) as crowd:
        occupy(crowd, fakes.primary, "narrow")
        for stream in (False, True):
            crowd.send(body("narrow", stream=stream))
        wait_for(hasty, "narrow", 2, None)
        for door, members in DOORS.items():
            for stream in (False, True):
                answer = hasty.ask("POST", door, {"model": "narrow", "stream": stream, **members})
                assert answer.status == 429, (door, answer.body)
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers.get("x-should-retry") != "false", "later it may well be let in"
                words = told(answer, door)
                assert "2 requests are waiting here" in words
                start = {"/v1/messages": "rate_limit_error: "}.get(
                    door, "" if door.startswith("/api/") else "queue_full: "
                )
                assert words.startswith(start)
        late, told_inside = (raw.answer() for raw in crowd.members[1:])
        assert (late.status, late.error["code"]) == (503, "overloaded")
        assert "no slot became free within 1.5 s" in late.error["message"]
        assert int(late.headers["retry-after"]) >= 1
        assert told_inside.status == 200 and told_inside.body.startswith(b": waiting, position ")
        assert told_inside.chunks[-1]["error"]["code"] == "overloaded"
        fakes.primary.release("go")
        assert whole(crowd.members[0].answer()) == WHOLE
    assert said(fakes.primary) == ["occupant"], "none of the others was sent there"
    assert waiting(hasty, "narrow", None) == 0
    assert whole(hasty.chat("narrow")) == WHOLE


def test_a_full_queue_is_a_case_for_the_fallback(hasty: Gateway, fakes: Fakes) -> None:
    with Crowd(hasty) as crowd:
        occupy(crowd, fakes.primary, "narrow")
        for _ in range(2):
            crowd.send(body("narrow"))
        wait_for(hasty, "narrow", 2, None)
        answer = hasty.chat("relieved")
        assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "wide"
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 3


def test_a_client_that_pipelines_waits_in_line_like_any(hasty: Gateway, fakes: Fakes) -> None:
    with Crowd(hasty) as crowd:
        occupy(crowd, fakes.primary, "narrow")
        two = request("POST", CHAT, body("narrow", "piped-1", stream=False))
        two += request("POST", CHAT, json.dumps({"model": "narrow", "messages": HI}).encode())
        with hasty.open() as raw:
            raw.send(two)
            wait_for(hasty, "narrow", 1, None)
            fakes.primary.release("go")
            assert [whole(raw.answer()), whole(raw.answer())] == [WHOLE] * 2
        assert whole(crowd.members[0].answer()) == WHOLE
    assert said(fakes.primary) == ["occupant", "piped-1", "Hi"]

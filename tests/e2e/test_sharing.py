"""Identical requests in flight that share one call to a backend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import Crowd, backend, body, counted, model, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import request

WHOLE = "".join(TEXT)
AUTH = {name: {"Authorization": f"Bearer sk-{name}-0123456789"} for name in ("one", "two")}
ONE, TWO = AUTH["one"], AUTH["two"]


@pytest.fixture(scope="module")
def sharing(started: Fakes) -> Iterator[Gateway]:
    keys = [
        {"name": name, "manage": True,
         "hash": "sha256:" + hashlib.sha256(auth["Authorization"][7:].encode()).hexdigest()}
        for name, auth in AUTH.items()
    ]  # fmt: skip
    settings = {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01, "keepalive": 0.3},
        "keys": keys,
        "backends": [backend("primary", started.primary), backend("second", started.second)],
        "models": [
            model("shared", "primary", coalesce=True),
            model("shared-pair", "primary", "second", coalesce=True),
            model("own", "primary"),
        ],
    }
    with serving(settings, ONE) as gateway:
        yield gateway


def in_flight(gateway: Gateway) -> float:
    """Requests of clients, that for the metrics aside."""
    return counted(gateway, "ghostllm_requests_in_flight", ONE) - 1


def joined(gateway: Gateway, count: int) -> None:
    until(lambda: in_flight(gateway) == count, f"{count} are under way")


@pytest.mark.parametrize("stream", [False, True])
def test_identical_requests_make_one_call(sharing: Gateway, fakes: Fakes, stream: bool) -> None:
    def tokens() -> float:
        return counted(sharing, "ghostllm_tokens_total", ONE, direction="completion", backend="primary")

    before = tokens()
    fakes.primary.script({"gate": "go"})
    with Crowd(sharing) as crowd:
        for _ in range(3):
            crowd.send(body("shared", stream=stream), ONE)
        joined(sharing, 3)
        assert len(fakes.primary.calls) == 1
        fakes.primary.release("go")
        answers = crowd.answers()
    assert [whole(answer) for answer in answers] == [WHOLE] * 3
    assert len(fakes.primary.calls) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    records = [sharing.record(answer.headers["x-request-id"]) for answer in answers]
    assert [record["outcome"] for record in records] == ["ok"] * 3
    assert [record["backend"] for record in records] == ["primary"] * 3
    spent = sorted(record["completion_tokens"] or 0 for record in records)
    assert spent == [0, 0, len(TEXT)], "tokens are spent once"
    assert tokens() - before == len(TEXT)
    assert whole(sharing.ask("POST", "/v1/chat/completions", body("shared", stream=stream), ONE)) == WHOLE
    assert len(fakes.primary.calls) == 2, "what is over is not shared: this is no cache"


def test_who_comes_later_gets_it_from_the_beginning(sharing: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 3})
    with Crowd(sharing) as crowd:
        crowd.send(body("shared"), ONE).read_until(TEXT[2].encode())
        crowd.send(body("shared"), ONE).read_until(TEXT[2].encode())
        fakes.primary.release("go")
        answers = crowd.answers()
    assert [whole(answer) for answer in answers] == [WHOLE] * 2
    assert answers[0].events == answers[1].events
    assert len(fakes.primary.calls) == 1


@pytest.mark.parametrize("leaver", [0, 1])
def test_one_that_leaves_does_not_end_it_for_the_other(sharing: Gateway, fakes: Fakes, leaver: int) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with Crowd(sharing) as crowd:
        for _ in range(2):
            crowd.send(body("shared"), ONE).read_until(TEXT[1].encode())
        crowd.members.pop(leaver).close()
        joined(sharing, 1)
        assert fakes.primary.call().outcome == "open"
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE]
    assert len(fakes.primary.calls) == 1


@pytest.mark.parametrize("at", [None, 2])
def test_the_call_goes_with_the_last_one(sharing: Gateway, fakes: Fakes, at: int | None) -> None:
    fakes.primary.script(
        {"gate": "never"} if at is None else {"fault": "wait", "fault_gate": "never", "at": at}
    )
    with Crowd(sharing) as crowd:
        for _ in range(2):
            crowd.send(body("shared"), ONE)
        joined(sharing, 2)
        fakes.primary.call()
    assert fakes.primary.ended().outcome == "gone"
    assert len(fakes.primary.calls) == 1
    joined(sharing, 0)
    assert whole(sharing.ask("POST", "/v1/chat/completions", body("shared"), ONE)) == WHOLE


def test_what_differs_is_not_shared(sharing: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": None})
    with Crowd(sharing) as crowd:
        crowd.send(body("shared"), ONE)
        crowd.send(body("shared"), TWO)  # another key
        crowd.send(body("shared", "Ho"), ONE)  # other words
        crowd.send(body("shared", stream=False), ONE)  # another form
        crowd.send(body("shared", temperature=0), ONE)  # other parameters
        crowd.send(body("shared"), {**ONE, "OpenAI-Beta": "x=1"})  # a field that the backend sees
        crowd.send(body("own"), ONE)  # a model that does not share
        crowd.send(body("own"), ONE)
        until(lambda: len(fakes.primary.calls) == 8, "each has its own call")
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 8


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_told_to_all(sharing: Gateway, fakes: Fakes, stream: bool) -> None:
    fakes.primary.script({"gate": "go", "status": 400, "message": "temperature must be below 3"})
    with Crowd(sharing) as crowd:
        for _ in range(2):
            crowd.send(body("shared", stream=stream), ONE)
        joined(sharing, 2)
        assert len(fakes.primary.calls) == 1
        if stream:
            for raw in crowd.members:
                raw.read_until(b": waiting\n")
        fakes.primary.release("go")
        for answer in crowd.answers():
            error = answer.chunks[-1]["error"] if stream else answer.error
            assert answer.status == (200 if stream else 400)
            assert "temperature must be below 3" in error["message"]
            record = sharing.record(answer.headers["x-request-id"])
            assert record["outcome"] == ("broken" if stream else "error")
    assert len(fakes.primary.calls) == 1


def test_one_failover_serves_all(sharing: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "status": 500})
    with Crowd(sharing) as crowd:
        for _ in range(3):
            crowd.send(body("shared-pair", stream=False), ONE)
        joined(sharing, 3)
        fakes.primary.release("go")
        answers = crowd.answers()
    assert [whole(answer) for answer in answers] == [WHOLE] * 3
    assert {answer.headers["x-ghostllm-backend"] for answer in answers} == {"second"}
    assert (len(fakes.primary.calls), len(fakes.second.calls)) == (1, 1)


def test_a_client_that_reads_nothing_holds_up_nobody(sharing: Gateway, fakes: Fakes) -> None:
    many = ["x" * 2000] * 4000
    fakes.primary.script({"tokens": many, "fault": "wait", "fault_gate": "go", "at": 0})
    with sharing.open(receive_buffer=4096) as asleep, Crowd(sharing) as crowd:
        asleep.send(request("POST", "/v1/chat/completions", body("shared"), ONE))
        crowd.send(body("shared"), ONE)
        joined(sharing, 2)
        fakes.primary.release("go")
        [answer] = crowd.answers()
        assert whole(answer) == "".join(many)
        assert len(fakes.primary.calls) == 1
        late = asleep.answer()
        assert whole(late) == "".join(many), "and it has it all when it reads at last"

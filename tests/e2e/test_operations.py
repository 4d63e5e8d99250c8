"""What operators are shown of backends, models and requests, and what they have looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.test_explain import ctl, events, explained
from tests.e2e.traffic import CHAT, Crowd, act, backend, backends, body, by, model, row, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)


@pytest.fixture(scope="module")
def operated(started: Fakes) -> Iterator[Gateway]:
    settings: dict[str, Any] = {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01, "rescue": True, "keepalive": 0.3},
        "backends": [
            backend("primary", started.primary, weight=2.5, max_inflight=3),
            backend("second", started.second),
            backend("vllm", started.vllm),
            backend("llamacpp", started.llamacpp),
            backend("ollama", started.ollama),
        ],
        "models": [
            model("pair", "primary", "second", context=4096, capabilities=["chat", "vision"]),
            model("rescued", "vllm", "llamacpp"),
            model("given-up", "second", "primary"),
            model("plain", "vllm"),
            model("spare", "primary", fallback={"unavailable": "plain"}),
            model("ollama", "ollama", balance="smart"),
            model("split", "primary", split={"by": "key", "arms": [{"model": "plain"}, {"model": "pair"}]}),
            model("trial", "primary", split={"canary": {"model": "plain", "steps": [0.25, 0.5]}}),
        ],
    }
    with serving(settings) as gateway:
        yield gateway


def listed(gateway: Gateway, what: str) -> dict[str, dict[str, Any]]:
    """Rows of the admin API by their names."""
    answer = gateway.ask("GET", f"/admin/api/{what}")
    assert answer.status == 200, answer.body
    return {one.get("name") or one["model"]: one for one in answer.json()[what]}


# --- rows


def test_backends(operated: Gateway, fakes: Fakes) -> None:
    found = {one["name"]: one for one in backends(operated)}
    assert list(found) == ["primary", "second", "vllm", "llamacpp", "ollama"]
    first = found["primary"]
    expected = {
        "kind": "openai", "url": fakes.primary.url, "in_flight": 0, "asleep": False, "lists_models": True,
        "state": "up", "breaker": "closed", "open_for_s": 0.0, "weight": 2.5, "waiting": 0,
        "max_inflight": 3, "why": "",
    }  # fmt: skip
    assert expected.items() <= first.items(), first
    shown = ctl(operated, "backends")
    assert shown.returncode == 0 and [line.split()[0] for line in shown.stdout.splitlines()] == [
        "NAME", "primary", "second", "vllm", "llamacpp", "ollama"]  # fmt: skip


def test_a_backend_at_work(operated: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": None})
    with Crowd(operated) as crowd:
        for _ in range(5):
            crowd.send(body("split"))
            crowd.send(body("spare"))
        until(lambda: row(operated, "primary")["waiting"] >= 2, "some wait")
        told = row(operated, "primary")
        assert told["in_flight"] == 3 and told["why"] == "full"
        fakes.primary.release("go")
        assert {whole(answer) for answer in crowd.answers()} == {WHOLE}
    assert row(operated, "primary")["in_flight"] == 0


def test_models(operated: Gateway, fakes: Fakes) -> None:
    found = listed(operated, "models")
    pair = found["pair"]
    assert pair["balance"] == "failover" and found["ollama"]["balance"] == "smart"
    assert [target["backend"] for target in pair["targets"]] == ["primary", "second"]
    expected = {"model": "pair", "context": 4096, "capabilities": ["chat", "vision"], "state": "up"}
    assert expected.items() <= pair["targets"][0].items()
    assert act(operated, "second", "drain").status == 200
    target = listed(operated, "models")["pair"]["targets"][1]
    assert (target["state"], target["why"]) == ("draining", "draining")
    assert act(operated, "second", "undrain").status == 200


def test_splits(operated: Gateway, fakes: Fakes) -> None:
    found = listed(operated, "splits")
    assert list(found) == ["split", "trial"]
    arms = [{"model": name, "share": 0.5} for name in ("plain", "pair")]
    assert [{name: arm[name] for name in ("model", "share")} for arm in found["split"]["arms"]] == arms
    assert found["split"]["by"] == "key"
    assert found["trial"]["canary"] == {"model": "plain", "state": "running", "step": 0, "why": ""}
    assert [arm["share"] for arm in found["trial"]["arms"]] == [0.75, 0.25]


# --- a look at a backend


def test_a_probe_on_demand(operated: Gateway, fakes: Fakes) -> None:
    told = act(operated, "vllm", "probe").json()
    assert (told["backend"], told["passed"], told["reason"]) == ("vllm", True, None)
    assert told["observed"]["running"] == 0 and told["observed"]["kv_usage"] == 0.25
    assert told["observed"]["cache_tokens"] == 573 * 16
    assert row(operated, "vllm")["kv_usage"] == 0.25
    assert act(operated, "llamacpp", "probe").json()["observed"]["slots"] == 4
    assert act(operated, "ollama", "probe").json()["observed"]["loaded"] == []
    assert act(operated, "second", "probe").json()["passed"] is True, "it was asked for its models"


def test_a_probe_that_finds_nobody(operated: Gateway, fakes: Fakes) -> None:
    fakes.llamacpp.listen(False)
    told = act(operated, "llamacpp", "probe").json()
    assert told["passed"] is False and told["reason"]
    assert row(operated, "llamacpp")["state"] == "down"
    shown = ctl(operated, "probe", "llamacpp")
    assert shown.returncode == 0 and "false" in shown.stdout
    fakes.llamacpp.listen(True)
    until(lambda: act(operated, "llamacpp", "probe").json()["passed"], "it is there again")
    until(
        lambda: (act(operated, "llamacpp", "probe"), row(operated, "llamacpp")["state"] == "up")[1],
        "and counts as such",
    )


@pytest.mark.parametrize("target", ["nobody/drain", "nobody/probe", "primary/explode", "primary"])
def test_what_cannot_be_done(operated: Gateway, fakes: Fakes, target: str) -> None:
    headers = {"x-ghostllm-admin": "1"}
    answer = operated.ask("POST", f"/admin/api/backends/{target}", None, headers)
    assert answer.status == 404 and answer.error["message"]


def test_a_page_of_another_site_changes_nothing(operated: Gateway, fakes: Fakes) -> None:
    for headers in ({}, {"Origin": "http://elsewhere.test", "x-ghostllm-admin": "1"}):
        assert operated.ask("POST", "/admin/api/backends/primary/drain", None, headers).status == 403
    assert row(operated, "primary")["state"] == "up"


# --- requests


def test_a_request_that_failed_over(operated: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 503, "message": "loading"})
    answer = operated.chat("pair", stream=True)
    assert whole(answer) == WHOLE and answer.headers["x-ghostllm-attempts"] == "2"
    story = explained(operated, answer)
    tries = [(one["backend"], one["purpose"]) for one in events(story, "attempt")]
    assert tries == [("primary", "first"), ("second", "failover")]
    failed, fine = events(story, "attempt_ended")
    assert failed["status"] == 503 and "loading" in failed["error"] and fine["outcome"] == "ok"
    assert (story["outcome"], story["backend"], story["rescued"]) == ("ok", "second", 0)
    record = operated.record(answer.headers["x-request-id"])
    assert [one["backend"] for one in record["tried"]] == ["primary", "second"]


def test_a_request_that_another_model_answered(operated: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": None})
    answer = operated.chat("spare")
    assert by([answer]) == ["vllm"]
    story = explained(operated, answer)
    purposes = [one["purpose"] for one in events(story, "attempt")]
    assert purposes == ["first", "retry", "retry", "fallback"]
    assert story["plan"]["model"] == "plain" and story["model"] == "spare"
    shown = ctl(operated, "explain", answer.headers["x-request-id"])
    assert shown.returncode == 0 and "fallback" in shown.stdout, shown.stderr


def test_a_request_that_was_rescued(operated: Gateway, fakes: Fakes) -> None:
    fakes.vllm.script({"fault": "rst", "at": 2, "fault_gate": "seen"})
    fakes.llamacpp.script({"tokens": list(TEXT[2:])})
    with Crowd(operated) as crowd:
        raw = crowd.send(body("rescued"))
        raw.read_until(b"Hello")
        fakes.vllm.release("seen")
        answer = raw.answer()
    assert whole(answer) == WHOLE
    assert answer.headers["x-ghostllm-backend"] == "vllm", "whose head had gone out before"
    assert b": x-ghostllm-backend: llamacpp (rescue)\n\n" in answer.body
    asked = fakes.llamacpp.call().json()["messages"]
    assert asked[-1]["role"] == "assistant" and asked[-1]["content"] == "".join(TEXT[:2])
    story = explained(operated, answer)
    assert (story["outcome"], story["backend"], story["rescued"]) == ("ok", "llamacpp", 1)
    tries = [(one["backend"], one["purpose"]) for one in events(story, "attempt")]
    assert tries == [("vllm", "first"), ("llamacpp", "rescue")]
    broken, fine = events(story, "attempt_ended")
    assert broken["outcome"] != "ok" and fine["outcome"] == "ok"
    order = [event["event"] for event in story["timeline"]]
    assert order.index("committed") < order.index("attempt_ended") < order.index("finished")
    shown = ctl(operated, "explain", answer.headers["x-request-id"])
    assert shown.returncode == 0 and "rescue" in shown.stdout, shown.stderr


def test_a_request_that_nobody_could_go_on_with(operated: Gateway, fakes: Fakes) -> None:
    fakes.second.script({"fault": "rst", "at": 2, "fault_gate": "seen"})
    with Crowd(operated) as crowd:
        raw = crowd.send(body("given-up"))
        raw.read_until(b"Hello")
        fakes.second.release("seen")
        answer = raw.answer()
    assert "[DONE]" not in answer.events and "error" in answer.chunks[-1]
    story = explained(operated, answer)
    assert (story["outcome"], story["rescued"], story["backend"]) == ("broken", 0, "second")
    assert not fakes.primary.calls, "a server that would begin anew is not asked"


def test_a_request_that_the_same_backend_went_on_with(operated: Gateway, fakes: Fakes) -> None:
    fakes.vllm.script({"fault": "rst", "at": 2, "fault_gate": "seen"}, {"tokens": list(TEXT[2:])})
    with Crowd(operated) as crowd:
        raw = crowd.send(body("plain"))
        raw.read_until(b"Hello")
        fakes.vllm.release("seen")
        answer = raw.answer()
    assert whole(answer) == WHOLE
    story = explained(operated, answer)
    assert (story["outcome"], story["backend"], story["rescued"]) == ("ok", "vllm", 1)


def test_a_conversation_of_many_turns_is_told_in_few_words(operated: Gateway, fakes: Fakes) -> None:
    messages = [{"role": "user", "content": "hush-hush " * 50}]
    data = json.dumps({"model": "ollama", "messages": messages, "stream": True}).encode()
    story = explained(operated, operated.ask("POST", CHAT, data))
    assert story["plan"]["policy"] and "hush" not in json.dumps(story)

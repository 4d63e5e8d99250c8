"""What is remembered of requests: their timeline as it was, nothing that was said, no more than asked for."""

from __future__ import annotations

import gc
import json
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from ghostllm import observe
from ghostllm.config.schema import Log
from ghostllm.errors import FramingError, Overloaded, UpstreamCut
from ghostllm.message import Attempt, Exchange, Request, Usage
from ghostllm.observe.recorder import Recorder
from tests.observe.exchanges import chat, exchange


class Planned:
    def told(self):
        return {"model": "m", "policy": "failover", "targets": [{"backend": "one", "why": ["first"]}]}


def kept(made):
    """As it is told after its end, through JSON."""
    recorder = Recorder(8)
    recorder.opened(made)
    recorder.finished(made)
    told = recorder.find(made.request_id)
    assert "secret" not in repr(told)
    return json.loads(json.dumps(told))


def named(name, **more):
    made = chat(**more)
    made.request_id = name
    return made


def attempt(backend, started, ended, outcome="ok", **more):
    return Attempt(backend, "m", started, ended=ended, outcome=outcome, **more)


def steps(told):
    """(at_ms, event, attempt) of the timeline."""
    return [(event["at_ms"], event["event"], event.get("attempt")) for event in told["timeline"]]


# --- what is told


def test_a_failover_with_a_wait():
    tried = [
        attempt(
            "one", 100.05, 100.06, "upstream_error", why="failover", status=500, error="one says: broken"
        ),
        attempt("two", 100.06, 100.24, why="next", purpose="failover", status=200, first_token=100.1),
    ]
    made = chat(backend="two", attempts=tried, usage=Usage(11, 6, 4), headers={b"authorization": b"secret"})
    made.plan = Planned()
    told = kept(made)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    timeline = told.pop("timeline")
    assert told == {
        "id": "req_1", "route": "chat", "door": "openai", "method": "POST", "path": "/v1/chat/completions",
        "key": "team-a", "model": "m", "stream": True, "status": 200, "outcome": "ok", "error": None,
        "backend": "two", "duration_ms": 250.0, "overhead_ms": 60.0, "queued_ms": 0.0, "rescued": 0,
        "arm": None, "cache": None, "cache_age_s": None, "plan": Planned().told(),
        "usage": {"prompt": 11, "completion": 6, "cached": 4, "cache_write": None, "reasoning": None,
                  "estimated": False, "partial": False},
    }  # fmt: skip
    assert timeline == [
        {"at_ms": 0.0, "event": "received"},
        {"at_ms": 50.0, "event": "planned"},
        {"at_ms": 50.0, "event": "attempt", "attempt": 1, "backend": "one", "model": "m", "why": "failover",
         "purpose": "first"},
        {"at_ms": 60.0, "event": "attempt_ended", "attempt": 1, "outcome": "upstream_error", "status": 500,
         "error": "one says: broken"},
        {"at_ms": 60.0, "event": "attempt", "attempt": 2, "backend": "two", "model": "m", "why": "next",
         "purpose": "failover"},
        {"at_ms": 100.0, "event": "first_token", "attempt": 2},
        {"at_ms": 100.0, "event": "committed"},
        {"at_ms": 240.0, "event": "attempt_ended", "attempt": 2, "outcome": "ok", "status": 200,
         "error": None},
        {"at_ms": 250.0, "event": "finished", "outcome": "ok", "status": 200, "error": None},
    ]  # fmt: skip


def test_a_wait_before_the_only_attempt_has_its_place():
    made = chat(attempts=[attempt("one", 100.04, 100.24)])
    made.plan, made.queued = Planned(), 0.03
    told = kept(made)
    assert steps(told)[:4] == [
        (0.0, "received", None), (10.0, "planned", None), (10.0, "queued", None), (40.0, "attempt", 1),
    ]  # fmt: skip
    assert told["timeline"][2]["waited_ms"] == told["queued_ms"] == 30.0
    assert told["overhead_ms"] == 20.0


def test_waits_of_several_attempts_are_not_given_a_time_by_guess():
    made = chat(attempts=[attempt("one", 100.04, 100.05, "upstream_error"), attempt("two", 100.1, 100.2)])
    made.plan, made.queued = Planned(), 0.06
    told = kept(made)
    assert steps(told)[:4] == [
        (0.0, "received", None), (None, "planned", None), (None, "queued", None), (40.0, "attempt", 1),
    ]  # fmt: skip


def test_who_never_had_a_turn():
    made = chat(backend=None, attempts=[], status=503, outcome="error", usage=Usage())
    made.plan, made.queued, made.committed = Planned(), 0.2, None
    made.error = Overloaded("no slot became free within 0.2 s")
    told = kept(made)
    assert steps(told) == [
        (0.0, "received", None), (50.0, "planned", None), (50.0, "queued", None), (250.0, "finished", None),
    ]  # fmt: skip
    assert told["error"] == {"code": "overloaded", "message": "no slot became free within 0.2 s"}
    assert told["timeline"][-1]["error"] == told["error"] and told["overhead_ms"] == 50.0


def test_the_plan_of_another_model_stands_before_its_attempts():
    tried = [
        attempt("one", 100.0, 100.1, "context_length_exceeded"),
        attempt("two", 100.1, 100.12, "upstream_error", purpose="fallback"),
        attempt("three", 100.12, 100.2, purpose="fallback"),
    ]
    made = chat(attempts=tried)
    made.plan = Planned()
    assert [event for _, event, _ in steps(kept(made))][:5] == [
        "received", "attempt", "attempt_ended", "planned", "attempt",
    ]  # fmt: skip


def test_an_attempt_whose_end_nobody_took():
    made = chat(attempts=[attempt("one", 100.0, None, "upstream_error"), attempt("two", 100.1, 100.2)])
    told = kept(made)
    assert steps(told)[1:5] == [
        (0.0, "attempt", 1), (None, "attempt_ended", 1), (100.0, "attempt", 2), (100.0, "committed", None),
    ]  # fmt: skip
    assert told["overhead_ms"] is None


def test_attempts_beside_each_other_are_not_counted_twice():
    """As for several answers to one request."""
    tried = [attempt("one", 100.01, 100.2), attempt("two", 100.02, 100.1), attempt("one", 100.05, 100.22)]
    told = kept(chat(attempts=tried))
    assert told["overhead_ms"] == 40.0
    assert [number for _, event, number in steps(told) if event == "attempt_ended"] == [2, 1, 3]


def test_a_rescued_stream():
    tried = [
        attempt(
            "one", 100.0, 100.15, "upstream_incomplete", first_token=100.1, usage=Usage(11, 2, partial=True)
        ),
        attempt("two", 100.15, 100.25, purpose="rescue", first_token=100.2),
    ]
    made = chat(backend="two", attempts=tried)
    made.rescued, made.arm = 1, "b"
    told = kept(made)
    assert (told["rescued"], told["arm"]) == (1, "b")
    ended = [event for event in told["timeline"] if event["event"] == "attempt_ended"]
    assert ended[0]["usage"]["completion"] == 2 and ended[0]["usage"]["partial"] is True
    assert "usage" not in ended[1]


def test_unknown_is_null():
    made = chat(status=0, outcome="cancelled", usage=Usage())
    made.committed = made.backend = None
    told = kept(made)
    assert told["status"] is told["backend"] is told["plan"] is told["usage"]["prompt"] is None
    assert "committed" not in [event for _, event, _ in steps(told)]


def test_nonsense_on_the_connection():
    made = exchange("-", method="-", route="", status=400, outcome="error")
    made.error = FramingError("no request line")
    told = kept(made)
    assert told["model"] is told["usage"] is None and told["error"]["message"] == "no request line"


@given(st.text(), st.text(alphabet=st.characters(codec=None)), st.text())
def test_whatever_clients_and_backends_say_is_json_and_short(path, model, words):
    made = chat(model, path=path, outcome="broken", attempts=[attempt("one", 100, 101, words, error=words)])
    made.error = UpstreamCut(words * 50)
    recorder = Recorder(1)
    recorder.finished(made)
    told = recorder.find("req_1")
    assert len(json.dumps(told, ensure_ascii=False).encode()) < 20_000
    json.dumps(recorder.latest(1), ensure_ascii=False).encode()


# --- what is remembered


def test_the_oldest_make_room():
    recorder = Recorder(3)
    for number in range(5):
        recorder.finished(named(f"r{number}"))
    assert [row["id"] for row in recorder.latest(10)] == ["r4", "r3", "r2"]
    assert recorder.find("r1") is None and recorder.find("r2")["id"] == "r2"
    assert [row["id"] for row in recorder.latest(2)] == ["r4", "r3"]


def test_a_repeated_id_is_the_newest_request():
    recorder = Recorder(3)
    for made in (named("a", model="old"), named("b"), named("a", model="new")):
        recorder.finished(made)
    assert [(row["id"], row["model"]) for row in recorder.latest(10)] == [("a", "new"), ("b", "m")]
    assert recorder.find("a")["model"] == "new"
    recorder.finished(named("c"))
    assert recorder.find("b") is not None, "the repeated one took one place"


def test_what_is_under_way():
    recorder = Recorder(2)
    made = Exchange(Request("POST", "/v1/chat/completions", {b"x": b"secret"}), "slow", time.monotonic() - 2)
    recorder.opened(made)
    told = recorder.find("slow")
    assert told["outcome"] == "open" and told["duration_ms"] is told["overhead_ms"] is told["status"] is None
    assert steps(told) == [(0.0, "received", None)]
    assert [row["id"] for row in recorder.latest(10, outcome="open")] == ["slow"]
    twin = named("slow", model="twin")
    recorder.opened(twin)
    assert recorder.find("slow")["model"] == "twin"
    for each in (made, twin):
        each.finished, each.outcome = time.monotonic(), "cancelled"
        each.call = twin.call
        recorder.finished(each)
    assert "0 and 1 failed, 0 open" in repr(recorder), "both are over; they share their id"


def test_health_checks_and_the_admin_api_push_nothing_out():
    recorder = Recorder(1)
    recorder.finished(named("asked"))
    for route, outcome in (("health", "ok"), ("metrics", "ok"), ("admin_request", "error")):
        made = exchange("/x", route=route, outcome=outcome)
        recorder.opened(made)
        assert (len(recorder.latest(10)) == 1) == (route == "admin_request"), "it would list itself"
        recorder.finished(made)
        assert [row["id"] for row in recorder.latest(10)] == ["asked"]
    refused = exchange("/nowhere", route="", status=404, outcome="error")
    recorder.finished(refused)
    assert [row["status"] for row in recorder.latest(10)] == [404, 200]


def test_good_ones_push_no_failed_one_out():
    recorder = Recorder(2)
    recorder.finished(named("broken", outcome="broken"))
    for number in range(5):
        recorder.finished(named(f"ok{number}"))
    recorder.finished(named("error", outcome="error"))
    assert [row["id"] for row in recorder.latest(10)] == ["error", "ok4", "ok3", "broken"]
    recorder.resize(1)
    assert [row["id"] for row in recorder.latest(10)] == ["error", "ok4"]


def test_filters():
    recorder = Recorder(10)
    for made in (
        named("ok"), named("broken", outcome="broken"), named("other", model="other"),
        named("error", outcome="error"), named("left", outcome="cancelled"),
    ):  # fmt: skip
        recorder.finished(made)

    def ids(**filters):
        return [row["id"] for row in recorder.latest(10, **filters)]

    assert ids(outcome="failed") == ["error", "broken"]
    assert ids(outcome="cancelled") == ["left"]
    assert ids(model="other") == ["other"] and ids(model="none") == []
    assert len(ids(key="team-a")) == 5 and ids(key="team-b") == []
    assert recorder.latest(1, model="m", outcome="ok")[0]["id"] == "ok", "the limit counts what fits"


def test_a_row():
    recorder = Recorder(1)
    recorder.finished(chat(usage=Usage(11, 6)))
    row = recorder.latest(1)[0]
    began = row.pop("time")
    assert began[:10] == time.strftime("%Y-%m-%d", time.gmtime(time.time() - 0.25))
    assert row == {
        "id": "req_1", "route": "chat", "key": "team-a", "model": "m", "backend": "one", "status": 200,
        "outcome": "ok", "code": None, "duration_ms": 250.0, "ttft_ms": 100.0, "attempts": 1,
        "prompt_tokens": 11, "completion_tokens": 6,
    }  # fmt: skip


class Body(bytes):
    """Bytes that can be watched."""


def test_nothing_of_the_request_is_held():
    recorder = Recorder(2)
    made = chat()
    body = Body(b"secret prompt")
    made.request.body = made.call.body = body
    made.error, made.outcome = UpstreamCut("cut"), "broken"
    try:
        raise made.error
    except UpstreamCut:
        pass
    recorder.opened(made)
    recorder.finished(made)
    held = [item for item in reachable(recorder) if item is body or item is made or item is made.error]
    assert held == []
    assert recorder.find("req_1") is not None


def reachable(start):
    """Every object that it keeps alive, but classes and modules."""
    seen, todo = {}, [start]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function"):
            continue
        seen[id(item)] = item
        todo += gc.get_referents(item)
    return list(seen.values())


# --- off


def test_keeping_nothing_costs_nothing(tmp_path):
    recorder = Recorder(0)
    made = chat()
    recorder.opened(made)
    recorder.finished(made)
    assert recorder.latest(10) == [] and recorder.find("req_1") is None
    with open(tmp_path / "log", "w") as file:
        seen = observe.build(Log(), file.fileno())
        seen.observer.opened(made)
        assert seen.recorder.keep == 0 and seen.recorder.find("req_1") is None
        seen = observe.build(Log(), file.fileno(), keep=2)
        seen.observer.opened(made)
        assert seen.recorder.find("req_1") is not None
        seen.observer.finished(made)
        assert seen.recorder.latest(1)[0]["duration_ms"] == 250.0


def test_another_size_while_it_runs():
    recorder = Recorder(4)
    waiting = named("waiting")
    recorder.opened(waiting)
    for number in range(4):
        recorder.finished(named(f"r{number}"))
    recorder.resize(2)
    assert [row["id"] for row in recorder.latest(10)][1:] == ["r3", "r2"]
    recorder.resize(0)
    assert recorder.latest(10) == []
    recorder.finished(waiting)
    recorder.resize(3)
    recorder.finished(named("after"))
    assert [row["id"] for row in recorder.latest(10)] == ["after"]

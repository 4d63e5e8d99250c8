"""The access record: what an operator asks about a request, and nothing that was said in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import observe
from ghostllm.config.schema import Log
from ghostllm.errors import GhostError, ModelNotFound, UpstreamCut
from ghostllm.message import Attempt, Usage
from ghostllm.observe.access import access_record
from ghostllm.observe.render import json_line, text_line
from tests.observe.exchanges import chat, exchange


def record(made, level="info"):
    """As it is read back from the line."""
    line = json_line(access_record(made, level, 1700000000.123))
    assert b"\n" not in line and b"secret" not in line
    return json.loads(line)


def test_a_good_call():
    assert record(chat(usage=Usage(11, 6, 4))) == {
        "time": "2023-11-14T22:13:20.123Z", "level": "info", "event": "request", "request_id": "req_1",
        "key": "team-a", "peer": "203.0.113.7", "method": "POST", "path": "/v1/chat/completions",
        "status": 200, "outcome": "ok", "duration_ms": 250.0, "bytes_out": 1234, "model": "m", "stream": True,
        "backend": "one", "attempts": 1, "ttft_ms": 100.0, "prompt_tokens": 11, "completion_tokens": 6,
        "cached_tokens": 4,
    }  # fmt: skip


def test_a_request_that_is_no_call():
    made = record(exchange("/health", method="GET", route="health"))
    assert list(made) == ["time", "level", "event", "request_id", "key", "peer", "method", "path", "status",
                          "outcome", "duration_ms", "bytes_out"]  # fmt: skip


def test_attempts_are_told_when_there_is_something_to_tell():
    tried = [
        Attempt(
            "one", "m-8b", 100.0, status=500, outcome="upstream_error", error="backend 'one' says: broken"
        ),
        Attempt("two", "m", 100.2, status=200, outcome="ok"),
    ]
    made = record(chat(backend="two", attempts=tried))
    assert (made["backend"], made["attempts"]) == ("two", 2)
    assert made["tried"] == [
        {"backend": "one", "model": "m-8b", "outcome": "upstream_error", "status": 500,
         "error": "backend 'one' says: broken"},
        {"backend": "two", "model": "m", "outcome": "ok", "status": 200},
    ]  # fmt: skip
    made = record(chat(attempts=[Attempt("one", "m", 100.0, status=None, outcome="cancelled")]))
    assert made["tried"] == [{"backend": "one", "model": "m", "outcome": "cancelled"}]


def test_unknown_is_null_and_never_zero():
    made = chat(status=0, outcome="cancelled", usage=Usage(partial=True))
    made.committed = made.finished = made.backend = None
    made = record(made)
    for name in ("status", "ttft_ms", "duration_ms", "prompt_tokens", "completion_tokens",
                 "cached_tokens", "backend"):  # fmt: skip
        assert made[name] is None, name
    assert made["partial"] is True and "estimated" not in made
    made = record(chat(usage=Usage(0, 0, 0, estimated=True)))
    assert (made["prompt_tokens"], made["completion_tokens"], made["cached_tokens"]) == (0, 0, 0)
    assert made["estimated"] is True and "partial" not in made


def test_errors():
    failed = exchange(status=404, outcome="error")
    failed.error = ModelNotFound("no such model")
    made = record(failed)
    assert (made["code"], made["error"]) == ("model_not_found", "no such model")
    failed.error = GhostError("x" * 5000)
    assert record(failed)["code"] is None and len(record(failed)["error"]) == 300


@pytest.mark.parametrize(
    ("value", "shown"), [(b"2", 2), (b"0", None), (b"x2", None), (b"", None), (b"9" * 9, None)]
)
def test_a_clients_retry_is_counted(value, shown):
    headers = {b"x-stainless-retry-count": value, b"authorization": b"Bearer secret", b"cookie": b"secret"}
    assert record(exchange(headers=headers)).get("client_retry") == shown


def test_long_names_are_cut():
    made = record(chat("m" * 5000, path="/" + "p" * 5000))
    assert made["path"] == "/" + "p" * 255 + "…" and made["model"] == "m" * 256 + "…"


def test_the_query_is_not_logged():
    assert record(exchange("/v1/models?key=secret"))["path"] == "/v1/models"


@given(st.text(st.characters(), max_size=50), st.text(st.characters(), max_size=50))
def test_a_path_or_model_cannot_write_lines_of_its_own(path, model):
    made = access_record(chat(model, path=f"/{path}"), "info", 0.0)
    line = json_line(made)
    assert b"\n" not in line and json.loads(line)["outcome"] == "ok"
    assert text_line(colour=False)(made).decode().isprintable()


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["ok", "refused", "failed", "broken", "left"]),
        ("info", ["ok", "refused", "failed", "broken", "left"]),
        ("warning", ["failed", "broken"]),
        ("error", []),
    ],
)
def test_levels(tmp_path, level, seen):
    ends = {"ok": (200, "ok"), "refused": (400, "error"), "failed": (502, "error"), "broken": (200, "broken"),
            "left": (0, "cancelled")}  # fmt: skip
    with open(tmp_path / "log", "wb") as file:
        made = observe.build(Log(level=level), file.fileno())
        for name, (status, outcome) in ends.items():
            ended = chat(status=status, outcome=outcome)
            ended.request_id = name
            if outcome in ("error", "broken"):
                ended.error = UpstreamCut("cut")
            made.observer.opened(ended)
            made.observer.finished(ended)
        made.stop()
    records = list(map(json.loads, (tmp_path / "log").read_text().splitlines()))
    assert [found["request_id"] for found in records] == seen
    for found in records:
        assert found["level"] == ("warning" if found["request_id"] in ("failed", "broken") else "info")


def test_no_access_log(tmp_path):
    with open(tmp_path / "log", "wb") as file:
        made = observe.build(Log(access=False), file.fileno())
        made.observer.opened(chat())
        made.observer.finished(chat())
        made.log.info("still here")
        made.stop()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "still here" in line and b"ghostllm_requests_total{" in made.metrics.render()[1]

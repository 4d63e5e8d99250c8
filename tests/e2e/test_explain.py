"""Requests explained after the fact: by the admin API, and by `ghostctl` in front of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import ROOT, until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, request

BOSS, STAFF = "sk-boss-0123456789abcdef", "sk-staff-0123456789abcdef"
STREAM = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'


@pytest.fixture(scope="module")
def in_order(started: Fakes) -> Iterator[Gateway]:
    """Tries the targets of `pair` in the order of the configuration."""
    configured = settings(started)
    configured["routing"] = {**configured["routing"], "balance": "failover"}
    with Gateway(configured) as gateway:
        yield gateway


def explained(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    found = gateway.ask("GET", f"/admin/api/requests/{answer.headers['x-request-id']}")
    assert found.status == 200, found.body
    told: dict[str, Any] = found.json()
    return told


def rows(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    found = gateway.ask("GET", f"/admin/api/requests{query}")
    assert found.status == 200, found.body
    listed: list[dict[str, Any]] = found.json()["requests"]
    return listed


def events(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in told["timeline"] if event["event"] == kind]


def ctl(gateway: Gateway, *args: str, key: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GHOSTLLM_")}
    code = "import sys; from ghostllm.cli.ctl import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *args, "--url", gateway.url],
        env=clean | ({"GHOSTLLM_KEY": key} if key else {}), cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


# --- one request


def test_a_stream(gateway: Gateway) -> None:
    told = explained(gateway, gateway.chat("m", stream=True))
    assert (told["model"], told["stream"], told["status"], told["outcome"]) == ("m", True, 200, "ok")
    assert (told["backend"], told["key"], told["error"]) == ("primary", "anonymous", None)
    assert (told["usage"]["prompt"], told["usage"]["completion"]) == (11, len(TEXT))
    order = [event["event"] for event in told["timeline"]]
    assert order[0] == "received" and order[-1] == "finished"
    assert order.index("attempt") < order.index("committed") < order.index("attempt_ended")
    times = [event["at_ms"] for event in told["timeline"] if event["at_ms"] is not None]
    assert times == sorted(times) and times[0] == 0.0 and times[-1] == told["duration_ms"] > 0


def test_a_failover(in_order: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "message": "told to fail"})
    told = explained(in_order, in_order.chat("pair"))
    attempts, ends = events(told, "attempt"), events(told, "attempt_ended")
    assert [attempt["backend"] for attempt in attempts] == ["primary", "second"]
    assert [end["outcome"] == "ok" for end in ends] == [False, True]
    assert ends[0]["status"] == 500 and "told to fail" in ends[0]["error"]
    assert told["backend"] == "second"


def test_what_was_refused(gateway: Gateway) -> None:
    answer = gateway.chat("nobody-has-this")
    told = explained(gateway, answer)
    assert (told["status"], told["outcome"], told["error"]["code"]) == (404, "error", "model_not_found")
    assert events(told, "attempt") == [] and told["plan"] is None
    malformed = gateway.ask("POST", "/v1/chat/completions", b"{")
    assert explained(gateway, malformed)["error"]["message"] == malformed.error["message"]


def test_a_broken_stream(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"done": False, "finish": None})
    answer = gateway.chat("m", stream=True)
    told = explained(gateway, answer)
    assert told["outcome"] == "broken" and told["error"] is not None
    assert answer.headers["x-request-id"] in [row["id"] for row in rows(gateway, "?outcome=failed&model=m")]


def test_under_way(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with gateway.open() as raw:
        raw.send(request("POST", "/v1/chat/completions", STREAM, {"X-Request-Id": "now/1"}))
        raw.read_until(b"Hello")
        told = gateway.ask("GET", "/admin/api/requests/now%2F1").json()
        assert (told["outcome"], told["backend"], told["duration_ms"]) == ("open", "primary", None)
        assert "now/1" in [row["id"] for row in rows(gateway, "?outcome=open")]
        fakes.primary.release("go")
        assert raw.answer().complete
    until(lambda: not rows(gateway, "?outcome=open"), "nothing is under way")
    assert gateway.ask("GET", "/admin/api/requests/now%2F1").json()["outcome"] == "ok"


def test_nothing_that_was_said_is_told(gateway: Gateway) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "whispered-prompt"}],
        "user": "whispered-user",
    }
    headers = {
        "X-Request-Id": "whisper",
        "X-Custom": "whispered-header",
        "Authorization": "Bearer whispered-key",
    }
    assert gateway.ask("POST", "/v1/chat/completions?q=whispered-query", body, headers).status == 200
    everything = gateway.ask("GET", "/admin/api/requests/whisper").body + json.dumps(rows(gateway)).encode()
    assert b"whisper" in everything and b"whispered" not in everything
    assert TEXT[0].encode() not in everything


# --- who, and how many


@pytest.fixture(scope="module")
def locked(started: Fakes) -> Iterator[Gateway]:
    keys = [
        {"name": name, "hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}", "manage": key == BOSS}
        for name, key in (("boss", BOSS), ("staff", STAFF))
    ]
    configured = settings(started)
    configured["routing"] = {**configured["routing"], "explain": 3}
    with Gateway({**configured, "keys": keys}) as gateway:
        yield gateway


def test_keys_that_may_manage(locked: Gateway, fakes: Fakes) -> None:
    for path in ("/admin/api/requests", "/admin/api/requests/x"):
        assert locked.ask("GET", path).status == 401
        refused = locked.ask("GET", path, None, {"Authorization": f"Bearer {STAFF}"})
        assert refused.status == 403 and "permits 'admin:read'" in refused.error["message"]
    page = {"Authorization": f"Bearer {BOSS}", "Origin": "http://elsewhere.test"}
    assert locked.ask("GET", "/admin/api/requests", None, page).status == 403
    assert locked.ask("GET", "/admin/api/requests", None, {"Authorization": f"Bearer {BOSS}"}).status == 200


def test_only_the_last_ones_are_kept(locked: Gateway, fakes: Fakes) -> None:
    boss = {"Authorization": f"Bearer {BOSS}"}
    for number in range(5):
        locked.ask("POST", "/v1/chat/completions", STREAM, {**boss, "X-Request-Id": f"r{number}"})
        locked.ask("GET", "/health")
    listed = locked.ask("GET", "/admin/api/requests", None, boss).json()
    assert [row["id"] for row in listed["requests"]] == ["r4", "r3", "r2"] and listed["keep"] == 3
    gone = locked.ask("GET", "/admin/api/requests/r1", None, boss)
    assert gone.status == 404 and "the last 3" in gone.error["message"]


def test_nothing_is_kept_where_nothing_is_to_be(started: Fakes, fakes: Fakes) -> None:
    with Gateway({**settings(started), "routing": {"explain": 0}}) as gateway:
        answer = gateway.chat("m")
        assert rows(gateway) == []
        gone = gateway.ask("GET", f"/admin/api/requests/{answer.headers['x-request-id']}")
        assert gone.status == 404 and "routing.explain is 0" in gone.error["message"]


# --- ghostctl


def test_ghostctl_explains(in_order: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500})
    name = in_order.chat("pair").headers["x-request-id"]
    shown = ctl(in_order, "explain", name)
    assert shown.returncode == 0, shown.stderr
    for words in (name, "ok (200) from second", "attempt 1: primary", "attempt 2: second", "finished"):
        assert words in shown.stdout
    assert json.loads(ctl(in_order, "explain", name, "--json").stdout)["id"] == name
    listed = ctl(in_order, "requests", "--model", "pair", "--limit", "1").stdout.splitlines()
    assert len(listed) == 2 and name in listed[1]


def test_ghostctl_says_what_is_missing(locked: Gateway, fakes: Fakes) -> None:
    for key, words in (("", "--key KEY"), (STAFF, "permits 'admin:read'"), (BOSS, "the last 3")):
        shown = ctl(locked, "explain", "long-gone", key=key)
        assert shown.returncode == 1 and words in shown.stderr and shown.stdout == ""

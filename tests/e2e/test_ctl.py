"""`ghostctl` against a running gateway, on a terminal where that matters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.test_explain import ctl
from tests.e2e.traffic import Crowd, backend, body, model
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import ROOT, until
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.smoke

WHOLE = "".join(TEXT)
KEYS = [{"name": "boss", "key": "gk_boss", "manage": True}, {"name": "plain", "key": "gk_plain"}]


@pytest.fixture(scope="module")
def watched(started: Fakes) -> Iterator[Gateway]:
    settings: dict[str, Any] = {
        "routing": {**FORGIVING, "balance": "failover"},
        "backends": [backend("primary", started.primary, max_inflight=2), backend("second", started.second)],
        "models": [model("m", "primary"), model("pair", "primary", "second")],
        "keys": KEYS,
    }
    with Gateway(settings) as gateway:
        yield gateway


def environ(gateway: Gateway, key: str = "gk_boss") -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GHOSTLLM_")}
    return {
        **clean,
        "GHOSTLLM_URL": gateway.url,
        "GHOSTLLM_KEY": key,
        "HOME": "/nowhere",
        "INPUTRC": "/nowhere",
    }


def terminal(gateway: Gateway, *args: str) -> Terminal:
    return Terminal([sys.executable, "ghostllm.py", "ctl", *args], environ(gateway), cwd=ROOT)


# --- status


def test_status_tells_what_goes_on(watched: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": None})
    headers = {"Authorization": "Bearer gk_boss"}
    before = watched.ask("GET", "/admin/api/status", None, headers).json()
    with Crowd(watched) as crowd:
        for _ in range(3):
            crowd.send(body("m"), headers)

        def waits() -> bool:
            status = watched.ask("GET", "/admin/api/status", None, headers).json()
            return bool(status["requests"]["waiting"])

        until(waits, "one waits")
        told = json.loads(ctl(watched, "status", "--json", key="gk_boss").stdout)["status"]
        fakes.primary.release("go")
        assert len(list(crowd.answers())) == 3
    assert told["state"] == "ready" and told["listening"] == watched.addresses
    assert told["backends"]["total"] == 2 and told["models"] == {"total": 2, "available": 2}
    assert told["requests"]["in_flight"] == 4, "those three, and the question itself"
    assert told["queues"] == [{"name": "primary", "waiting": 1, "running": 2}]
    assert told["config"]["keys"] == 2 and told["config"]["state_file"] is None
    assert told["process"]["pid"] == watched.process.pid and told["process"]["resident_bytes"] > 10**6
    after = watched.ask("GET", "/admin/api/status", None, headers).json()
    assert after["requests"]["requests"] == before["requests"]["requests"] + 3
    assert after["requests"]["prompt_tokens"] > before["requests"]["prompt_tokens"]
    assert after["rates"]["window_s"] >= 0 and after["uptime_s"] > 0


def test_status_of_a_backend_that_is_away(watched: Gateway, fakes: Fakes) -> None:
    assert watched.ask("POST", "/admin/api/backends/primary/drain", None, MANAGED).status == 200
    told = watched.ask("GET", "/admin/api/status", None, MANAGED).json()
    assert told["backends"]["draining"] == 1 and told["models"] == {"total": 2, "available": 1}
    shown = ctl(watched, "status", key="gk_boss").stdout
    assert "1 draining" in shown and "models     2: 1 available" in shown
    assert watched.ask("POST", "/admin/api/backends/primary/undrain", None, MANAGED).status == 200


MANAGED = {"Authorization": "Bearer gk_boss", "x-ghostllm-admin": "1"}


def test_who_may_not_manage_sees_less(watched: Gateway) -> None:
    shown = ctl(watched, "status", key="gk_plain")
    assert shown.returncode == 0 and "ready    ready (200)" in shown.stdout
    assert "more     not told: " in shown.stdout and "(user) permits 'admin:read'" in shown.stdout
    shown = ctl(watched, "backends")
    assert shown.returncode == 1 and "wants a key and none was given" in shown.stderr
    shown = ctl(watched, "backends", key="gk_0123456789abcdefghij")
    assert shown.returncode == 1 and "the key of GHOSTLLM_KEY (it ends in ghij)" in shown.stderr


def test_status_again_and_again_until_interrupted(watched: Gateway) -> None:
    with terminal(watched, "status", "--watch", "0.2") as screen:
        for _ in range(3):
            screen.see("every 0.2 s, Ctrl-C ends")
            screen.see(r"process    pid \d+")
        screen.type("\x03")
        assert screen.end() == 130


def test_the_table_fits_the_terminal(watched: Gateway) -> None:
    with Terminal([sys.executable, "ghostllm.py", "ctl", "models", "--targets"], environ(watched),
                  columns=40, cwd=ROOT) as screen:  # fmt: skip
        assert screen.end() == 0
        lines = screen.shown.split("\r\n")
    assert len(lines) > 3 and all(len(line) <= 40 for line in lines) and "…" in screen.shown


# --- chat


def test_one_question(watched: Gateway, fakes: Fakes) -> None:
    command = [
        sys.executable,
        "ghostllm.py",
        "ctl",
        "chat",
        "--model",
        "pair",
        "--verbose",
        "Hi",
        "there",
        "-",
    ]
    done = subprocess.run(
        command, env=environ(watched), cwd=ROOT, input="piped", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, WHOLE + "\n"), done.stderr
    assert "[pair from primary, " in done.stderr and "tokens" in done.stderr
    assert fakes.primary.call().json()["messages"] == [{"role": "user", "content": "Hi\n\nthere\n\npiped"}]


def test_what_goes_wrong_is_said(watched: Gateway, fakes: Fakes) -> None:
    shown = ctl(watched, "chat", "--model", "nobody", "Hi", key="gk_boss")
    assert shown.returncode == 1 and "nobody" in shown.stderr and shown.stdout == ""
    shown = ctl(watched, "chat", "Hi", key="gk_boss")
    assert shown.returncode == 2 and "which model?" in shown.stderr and "m, pair" in shown.stderr
    fakes.primary.script({"fault": "rst", "at": 2, "fault_gate": None, "times": None})
    shown = ctl(watched, "chat", "--model", "m", "Hi", key="gk_boss")
    assert shown.returncode == 1 and shown.stderr.startswith("ghostctl: ")


def test_a_talk(watched: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {}, {"fault": "stall", "at": 2}, {"tokens": ["Fine", " again"]}, {"status": 400, "message": "odd"}
    )
    with terminal(watched, "chat", "--model", "m", "--system", "Be brief.") as screen:
        screen.see("m at http://[^;]*; /help says what else there is")
        screen.see("> ")
        screen.type("first\n")
        screen.see(re.escape(WHOLE))
        screen.see("> ")
        screen.type("second\n")
        screen.see(re.escape("".join(TEXT[:2])))
        screen.type("\x03")
        screen.see(r"\(cancelled\)")
        assert fakes.primary.ended(1).outcome == "gone", "the backend stops, too"
        screen.see("> ")
        screen.type("third\n")
        screen.see("Fine again")
        screen.see("> ")
        screen.insist("\x03", r"Ctrl-D ends")
        screen.see("> ")
        screen.type("fourth\n")
        screen.see("ghostctl: .*odd")
        screen.see("> ")
        screen.type("/new\n")
        screen.see(r"\(m, 0 messages so far\)")
        screen.see("> ")
        screen.type("/what\n")
        screen.see("/system TEXT")
        screen.see("> ")
        screen.type("/model pair\n")
        screen.see(r"\(pair, 0 messages")
        screen.see("> ")
        screen.type("fifth\n")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    turns = [[turn["content"] for turn in call.json()["messages"]] for call in fakes.primary.calls]
    begun = ["Be brief.", "first"]
    assert turns[0] == begun
    assert turns[1] == [*begun, WHOLE, "second"]
    cut = "".join(TEXT[:2])
    assert turns[2] == [*begun, WHOLE, "second", cut, "third"], "what came of the cancelled answer stays"
    assert turns[3] == [*turns[2], "Fine again", "fourth"]
    assert turns[4] == ["Be brief.", "fifth"]
    assert fakes.primary.call(4).json()["model"] == "pair"


def test_an_interrupted_question(watched: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "stall", "at": 2})
    with terminal(watched, "chat", "--model", "m", "Hi") as screen:
        screen.see(re.escape("".join(TEXT[:2])))
        screen.type("\x03")
        screen.see(r"\(cancelled\)")
        assert screen.end() == 130
    assert fakes.primary.ended().outcome == "gone"

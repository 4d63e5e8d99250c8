"""The audit log: every action of an operator, and every attempt at one, as a record and as a row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import raw
from tests.fakes.fake import ROOT, Fake, until
from tests.fakes.gateway import Gateway, plain_environment

USER, BOSS = "sk-user-0123456789", "sk-boss-0123456789"
CTL = "import sys; from ghostllm.cli.ctl import main; sys.exit(main())"
DRAIN, UNDRAIN = "/admin/api/backends/b/drain", "/admin/api/backends/b/undrain"


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake("ollama", "m") as fake:
        yield fake


def settings(fake: Fake, state: Path | None = None, **more: Any) -> dict[str, Any]:
    keys = [{"name": "user", "key": USER}, {"name": "boss", "key": BOSS, "manage": True}]
    return {
        "backends": [{"name": "b", "kind": "ollama", "url": fake.url}],
        "keys": keys,
        "state": {"audit": 5, **({"file": str(state)} if state else {})},
        **more,
    }


def ask(gateway: Gateway, method: str, target: str, key: str = BOSS, body: Any = None) -> raw.Answer:
    headers = {"Authorization": f"Bearer {key}", "x-ghostllm-admin": "1"}
    return gateway.ask(method, target, body, headers)


def rows(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    answer = ask(gateway, "GET", f"/admin/api/audit{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["audit"]
    return found


def test_who_did_what_from_where_with_which_outcome(fake: Fake) -> None:
    with Gateway(settings(fake)) as gateway:
        assert ask(gateway, "POST", DRAIN, body={"why": "a new disk", "token": "hidden"}).status == 200
        assert ask(gateway, "POST", UNDRAIN, USER).status == 403
        assert ask(gateway, "POST", UNDRAIN, "sk-nobody-0123").status == 401
        assert ask(gateway, "POST", "/admin/api/backends/x/drain").status == 404
        assert ask(gateway, "GET", "/admin/api/backends").status == 200
        fake.script({"path": "/api/delete", "body": "", "content_type": "text/plain"})
        assert ask(gateway, "DELETE", "/api/delete", body={"model": "m"}).status == 200
        assert gateway.chat("m").status == 401
        told = rows(gateway)
        assert [(row["who"], row["outcome"], row["status"], row["action"]) for row in told] == [
            ("boss", "done", 200, "DELETE ollama_delete"),
            ("boss", "failed", 404, "POST admin_backend"),
            ("anonymous", "refused", 401, "POST admin_backend"),
            ("user", "refused", 403, "POST admin_backend"),
            ("boss", "done", 200, "POST admin_backend"),
        ]
        first = told[-1]
        assert (
            first["target"] == DRAIN and first["peer"] == "127.0.0.1" and first["request"].startswith("req_")
        )
        assert first["changed"] == {"body": {"why": "a new disk", "token": "***"}}
        assert told[1]["error"].startswith("no backend 'x'") and first["error"] is None
        logged = until(
            lambda: (
                found
                if len(found := [row for row in gateway.records if row["event"] == "audit"]) == 5
                else []
            ),
            "five records of audit",
        )
        assert [row["outcome"] for row in logged] == ["done", "refused", "refused", "failed", "done"]
        assert logged[0]["who"] == "boss" and logged[0]["changed"] == first["changed"]


def test_filters_pages_and_mistakes(fake: Fake) -> None:
    with Gateway(settings(fake)) as gateway:
        for target in (DRAIN, UNDRAIN, DRAIN, UNDRAIN):
            ask(gateway, "POST", target)
        ask(gateway, "POST", DRAIN, USER)
        assert len(rows(gateway, "?who=boss")) == 4 and len(rows(gateway, "?outcome=refused")) == 1
        first = rows(gateway, "?limit=2&outcome=done")
        second = rows(gateway, f"?limit=2&outcome=done&before={first[-1]['number']}")
        assert [row["target"] for row in first + second] == [UNDRAIN, DRAIN, UNDRAIN, DRAIN]
        for query, words in (("outcome=bad", "outcome is one of done"), ("before=x", "before is the number"),
                             ("limit=0", "limit is a number"), ("whom=me", "no filter 'whom'")):  # fmt: skip
            answer = ask(gateway, "GET", f"/admin/api/audit?{query}")
            assert answer.status == 400 and words in answer.error["message"]
        assert ask(gateway, "GET", "/admin/api/audit", USER).status == 403


def test_it_outlives_the_process_and_is_bounded(fake: Fake, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    with Gateway(settings(fake, state)) as gateway:
        for _ in range(4):
            ask(gateway, "POST", DRAIN)
            ask(gateway, "POST", UNDRAIN)
        gateway.terminate()
        assert gateway.wait() == 0
    with Gateway(settings(fake, state)) as gateway:
        told = ask(gateway, "GET", "/admin/api/audit").json()
        assert len(told["audit"]) == told["keep"] == 5 and told["persistent"] is True
        assert [row["number"] for row in told["audit"]] == [8, 7, 6, 5, 4]


def test_ghostctl_shows_it(fake: Fake) -> None:
    with Gateway(settings(fake)) as gateway:
        ask(gateway, "POST", DRAIN)
        ask(gateway, "POST", DRAIN, USER)

        def ghostctl(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", CTL, *words],
                cwd=ROOT, capture_output=True, text=True, timeout=30,
                env=plain_environment(GHOSTLLM_KEY=BOSS, GHOSTLLM_URL=gateway.url),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        head, refused, done = ghostctl("audit").splitlines()
        assert head.split()[:3] == ["TIME", "NUMBER", "WHO"]
        assert " user " in refused and "refused" in refused and " boss " in done and DRAIN in done
        only = json.loads(ghostctl("audit", "--json", "--outcome", "done", "--who", "boss", "--limit", "5"))
        assert [row["who"] for row in only["audit"]] == ["boss"]

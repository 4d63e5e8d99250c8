"""Canaries: secrets that must not come out of the process, whatever it is asked and whatever fails."""

from __future__ import annotations

import os
import pty
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.fake import ROOT, Fake, until
from tests.fakes.gateway import UNDER_TEST, Gateway, plain_environment, toml
from tests.fakes.raw import request

BACKEND, FIELD, ENVIRONMENT = "canary-backend-4711", "canary-field-4712", "canary-environ-4713"
CLIENT, MANAGER, STRANGER = "gk_canaryclient471400", "canary-manager-4715", "sk-canarystranger471600"
CANARIES = (BACKEND, FIELD, ENVIRONMENT, CLIENT, MANAGER, STRANGER)
CHAT = "/v1/chat/completions"
CTL = "import sys; from ghostllm.cli.ctl import main; sys.exit(main())"


class Site(NamedTuple):
    gateway: Gateway
    fakes: dict[str, Fake]
    state: Path


def settings(fakes: dict[str, Fake], state: Path) -> dict[str, Any]:
    return {
        "log": {"level": "debug"},
        "state": {"file": str(state)},
        "routing": {"attempts": 2, "backoff": 0.01, "health": {"interval": 0.3, "load": 0.3}, "refresh": 0.3,
                    "breaker": {"failures": 10**6, "volume": 10**6}},
        "backends": [
            {"name": "openai", "kind": "openai", "url": fakes["openai"].url, "api_key": BACKEND,
             "headers": {"x-auth": FIELD}},
            {"name": "ollama", "kind": "ollama", "url": fakes["ollama"].url, "api_key": "env:CANARY_KEY"},
            {"name": "anthropic", "kind": "anthropic", "url": fakes["anthropic"].url, "api_key": BACKEND},
        ],
        "models": [{"name": kind, "targets": [{"backend": kind}]} for kind in fakes],
        "keys": [
            {"name": "client", "key": CLIENT},
            {"name": "boss", "key": MANAGER, "manage": True},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    state = tmp_path_factory.mktemp("state") / "ghostllm.db"
    with (
        Fake("openai", "openai") as one,
        Fake("ollama", "ollama") as two,
        Fake("anthropic", "anthropic") as three,
    ):
        fakes = {"openai": one, "ollama": two, "anthropic": three}
        before = os.umask(0)  # the widest: the state file must not need a narrow one
        try:
            gateway = Gateway(settings(fakes, state), environment={"CANARY_KEY": ENVIRONMENT})
        finally:
            os.umask(before)
        with gateway:
            yield Site(gateway, fakes, state)


def said(site: Site, method: str, target: str, body: Any = None, **headers: str) -> bytes:
    answer = site.gateway.ask(method, target, body, {"Authorization": f"Bearer {CLIENT}", **headers})
    return answer.head + answer.body


def chat(model: str, **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}


def clean(text: str | bytes, what: str) -> None:
    text = text if isinstance(text, str) else text.decode("utf-8", "replace")
    for canary in CANARIES:
        at = text.find(canary)
        assert at < 0, f"{canary} in {what}: …{text[max(0, at - 200) : at + 60]}…"


ECHO = f"Incorrect API key provided: {BACKEND}; x-auth: {FIELD}; {ENVIRONMENT}; Bearer {CLIENT}"
FAILURES: list[dict[str, Any]] = [
    {"status": 401, "message": ECHO},
    {"status": 400, "message": ECHO, "code": BACKEND},
    {"status": 500, "message": ECHO, "times": 2},
    {"status": 429, "message": ECHO, "headers": {"x-echo": ECHO}, "times": 2},
    {"status": 502, "body": f"<html>{ECHO}</html>", "content_type": "text/html", "times": 2},
    {"status": 503, "body": ECHO, "content_type": "text/plain", "times": 2},
    {"status": 200, "body": ECHO, "content_type": "application/json", "times": 2},
    {"status": 200, "body": "x", "content_type": ECHO.replace(";", ","), "times": 2},
]  # fmt: skip


@pytest.mark.parametrize("model", ["openai", "ollama", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES, ids=range(len(FAILURES)))
def test_a_backend_that_repeats_its_key(
    site: Site, model: str, stream: bool, failure: dict[str, Any]
) -> None:
    site.fakes[model].reset()
    site.fakes[model].script(failure)
    clean(said(site, "POST", CHAT, chat(model, stream=stream)), "the answer")
    site.fakes[model].reset()
    site.fakes[model].script(failure)
    clean(said(site, "POST", "/v1/messages", chat(model, stream=stream, max_tokens=5)), "Anthropic's answer")
    site.fakes[model].reset()
    site.fakes[model].script(failure)
    clean(said(site, "POST", "/api/chat", chat(model, stream=stream)), "Ollama's answer")


@pytest.mark.parametrize("model", ["openai", "ollama", "anthropic"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_stream_that_ends_with_its_key(site: Site, model: str, at: int) -> None:
    site.fakes[model].reset()
    site.fakes[model].script({"fault": "error", "at": at, "message": ECHO, "times": 4})
    clean(said(site, "POST", CHAT, chat(model, stream=True)), "the stream")


def test_clients_that_show_their_keys_everywhere(site: Site) -> None:
    site.fakes["openai"].reset()
    for key in (STRANGER, CLIENT, MANAGER):
        clean(said(site, "POST", CHAT, chat("openai"), Authorization=f"Bearer {key}x"), "a refusal")
        clean(said(site, "POST", CHAT, chat("openai"), Authorization=f"Basic {key}"), "a refusal")
        said(site, "GET", f"/v1/models?key={key}&api_key={key}")
        said(site, "GET", f"/nothing/here?token={key}")
        said(site, "POST", CHAT, {"model": "openai", "messages": key})
        said(site, "POST", CHAT, chat("openai", temperature=key))
        for line in (f"Authorization : Bearer {key}", f"X-Api-Key: {key}\x01", f"Authorization Bearer {key}"):
            with site.gateway.open() as client:
                client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())
                client.rest()
        with site.gateway.open() as client:
            client.send(request("GET", "/v1/models", None, {"Authorization": f"Bearer {key}"})[:-5])


def test_what_operators_are_shown(site: Site) -> None:
    site.fakes["openai"].reset()
    site.fakes["openai"].script({"path": "/v1/models", "status": 500, "message": ECHO, "times": None},
                                {"status": 500, "message": ECHO, "times": 2})  # fmt: skip
    said(site, "POST", CHAT, chat("openai"), **{"x-request-id": "canary-request"})
    boss = {"Authorization": f"Bearer {MANAGER}", "x-ghostllm-admin": "1"}
    for name in site.fakes:
        clean(said(site, "POST", f"/admin/api/backends/{name}/probe", **boss), "a probe's answer")
    clean(
        said(site, "POST", "/admin/api/backends/none/drain", {"api_key": BACKEND, "note": CLIENT}, **boss),
        "it",
    )
    for target in ("/metrics", "/admin/api/requests", "/admin/api/requests/canary-request", "/health",
                   "/ready", "/admin/api/backends", "/admin/api/models", "/admin/api/splits",
                   "/admin/api/audit", "/v1/models", "/api/tags", "/version"):  # fmt: skip
        answer = said(site, "GET", target, **boss)
        assert b" 200 " in answer[:20] or target == "/ready", target
        clean(answer, target)
    shown = subprocess.run(
        [sys.executable, "-c", CTL, "requests"], cwd=ROOT, capture_output=True, timeout=30,
        env=plain_environment(GHOSTLLM_KEY=MANAGER, GHOSTLLM_URL=site.gateway.url),
    )  # fmt: skip
    clean(shown.stdout + shown.stderr, "ghostctl requests")


def test_the_list_of_processes(site: Site) -> None:
    clean(Path(f"/proc/{site.gateway.process.pid}/cmdline").read_bytes(), "the command line")


def test_the_state_file_is_its_owners_alone_and_holds_no_key(site: Site) -> None:
    """The text of a configuration may be kept there, as it stands in its own file: what it only refers to
    stays away, and so does what clients send.
    """
    said(site, "POST", "/v1/responses", {"model": "openai", "input": "Hi"})
    files = until(
        lambda: [path for path in site.state.parent.iterdir() if path.name.endswith("-wal")], "the WAL"
    )
    assert files
    for path in site.state.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        kept = path.read_bytes()
        assert ENVIRONMENT.encode() not in kept and STRANGER.encode() not in kept


@pytest.mark.parametrize(("key", "warned"), [(CLIENT, True), ("env:CANARY_KEY", False)])
def test_a_key_in_the_list_of_processes_is_warned_of(key: str, warned: bool) -> None:
    with Gateway(
        {}, arguments=("--key", key), environment={"CANARY_KEY": ENVIRONMENT}, wait=False
    ) as gateway:
        until(lambda: gateway.addresses, "it listens")
        assert ("list of processes" in gateway.log) is warned
        clean(gateway.log, "the log")


def test_ghostctl_warns_whoever_looks_on() -> None:
    told, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", CTL, "status", "--url", "http://127.0.0.1:1", "--key", CLIENT],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, timeout=30,
    )  # fmt: skip
    os.close(terminal)
    said = os.read(told, 4096)
    os.close(told)
    assert done.returncode == 1 and b"GHOSTLLM_KEY" in said
    clean(said, "its words")


def test_the_keys_of_backends_that_were_found_are_masked_too(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    with Fake("openai", "m") as fake:
        path.write_text(
            toml({"backends": [{"name": "f", "kind": "openai", "url": fake.url, "api_key": BACKEND}]})
        )
        with Gateway({"discovery": {"file": str(path)}, "routing": {"attempts": 1}}) as gateway:
            until(lambda: gateway.chat("m").status == 200, "it is served")
            fake.reset()
            fake.script({"status": 400, "message": ECHO})
            answer = gateway.chat("m")
            assert answer.status == 400 and answer.error["message"].startswith(
                "Incorrect API key provided: ***"
            )
            assert fake.call().headers["authorization"] == f"Bearer {BACKEND}"
            gateway.record(answer.headers["x-request-id"])
            assert BACKEND not in gateway.log


def check(path: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ghostllm", "check", "--config", str(path)],
        cwd=UNDER_TEST, capture_output=True, timeout=30, env=plain_environment(CANARY_KEY=ENVIRONMENT),
    )  # fmt: skip


def test_check_shows_none(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "ghostllm.toml"
    path.write_text(toml(settings(site.fakes, tmp_path / "state")))
    shown = check(path)
    assert shown.returncode == 0, shown.stderr
    clean(shown.stdout + shown.stderr, "ghostllm check")
    path.write_text(path.read_text().replace(f'"{BACKEND}"', f'"{BACKEND} with a space"'))
    shown = check(path)
    assert shown.returncode == 2
    clean(shown.stdout + shown.stderr, "the complaints of ghostllm check")


def test_the_log_of_all_that(site: Site) -> None:
    """Last in this file: what the tests before have made it say, at the level debug."""
    site.gateway.terminate()
    assert site.gateway.wait() == 0
    records = site.gateway.records
    assert len(records) > 50 and any(record["event"] == "audit" for record in records)
    clean(site.gateway.log, "the log")
    rows = sqlite3.connect(site.state).execute("SELECT * FROM audit").fetchall()
    assert rows
    clean(str(rows), "the audit trail")

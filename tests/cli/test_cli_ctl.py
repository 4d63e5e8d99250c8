"""`ghostctl` against a peer that answers what a test tells it to, in bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer
from tests.fakes.ports import free_port

ROOT = Path(__file__).parents[2]
MODELS = {
    "object": "list",
    "data": [{"id": "smol", "owned_by": "gguf"}, {"id": "a\x1b[31m/b", "owned_by": None}],
}
WHOLE = {
    "state": "ready", "version": "9.9", "uptime_s": 93784.5, "started": "2026-01-02T03:04:05.678Z",
    "listening": ["127.0.0.1:8080"], "config": {"backends": 3, "keys": 1, "state_file": None},
    "backends": {"total": 3, "up": 2, "down": 1, "unknown": 0, "draining": 0, "breaker_open": 1},
    "models": {"total": 5, "available": 4},
    "requests": {"in_flight": 2, "waiting": 7, "requests": 100, "failed": 3, "prompt_tokens": 9},
    "queues": [{"name": "one", "waiting": 7, "running": 2}],
    "rates": {"window_s": 60.0, "requests": 12.3456, "failed": None},
    "process": {"pid": 7, "resident_bytes": 23_600_000, "connections": 3, "descriptors": 20,
                "loop_lag_max_s": 0.0012},
}  # fmt: skip
NO_MANAGER = (403, {"error": {"message": "key 'a' may not use the admin API"}})
FINE = {
    "/admin/api/status": NO_MANAGER,
    "/health": (200, {"status": "ok"}),
    "/ready": (200, {"status": "ready"}),
    "/version": (200, {"name": "ghostllm", "version": "9.9"}),
    "/v1/models": (200, MODELS),
}


def test_status(capsys):
    with peer(FINE) as (url, heads):
        assert main(["status", "--url", url + "/"], {}) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"url      {url}",
        "health   ok (200)",
        "ready    ready (200)",
        "name     ghostllm",
        "version  9.9",
        f"more     not told: {url} refuses: key 'a' may not use the admin API",
    ]
    assert [head.split()[1] for head in heads] == ["/health", "/ready", "/version", "/admin/api/status"]
    assert "authorization" not in "".join(heads)


def test_status_as_a_whole(capsys):
    with peer(FINE | {"/admin/api/status": (200, WHOLE)}) as (url, _):
        assert main(["status", "--url", url], {}) == 0
        shown = capsys.readouterr().out.splitlines()
        assert main(["status", "--url", url, "--json"], {}) == 0
    assert json.loads(capsys.readouterr().out)["status"] == WHOLE
    assert shown[5:] == [
        "state      ready",
        "up         1 d 2 h, since 2026-01-02T03:04:05.678Z",
        "listening  127.0.0.1:8080",
        "backends   3: 2 up, 1 down, 1 with an open breaker",
        "models     5: 4 available",
        "requests   2 in flight, 7 waiting; so far 100 requests, 3 failed, 9 prompt tokens",
        "rates      12.35 requests a second over 60.0 s",
        "process    pid 7, 23.6 MB, 3 connections, 20 descriptors, loop late by 1.2 ms at most",
        "config     backends 3, keys 1",
        "",
        "QUEUE  WAITING  RUNNING",
        "one    7        2",
    ]


@pytest.mark.parametrize(
    "whole", [{"state": 3}, {"uptime_s": "x", "queues": [1]}, {"rates": [], "process": {}}]
)
def test_status_whatever_comes(capsys, whole):
    with peer(FINE | {"/admin/api/status": (200, whole)}) as (url, _):
        assert main(["status", "--url", url], {}) == 0
    assert "backends   -" in capsys.readouterr().out


def test_status_of_one_that_is_not_ready(capsys):
    answers = FINE | {"/ready": (503, {"status": "not ready"})}
    with peer(answers) as (url, _):
        assert main(["status"], {"GHOSTLLM_URL": url}) == 1
        assert "ready    not ready (503)" in capsys.readouterr().out
        assert main(["status", "--url", url, "--json"], {}) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["ready"] == {"status": 503, "body": {"status": "not ready"}}


def test_models(capsys):
    with peer(FINE) as (url, heads):
        assert main(["models", "--url", url], {"GHOSTLLM_KEY": "sk-env"}) == 0
        shown = capsys.readouterr().out
        assert main(["models", "--url", url, "--key", "sk-flag", "--json"], {"GHOSTLLM_KEY": "sk-env"}) == 0
        assert json.loads(capsys.readouterr().out) == MODELS
    assert shown.splitlines() == ["MODEL     OWNER", "smol      gguf", "a [31m/b  -"]
    assert "authorization: Bearer sk-env\r\n" in heads[0]
    assert "authorization: Bearer sk-flag\r\n" in heads[1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            (401, {"error": {"message": "no"}}),
            "does not take the key of --key: keys stand in its configuration",
        ),
        ((503, {"error": {"message": "shutting\ndown"}}), "answered 503: shutting down"),
        ((500, []), "answered 500: -"),
        ((200, {"data": "x"}), "gave no list of models: is it GhostLLM?"),
        ((200, []), "gave no list of models"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "answered 200 and no JSON: is it GhostLLM? (--url)",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello", "was cut short"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot talk to"),
        (b"", "cannot talk to"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "and no JSON"),
    ],
)
def test_answers_that_are_no_use(capsys, answer, expected):
    with peer({"/v1/models": answer}) as (url, _):
        assert main(["models", "--url", url, "--key", "sk-x"], {}) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("ghostctl: ") and shown.err.count("\n") == 1
    assert expected in shown.err and "sk-x" not in shown.err


def test_nobody_there(capsys):
    port = free_port()
    assert main(["status", "--url", f"http://127.0.0.1:{port}"], {}) == 1
    assert capsys.readouterr().err == (
        f"ghostctl: nothing listens at http://127.0.0.1:{port} (from --url): is `ghostllm serve` running "
        "there? --url, GHOSTLLM_URL names another address\n"
    )
    environ = {"GHOSTLLM_URL": f"http://127.0.0.1:{port}", "HOME": "/nowhere"}
    assert main(["status"], environ) == 1
    shown = capsys.readouterr().err
    assert "(from GHOSTLLM_URL)" in shown and "or `url` in /nowhere/.config/ghostllm/ctl.toml" in shown


def test_nobody_answers(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["status", "--url", url, "--timeout", "0.05"], {}) == 1
    assert "did not answer within 0.05 s (--timeout)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["stats"],
        ["keys"],
        ["status", "--url", "localhost"],
        ["status", "--url", "http://sk-x@h"],
        ["models", "--key", "sk-x y"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "nan"],
    ],
)
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as left:
        main(args, {})
    assert left.value.code == 2
    assert "sk-x" not in capsys.readouterr().err


def test_as_a_process(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GHOSTLLM_")}
    code = "import sys; from ghostllm.cli.ctl import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "status" in done.stdout and "admin API" in done.stdout

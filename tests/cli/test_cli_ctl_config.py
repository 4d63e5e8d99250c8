"""`ghostctl config`, in front of a peer that answers what a test tells it to."""

from __future__ import annotations

import json

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer

CONFIG = "/admin/api/config"
CHANGES = [
    {"path": "log.level", "change": "changed", "before": "info", "after": "de\x1b[2Jbug"},
    {"path": "backends.b", "change": "added", "before": None, "after": {"name": "b", "weight": 2.0}},
    {"path": "keys.old", "change": "removed", "before": {"name": "old"}, "after": None},
    {"path": "odd", "change": ["what"]},
]
DONE = {"applied": True, "number": 4, "changes": CHANGES, "needs_restart": ["state.file"], "note": "for now"}
LINES = """\
~ log.level: info -> de [2Jbug
+ backends.b: weight 2.0
- keys.old
? odd
applied, number 4
for now
needs a restart: state.file
"""
SHOWN = {
    "number": 2, "how": "SIGHUP", "time": "2026-01-02T03:04:05.678Z", "file": None,
    "config": {
        "log": {"level": "info"},
        "server": {"listen": ["127.0.0.1:1"], "limits": {"body_bytes": 1}},
        "backends": [{"name": "a", "headers": {"x": "***"}}, {"name": "b", "headers": {}}],
        "keys": [],
    },
}  # fmt: skip
SHOWN_LINES = """\
# number 2 (SIGHUP) of 2026-01-02T03:04:05.678Z, file: -
keys = []

[log]
level = "info"

[server]
listen = ["127.0.0.1:1"]

[server.limits]
body_bytes = 1

[[backends]]
name = "a"

[backends.headers]
x = "***"

[[backends]]
name = "b"
headers = {}
"""
WRONG = {"error": {"message": "x", "problems": ["c.toml:1: one\x07", "c.toml:2: two"]}}


def run(answers, *args):
    with peer(answers) as (url, heads):
        return main(["config", *args, "--url", url], {}), heads


@pytest.mark.parametrize(
    ("args", "method", "path"),
    [
        (["diff"], "GET", "diff"),
        (["reload"], "POST", "reload"),
        (["rollback"], "POST", "rollback"),
        (["rollback", "--to", "3"], "POST", "rollback?to=3"),
    ],
)
def test_what_has_changed(capsys, args, method, path):
    code, heads = run({f"{CONFIG}/{path}": (200, DONE)}, *args)
    assert code == 0 and capsys.readouterr().out == LINES
    assert heads[0].startswith(f"{method} {CONFIG}/{path} HTTP/1.1\r\n")
    assert ("x-ghostllm-admin: 1" in heads[0]) is (method == "POST")


def test_nothing_has_changed(capsys):
    for word, says in (
        ("diff", "a reload would change nothing"),
        ("reload", "nothing has changed"),
        ("rollback", "that is what holds already"),
    ):
        assert run({f"{CONFIG}/{word}": (200, {"applied": False, "changes": []})}, word)[0] == 0
        assert capsys.readouterr().out == f"{says}\n"


def test_mistakes(capsys):
    assert run({f"{CONFIG}/reload": (422, WRONG)}, "reload")[0] == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines() == [
        "ghostctl: 2 mistakes, nothing has changed:", "  c.toml:1: one ", "  c.toml:2: two"]  # fmt: skip
    assert run({f"{CONFIG}/reload": (422, WRONG)}, "reload", "--json")[0] == 1
    assert json.loads(capsys.readouterr().out) == WRONG


def test_refusals(capsys):
    refused = (404, {"error": {"message": "no configuration to go back to"}})
    assert run({f"{CONFIG}/rollback": refused}, "rollback")[0] == 1
    assert "no configuration to go back to" in capsys.readouterr().err
    assert run({f"{CONFIG}/reload": (422, {"error": "?"})}, "reload")[0] == 1
    assert run({f"{CONFIG}/reload": (200, ["no object"])}, "reload")[0] == 1
    assert "is it GhostLLM?" in capsys.readouterr().err


def test_show(capsys):
    assert run({CONFIG: (200, SHOWN)}, "show")[0] == 0
    assert capsys.readouterr().out == SHOWN_LINES
    assert run({CONFIG: (200, SHOWN)}, "show", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out) == SHOWN


def test_history(capsys):
    rows = [
        {"number": 2, "time": "t2", "how": "SIGHUP", "current": True, "changes": CHANGES * 4},
        {"number": 1, "time": "t1", "how": "start", "current": False, "changes": []},
    ]
    assert run({f"{CONFIG}/history": (200, {"configurations": rows})}, "history")[0] == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NUMBER", "TIME", "HOW", "CHANGES"]
    assert lines[1].startswith("*  2       t2    SIGHUP  log.level, backends.b, keys.old, odd, log.level")
    assert lines[1].endswith("...") and lines[2].split() == ["1", "t1", "start"]


def test_without_a_word(capsys):
    assert main(["config"], {}) == 2
    assert "rollback" in capsys.readouterr().err

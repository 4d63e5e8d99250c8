"""The commands of `ghostctl` that use the admin API."""

from __future__ import annotations

import json

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer

ROW = {
    "id": "req_2", "time": "2026-01-02T03:04:05.678Z", "route": "chat", "key": "team", "model": "m\x1b[2J",
    "backend": None, "status": 502, "outcome": "error", "code": "upstream_error", "duration_ms": 12345.6,
    "attempts": 3,
}  # fmt: skip
TOLD = {
    "id": "a/b", "time": "2026-01-02T03:04:05.678Z", "route": "chat", "method": "POST",
    "path": "/v1/chat/completions", "key": "team", "model": "m", "stream": True, "status": 200,
    "outcome": "ok", "error": None, "backend": "two", "duration_ms": 250.0, "overhead_ms": 0.4,
    "queued_ms": 30.0, "rescued": 1, "arm": "b",
    "usage": {"prompt": 11, "completion": 6, "cached": None, "estimated": True, "partial": False},
    "plan": {
        "model": "m", "policy": "smart", "forced": True,
        "targets": [{"backend": "one", "model": "m-8b", "score_s": 0.5, "why": ["wait 0.10s", "tied"]},
                    {"backend": "two", "model": "m"}],
        "refused": [{"backend": "three", "model": "m", "why": "breaker open"}],
    },
    "timeline": [
        {"at_ms": 0.0, "event": "received"},
        {"at_ms": None, "event": "planned"},
        {"at_ms": None, "event": "queued", "waited_ms": 30.0},
        {"at_ms": 40.0, "event": "attempt", "attempt": 1, "backend": "one", "model": "m-8b",
         "why": "smart: tied", "purpose": "first"},
        {"at_ms": 60.04, "event": "first_token", "attempt": 1},
        {"at_ms": 60.1, "event": "committed"},
        {"at_ms": 100.0, "event": "attempt_ended", "attempt": 1, "outcome": "upstream_incomplete",
         "status": 200, "error": "one:\x07 cut", "usage": {"completion": 2, "partial": True}},
        {"at_ms": 100.1, "event": "attempt", "attempt": 2, "backend": "two", "model": "m", "why": "",
         "purpose": "rescue"},
        {"at_ms": 250.0, "event": "finished", "outcome": "ok", "status": 200, "error": None},
        {"at_ms": 251.0, "event": "something new"},
    ],
}  # fmt: skip
STORY = """\
request  a/b
time     2026-01-02T03:04:05.678Z
asked    POST /v1/chat/completions by team
model    m (arm b), streamed
outcome  ok (200) from two
took     250 ms, 30.0 ms in queue, 0.4 ms beside attempts and queue
rescued  1 x: another backend went on with the stream
tokens   11 prompt, 6 completion, estimated

PLAN  smart for m
  1.   one    m-8b  wait 0.10s, tied, score_s 0.5
  2.   two    m
  not  three  m     breaker open
  forced  true

TIMELINE  in ms
    0.0  received
         planned
         waited 30.0 ms for a turn
   40.0  attempt 1: one, model m-8b (first: smart: tied)
   60.0  attempt 1: first token
   60.1  the client gets the first content
  100.0  attempt 1: upstream_incomplete (200): one:  cut [2 completion, partial]
  100.1  attempt 2: two, model m (rescue)
  250.0  finished: ok (200)
  251.0  something new
"""
BACKEND = {"name": "one", "kind": "vllm", "state": "draining", "breaker": "closed", "in_flight": 2,
           "waiting": 0, "weight": 0.5, "why": ["by hand", "slow start"]}  # fmt: skip


def refusal(status, message):
    return status, {"error": {"message": message, "type": "x", "param": None, "code": None}}


def run(answers, *args):
    """Exit code and the heads that were sent."""
    with peer(answers) as (url, heads):
        return main([*args, "--url", url, "--key", "sk-x"], {}), heads


def test_explain(capsys):
    answers = {"/admin/api/requests/a%2Fb": (200, TOLD)}
    code, heads = run(answers, "explain", "a/b")
    assert code == 0 and capsys.readouterr().out == STORY
    assert "authorization: Bearer sk-x\r\n" in heads[0] and "x-ghostllm-admin" not in heads[0]
    assert run(answers, "explain", "a/b", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out) == TOLD


def test_explain_a_request_that_never_became_one(capsys):
    told = {"id": "x", "method": "-", "path": "-", "status": 400, "outcome": "error",
            "error": {"code": None, "message": "no request line"}, "plan": None, "timeline": []}  # fmt: skip
    assert run({"/admin/api/requests/x": (200, told)}, "explain", "x")[0] == 0
    shown = capsys.readouterr().out
    assert "outcome  error (400): no request line" in shown and "PLAN" not in shown and "tokens" not in shown


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"plan": {}, "timeline": None},
        {"plan": {"targets": [3, "x", {}]}},
        {"timeline": [1, {}, {"at_ms": "x"}], "usage": 3, "error": []},
    ],
)
def test_explain_whatever_comes(capsys, value):
    assert run({"/admin/api/requests/x": (200, value)}, "explain", "x")[0] == 0
    assert "TIMELINE" in capsys.readouterr().out


def test_requests(capsys):
    answers = {
        "/admin/api/requests?limit=20": (200, {"requests": [ROW], "keep": 5}),
        "/admin/api/requests?limit=3&outcome=failed&model=a%2Fb": (200, {"requests": [], "keep": 5}),
    }
    assert run(answers, "requests")[0] == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["TIME", "ID", "STATUS", "OUTCOME", "MODEL", "BACKEND", "KEY", "TOOK", "TRIES"]
    assert row.split() == ["2026-01-02T03:04:05.678Z", "req_2", "502", "error:", "upstream_error", "m", "[2J",
                           "-", "team", "12.35", "s", "3"]  # fmt: skip
    code, _ = run(answers, "requests", "--failed", "--model", "a/b", "--limit", "3", "--json")
    assert code == 0 and json.loads(capsys.readouterr().out) == {"requests": [], "keep": 5}


def test_backends(capsys):
    other = {"name": "two", "breaker": None, "surprise": True}
    assert run({"/admin/api/backends": (200, {"backends": [BACKEND, other]})}, "backends")[0] == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME  KIND  STATE     BREAKER  IN FLIGHT  WAITING  WEIGHT  WHY",
        "one   vllm  draining  closed   2          0        0.5     by hand, slow start",
        "two   -     -         -        -          -        -       -",
    ]


def test_models_with_their_targets(capsys):
    models = [
        {"name": "m", "balance": "smart", "targets": [
            {"backend": "one", "model": "m-8b", "state": "up", "why": ""},
            {"backend": "two", "model": "m", "state": "down", "why": "away"}]},
        {"name": "bare", "targets": 3},
    ]  # fmt: skip
    assert run({"/admin/api/models": (200, {"models": models})}, "models", "--targets")[0] == 0
    assert capsys.readouterr().out.splitlines() == [
        "MODEL  BALANCE  BACKEND  MODEL THERE  STATE  WHY",
        "m      smart    one      m-8b         up     -",
        "                two      m            down   away",
        "bare   -        -        -            -      -",
    ]


@pytest.mark.parametrize("word", ["drain", "undrain", "probe"])
def test_what_changes_something(capsys, word):
    code, heads = run({f"/admin/api/backends/team%2Fone/{word}": (200, BACKEND)}, word, "team/one")
    assert code == 0 and heads[0].startswith("POST ") and "x-ghostllm-admin: 1\r\n" in heads[0]
    assert "draining" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args", [["explain", "x"], ["requests"], ["backends"], ["drain", "x"], ["probe", "x"]]
)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(401, "no"), "does not take the key of --key: keys stand in its"),
        (refusal(404, "no such path: /admin/api"), "an older gateway, or one whose admin API listens on"),
        (
            refusal(403, "key 'a' may not"),
            "key 'a' may not",
        ),
        (
            refusal(404, "request 'x' is not kept: the last 5 are"),
            "ghostctl: request 'x' is not kept: the last 5",
        ),
        ((404, []), "has nothing there: is it GhostLLM?"),
        (refusal(503, "shutting down"), "answered 503: shutting down"),
        ((200, [1]), "is it GhostLLM? (--url)"),
    ],
)
def test_refusals_say_what_to_do(capsys, args, answer, expected):
    code, _ = run(Anything(answer), *args)
    shown = capsys.readouterr()
    assert code == 1 and shown.out == "" and expected in shown.err and shown.err.count("\n") == 1


class Anything(dict):
    """The same answer at every path."""

    def __init__(self, answer):
        self.answer = answer

    def __getitem__(self, path):
        return self.answer


@pytest.mark.parametrize(
    "args",
    [
        ["explain"],
        ["explain", "a b"],
        ["explain", ""],
        ["drain"],
        ["drain", "\x1b"],
        ["requests", "--limit", "0"],
        ["requests", "--limit", "x"],
    ],
)
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as left:
        main(args, {})
    assert left.value.code == 2

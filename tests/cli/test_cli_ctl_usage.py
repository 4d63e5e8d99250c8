"""`ghostctl usage` and `ghostctl limits`."""

from __future__ import annotations

import json

import pytest

from ghostllm.cli.ctl import main
from ghostllm.cli.ctl_usage import GROUPS
from ghostllm.state import usage
from tests.cli.peer import peer

ROW = {
    "key": "=al\x1bice", "model": "m", "currency": "EUR", "requests": 3, "failed": 1, "prompt_tokens": 305,
    "completion_tokens": None, "cached_tokens": 0, "cost": 0.000012, "duration": 0.25, "ttft": None,
}  # fmt: skip
LIMITS = {
    "currency": "EUR",
    "limits": [{"kind": "key", "name": "alice", "in_flight": 1, "remaining_requests": 9,
                "remaining_tokens": None}],
    "budgets": [{"kind": "team", "name": "blue", "day": 0.5, "day_budget": None, "month": 2.0,
                 "month_budget": 5.0, "held": 0.01}],
}  # fmt: skip


def run(answers, *argv):
    with peer(answers) as (url, heads):
        return main([*argv, "--url", url]), heads


def test_a_table(capsys):
    told = {"by": ["key", "model"], "usage": [ROW], "lost": 2}
    path = "/admin/api/usage?by=key%2Cmodel&since=2026-03&team=blue"
    code, _ = run(
        {path: (200, told)}, "usage", "--by", "key,model", "--since", "2026-03", "--where", "team=blue"
    )
    out, err = capsys.readouterr()
    assert code == 0 and "2 records could not be written" in err
    assert [line.split() for line in out.splitlines()] == [
        ["KEY", "MODEL", "REQUESTS", "FAILED", "PROMPT", "COMPLETION", "CACHED", "COST", "CURRENCY", "TOOK"],
        ["=al", "ice", "m", "3", "1", "305", "-", "0", "0.000012", "EUR", "250", "ms"],
    ]


def test_as_csv_and_json(capsys):
    answers = {"/admin/api/usage?by=key": (200, {"usage": [ROW], "lost": 0})}
    assert run(answers, "usage", "--csv")[0] == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.startswith("key,requests,failed,prompt_tokens") and line.startswith(
        "'=al ice,3,1,305,,0,1.2e-05"
    )
    assert run(answers, "usage", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["usage"] == [ROW]


def test_limits(capsys):
    assert run({"/admin/api/limits": (200, LIMITS)}, "limits")[0] == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["key", "alice", "1", "9", "-"]
    assert lines[4] == ["team", "blue", "0.5", "-", "2.0", "5.0", "0.01"]
    assert run({"/admin/api/limits": (200, LIMITS)}, "limits", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out) == LIMITS


def test_where_no_usage_is_kept(capsys):
    said = {"error": {"message": "no usage is kept here: state.file is not set"}}
    assert run({"/admin/api/usage?by=key": (404, said)}, "usage")[0] == 1
    assert "state.file is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--by", "keys"], "no group 'keys'; there are: key, team"),
        (["--since", "yesterday"], "expected 2026-03"),
        (["--where", "key"], "expected GROUP=VALUE"),
        (["--where", "who=x"], "expected GROUP=VALUE"),
    ],
)
def test_wrong_use_is_told(argv, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["usage", *argv])
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_the_groups_are_the_gateway_s():
    assert tuple(usage.GROUPS) == GROUPS

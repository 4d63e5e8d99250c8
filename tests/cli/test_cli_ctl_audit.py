"""`ghostctl audit`."""

from __future__ import annotations

import json

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer

ROW = {
    "number": 7, "time": "2026-01-02T03:04:05.678Z", "who": "ops\x1b[2J", "peer": "192.0.2.1",
    "action": "POST admin_backend", "target": "/admin/api/backends/b/drain",
    "outcome": "failed", "status": 404, "request": "req_1", "error": "no backend\n'b'",
    "changed": {"body": {"token": "***"}},
}  # fmt: skip
TABLE = """\
TIME                      NUMBER  WHO       FROM       ACTION              TARGET                       OUTCOME                      CHANGED
2026-01-02T03:04:05.678Z  7       ops [2J   192.0.2.1  POST admin_backend  /admin/api/backends/b/drain  failed: no backend 'b'       {"body": {"token": "***"}}
2026-01-02T03:04:05.678Z  8       -         -          -                   -                            done                         -
"""  # noqa: E501


def test_rows_for_a_terminal_and_as_json(capsys):
    rows = [ROW, {"number": 8, "time": ROW["time"], "outcome": "done", "changed": None}]
    path = "/admin/api/audit?limit=5&who=a+b&outcome=failed&before=9"
    with peer({path: (200, {"audit": rows})}) as (url, heads):
        words = [
            "audit",
            "--url",
            url,
            "--limit",
            "5",
            "--who",
            "a b",
            "--outcome",
            "failed",
            "--before",
            "9",
        ]
        assert main(words, {}) == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
            line.split() for line in TABLE.splitlines()
        ]
        assert main([*words, "--json"], {}) == 0
        assert json.loads(capsys.readouterr().out) == {"audit": rows}
    assert heads[0].startswith(f"GET {path} ")


@pytest.mark.parametrize(
    "words", [["--before", "x"], ["--before", "-1"], ["--outcome", "bad"], ["--limit", "0"]]
)
def test_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(["audit", *words], {})
    assert left.value.code == 2 and capsys.readouterr().err

"""`ghostctl keys`: what is asked of the gateway, and what is shown of its answers."""

from __future__ import annotations

import json
import time

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer

KEYS = "/admin/api/keys"
ROW = {
    "id": "key_1", "name": "ann", "state": "active", "roles": ["user", "viewer"], "team": "", "models": [],
    "limits": "", "created": 1_800_000_000.5, "expires": None, "revoked": None, "last_used": 1_800_000_060,
    "source": "made",
}  # fmt: skip
HANDED = {"key": "gk_secret", **ROW, "kept": True}
TABLE = """\
NAME  ID     STATE   ROLES         TEAM  MODELS  EXPIRES  LAST USED          SOURCE
ann   key_1  active  user, viewer  -     all     -        2027-01-15 08:01Z  made
"""


def run(answers, *args):
    """The exit code, and what was asked: method, path and body of each request."""
    with peer(answers) as (url, heads):
        code = main(["keys", *args, "--url", url], {"GHOSTLLM_KEY": "gk_mine"})
    assert all("authorization: bearer gk_mine" in head.lower() for head in heads)
    asked = []
    for head in heads:
        first, _, body = head.partition("\r\n\r\n")
        asked.append((*first.split()[:2], json.loads(body) if body else None))
    return code, asked


def test_a_list(capsys):
    code, asked = run({KEYS: (200, {"keys": [ROW]})}, "list")
    assert code == 0 and asked == [("GET", KEYS, None)]
    assert capsys.readouterr().out == TABLE


def test_a_list_as_json(capsys):
    assert run({KEYS: (200, {"keys": [ROW]})}, "list", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out) == {"keys": [ROW]}


def test_a_key_is_made_and_shown_first(capsys):
    code, asked = run(
        {KEYS: (200, HANDED)}, "create", "ann", "--role", "user", "--role", "viewer", "--model", "q*",
        "--team", "red", "--limits", "small", "--weight", "2", "--priority", "-1", "--expires", "2027-01-31",
    )  # fmt: skip
    assert code == 0 and asked[0][:2] == ("POST", KEYS)
    assert asked[0][2] == {
        "name": "ann", "roles": ["user", "viewer"], "models": ["q*"], "team": "red", "limits": "small",
        "weight": 2.0, "priority": -1, "expires": "2027-01-31",
    }  # fmt: skip
    shown = capsys.readouterr()
    assert shown.out == f"gk_secret\n{TABLE}" and "only time" in shown.err and "state.file" not in shown.err


def test_what_is_not_said_is_the_gateway_s_to_decide(capsys):
    _, asked = run({KEYS: (200, {**HANDED, "kept": False})}, "create", "ann", "--json")
    assert asked[0][2] == {"name": "ann"}
    shown = capsys.readouterr()
    assert json.loads(shown.out)["key"] == "gk_secret" and "state.file" in shown.err


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("2w", 1_209_600)],
)
def test_a_key_is_rotated(told, seconds):
    code, asked = run({f"{KEYS}/a%20b/rotate": (200, HANDED)}, "rotate", "a b", "--overlap", told)
    assert code == 0 and asked == [("POST", f"{KEYS}/a%20b/rotate", {"overlap": seconds})]


def test_an_end_may_be_told_from_now_on():
    _, asked = run({f"{KEYS}/ann/rotate": (200, HANDED)}, "rotate", "ann", "--expires", "1d")
    assert 86_000 < asked[0][2]["expires"] - time.time() <= 86_400


def test_a_key_is_revoked(capsys):
    gone = {**ROW, "state": "revoked", "kept": False}
    code, asked = run({f"{KEYS}/key_1": (200, {"keys": [gone]})}, "revoke", "key_1")
    assert code == 0 and asked == [("DELETE", f"{KEYS}/key_1", None)]
    shown = capsys.readouterr()
    assert "revoked" in shown.out and "may take the key again" in shown.err


@pytest.mark.parametrize(
    ("shared", "said"),
    [("no", "this gateway only"), ("later", "redis is away"), ("yes", None), (None, None), (5, None)],
)
def test_whether_other_gateways_know_of_it(shared, said, capsys):
    gone = {**ROW, "state": "revoked", "kept": True, "shared": shared}
    for args, answer in (("create", {**HANDED, "shared": shared}), ("revoke", {"keys": [gone, gone]})):
        place = KEYS if args == "create" else f"{KEYS}/ann"
        assert run({place: (200, answer)}, args, "ann")[0] == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "only time" not in line]
        assert len(told) == (said is not None) and all(said in line for line in told)


def test_an_odd_answer_is_shown_as_well_as_it_can_be(capsys):
    odd = {"name": "x\x1b[2J", "expires": 1e300, "last_used": True, "roles": 5, "models": None}
    assert run({KEYS: (200, {"keys": [odd, {}]})}, "list")[0] == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        [], ["create"], ["rotate", "a", "--overlap", "soon"], ["rotate", "a", "--overlap", "-1"],
        ["create", "a", "--expires", "1 day"], ["create", "a", "--weight", "x"], ["steal"],
    ],
)  # fmt: skip
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["keys", *args], {})
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_refusal_is_told(capsys):
    refusal = 409, {"error": {"message": "there is a key called 'ann' already"}}
    assert run({KEYS: refusal}, "create", "ann")[0] == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "there is a key called 'ann' already" in shown.err

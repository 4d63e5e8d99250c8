"""Keys made at run time: given out once, held to what they may, ended at once, there after a restart."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Fakes, settings
from tests.fakes import raw
from tests.fakes.fake import ROOT
from tests.fakes.gateway import Gateway

KEYS = "/admin/api/keys"
BOSS = "sk-boss-0123456789abcdef"
KEEPER = "sk-keeper-0123456789abcdef"
HI = [{"role": "user", "content": "Hi"}]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def configured(fakes: Fakes, **sections: Any) -> dict[str, Any]:
    return {
        **settings(fakes),
        "roles": [{"name": "keeper", "allow": ["admin:keys", "chat"], "models": ["m"]}],
        "keys": [
            {"name": "boss", "key": BOSS, "roles": ["admin"]},
            {"name": "keeper", "key": KEEPER, "roles": ["keeper"]},
            {"name": "old", "key": "sk-old-0123456789abcdef", "expires": "2020-01-31"},
        ],
        "limits": [{"name": "trial", "limits": {"requests_per_minute": 2}}],
        **sections,
    }


@pytest.fixture(scope="module")
def started_house(started: Fakes) -> Any:
    with Gateway(configured(started)) as gateway:
        yield gateway


@pytest.fixture
def house(started_house: Gateway, fakes: Fakes) -> Gateway:
    return started_house


def make(gateway: Gateway, name: str, by: str = BOSS, **terms: Any) -> raw.Answer:
    return gateway.ask("POST", KEYS, {"name": name, **terms}, bearer(by))


def made(gateway: Gateway, name: str, **terms: Any) -> str:
    answer = make(gateway, name, **terms)
    assert answer.status == 200, answer.body
    key: str = answer.json()["key"]
    return key


def chat(gateway: Gateway, key: str, model: str = "m") -> int:
    body = {"model": model, "messages": HI}
    return gateway.ask("POST", "/v1/chat/completions", body, bearer(key)).status


def test_a_key_is_given_out_once(house: Gateway) -> None:
    answer = make(house, "ann", roles=["user"], team="red", models=["m"], expires="2099-01-01")
    told = answer.json()
    assert told["key"].startswith("gk_") and answer.headers["cache-control"] == "no-store"
    assert (told["name"], told["roles"], told["team"], told["models"]) == ("ann", ["user"], "red", ["m"])
    assert (told["state"], told["expires"], told["kept"]) == ("active", 4_070_908_800.0, False)
    assert chat(house, told["key"]) == 200 and chat(house, told["key"], "pair") == 403
    listed = house.ask("GET", KEYS, None, bearer(BOSS))
    assert told["key"] not in listed.body.decode() and "ann" in listed.body.decode()
    assert {key["source"] for key in listed.json()["keys"]} == {"made", "configuration"}
    assert told["key"] not in house.log
    one = house.ask("GET", f"{KEYS}/{told['id']}", None, bearer(BOSS)).json()["keys"]
    assert [key["name"] for key in one] == ["ann"] and one[0]["last_used"] is not None


def test_a_key_is_held_to_limits_by_their_name(house: Gateway) -> None:
    key = made(house, "tried", limits="trial")
    assert sorted(chat(house, key) for _ in range(4)) == [200, 200, 429, 429]


def test_an_expired_key_of_the_file_opens_nothing(house: Gateway) -> None:
    answer = house.ask("GET", "/v1/models", None, bearer("sk-old-0123456789abcdef"))
    assert answer.status == 401 and "expired" in answer.error["message"]


def test_a_key_ends_at_its_time(house: Gateway) -> None:
    end = time.time() + 0.5
    key = made(house, "brief", expires=end)
    assert chat(house, key) == 200 or time.time() >= end
    time.sleep(max(0.0, end - time.time()))
    assert chat(house, key) == 401


def test_a_revoked_key_opens_nothing_on_a_connection_that_is_open(house: Gateway) -> None:
    key = made(house, "gone")
    asking = raw.request("GET", "/v1/models", None, bearer(key))
    with house.open() as connection:
        assert connection.ask(asking, "GET").status == 200
        revoked = house.ask("DELETE", f"{KEYS}/gone", None, {**bearer(BOSS), "x-ghostllm-admin": "1"})
        assert [one["state"] for one in revoked.json()["keys"]] == ["revoked"]
        assert connection.ask(asking, "GET").status == 401
    again = house.ask("DELETE", f"{KEYS}/gone", None, {**bearer(BOSS), "x-ghostllm-admin": "1"})
    assert again.status == 404


def test_a_rotated_key_goes_on_for_its_overlap(house: Gateway) -> None:
    first = made(house, "turn", roles=["user"], models=["m"])
    second = house.ask("POST", f"{KEYS}/turn/rotate", {}, bearer(BOSS)).json()
    assert chat(house, first) == 200 and chat(house, second["key"]) == 200
    assert chat(house, second["key"], "pair") == 403, "it is held to what the first was"
    third = house.ask("POST", f"{KEYS}/turn/rotate", {"overlap": 0}, bearer(BOSS)).json()
    assert [chat(house, key) for key in (first, second["key"], third["key"])] == [401, 401, 200]


def test_nobody_gives_away_more_than_they_have(house: Gateway) -> None:
    for terms in ({"roles": ["admin"]}, {"roles": ["user"]}, {"roles": ["keeper", "viewer"]}):
        refused = make(house, "more", KEEPER, **terms)
        assert refused.status == 403 and "more than it has" in refused.error["message"]
    made(house, "chief", roles=["admin"])
    refused = house.ask("POST", f"{KEYS}/chief/rotate", {}, bearer(KEEPER))
    assert refused.status == 403, "its key would be an admin's"
    assert make(house, "less", KEEPER, roles=["keeper"]).status == 200
    user = made(house, "plain")
    assert make(house, "x", user).status == house.ask("GET", KEYS, None, bearer(user)).status == 403


@pytest.mark.parametrize(
    ("terms", "param", "words"),
    [
        ({"name": "a b"}, "name", "1 to 100 letters"), ({"name": "boss"}, "name", "already"),
        ({"name": "anonymous"}, "name", "already"), ({}, "name", "required"),
        ({"name": "x", "roles": ["king"]}, "roles", "there are: admin"),
        ({"name": "x", "roles": []}, "roles", "at least one"), ({"name": "x", "roles": 5}, "roles", "array"),
        ({"name": "x", "rolls": ["user"]}, "rolls", "there are: name"),
        ({"name": "x", "expires": "soon"}, "expires", "2027-01-31"),
        ({"name": "x", "expires": 1}, "expires", "in the past"),
        ({"name": "x", "expires": True}, "expires", "a number"),
        ({"name": "x", "weight": 0}, "weight", "0.01"),
        ({"name": "x", "priority": 0.5}, "priority", "integer"),
        ({"name": "x", "models": ["a b"]}, "models", "without spaces"),
        ({"name": "x", "team": "a b"}, "team", "without spaces"),
        ({"name": "x", "limits": "none"}, "limits", "trial"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_wish_is_told(
    house: Gateway, terms: dict[str, Any], param: str, words: str
) -> None:
    answer = house.ask("POST", KEYS, terms, bearer(BOSS))
    assert answer.status in (400, 409) and answer.error["param"] == param, answer.body
    assert words in answer.error["message"]


@pytest.mark.parametrize("body", [b"[", b"[]", b'"x"', b"\xff", b'{"name": "' + b"x" * 70_000 + b'"}'])
def test_a_body_that_is_no_wish(house: Gateway, body: bytes) -> None:
    assert house.ask("POST", KEYS, body, bearer(BOSS)).status == 400


def test_what_there_is_not(house: Gateway) -> None:
    own = {**bearer(BOSS), "x-ghostllm-admin": "1"}
    for method, path in (
        ("GET", "/nobody"), ("DELETE", "/nobody"), ("POST", "/nobody/rotate"), ("POST", "/ann"),
        ("POST", "/ann/steal"), ("DELETE", "/boss"), ("POST", "/boss/rotate"),
    ):  # fmt: skip
        assert house.ask(method, KEYS + path, None, own).status == 404, path
    assert "configuration" in house.ask("DELETE", f"{KEYS}/boss", None, own).error["message"]
    assert house.ask("DELETE", f"{KEYS}/ann", None, bearer(BOSS)).status == 403, "any page could send that"


def test_the_first_key_closes_the_door_and_a_restart_does_not_open_it(
    started: Fakes, fakes: Fakes, tmp_path: Path
) -> None:
    stateful = {**settings(started), "state": {"file": str(tmp_path / "state.db")}}
    deliberate = {"x-ghostllm-admin": "1"}
    with Gateway(stateful) as gateway:
        assert gateway.chat("m").status == 200
        wrong = gateway.ask("POST", KEYS, {"name": "ann"}, deliberate)
        assert wrong.status == 400 and "role admin" in wrong.error["message"]
        boss = gateway.ask("POST", KEYS, {"name": "boss", "roles": ["admin"]}, deliberate).json()
        assert boss["kept"] is True and gateway.chat("m").status == 401
        kept, gone = (made_by(gateway, boss["key"], name) for name in ("kept", "gone"))
        assert gateway.ask("DELETE", f"{KEYS}/gone", None, bearer(boss["key"]) | deliberate).status == 200
        gateway.terminate()
        assert gateway.wait() == 0
    with Gateway(stateful) as gateway:
        assert gateway.chat("m").status == 401
        assert [chat(gateway, key) for key in (boss["key"], kept, gone)] == [200, 200, 401]
        assert gateway.ask("DELETE", f"{KEYS}/boss", None, bearer(boss["key"]) | deliberate).status == 200
        assert gateway.ask("GET", KEYS, None, bearer(boss["key"])).status == 401
        gateway.terminate()
        assert gateway.wait() == 0
    for secret in (boss["key"], kept, gone):
        for path in tmp_path.iterdir():
            assert secret.encode() not in path.read_bytes() and secret[3:].encode() not in path.read_bytes()


def made_by(gateway: Gateway, by: str, name: str) -> str:
    key: str = make(gateway, name, by).json()["key"]
    return key


def ctl(gateway: Gateway, *args: str, key: str = BOSS) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ghostllm.cli.ctl import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *args, "--url", gateway.url],
        env={"GHOSTLLM_KEY": key, "PATH": ""}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_ghostctl(house: Gateway) -> None:
    shown = ctl(house, "keys", "create", "bob", "--role", "user", "--model", "m", "--expires", "30d")
    assert shown.returncode == 0, shown.stderr
    key = shown.stdout.splitlines()[0]
    assert key.startswith("gk_") and chat(house, key) == 200 and chat(house, key, "pair") == 403
    assert "state.file" in shown.stderr and "only time" in shown.stderr
    listed = ctl(house, "keys", "list")
    assert "bob" in listed.stdout and "boss" in listed.stdout and key not in listed.stdout
    turned = ctl(house, "keys", "rotate", "bob", "--overlap", "0")
    assert turned.returncode == 0 and chat(house, key) == 401
    new = turned.stdout.splitlines()[0]
    assert chat(house, new) == 200
    assert ctl(house, "keys", "revoke", "bob").returncode == 0 and chat(house, new) == 401
    refused = ctl(house, "keys", "list", key=KEEPER.replace("keeper", "nobody"))
    assert refused.returncode == 1 and "does not take the key" in refused.stderr
    assert ctl(house, "keys", "revoke", "bob").returncode == 1

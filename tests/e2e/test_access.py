"""Who is let in where: refusals in each door's own form, roles and models, addresses, names, listeners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Fakes, settings
from tests.e2e.test_made_keys import ctl
from tests.fakes import raw
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway

HI = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": HI}
DOORS = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": "Hi"},
    "/v1/messages": {**CHAT, "max_tokens": 5},
    "/api/chat": CHAT,
}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789abcdef"}


@pytest.fixture(scope="module")
def started_house(started: Fakes) -> Iterator[Gateway]:
    roles = [
        {"name": "some", "allow": ["chat", "audio"], "models": ["m"]},
        {"name": "lists", "allow": ["models", "models:write"], "models": ["oll*", "pair"]},
        {"name": "shares", "allow": ["chat"], "models": ["shared"]},
    ]
    names = {"looker": ["viewer"], "some": ["some"], "lists": ["lists"], "both": ["some", "lists"],
             "shares": ["shares"], "user": ["user"]}  # fmt: skip
    keys = [{"name": n, "key": f"sk-{n}-0123456789abcdef", "roles": held} for n, held in names.items()]
    base = settings(started)
    shared = {"name": "shared", "targets": [{"backend": "primary"}], "coalesce": True}
    with Gateway({**base, "models": [*base["models"], shared], "roles": roles, "keys": keys}) as gateway:
        yield gateway


@pytest.fixture
def house(started_house: Gateway, fakes: Fakes) -> Gateway:
    return started_house


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(("who", "status"), [(None, 401), ("nobody", 401), ("looker", 403), ("lists", 403)])
def test_a_refusal_has_the_form_of_its_door(
    house: Gateway, fakes: Fakes, path: str, who: str | None, status: int
) -> None:
    answer = house.ask("POST", path, DOORS[path], bearer(who) if who else {})
    assert answer.status == status and not fakes.primary.calls
    told = answer.json()
    if path.startswith("/api/"):
        assert set(told) == {"error"} and isinstance(told["error"], str)
    elif path == "/v1/messages":
        kind = "authentication_error" if status == 401 else "permission_error"
        assert told["type"] == "error" and told["error"]["type"] == kind
    else:
        assert answer.error["code"] == ("invalid_api_key" if status == 401 else None)


def test_a_role_s_models_hold_for_what_it_allows(house: Gateway, fakes: Fakes) -> None:
    def status(model: str, who: str, path: str = "/v1/chat/completions") -> int:
        return house.ask("POST", path, {**DOORS.get(path, CHAT), "model": model}, bearer(who)).status

    assert [status(model, "some") for model in ("m", "also-m", "pair", "no-such")] == [200, 200, 403, 403]
    assert [status("pair", "some", path) for path in DOORS] == [403] * 4
    assert [status("pair", "both"), status("m", "both")] == [403, 200], "each role by itself"
    speech = {"model": "pair", "input": "Hi", "voice": "a"}
    assert house.ask("POST", "/v1/audio/speech", speech, bearer("some")).status == 403
    counted = {**CHAT, "model": "pair"}
    assert house.ask("POST", "/v1/messages/count_tokens", counted, bearer("some")).status == 403
    assert house.ask("POST", "/v1/files", {"x": 1}, bearer("some")).status == 403


def test_the_lists_show_what_may_be_seen(house: Gateway) -> None:
    def seen(who: str) -> set[str]:
        listed = house.ask("GET", "/v1/models", None, bearer(who)).json()["data"]
        tags = house.ask("GET", "/api/tags", None, bearer(who)).json()["models"]
        assert {item["id"] for item in listed} == {item["name"] for item in tags}
        return {item["id"] for item in listed}

    assert seen("lists") == seen("both") == {"ollama", "pair"}
    assert {"m", "pair", "vllm"} <= seen("looker") == seen("user")
    assert house.ask("GET", "/v1/models", None, bearer("some")).status == 403
    assert house.ask("GET", "/v1/models/m", None, bearer("lists")).status == 404
    assert house.ask("POST", "/api/show", {"model": "m"}, bearer("lists")).status == 404


def test_models_are_managed_within_a_role_s_models(house: Gateway, fakes: Fakes) -> None:
    who = bearer("lists")
    fakes.ollama.script({"path": "/api/copy", "body": ""}, {"path": "/api/delete", "body": ""})
    for body, status in (
        ({"source": "ollama", "destination": "ollama-2"}, 200),
        ({"source": "ollama", "destination": "stolen"}, 403),
        ({"source": "vllm", "destination": "ollama-2"}, 403),
    ):
        assert house.ask("POST", "/api/copy", body, who).status == status, body
    assert house.ask("DELETE", "/api/delete", {"model": "m"}, who).status == 403
    assert house.ask("POST", "/api/pull", {"model": "huge"}, who).status == 403
    assert house.ask("DELETE", "/api/delete", {"model": "ollama"}, who).status == 200
    assert house.ask("DELETE", "/api/delete", {"model": "ollama"}, bearer("user")).status == 403


def test_a_shared_answer_is_for_those_who_may(house: Gateway, fakes: Fakes) -> None:
    for path, body in DOORS.items():
        assert house.ask("POST", path, {**body, "model": "shared"}, bearer("shares")).status == 200
        assert house.ask("POST", path, {**body, "model": "shared"}, bearer("some")).status == 403


def test_a_body_is_not_read_for_who_may_not(house: Gateway) -> None:
    head = raw.request(
        "POST", "/v1/chat/completions", None, {**bearer("looker"), "Content-Length": "30000000"}
    )
    with house.open() as connection:
        assert connection.ask(head).status == 403


def test_clients_of_a_network_need_no_key(started: Fakes, fakes: Fakes) -> None:
    anonymous = [{"name": "here", "networks": ["127.0.0.0/8"], "models": ["m"]}]
    keys = [{"name": "boss", "key": bearer("boss")["Authorization"][7:], "manage": True}]
    with Gateway({**settings(started), "anonymous": anonymous, "keys": keys}) as gateway:
        answer = gateway.chat("m")
        assert answer.status == 200 and gateway.record(answer.headers["x-request-id"])["key"] == "here"
        assert gateway.chat("pair").status == 403
        assert gateway.ask("POST", "/v1/chat/completions", CHAT, {"api-key": "EMPTY"}).status == 200
        assert gateway.ask("POST", "/v1/chat/completions", CHAT, bearer("guess")).status == 401
        assert gateway.ask("GET", "/admin/api/backends").status == 403
        assert gateway.ask("GET", "/admin/api/backends", None, bearer("boss")).status == 200


# --- without keys


ADMIN = [
    ("GET", "/admin/api/backends"), ("GET", "/admin/api/requests"), ("GET", "/admin/api/keys"),
    ("POST", "/admin/api/keys"), ("POST", "/admin/api/backends/primary/drain"), ("DELETE", "/api/delete"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_a_page_that_has_its_name_point_here_may_not_manage(
    gateway: Gateway, fakes: Fakes, method: str, path: str
) -> None:
    for host in (
        "rebound.test",
        f"rebound.test:{gateway.address.rpartition(':')[2]}",
        "127.0.0.1.rebound.test",
    ):
        headers = {"Host": host, "Origin": f"http://{host}", "x-ghostllm-admin": "1"}
        answer = gateway.ask(method, path, {"name": "mine", "roles": ["admin"], "model": "ollama"}, headers)
        assert answer.status == 403 and "[[keys]]" in str(answer.body)
    assert gateway.ask("GET", "/v1/models", None, {"Host": "rebound.test"}).status == 200
    assert gateway.ask("GET", "/admin/api/keys").json() == {"keys": []}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"])
def test_this_machine_may(gateway: Gateway, host: str) -> None:
    assert gateway.ask("GET", "/admin/api/backends", None, {"Host": host}).status == 200


# --- a listener of its own


def test_the_admin_api_on_addresses_of_its_own(started: Fakes, fakes: Fakes) -> None:
    keys = [{"name": "boss", "key": bearer("boss")["Authorization"][7:], "manage": True}]
    apart = {**settings(started), "admin": {"listen": ["127.0.0.1:0"]}, "keys": keys}
    with Gateway(apart) as gateway:
        [admin] = [one["address"] for one in gateway.records if one["event"] == "listening for admin"]
        boss = bearer("boss")

        def status(address: str, path: str, method: str = "GET", body: Any = None) -> int:
            return raw.ask(address, method, path, body, boss).status

        for path in ("/admin/api/backends", "/admin/api/keys", "/admin/api/requests"):
            assert [status(gateway.address, path), status(admin, path)] == [404, 200]
        for path in ("/v1/models", "/api/tags", "/"):
            assert [status(gateway.address, path), status(admin, path)] == [200, 404]
        for path in ("/health", "/ready", "/version", "/metrics"):
            assert status(gateway.address, path) == status(admin, path) == 200
        assert raw.ask(admin, "GET", "/admin/api/backends").status == 401
        made = raw.ask(admin, "POST", "/admin/api/keys", {"name": "ann"}, boss).json()
        told = gateway.ask("POST", "/v1/chat/completions", CHAT, {"api-key": made["key"]})
        assert told.status == 200
        gateway.terminate()
        assert gateway.wait() == 0


def test_an_admin_address_that_is_taken_is_told(started: Fakes, gateway: Gateway) -> None:
    taken = {**settings(started), "admin": {"listen": [gateway.address]}}
    with Gateway(taken, wait=False) as other:
        until(lambda: other.over, "it does not start")
        assert other.wait() == 1 and gateway.address in other.log


def test_an_admin_address_beyond_this_machine_takes_a_key(started: Fakes) -> None:
    exposed = {**settings(started), "admin": {"listen": ["0.0.0.0:0"]}}
    with Gateway(exposed, wait=False) as other:
        until(lambda: other.over, "it refuses")
        assert other.wait() == 2 and "admin.listen" in other.log and "0.0.0.0:0" in other.log


def test_ghostctl_says_who_may(house: Gateway) -> None:
    refused = ctl(house, "keys", "list", key=bearer("looker")["Authorization"][7:])
    assert refused.returncode == 1 and "(viewer) permits 'admin:keys'" in refused.stderr

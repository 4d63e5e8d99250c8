"""The admin API of the configuration: who asks for what, and how mistakes are told."""

from __future__ import annotations

import pytest

from ghostllm.admin.config import routes
from ghostllm.errors import ConfigError, NotFound
from ghostllm.gateway.routes import Routes
from ghostllm.message import Identity
from tests.admin.fakes import Client

DELIBERATE = {b"x-ghostllm-admin": b"1"}


class Configurations:
    """Implements ports.Configurations. problems: what is wrong with the file."""

    def __init__(self):
        self.asked = []
        self.problems = []

    def effective(self):
        return {"number": 1, "config": {"log": {"level": "info"}}}

    def history(self):
        return [{"number": 1, "current": True, "changes": []}]

    async def difference(self):
        return self._done("diff")

    async def reload(self, how):
        return self._done("reload", how)

    async def rollback(self, how, to=None):
        if to == 77:
            raise NotFound("number 77 is not kept")
        return self._done("rollback", how, to)

    def _done(self, *asked):
        if self.problems:
            raise ConfigError(list(self.problems))
        self.asked.append(asked)
        return {"changes": []}


@pytest.fixture
def client():
    made = Client()
    made.configurations = Configurations()
    made.routes = Routes(routes(made.configurations))
    return made


def test_what_is_shown(client):
    assert client("GET", "/admin/api/config") == (200, client.configurations.effective())
    assert client("GET", "/admin/api/config/history") == (200, {"configurations": [
        {"number": 1, "current": True, "changes": []}]})  # fmt: skip
    assert client("GET", "/admin/api/config/diff") == (200, {"changes": []})


def test_who_asks_is_told(client):
    post = "/admin/api/config/{}".format
    assert client("POST", post("reload"), DELIBERATE)[0] == 200
    assert client("POST", post("rollback"), DELIBERATE, Identity("ann", manage=True))[0] == 200
    assert client("POST", post("rollback?to=12"), DELIBERATE)[0] == 200
    assert client.configurations.asked == [
        ("reload", "admin API, ops"),
        ("rollback", "admin API, ann", None),
        ("rollback", "admin API, ops", 12),
    ]


@pytest.mark.parametrize("query", ["to=0", "to=", "to=-3", "to=1e3", "to=%D9%A3", "two=2", "&" * 20 + "to=1"])
def test_a_number_that_is_none(client, query):
    status, message = client("POST", f"/admin/api/config/rollback?{query}", DELIBERATE)
    assert status == 400 and "to" in message
    assert client.configurations.asked == []


def test_mistakes_one_by_one(client):
    client.configurations.problems = ["c.toml:1: log.level: must be one of", "c.toml:2: x: unknown key"]
    for method, path in (("GET", "diff"), ("POST", "reload"), ("POST", "rollback")):
        status, value = client(method, f"/admin/api/config/{path}", DELIBERATE)
        error = value["error"]
        assert status == 422 and error["problems"] == client.configurations.problems
        assert error["message"].startswith(
            "2 mistakes in the configuration, which has not been applied: c.toml"
        )
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_configuration")


def test_what_is_not_kept(client):
    assert client("POST", "/admin/api/config/rollback?to=77", DELIBERATE)[0] == 404


def test_not_by_a_form_of_any_page(client):
    for path in ("reload", "rollback"):
        assert client("POST", f"/admin/api/config/{path}")[0] == 403
    assert client.configurations.asked == []

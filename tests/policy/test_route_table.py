"""Every route of the gateway's own tables, with every method, against every role."""

from __future__ import annotations

import random

import pytest

from ghostllm.admin.routes import routes as admin_routes
from ghostllm.admin.usage import routes as usage_routes
from ghostllm.config.schema import Config
from ghostllm.gateway.gateway import Gateway, Parts
from ghostllm.gateway.generate import Generator
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.observe.metrics import Metrics
from ghostllm.observe.observer import GatewayObserver
from ghostllm.observe.recorder import Recorder
from ghostllm.policy.keys import KeyRing
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import OPEN, RoleBook, group_of, may
from ghostllm.routing.catalog import Catalog
from ghostllm.routing.router import Router
from ghostllm.state import responses
from ghostllm.state.database import Database
from ghostllm.state.responses import ResponseStore
from tests.admin.fakes import Fleet

INFERENCE = {
    "chat", "completions", "embeddings", "messages", "count_tokens", "responses", "response", "input_tokens",
    "ollama_chat", "ollama_generate", "ollama_embed", "ollama_embeddings", "audio", "images", "moderations",
    "rerank", "files", "batches",
}  # fmt: skip
LISTS = {"models", "model", "ollama_tags", "ollama_ps", "ollama_show"}
CHANGES_MODELS = {"ollama_pull", "ollama_copy", "ollama_delete"}
BOOK = RoleBook()


async def nothing():
    return None


@pytest.fixture(scope="module")
def table():
    database = Database(None, [responses.COMPONENT])
    config = Config()
    gateway = Gateway(
        Snapshot(config, {}, KeyRing([]), lambda: Catalog({}), nothing, 1, 1),
        Parts(
            generator=Generator(Router(config.routing, {}, random.Random(1), 0.0)),
            observer=GatewayObserver(Metrics(), None),
            metrics=lambda accept: ("text/plain", ""),
            store=ResponseStore(database),
            routes=[*admin_routes(Fleet(), Recorder(0)), *usage_routes(None, None, "USD")],
        ),
    )
    yield [(route, method) for route in gateway.routes.all for method in (*route.handlers, "HEAD")]
    database.close()


def expected(role, name, method):
    """By hand, route for route: what the four roles are for."""
    if name.startswith("admin_"):
        if name in ("admin_keys", "admin_key"):
            return role == "admin"
        return role in ("admin", "operator") or (role == "viewer" and method in ("GET", "HEAD"))
    if name in INFERENCE:
        return role in ("admin", "operator", "user")
    if name in LISTS:
        return True
    if name in CHANGES_MODELS:
        return role in ("admin", "operator")
    assert name == "metrics", f"say here who may use the route {name}"
    return role != "user"


@pytest.mark.parametrize("role", ["admin", "operator", "user", "viewer"])
def test_every_route_and_every_role(table, role):
    identity = Principal("ann", roles=(role,), grants=BOOK.grants((role,)))
    wrong = [
        (route.name, method)
        for route, method in table
        if not route.open
        and may(identity, group_of(route.name, method), "m") != expected(role, route.name, method)
    ]
    assert wrong == [] and len(table) > 40


def test_what_needs_no_key_needs_no_permission_and_only_that(table):
    assert {route.name for route, _ in table if route.open} == {
        route.name for route, method in table if group_of(route.name, method) == OPEN
    }


def test_who_has_no_role_may_use_no_route_that_asks_for_a_key(table):
    nobody = Principal("ann")
    assert [
        route.name for route, method in table if may(nobody, group_of(route.name, method)) and not route.open
    ] == []

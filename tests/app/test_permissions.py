"""Every route of a running gateway, by every method, for every kind of client: who gets in, and who not."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm.app.process import App
from ghostllm.config.finding import Discovery
from ghostllm.config.identity import Anonymous, Role
from ghostllm.config.inputs import Inputs, Source
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import Admin, Config, KeyConfig, Log, Server
from ghostllm.gateway.changes import audited
from ghostllm.gateway.routes import Route, grouped
from ghostllm.gateway.sides import is_admin
from ghostllm.message import Request
from ghostllm.policy.roles import OPEN, group_of

INFERENCE = {
    "chat", "completions", "embeddings", "messages", "count_tokens", "responses", "response", "input_tokens",
    "ollama_chat", "ollama_generate", "ollama_embed", "ollama_embeddings", "audio", "images", "moderations",
    "rerank", "files", "batches",
}  # fmt: skip
LISTS = {"models", "model", "ollama_tags", "ollama_ps", "ollama_show"}
CHANGES_MODELS = {"ollama_pull", "ollama_copy", "ollama_delete"}
EMBEDDINGS = {"embeddings", "ollama_embed", "ollama_embeddings"}
OPEN_TO_ALL = {"health", "ready", "version", "ollama_version", "root", "openapi"}

ROLES = ("admin", "operator", "user", "viewer", "embedder", "auditor")
QUIET = {"log": Log(level="error", access=False), "discovery": Discovery(local=False)}
KEYS = dict(
    roles=(
        Role(name="embedder", allow=("embeddings",), models=("bge-*",)),
        Role(name="auditor", allow=("admin:read", "metrics")),
    ),
    keys=(
        *(KeyConfig(name=role, key=Secret(f"gk_{role}"), roles=(role,)) for role in ROLES),
        KeyConfig(name="plain", key=Secret("gk_plain")),
        KeyConfig(name="manager", key=Secret("gk_manager"), manage=True),
    ),
    anonymous=(Anonymous(name="lab", networks=("10.9.0.0/16",), roles=("viewer",)),),
)


def running(test, **members):
    """Has `test` look at a gateway that runs as `ghostllm serve` runs it."""

    async def inside():
        config = Config(server=Server(listen=("127.0.0.1:0",)), **QUIET, **members)
        app = App(config, Inputs(None, environ={}), Source("", ""))
        task = asyncio.create_task(app.run())
        waiting = asyncio.create_task(app.started.wait())
        async with asyncio.timeout(30):
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), "it does not start"
        try:
            test(app)
        finally:
            app.stop.set()
            assert await task == 0

    asyncio.run(inside())


def expected(who, name, method):
    """By hand, route for route: what the roles are for."""
    if name in OPEN_TO_ALL:
        return True
    reads = method in ("GET", "HEAD")
    if name in ("admin_keys", "admin_key"):
        return who == "admin"
    if name.startswith("admin_"):
        return who in ("admin", "operator") or (reads and who in ("viewer", "auditor"))
    if name in EMBEDDINGS and who == "embedder":
        return True
    if name in INFERENCE:
        return who in ("admin", "operator", "user")
    if name in LISTS:
        return who in ("admin", "operator", "user", "viewer")
    if name in CHANGES_MODELS:
        return who in ("admin", "operator")
    assert name == "metrics", f"say here who may use the route {name}"
    return who in ("admin", "operator", "viewer", "auditor")


def status(application, route, method, headers, peer="127.0.0.1"):
    """What the door says: 0 for who gets in, before the request's own faults."""
    target = route.path + ("x" if route.prefix else "")
    request = Request(method, target, {b"host": b"gateway.test", **headers})
    request.peer = peer
    exchange, handler = application.open(request, 1.0)
    assert (handler is None) == (exchange.error is not None)
    assert exchange.route == route.name, "another route stands before it"
    told = application.render(exchange)[0] if handler is None else 0
    exchange.outcome = "ok"
    application.closed(exchange)
    return told


def all_of(gateway):
    methods = [(route, {*route.handlers, *(["HEAD"] if "GET" in route.handlers else [])})
               for route in gateway.routes.all]  # fmt: skip
    return [(route, method) for route, found in methods for method in sorted(found)]


def test_every_route_and_every_role():
    def look(app):
        table, wrong = all_of(app.gateway), []
        assert len(table) > 50
        for route, method in table:
            asking = [(name, {b"x-api-key": f"gk_{name}".encode()}) for name in ROLES]
            asking += [
                ("user", {b"api-key": b"gk_plain"}),
                ("admin", {b"authorization": b"Bearer gk_manager"}),
            ]
            for who, headers in asking:
                told = status(app.gateway, route, method, headers)
                if told != (0 if expected(who, route.name, method) else 403):
                    wrong.append((route.name, method, who, told))
            for headers in ({}, {b"authorization": b"Bearer gk_wrong"}, {b"x-api-key": b"gk_admi"}):
                told = status(app.gateway, route, method, headers)
                if told != (0 if route.name in OPEN_TO_ALL else 401):
                    wrong.append((route.name, method, headers, told))
            told = status(app.gateway, route, method, {}, "10.9.1.1")
            if told != (0 if expected("viewer", route.name, method) else 403):
                wrong.append((route.name, method, "lab", told))
        assert wrong == []

    running(look, **KEYS)


def test_without_keys_this_machine_may_all_and_others_may_use_models():
    def look(app):
        for route, method in all_of(app.gateway):
            here, name = {b"host": b"127.0.0.1:8080"}, route.name
            assert status(app.gateway, route, method, here) == 0
            usual = 0 if expected("user", name, method) or name == "metrics" else 403
            assert status(app.gateway, route, method, here, "10.0.0.1") == usual, name
            assert status(app.gateway, route, method, {b"host": b"evil.test"}) == usual, name

    running(look)


def test_what_needs_no_key_needs_no_permission_and_only_that():
    def look(app):
        open_routes = {route.name for route in app.gateway.routes.all if route.open}
        assert open_routes <= OPEN_TO_ALL
        assert open_routes == {
            route.name for route, method in all_of(app.gateway) if group_of(route.name, method) == OPEN
        }

    running(look, **KEYS)


def test_with_a_listener_of_its_own_the_admin_api_is_there_and_nowhere_else():
    def look(app):
        assert len(app.servers) == 2
        for route, method in all_of(app.gateway):
            request = Request(method, route.path + ("x" if route.prefix else ""), {b"host": b"localhost"})
            request.peer = "127.0.0.1"
            found = []
            for application in (server.application for server in app.servers):
                exchange, handler = application.open(request, 1.0)
                found.append(handler is not None)
                assert handler is not None or application.render(exchange)[0] == 404
                exchange.outcome = "ok"
                application.closed(exchange)
            both = route.name in ("health", "ready", "version", "metrics", "openapi")
            admin = route.name.startswith("admin_")
            assert found == [both or not admin, both or admin], route.name

    running(look, admin=Admin(listen=("127.0.0.1:0",)))


def test_a_route_in_no_group_does_not_start():
    with pytest.raises(LookupError, match="'new' is in no group"):
        grouped(Route("new", "/new", {"GET": print}), group_of)


def test_an_open_route_with_a_permission_does_not_start():
    for route in (Route("metrics", "/x", {"GET": print}, open=True), Route("health", "/x", {"GET": print})):
        with pytest.raises(LookupError, match="or the reverse"):
            grouped(route, group_of)


def test_every_route_that_changes_something_is_audited():
    """A new admin route is here without being told so."""

    def look(app):
        routes = {route.name: route for route in app.gateway.routes.all}
        names = audited(routes.values())
        for route in routes.values():
            changes = not {"GET", "HEAD"}.issuperset(route.handlers)
            managing = is_admin(route) or route.name in CHANGES_MODELS
            assert (route.name in names) == (changes and managing), route.name
        assert {"admin_backend", "admin_keys", "admin_key", "ollama_pull"} <= names and "chat" not in names

    running(look)

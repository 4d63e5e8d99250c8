"""Which requests are actions of operators, and what is told of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import Forbidden, NotFound
from ghostllm.gateway.changes import DEEPEST, HIDDEN, LARGEST_BODY, action_of, asked_for, audited, shown
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange, Identity, Request


def test_a_route_that_nobody_has_thought_of():
    new = Route("admin_new", "/admin/api/new/", {"GET": print, "PATCH": print}, prefix=True)
    assert audited([new, Route("admin_old", "/admin/api/old", {"GET": print})]) == {"admin_new"}


def exchange(method="POST", target="/admin/api/backends/b/drain", body=b"", **more):
    made = Exchange(Request(method, target, {}), "req_1", 1.0)
    made.request.body, made.request.peer = body, "192.0.2.7"
    made.route, made.identity = "admin_backend", Identity("ops")
    made.status, made.outcome = 200, "ok"
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_what_was_done_by_whom_from_where():
    told = action_of(exchange(body=b'{"weight": 2}', target="/admin/api/backends/b/drain?why=x")).told()
    assert told == {
        "who": "ops", "peer": "192.0.2.7", "action": "POST admin_backend",
        "target": "/admin/api/backends/b/drain", "outcome": "done", "status": 200, "request": "req_1",
        "error": None, "changed": {"query": {"why": "x"}, "body": {"weight": 2}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "outcome", "error", "told"),
    [
        (200, "ok", None, "done"),
        (403, "error", Forbidden("no"), "refused"),
        (401, "error", Forbidden("no"), "refused"),
        (404, "error", NotFound("no"), "failed"),
        (500, "error", None, "failed"),
        (0, "cancelled", None, "failed"),
        (200, "broken", None, "failed"),
    ],
)
def test_how_it_ended(status, outcome, error, told):
    action = action_of(exchange(status=status, outcome=outcome, error=error, body=b'{"a":1}'))
    assert action.outcome == told and (action.status or 0) == status
    assert (action.changed is None) == (told == "refused")


def test_reading_is_no_action():
    assert action_of(exchange("GET")) is None and action_of(exchange("HEAD")) is None


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "apiKey", "token", "Password", "client_secret", "authorization", "headers", "Cookie"],
)
def test_secrets_are_stars(name):
    assert shown({name: "canary"}) == {name: HIDDEN}
    assert shown({"a": [{name: ["canary"]}]}) == {"a": [{name: HIDDEN}]}
    assert shown({name: "env:CANARY"}) == {name: "env:CANARY"}
    assert shown({name: 5}) == {name: 5}


@pytest.mark.parametrize(
    "body", [b"\xff\x00", b"{", b"x" * (LARGEST_BODY + 1), b'"' + b"x" * LARGEST_BODY + b'"']
)
def test_what_cannot_be_shown_is_counted(body):
    assert asked_for(body, "") == {"body": f"{len(body)} bytes"}


def test_a_query_of_too_many_fields_is_counted():
    query = "&".join(f"a{number}=1" for number in range(200))
    assert asked_for(b"", query) == {"query": f"{len(query)} characters"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=70) | st.dictionaries(st.text(max_size=300), inner, max_size=60),
    max_leaves=100,
)


@given(JSON)
def test_what_is_shown_is_small(value):
    told = shown(value)
    json.dumps(told)

    def depth(each):
        if isinstance(each, dict):
            each = list(each.values())
        return 1 + max(map(depth, each), default=0) if isinstance(each, list) else 0

    assert depth(told) <= DEEPEST

"""What the admin API answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.admin.fakes import Client
from tests.observe.exchanges import chat

DELIBERATE = {b"x-ghostllm-admin": b"1"}


def remembered(client, *names, **more):
    for name in names:
        made = chat(**more)
        made.request_id = name
        client.recorder.finished(made)


def test_requests_newest_first():
    client = Client(keep=5)
    remembered(client, "a", "b/c")
    status, value = client("GET", "/admin/api/requests")
    assert status == 200 and value["keep"] == 5
    assert [row["id"] for row in value["requests"]] == ["b/c", "a"]


def test_requests_by_filter():
    client = Client()
    remembered(client, "fine")
    remembered(client, "broke", outcome="broken")
    remembered(client, "other", model="qwen/a b")

    def ids(query):
        status, value = client("GET", f"/admin/api/requests?{query}")
        assert status == 200, value
        return [row["id"] for row in value["requests"]]

    assert ids("outcome=failed") == ["broke"]
    assert ids("outcome=ok&limit=1") == ["other"]
    assert ids("model=qwen%2Fa+b") == ["other"]
    assert ids("key=team-a&model=m") == ["broke", "fine"] and ids("key=x") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit is a number from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=", "from 1 to 1000"),
        ("limit=%D9%A3", "from 1 to 1000"),
        ("limit=-1", "from 1 to 1000"),
        ("outcome=bad", "outcome is one of failed, open, ok"),
        ("modell=m", "no filter 'modell'; there are: limit"),
        ("&".join(f"model={number}" for number in range(101)), "too many fields"),
    ],
)
def test_a_filter_that_is_wrong_is_refused(query, says):
    status, message = Client()("GET", f"/admin/api/requests?{query}")
    assert status == 400 and says in message


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
def test_any_query_is_answered_or_refused(query):
    assert Client()("GET", f"/admin/api/requests?{query}")[0] in (200, 400)


def test_one_request():
    client = Client(keep=5)
    remembered(client, "a", "b/c")
    status, told = client("GET", "/admin/api/requests/b%2Fc")
    assert status == 200 and told["id"] == "b/c" and told["timeline"][0]["event"] == "received"
    status, message = client("GET", "/admin/api/requests/gone")
    assert status == 404 and "request 'gone' is not kept" in message and "the last 5 are kept" in message
    status, message = Client(keep=0)("GET", "/admin/api/requests/gone")
    assert status == 404 and "routing.explain is 0" in message


def test_backends():
    client = Client()
    assert [row["name"] for row in client("GET", "/admin/api/backends")[1]["backends"]] == ["one", "team/two"]
    assert client("GET", "/admin/api/backends/one")[1]["kind"] == "openai"
    assert client("GET", "/admin/api/backends/team%2Ftwo")[1]["name"] == "team/two"
    status, message = client("GET", "/admin/api/backends/three")
    assert status == 404 and "there are: one, team/two" in message


def test_drain_and_undrain():
    client = Client()
    for name in ("one", "team%2Ftwo"):
        assert client("POST", f"/admin/api/backends/{name}/drain", DELIBERATE)[1]["state"] == "draining"
        assert client("GET", f"/admin/api/backends/{name}")[1]["state"] == "draining"
        assert client("POST", f"/admin/api/backends/{name}/undrain", DELIBERATE)[1]["state"] == "up"


def test_probe():
    client = Client()
    assert client("POST", "/admin/api/backends/one/probe", DELIBERATE) == (
        200,
        {"name": "one", "passed": True},
    )
    assert client.fleet.probed == ["one"]


@pytest.mark.parametrize(
    "rest", ["three/drain", "three/undrain", "three/probe", "one/stop", "one", "/drain", "/"]
)
def test_what_there_is_not_to_do(rest):
    client = Client()
    before = [dict(row) for row in client.fleet.backends()]
    status, message = client("POST", f"/admin/api/backends/{rest}", DELIBERATE)
    assert status == 404 and ("no backend 'three'" in message or "no such action" in message)
    assert client.fleet.backends() == before and client.fleet.probed == []


def test_models_and_splits():
    client = Client()
    assert client("GET", "/admin/api/models")[1]["models"][0]["targets"][0]["backend"] == "one"
    assert client("GET", "/admin/api/splits")[1]["splits"][0]["model"] == "m"


def test_labels_are_bounded_and_the_recorders_own():
    client = Client()
    for path in ("requests", "requests/x", "backends", "backends/x", "models", "splits"):
        client("GET", f"/admin/api/{path}")
    assert client.labels == ["admin_requests", "admin_request", "admin_backends", "admin_backend",
                             "admin_models", "admin_splits"]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_what_is_only_read(method):
    assert Client()(method, "/admin/api/requests", DELIBERATE)[0] == 405

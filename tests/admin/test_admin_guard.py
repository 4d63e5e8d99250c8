"""Who may use the admin API, and what a page in a manager's browser cannot do."""

from __future__ import annotations

import pytest

from ghostllm.message import Identity
from ghostllm.policy.keys import EVERYBODY
from tests.admin.fakes import Client

READS = ["status", "requests", "requests/x", "backends", "backends/one", "models", "splits"]
DRAIN = "/admin/api/backends/one/drain"
DELIBERATE = {b"x-ghostllm-admin": b"1"}


@pytest.mark.parametrize("path", READS)
def test_reading_takes_a_key_that_may_manage(path):
    status, message = Client()("GET", f"/admin/api/{path}", identity=Identity("plain"))
    assert status == 403 and "key 'plain' may not use the admin API" in message and "manage = true" in message
    assert Client()("GET", f"/admin/api/{path}", identity=EVERYBODY)[0] in (200, 404)


@pytest.mark.parametrize("action", ["drain", "undrain", "probe"])
def test_changing_takes_one_too(action):
    client = Client()
    path = f"/admin/api/backends/one/{action}"
    assert client("POST", path, DELIBERATE, Identity("plain"))[0] == 403
    assert client.fleet.rows["one"]["state"] == "up" and client.fleet.probed == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"text/plain;application/json"},
        {b"content-type": b"multipart/form-data; boundary=application/json"},
        {b"x-ghostllm-admin": b""},
        {b"x-ghostllm-admin": b"0"},
    ],
)
def test_a_form_of_any_page_changes_nothing(headers):
    client = Client()
    status, message = client("POST", DRAIN, headers, EVERYBODY)
    assert status == 403 and "`x-ghostllm-admin: 1`" in message and "application/json" in message
    assert client.fleet.rows["one"]["state"] == "up"


@pytest.mark.parametrize(
    "headers",
    [
        DELIBERATE,
        {b"content-type": b"application/json"},
        {b"content-type": b"Application/JSON; charset=utf-8"},
        {**DELIBERATE, b"origin": b"http://GW:8080"},
    ],
)
def test_what_was_meant_is_done(headers):
    client = Client()
    assert client("POST", DRAIN, headers, EVERYBODY)[0] == 200
    assert client.fleet.rows["one"]["state"] == "draining"


@pytest.mark.parametrize(
    "origin", [b"https://evil.test", b"null", b"", b"http://gw:8080.evil.test", b"http://gw"]
)
def test_a_page_of_another_site_neither_reads_nor_changes(origin):
    """Even where server.cors lets every page ask."""
    client = Client()
    for method, path in (("GET", "/admin/api/requests"), ("POST", DRAIN)):
        status, message = client(method, path, {**DELIBERATE, b"origin": origin}, EVERYBODY)
        assert status == 403 and "other sites" in message
    assert client.fleet.rows["one"]["state"] == "up"

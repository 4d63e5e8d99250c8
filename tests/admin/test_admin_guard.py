"""What a page in a manager's browser cannot do."""

from __future__ import annotations

import pytest

from ghostllm.policy.keyless import OWNER
from tests.admin.fakes import Client

DRAIN = "/admin/api/backends/one/drain"
DELIBERATE = {b"x-ghostllm-admin": b"1"}


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
    status, message = client("POST", DRAIN, headers, OWNER)
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
    assert client("POST", DRAIN, headers, OWNER)[0] == 200
    assert client.fleet.rows["one"]["state"] == "draining"


@pytest.mark.parametrize(
    "origin", [b"https://evil.test", b"null", b"", b"http://gw:8080.evil.test", b"http://gw"]
)
def test_a_page_of_another_site_neither_reads_nor_changes(origin):
    """Even where server.cors lets every page ask."""
    client = Client()
    for method, path in (("GET", "/admin/api/requests"), ("POST", DRAIN)):
        status, message = client(method, path, {**DELIBERATE, b"origin": origin}, OWNER)
        assert status == 403 and "other sites" in message
    assert client.fleet.rows["one"]["state"] == "up"

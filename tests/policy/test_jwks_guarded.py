"""The keys of issuers are fetched by the guarded client: hosts of the configuration may be anywhere, what a
document or a redirect names may not.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from ghostllm.config.outbound import Outbound
from ghostllm.net.guarded import guarded_client
from ghostllm.policy.issuers import World, hosts
from ghostllm.policy.jwks import MOST_BYTES, KeySource
from tests.net.peers import read_request, upstream
from tests.policy.issuer import RSA_KEY, configured, jwk

KEYS = json.dumps({"keys": [jwk(RSA_KEY)]}).encode()


def test_the_hosts_that_the_configuration_names():
    issuers = [
        configured(jwks_url="https://Keys.example:8443/a"),
        configured(issuer="http://id.lan/realm", jwks_url="", discovery=True),
        configured(jwks_url="", jwks_file="keys.json"),
    ]
    assert hosts(issuers) == ["keys.example", "id.lan"]


def fetched(pages, *, discovery=True, trusted=True, **outbound):
    """What the key source of an issuer on this machine reports. HERE in a page is where it is."""
    reports = []

    async def main():
        async def handle(reader, writer, number):
            head, _ = await read_request(reader)
            said = pages[head.split()[1].decode()].replace(b"HERE", f"http://127.0.0.1:{port}".encode())
            if not said.startswith(b"HTTP/"):
                said = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said
            writer.write(said)
            await reader.read()

        async with upstream(handle) as port:
            here = f"http://127.0.0.1:{port}"
            issuer = configured(
                issuer=here, jwks_url="" if discovery else f"{here}/keys", discovery=discovery
            )
            also = hosts([issuer]) if trusted else []
            client = guarded_client(Outbound(**outbound), MOST_BYTES, also)
            source = KeySource(issuer, World(fetch=client.body, report=lambda name, why: reports.append(why)))
            await source.refresh()
            return source.loaded

    return asyncio.run(main()), reports


def discovered(address):
    return {
        "/.well-known/openid-configuration": b'{"issuer": "HERE", "jwks_uri": "%b"}' % address,
        "/keys": KEYS,
    }


def test_a_host_of_the_configuration_may_be_on_this_machine():
    assert fetched({"/keys": KEYS}, discovery=False) == (True, [])
    assert fetched(discovered(b"HERE/keys")) == (True, [])


def test_where_it_is_not_named_it_is_refused():
    loaded, (reason,) = fetched({"/keys": KEYS}, discovery=False, trusted=False)
    assert not loaded and "this machine" in reason


@pytest.mark.parametrize(
    "address",
    [b"http://169.254.169.254/keys", b"http://[::1]:1/keys", b"http://10.0.0.7/keys", b"http://2130706433/keys",
     b"http://localhost:1/keys", b"http://user:pw@id.example/keys"],
)  # fmt: skip
def test_a_document_leads_to_no_address_inside(address):
    loaded, (reason,) = fetched(discovered(address))
    assert not loaded and ("is not to be reached" in reason or "an address" in reason or "IPv4" in reason)


def test_nor_does_a_redirect():
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    loaded, (reason,) = fetched({"/keys": moved}, discovery=False)
    assert not loaded and "link-local" in reason


def test_a_set_of_keys_has_an_end():
    loaded, (reason,) = fetched({"/keys": b"x" * (MOST_BYTES + 1)}, discovery=False)
    assert not loaded and "exceeds" in reason

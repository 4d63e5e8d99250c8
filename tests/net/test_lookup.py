"""Addresses of names, open ports, and what leads back to this process."""

import asyncio
import ipaddress
import socket

import pytest

from ghostllm.net import loop
from ghostllm.net.address import parse_origin
from ghostllm.net.lookup import addresses, is_open, leads_here


def test_localhost_has_addresses_of_this_machine():
    found = loop.run(addresses("localhost"))
    assert found == sorted(set(found)) and found
    assert all(ipaddress.ip_address(host).is_loopback for host in found)


def test_an_address_is_its_own_name():
    assert loop.run(addresses("127.0.0.9")) == ["127.0.0.9"]


@pytest.mark.parametrize("name", ["no-such-name.invalid", "x" * 70 + ".invalid", "a..b"])
def test_a_name_that_is_none(name):
    with pytest.raises(OSError) as caught:
        loop.run(addresses(name))
    assert caught.value.strerror


def test_a_port_is_open_or_not():
    async def look():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        before = await is_open("127.0.0.1", port, 5)
        server.close()
        await server.wait_closed()
        return before, await is_open("127.0.0.1", port, 5)

    assert loop.run(look()) == (True, False)


@pytest.mark.parametrize(
    ("url", "bound", "here"),
    [
        ("http://127.0.0.1:8080", ["127.0.0.1:8080"], True),
        ("http://localhost:8080/v1", ["127.0.0.1:8080"], True),
        ("http://LOCALHOST.:8080/v1", ["[::1]:8080"], True),
        ("http://[::1]:8080", ["127.0.0.1:8080", "[::1]:8080"], True),
        ("http://[0:0::1]:8080", ["[::1]:8080"], True),
        ("http://[::ffff:127.0.0.1]:8080", ["127.0.0.1:8080"], True),
        ("http://127.0.0.1", ["0.0.0.0:80"], True),
        ("https://127.0.0.1", ["0.0.0.0:443"], True),
        ("http://0.0.0.0:8080", ["127.0.0.1:8080"], True),
        ("http://127.0.0.1:8080", ["0.0.0.0:8080"], True),
        ("http://127.0.0.1:8080", ["[::]:8080"], True),
        (f"http://{socket.gethostname()}:8080", ["[::]:8080"], True),
        ("http://127.0.0.1:8081", ["127.0.0.1:8080"], False),
        ("http://127.0.0.2:8080", ["127.0.0.1:8080"], False),
        ("http://[::1]:8080", ["127.0.0.1:8080"], False),
        ("http://[::1]:8080", ["0.0.0.0:8080"], False),
        ("http://192.0.2.1:8080", ["0.0.0.0:8080", "[::]:8080"], False),
        ("http://gpu.example:8080", ["0.0.0.0:8080"], False),
        ("http://127.0.0.1:8080", [], False),
    ],
)
def test_what_leads_here(url, bound, here):
    assert leads_here(parse_origin(url), bound) is here

"""The client for addresses that somebody else has chosen, against real servers on this machine."""

import asyncio
import contextlib
import gzip
import ssl

import pytest

from ghostllm.errors import AddressRefused, FetchFailed
from ghostllm.net import loop
from ghostllm.net.guarded import Bounds, GuardedClient
from ghostllm.net.reach import Reach
from ghostllm.net.tls import client_context
from tests.net.peers import read_request, until, upstream
from tests.net.test_tls import certificate  # noqa: F401

HERE = Reach(["127.0.0.0/8"])


def answer(body=b"ok", status="200 OK", **fields):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def get(url, said, *, reach=HERE, bounds=None, names=None, heads=None, seen=None, tls=None):
    """Fetches `url`, in which PORT is the server's. said: what it answers, one for each connection. names:
    what lookups give, one after the other, the last for ever.
    """
    answers = list(said)
    left = {name: list(found) for name, found in (names or {}).items()}

    async def lookup(name):
        found = left[name]
        if seen is not None:
            seen.append(name)
        return found.pop(0) if len(found) > 1 else found[0]

    async def handle(reader, writer, number):
        head, _ = await read_request(reader)
        if heads is not None:
            heads.append(head.decode())
        port = writer.get_extra_info("sockname")[1]
        writer.write(answers[min(number, len(answers)) - 1].replace(b"PORT", str(port).encode()))
        await reader.read()

    async def main():
        async with upstream(handle) as port:
            client = GuardedClient(
                reach, bounds or Bounds(seconds=5.0, bytes=1000, redirects=3), tls=tls, lookup=lookup
            )
            return await client.get(url.replace("PORT", str(port)))

    return loop.run(main())


def refused(*args, **kwargs):
    with pytest.raises((AddressRefused, FetchFailed)) as error:
        get(*args, **kwargs)
    return error.value


# --- where it goes


def test_an_allowed_address_is_asked_and_told_nothing_but_the_request():
    heads = []
    found = get("http://127.0.0.1:PORT/a%20b?c", [answer(content_type="image/png")], heads=heads)
    assert (found.status, found.body, found.headers[b"content-type"]) == (200, b"ok", b"image/png")
    lines = heads[0].split("\r\n")
    assert lines[0] == "GET /a%20b?c HTTP/1.1"
    assert {line.partition(":")[0] for line in lines[1:] if line} == {
        "host", "accept", "accept-encoding", "user-agent",
    }  # fmt: skip


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://localhost.:PORT/"]
)
def test_this_machine_is_refused_by_default(url):
    heads = []
    error = refused(url, [answer()], reach=Reach(), heads=heads, names={"localhost": [["127.0.0.1"]]})
    assert isinstance(error, AddressRefused) and "this machine" in error.message
    assert "outbound.allow" in error.message and heads == []


def test_a_name_is_judged_by_its_addresses():
    error = refused("http://inside.example/", [], reach=Reach(), names={"inside.example": [["10.0.0.7"]]})
    assert isinstance(error, AddressRefused) and "10.0.0.7" not in error.message


def test_of_several_addresses_only_the_open_ones_are_tried():
    names = {"both.example": [["127.0.0.1", "10.0.0.7", "::1"]]}
    assert get("http://both.example:PORT/", [answer()], names=names).body == b"ok"


def test_the_next_address_is_tried_where_one_takes_no_connection():
    names = {"two.example": [["127.0.0.1", "127.0.0.2"]]}

    async def main():
        async def handle(reader, writer, number):
            await read_request(reader)
            writer.write(answer())
            await reader.read()
            writer.close()

        server = await asyncio.start_server(lambda r, w: handle(r, w, 0), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]

        async def lookup(name):
            return names[name][0]

        try:
            client = GuardedClient(HERE, Bounds(), lookup=lookup)
            return await client.body(f"http://two.example:{port}/")
        finally:
            server.close()
            await asyncio.sleep(0.05)

    assert loop.run(main()) == b"ok"


def test_the_address_that_was_looked_at_is_the_one_connected_to():
    """DNS rebinding: a resolver that says another thing the second time is not asked a second time."""
    names = {"rebind.example": [["127.0.0.1"], ["10.0.0.7"]]}
    seen, heads = [], []
    found = get("http://rebind.example:PORT/", [answer()], names=names, seen=seen, heads=heads)
    assert found.body == b"ok" and seen == ["rebind.example"]
    assert "\r\nhost: rebind.example:" in heads[0]


def test_rebinding_between_redirects_is_seen():
    names = {"rebind.example": [["127.0.0.1"], ["10.0.0.7"]]}
    again = [answer(status="302 Found", location="http://rebind.example:PORT/b")]
    error = refused("http://rebind.example:PORT/a", again, names=names)
    assert isinstance(error, AddressRefused) and "private network" in error.message


def test_a_name_that_leads_nowhere():
    async def lookup(name):
        raise OSError(None, "no such name")

    async def main():
        for client in (
            GuardedClient(HERE, Bounds(), lookup=lookup),
            GuardedClient(HERE, Bounds(), lookup=empty),
        ):
            with pytest.raises(FetchFailed, match="cannot be looked up|has no address"):
                await client.body("http://gone.example/")

    async def empty(name):
        return []

    loop.run(main())


# --- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed(status):
    said = [answer(status=status, location="/b?c"), answer(b"there")]
    heads = []
    assert get("http://127.0.0.1:PORT/a", said, heads=heads).body == b"there"
    assert heads[1].startswith("GET /b?c ")


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data/", "http://[::1]:PORT/", "file:///etc/passwd",
     "http://0x7f.1:PORT/", "//u:p@127.0.0.1:PORT/", "http://[fd00:ec2::254]/"],
)  # fmt: skip
def test_a_redirect_is_looked_at_like_the_first_address(location):
    heads = []
    said = [answer(status="302 Found", location=location), answer(b"secret")]
    assert isinstance(refused("http://127.0.0.1:PORT/", said, heads=heads), AddressRefused)
    assert len(heads) == 1


def test_redirects_end():
    round_and_round = [answer(status="302 Found", location="/again")]
    heads = []
    error = refused("http://127.0.0.1:PORT/", round_and_round, heads=heads)
    assert error.message == "more than 3 redirects" and len(heads) == 4
    assert "nowhere" in refused("http://127.0.0.1:PORT/", [answer(status="302 Found")]).message


def test_no_redirect_is_followed_where_none_is_allowed():
    said = [answer(status="302 Found", location="/b"), answer()]
    bounds = Bounds(seconds=5.0, redirects=0)
    assert "more than 0 redirects" in refused("http://127.0.0.1:PORT/", said, bounds=bounds).message


# --- how much and how long


def test_the_size_is_limited_whether_declared_or_not():
    assert "exceeds 1000 bytes" in refused("http://127.0.0.1:PORT/", [answer(b"x" * 1001)]).message
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    assert "exceeds 1000 bytes" in refused("http://127.0.0.1:PORT/", [endless]).message
    assert len(get("http://127.0.0.1:PORT/", [answer(b"x" * 1000)]).body) == 1000


def test_a_compressed_body_counts_as_what_it_becomes():
    small = gzip.compress(b"x" * 900)
    assert get("http://127.0.0.1:PORT/", [answer(small, content_encoding="gzip")]).body == b"x" * 900
    bomb = gzip.compress(b"x" * 100_000)
    assert "exceeds" in refused("http://127.0.0.1:PORT/", [answer(bomb, content_encoding="gzip")]).message


@pytest.mark.parametrize("silent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"])
def test_one_time_limit_is_for_all_of_it(silent):
    bounds = Bounds(seconds=0.3)
    error = refused("http://127.0.0.1:PORT/", [silent], bounds=bounds)
    assert isinstance(error, FetchFailed) and "0.3 s" in error.message


def test_who_leaves_leaves_no_connection():
    async def main():
        gone = asyncio.Event()

        async def handle(reader, writer, number):
            await read_request(reader)
            asked.set()
            await reader.read()
            gone.set()

        asked = asyncio.Event()
        async with upstream(handle) as port:
            work = asyncio.ensure_future(GuardedClient(HERE, Bounds()).body(f"http://127.0.0.1:{port}/"))
            await asyncio.wait_for(asked.wait(), 5)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await asyncio.wait_for(gone.wait(), 5)
            await until(lambda: len(asyncio.all_tasks()) <= 2)

    loop.run(main())


# --- what goes wrong


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(status="404 Not Found"), "answered 404"),
        (answer(status="500 Oops"), "answered 500"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "whole answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "127.0.0.1"),
        (answer(content_encoding="brotli"), "brotli"),
    ],
)
def test_failures_are_told_without_path_and_query(said, words):
    bounds = Bounds(seconds=0.5, bytes=1000)
    error = refused("http://127.0.0.1:PORT/private?token=canary", [said], bounds=bounds)
    assert isinstance(error, FetchFailed) and words in error.message
    assert "canary" not in error.message and "private" not in error.message


def test_the_environments_proxy_is_not_asked(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert get("http://127.0.0.1:PORT/", [answer()]).body == b"ok"


def tls_get(certificate, host, tls):  # noqa: F811
    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await read_request(reader)
            writer.write(answer())
            await reader.read()
        writer.close()

    async def lookup(name):
        return ["127.0.0.1"]

    async def main():
        side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        side.load_cert_chain(*certificate)
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=side)
        port = server.sockets[0].getsockname()[1]
        try:
            return await GuardedClient(HERE, Bounds(), tls=tls, lookup=lookup).body(f"https://{host}:{port}/")
        finally:
            server.close()
            await asyncio.sleep(0.05)

    return loop.run(main())


def test_https_is_verified_against_the_name_not_the_address(certificate):  # noqa: F811
    trusting = client_context(ca_file=certificate[0])
    assert tls_get(certificate, "127.0.0.1", trusting) == b"ok"
    for host, context in (("other.example", trusting), ("127.0.0.1", None)):
        with pytest.raises(FetchFailed, match="certificate does not verify"):
            tls_get(certificate, host, context)

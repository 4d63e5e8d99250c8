"""The upstream client against raw servers that misbehave in every way a server can."""

import asyncio

import pytest

from ghostllm.errors import (
    UpstreamConnectError,
    UpstreamCut,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ghostllm.message import UpstreamRequest
from ghostllm.net import loop
from ghostllm.net.address import Origin
from ghostllm.net.client import Client, TimeLimits
from tests.net.peers import read_request, until, upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LIMITS = TimeLimits(5, 5, 5, 5, 0)


class Recorder:
    """A sink that remembers. A data error can be planted."""

    def __init__(self):
        self.status = None
        self.body = b""
        self.outcome = asyncio.get_running_loop().create_future()
        self.plant = None

    def whole(self, head, body):
        return False

    def head(self, head):
        self.status = head.status

    def data(self, data):
        if self.plant:
            raise self.plant
        self.body += data

    def end(self):
        self.outcome.set_result("ended")

    def fail(self, error):
        self.outcome.set_result(error)


def run(scenario, handle, **options):
    async def main():
        async with upstream(handle) as port:
            client = Client(Origin(False, "127.0.0.1", port, "/base"), "up", **options)
            try:
                await scenario(client)
            finally:
                await client.close()
            await until(lambda: client.stats.active == 0)

    loop.run(main())


def ask(client, body=b"{}", limits=LIMITS):
    sink = Recorder()
    request = UpstreamRequest("POST", "/v1/x", ((b"authorization", b"Bearer s"),), [body[:1], body[1:]])
    return sink, client.start(request, b"x-request-id: r1\r\n", sink, limits)


def says(*parts, then="keep"):
    """A server that answers each request with `parts`, and closes, resets or keeps the connection."""

    async def handle(reader, writer, number):
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            if then == "close":
                return
            if then == "reset":
                writer.transport.abort()
                return

    return handle


def test_the_request_as_it_arrives_and_the_connection_is_reused():
    seen = []

    async def handle(reader, writer, number):
        while True:
            seen.append((number, await read_request(reader)))
            writer.write(OK)

    async def scenario(client):
        for _ in range(3):
            sink, _ = ask(client)
            assert await sink.outcome == "ended"
            assert (sink.status, sink.body) == (200, b"ok")
        assert client.stats.idle == 1

    run(scenario, handle)
    assert [number for number, _ in seen] == [1, 1, 1]
    head, body = seen[0][1]
    assert head.startswith(b"POST /base/v1/x HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nauthorization: Bearer s\r\n" in head and b"\r\nx-request-id: r1\r\n" in head
    assert b"\r\ncontent-length: 2\r\n" in head and body == b"{}"


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",),
        (b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 5\r\n\r\nhe", b"llo"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r", b"\nllo\r\n0\r\n\r\n"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n",
            b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello",
        ),
    ],
)
def test_answers_in_every_framing(parts):
    async def scenario(client):
        for _ in range(2):
            sink, _ = ask(client)
            assert await sink.outcome == "ended"
            assert sink.body == b"hello"
        assert client.stats.idle == 1

    run(scenario, says(*parts))


def test_an_answer_that_ends_with_its_connection():
    async def scenario(client):
        sink, _ = ask(client)
        assert await sink.outcome == "ended"
        assert sink.body == b"hello"
        assert client.stats.idle == 0

    run(scenario, says(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", then="close"))


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (says(then="close"), UpstreamError),
        (says(then="reset"), UpstreamError),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", then="close"), UpstreamCut),
        (
            says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", then="reset"),
            UpstreamCut,
        ),
        (says(b"SSH-2.0-OpenSSH\r\n\r\n"), UpstreamProtocolError),
        (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), UpstreamProtocolError),
        (
            says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"),
            UpstreamProtocolError,
        ),
        (says(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), UpstreamProtocolError),
        (says(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000), UpstreamProtocolError),
    ],
)
def test_broken_answers_fail_once(handle, error):
    async def scenario(client):
        sink, _ = ask(client)
        assert type(await sink.outcome) is error
        await asyncio.sleep(0.05)
        assert client.stats.idle == 0

    run(scenario, handle)


def test_bytes_after_an_answer_cost_the_connection():
    async def scenario(client):
        sink, _ = ask(client)
        assert await sink.outcome == "ended"
        await until(lambda: client.stats.idle == 0)

    run(scenario, says(OK + b"HTTP/1.1 200 OK\r\n"))


def test_a_stale_connection_is_replaced_once():
    served = []

    async def handle(reader, writer, number):
        await read_request(reader)
        served.append(number)
        if number > 2:
            return
        writer.write(OK)
        await read_request(reader)  # takes the second request and leaves without an answer
        served.append(number)

    async def scenario(client):
        first, _ = ask(client)
        assert await first.outcome == "ended"
        second, _ = ask(client)
        assert await second.outcome == "ended"
        third, _ = ask(client)
        assert isinstance(await third.outcome, UpstreamError)

    run(scenario, handle)
    assert served == [1, 1, 2, 2, 3]


def test_a_reset_on_a_fresh_connection_is_not_retried_here():
    count = []

    async def handle(reader, writer, number):
        await read_request(reader)
        count.append(number)

    async def scenario(client):
        sink, _ = ask(client)
        assert isinstance(await sink.outcome, UpstreamError)

    run(scenario, handle)
    assert count == [1]


def test_nobody_listens():
    async def main():
        async with upstream(says(OK)) as port:
            pass
        client = Client(Origin(False, "127.0.0.1", port), "up")
        sink, _ = ask(client)
        error = await sink.outcome
        assert isinstance(error, UpstreamConnectError) and "'up'" in error.message
        assert client.stats.active == 0
        await client.close()

    loop.run(main())


@pytest.mark.parametrize(
    ("limits", "parts", "limit"),
    [
        (TimeLimits(5, 0.2, 5, 5, 0), (), "head"),
        (TimeLimits(5, 5, 0.2, 5, 0), (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",), "first_token"),
        (TimeLimits(5, 5, 5, 5, 0.2), (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab",), "total"),
    ],
)
def test_time_limits_name_themselves(limits, parts, limit):
    async def scenario(client):
        sink, _ = ask(client, limits=limits)
        error = await sink.outcome
        assert isinstance(error, UpstreamTimeout) and error.limit == limit

    run(scenario, says(*parts))


def test_the_idle_limit_counts_from_the_last_byte_and_not_while_paused():
    async def scenario(client):
        sink, call = ask(client, limits=TimeLimits(5, 5, 5, 0.2, 0))
        await until(lambda: sink.body)
        call.producing()
        call.pause()
        await asyncio.sleep(0.5)
        assert not sink.outcome.done()
        call.resume()
        error = await sink.outcome
        assert isinstance(error, UpstreamTimeout) and error.limit == "idle"

    run(scenario, says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"))


def test_a_stream_that_comes_on_is_never_too_silent():
    """What comes sets the limit back, be it chunks one by one or otherwise cut."""

    async def scenario(client):
        sink, call = ask(client, limits=TimeLimits(5, 5, 5, 1.5, 0))
        await until(lambda: sink.body)
        call.producing()
        assert await sink.outcome == "ended"
        assert sink.body == b"ab" * 40

    async def handle(reader, writer, number):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(40):
            writer.write(b"2\r\nab\r\n" if at % 8 else b"2\r\na")
            await asyncio.sleep(0.05)
            writer.write(b"" if at % 8 else b"b\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    run(scenario, handle)


def test_an_error_of_the_sink_between_two_chunks_fails_the_call_and_its_connection():
    async def scenario(client):
        sink, _ = ask(client)
        await until(lambda: sink.body == b"ab")
        sink.plant = UpstreamProtocolError("not what I wanted")
        assert await sink.outcome is sink.plant
        assert client.stats.active == client.stats.idle == 0

    async def handle(reader, writer, number):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"2\r\ncd\r\n")
            await writer.drain()

    run(scenario, handle)


def test_a_cancelled_call_closes_its_connection_and_says_nothing():
    gone = asyncio.Event()

    async def handle(reader, writer, number):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        assert await reader.read() == b""
        gone.set()

    async def scenario(client):
        sink, call = ask(client)
        await until(lambda: sink.body)
        call.cancel()
        call.cancel()
        await asyncio.wait_for(gone.wait(), 5)
        assert not sink.outcome.done()
        assert client.stats.active == 0

    run(scenario, handle)


def test_cancelled_while_connecting_and_while_waiting_for_a_place():
    async def scenario(client):
        first, call = ask(client)
        call.cancel()
        second, call2 = ask(client)
        waiting, call3 = ask(client)
        assert client.stats.waiting == 1
        call3.cancel()
        assert client.stats.waiting == 0
        fourth, _ = ask(client)
        assert await second.outcome == "ended"
        assert await fourth.outcome == "ended"
        assert not first.outcome.done() and not waiting.outcome.done()

    run(scenario, says(OK), max_connections=1)


def test_an_error_of_the_sink_fails_the_call_and_its_connection():
    async def scenario(client):
        sink, _ = ask(client)
        sink.plant = planted = UpstreamProtocolError("not JSON")
        assert await sink.outcome is planted
        await until(lambda: client.stats.idle == 0)

    run(scenario, says(OK))


def test_idle_connections_expire():
    async def scenario(client):
        sink, _ = ask(client)
        assert await sink.outcome == "ended"
        assert client.stats.idle == 1
        await until(lambda: client.stats.idle == 0)

    run(scenario, says(OK), idle_limit=0.2)


def test_a_paused_call_stops_reading():
    async def handle(reader, writer, number):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n" + b"x" * 30_000_000)
        await writer.drain()

    async def scenario(client):
        sink, call = ask(client)
        await until(lambda: sink.body)
        call.pause()
        await asyncio.sleep(0.1)
        held = len(sink.body)
        await asyncio.sleep(0.1)
        assert len(sink.body) == held < 30_000_000
        call.resume()
        assert await sink.outcome == "ended"
        assert len(sink.body) == 30_000_000

    run(scenario, handle)

"""The server over real sockets, one rule of the connection's life after the other."""

import asyncio
import contextlib
import gc
import socket
import sys

import pytest

from ghostllm.errors import GhostError
from ghostllm.message import Exchange
from ghostllm.net import loop
from ghostllm.net.connection import FORGET_SECONDS, Connection
from tests.net.peers import Echo, read_answer, serving, until

GET = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"


def run(scenario, **options):
    async def main():
        echo = Echo()
        async with serving(echo, **options) as (server, port):
            return await scenario(echo, server, port)

    return loop.run(main())


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port)


async def closed_by_peer(reader):
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


def test_keep_alive_and_pipelining_in_order():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % n for n in range(50)))
        for n in range(50):
            assert (await read_answer(reader))[2] == b"/%d " % n
        writer.write(GET)
        assert (await read_answer(reader))[0] == 200
        writer.close()
        await until(lambda: server.connections == 0)
        assert len(echo.closed_exchanges) == 51

    run(scenario)


class Wire:
    """A transport in memory."""

    def __init__(self):
        self.sent = b""

    def get_extra_info(self, name):
        return ("127.0.0.1", 1)

    def is_closing(self):
        return False

    def write(self, data):
        self.sent += data


def test_what_comes_between_two_pipelined_requests_waits_behind_them():
    async def scenario(echo, server, port):
        echo.answer = lambda exchange, responder: responder.respond(200, (), exchange.request.path.encode())
        connection, wire = Connection(server, asyncio.get_running_loop()), Wire()
        connection.connection_made(wire)

        def receive(data):
            connection.get_buffer(-1)[: len(data)] = data
            connection.buffer_updated(len(data))

        receive(b"".join(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % n for n in range(2)))
        receive(b"GET /2 HTTP/1.1\r\nhost: h\r\n\r\n")  # the first is answered, the second not yet taken up
        for _ in range(5):
            await asyncio.sleep(0)
        assert [answer[-2:] for answer in wire.sent.split(b"HTTP/1.1 200 OK")[1:]] == [b"/0", b"/1", b"/2"]
        connection.connection_lost(None)

    run(scenario)


def test_what_an_idle_connection_remembers_of_its_heads_is_forgotten():
    async def scenario(echo, server, port):
        echo.answer = lambda exchange, responder: responder.respond(200, (), b"")
        connection, headers = Connection(server, asyncio.get_running_loop()), []
        connection.connection_made(Wire())
        for idle in (0, 0, FORGET_SECONDS + 1):
            connection.sweep(connection.loop.time() + idle)
            size = len(GET)
            connection.get_buffer(size)[:size] = GET
            connection.buffer_updated(size)
            headers.append(echo.opened[-1].request.headers)
        connection.connection_lost(None)
        assert headers[0] is headers[1]
        assert headers[1] == headers[2]
        assert headers[1] is not headers[2]

    run(scenario)


def test_a_piece_of_a_stream_goes_out_at_once_and_behind_what_waits():
    async def scenario(echo, server, port):
        begun = []
        echo.answer = lambda exchange, responder: begun.append(responder)
        connection, wire = Connection(server, asyncio.get_running_loop()), Wire()
        connection.connection_made(wire)
        connection.get_buffer(-1)[: len(GET)] = GET
        connection.buffer_updated(len(GET))
        (responder,) = begun
        responder.begin(200, ())
        responder.write(b"one")
        assert wire.sent == b""  # with its head, by the end of the turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.sent.endswith(b"\r\n\r\n3\r\none\r\n")
        responder.write(b"two")
        assert wire.sent.endswith(b"3\r\none\r\n3\r\ntwo\r\n")
        responder.write(b"x" * 100_000)
        assert wire.sent.endswith(b"x\r\n")
        responder.end()
        connection.connection_lost(None)
        responder.write(b"late")
        assert b"late" not in wire.sent

    run(scenario)


def test_a_failed_request_leaves_nothing_to_the_collector():
    def refuse(exchange, responder):
        raise GhostError("no")

    async def scenario(echo, server, port):
        echo.answer = refuse
        gc.collect()
        others = {id(thing) for thing in gc.get_objects() if isinstance(thing, Exchange)}  # of other tests
        gc.disable()
        try:
            reader, writer = await connect(port)
            writer.write(GET)
            assert (await read_answer(reader))[0] == 500
            writer.close()
            await until(lambda: server.connections == 0)
            echo.opened.clear()
            echo.closed_exchanges.clear()
            left = [thing for thing in gc.get_objects() if isinstance(thing, Exchange)]
            assert {id(thing) for thing in left} <= others
        finally:
            gc.enable()

    run(scenario)


def test_a_request_may_come_byte_by_byte():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        for byte in b"\r\nPOST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello" + GET:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_answer(reader))[2] == b"/p hello"
        assert (await read_answer(reader))[2] == b"/x "
        writer.close()

    run(scenario)


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_bodies_by_length(size):
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        writer.write(b"POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % size + body + GET)
        assert (await read_answer(reader))[2] == b"/p " + body
        assert (await read_answer(reader))[2] == b"/x "
        writer.close()

    run(scenario)


def test_bodies_in_chunks():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        head = b"POST /p HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"3\r\nabc\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"2;ext=1\r\nde\r\n0\r\ntrailer: x\r\n\r\n" + GET)
        assert (await read_answer(reader))[2] == b"/p abcde"
        assert (await read_answer(reader))[2] == b"/x "
        writer.write(head + b"0x3\r\nabc\r\n")
        status, answer, _ = await read_answer(reader)
        assert status == 400 and b"connection: close" in answer
        assert await closed_by_peer(reader) == b""
        writer.close()

    run(scenario)


def test_expect_100_continue_is_answered_when_the_body_is_wanted():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        head = b"POST %s HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        writer.write(head % b"/p")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await read_answer(reader))[2] == b"/p ok"
        writer.write(head % b"/refused")
        assert (await read_answer(reader))[0] == 500
        assert await closed_by_peer(reader) == b""
        writer.close()

    run(scenario)


def test_a_refused_request_keeps_its_connection_when_its_body_is_small():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"POST /refused HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc" + GET)
        assert (await read_answer(reader))[0] == 500
        assert (await read_answer(reader))[2] == b"/x "
        writer.write(b"POST /refused HTTP/1.1\r\nhost: h\r\ncontent-length: 999999\r\n\r\nabc")
        status, head, _ = await read_answer(reader)
        assert status == 500 and b"connection: close" in head
        assert await closed_by_peer(reader) == b""
        writer.close()

    run(scenario)


def test_streams_are_chunked_and_an_http_1_0_client_gets_none():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.1\r\nhost: h\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head and b"content-length" not in head
        body = b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"
        assert await reader.readexactly(len(body)) == body
        writer.close()
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = (await closed_by_peer(reader)).partition(b"\r\n\r\n")
        assert b"chunked" not in head and body == b"one two three"
        writer.close()

    run(scenario)


def test_head_gets_the_head_of_get():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"HEAD /x HTTP/1.1\r\nhost: h\r\n\r\n" + GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 3" in head
        assert (await read_answer(reader))[2] == b"/x "
        writer.close()

    run(scenario)


def test_a_client_that_leaves_cancels_its_request():
    async def scenario(echo, server, port):
        for leave in ("close", "abort", "half-close"):
            _, writer = await connect(port)
            writer.write(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n")
            before = len(echo.opened)
            await until(lambda before=before: len(echo.opened) > before)
            if leave == "close":
                writer.close()
            elif leave == "abort":
                writer.transport.abort()
            else:
                writer.write_eof()
            await until(lambda: server.connections == 0)
            writer.close()
        await until(lambda: len(echo.closed_exchanges) == 3)
        assert echo.cancelled == 3
        assert {exchange.outcome for exchange in echo.closed_exchanges} == {"cancelled"}

    run(scenario)


def test_a_client_that_leaves_while_sending_its_body_is_accounted_for():
    async def scenario(echo, server, port):
        _, writer = await connect(port)
        writer.write(b"POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nhalf")
        await until(lambda: echo.opened)
        writer.close()
        await until(lambda: echo.closed_exchanges)
        assert echo.closed_exchanges[0].outcome == "cancelled"

    run(scenario)


def test_a_failing_handler_is_a_500_and_is_reported():
    reports = []

    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"GET /boom HTTP/1.1\r\nhost: h\r\n\r\n" + GET)
        status, _, body = await read_answer(reader)
        assert status == 500 and b"boom" not in body
        assert (await read_answer(reader))[2] == b"/x "
        writer.close()

    run(scenario, reports=reports)
    assert [str(error) for _, error in reports] == ["boom"]


@pytest.mark.parametrize(
    ("limits", "sent", "status"),
    [
        ({"head_bytes": 200}, b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"y" * 300, 431),
        ({"head_bytes": 200}, b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"y" * 300 + b"\r\n\r\n", 431),
        ({"header_count": 3}, b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a: 1\r\n" * 3 + b"\r\n", 431),
        ({"target_bytes": 20}, b"GET /" + b"z" * 30 + b" HTTP/1.1\r\nhost: h\r\n\r\n", 414),
        ({"body_bytes": 10}, b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 11\r\n\r\n", 413),
        (
            {"body_bytes": 10},
            b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n",
            413,
        ),
        ({}, b"GET / HTTP/1.1\nhost: h\n\n", 400),
        ({}, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_limits_are_told_and_the_server_goes_on(limits, sent, status):
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(sent)
        got, head, _ = await read_answer(reader)
        assert got == status and b"connection: close" in head
        assert await closed_by_peer(reader) == b""
        writer.close()
        reader, writer = await connect(port)
        writer.write(GET)
        assert (await read_answer(reader))[0] == 200
        writer.close()

    run(scenario, limits=limits)


@pytest.mark.parametrize(
    ("timeouts", "sent", "status"),
    [
        ({"header": 0.2}, b"GET / HT", 408),
        ({"body": 0.2}, b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nab", 408),
        ({"body": 0.2}, b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", 408),
        ({"idle": 0.2}, b"", None),
        ({"idle": 0.2}, GET, 200),
    ],
)
def test_slow_clients_are_cut(timeouts, sent, status):
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(sent)
        if status is not None:
            assert (await read_answer(reader))[0] == status
        assert await closed_by_peer(reader) == b""
        writer.close()
        await until(lambda: server.connections == 0)

    run(scenario, timeouts=timeouts)


def test_too_many_connections_are_told_so():
    async def scenario(echo, server, port):
        kept = [await connect(port) for _ in range(2)]
        await until(lambda: server.connections == 2)
        reader, writer = await connect(port)
        assert (await read_answer(reader))[0] == 503
        writer.close()
        reader, writer = kept[0]
        writer.write(GET)
        assert (await read_answer(reader))[0] == 200
        for _, writer in kept:
            writer.close()

    run(scenario, limits={"connections": 2})


class Firehose:
    """A source that produces as long as it is not paused."""

    def __init__(self):
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.pauses = self.sent = 0

    def pause(self):
        self.pauses += 1
        self.flowing.clear()

    def resume(self):
        self.flowing.set()

    async def run(self, responder, limit=20_000_000):
        while self.sent < limit:
            await self.flowing.wait()
            responder.write(b"x" * 50_000)
            self.sent += 50_000
            await asyncio.sleep(0)


def test_a_slow_reader_pauses_its_source_and_gets_everything():
    async def scenario(echo, server, port):
        echo.source = hose = Firehose()
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        await until(lambda: hose.pauses)
        assert hose.sent < 20_000_000
        received = await reader.read()
        assert received.partition(b"\r\n\r\n")[2] == b"one two three" + b"x" * 20_000_000
        writer.close()

    run(scenario)


def test_a_reader_that_stops_is_cut_after_the_write_limit():
    async def scenario(echo, server, port):
        echo.source = hose = Firehose()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
            await until(lambda: hose.pauses)
            await until(lambda: server.connections == 0)
            await until(lambda: echo.cancelled == 1)

    run(scenario, timeouts={"write": 0.2})


def test_a_reader_that_never_stops_and_is_too_slow_is_cut_all_the_same():
    async def scenario(echo, server, port):
        echo.source = hose = Firehose()
        with small_window(port) as client:
            client.setblocking(False)
            client.send(b"GET /stream HTTP/1.0\r\n\r\n")
            await until(lambda: hose.pauses)

            def taken_and_gone():
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    client.recv(2000)
                return server.connections == 0

            await until(taken_and_gone)
            await until(lambda: echo.cancelled == 1)

    run(scenario, timeouts={"write": 0.3}, limits={"client_rate": 10_000_000})


@pytest.mark.parametrize("request_line", [b"GET /big HTTP/1.1\r\nconnection: close", b"GET /big HTTP/1.1"])
def test_a_client_that_leaves_the_rest_of_its_answer_is_cut(request_line):
    """Less than what would block the writer, so that only the end of the connection waits for it."""

    async def scenario(echo, server, port):
        echo.answer = lambda exchange, responder: responder.respond(200, (), b"x" * 60_000)
        with small_window(port) as client:
            client.sendall(request_line + b"\r\nhost: h\r\n\r\n")
            await until(lambda: len(echo.closed_exchanges) >= 1)
            await until(lambda: server.connections == 0)
            with pytest.raises(ConnectionResetError):  # nor does the kernel keep it for the client
                while client.recv(100_000):
                    pass

    run(scenario, timeouts={"write": 0.3, "idle": 0.3})


def small_window(port):
    """A client whose peer can send it next to nothing that it does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    if sys.platform == "linux":
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("127.0.0.1", port))
    return client


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"content-length: 100000", b"x"), (b"transfer-encoding: chunked", b"1\r\nx\r\n")],
)
def test_a_body_that_drips_is_cut_although_it_never_stops(head, piece):
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"POST / HTTP/1.1\r\nhost: h\r\n" + head + b"\r\n\r\n")

        def dripping():
            writer.write(piece)
            return echo.closed_exchanges

        await until(dripping)
        assert (await read_answer(reader))[0] == 408
        assert await closed_by_peer(reader) == b""
        writer.close()
        await until(lambda: server.connections == 0)

    run(scenario, timeouts={"body": 0.3})


# --- proxies in front, and what an address may have

PROXY = {"trusted_proxies": ("127.0.0.0/8",)}


def test_a_trusted_proxy_says_whose_request_it_is():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        for forwarded in (b"198.51.100.7", b"6.6.6.6, 2001:db8::1", b"unknown"):
            writer.write(b"GET /x HTTP/1.1\r\nhost: h\r\nx-forwarded-for: " + forwarded + b"\r\n\r\n")
            await read_answer(reader)
        writer.write(GET)
        await read_answer(reader)
        writer.close()
        peers = [exchange.request.peer for exchange in echo.opened]
        assert peers == ["198.51.100.7", "2001:db8::1", "127.0.0.1", "127.0.0.1"]

    run(scenario, **PROXY)


def test_nobody_else_does():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(b"GET /x HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 6.6.6.6\r\n\r\n")
        await read_answer(reader)
        writer.write(b"PROXY TCP4 6.6.6.6 192.0.2.2 1 2\r\n" + GET)
        assert (await read_answer(reader))[0] == 400
        writer.close()
        assert echo.opened[0].request.peer == "127.0.0.1"

    run(scenario)
    run(scenario, trusted_proxies=("192.0.2.0/24",), proxy_protocol=True)


def preface(address):
    return f"PROXY TCP{6 if ':' in address else 4} {address} {address} 1 2\r\n".encode()


def test_the_proxy_protocol_names_the_client_of_a_connection_whatever_the_pieces():
    async def scenario(echo, server, port):
        whole = preface("198.51.100.7") + GET
        for cut in range(len(whole) + 1):
            reader, writer = await connect(port)
            writer.write(whole[:cut])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            writer.write(whole[cut:])
            assert (await read_answer(reader))[0] == 200
            writer.close()
        assert {exchange.request.peer for exchange in echo.opened} == {"198.51.100.7"}
        await until(lambda: server.connections == 0)
        assert not len(server.guests.connections) and not len(server.guests.streams)

    run(scenario, **PROXY, proxy_protocol=True)


def test_a_proxy_that_does_not_introduce_its_connection_is_refused():
    async def scenario(echo, server, port):
        reader, writer = await connect(port)
        writer.write(GET)
        status, _, words = await read_answer(reader)
        assert status == 400 and b"PROXY protocol" in words
        assert await closed_by_peer(reader) == b""
        writer.close()
        reader, writer = await connect(port)
        writer.write(b"PROXY TCP4 ")
        assert (await read_answer(reader))[0] == 408
        writer.close()
        assert not echo.opened

    run(scenario, timeouts={"header": 0.2}, **PROXY, proxy_protocol=True)


def test_connections_of_one_address_are_limited_and_given_back():
    async def scenario(echo, server, port):
        inside = []
        for _ in range(3):
            reader, writer = await connect(port)
            writer.write(preface("2001:db8::1") + GET)
            assert (await read_answer(reader))[0] == 200
            inside.append(writer)
        reader, writer = await connect(port)
        writer.write(preface("2001:db8::2") + GET)  # of the same /64
        status, head, words = await read_answer(reader)
        assert status == 429 and b"limit 3" in words and b"connection: close" in head
        assert await closed_by_peer(reader) == b""
        writer.close()
        reader, other = await connect(port)
        other.write(preface("2001:db8:0:1::1") + GET)
        assert (await read_answer(reader))[0] == 200
        for writer in (*inside, other):
            writer.close()
        await until(lambda: server.connections == 0)
        assert not len(server.guests.connections)
        reader, writer = await connect(port)
        writer.write(preface("2001:db8::2") + GET)
        assert (await read_answer(reader))[0] == 200
        writer.close()

    run(scenario, limits={"connections_per_address": 3}, **PROXY, proxy_protocol=True)


def test_requests_in_flight_of_one_address_are_limited_and_given_back():
    slow = b"GET /slow HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 198.51.100.7\r\n\r\n"
    post = b"POST /p HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 198.51.100.7\r\ncontent-length: 2\r\n\r\nok"

    async def scenario(echo, server, port):
        gone, stays = await connect(port), await connect(port)
        gone[1].write(slow)
        stays[1].write(slow)
        await until(lambda: len(echo.opened) == 2)
        reader, writer = await connect(port)
        for _ in range(2):  # refused, and the connection is kept: it may be another client's
            writer.write(post)
            status, _, words = await read_answer(reader)
            assert status == 429 and b"limit 2" in words
        writer.write(post.replace(b"100.7", b"100.8"))
        assert (await read_answer(reader))[0] == 200
        gone[1].transport.abort()
        await until(lambda: echo.cancelled == 1)
        writer.write(post)
        assert (await read_answer(reader))[0] == 200
        echo.release.set()
        assert (await read_answer(stays[0]))[0] == 200
        assert not len(server.guests.streams)
        for _, each in (stays, (reader, writer)):
            each.close()

    run(scenario, limits={"streams_per_address": 2}, **PROXY)


def test_drain_finishes_what_is_under_way_and_refuses_the_rest():
    async def scenario(echo, server, port):
        busy_reader, busy_writer = await connect(port)
        busy_writer.write(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n")
        idle_reader, idle_writer = await connect(port)
        await until(lambda: echo.opened and server.connections == 2)
        closing = asyncio.create_task(server.close(5))
        assert await closed_by_peer(idle_reader) == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        echo.release.set()
        assert (await read_answer(busy_reader))[2] == b"/slow "
        await closing
        busy_writer.close()
        idle_writer.close()

    run(scenario)


def test_drain_ends_at_its_limit():
    async def scenario(echo, server, port):
        _, writer = await connect(port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n")
        await until(lambda: echo.opened)
        await server.close(0.1)
        assert server.connections == 0
        await until(lambda: echo.cancelled == 1)
        writer.close()

    run(scenario)


def test_a_client_that_leaves_at_once_is_accounted_for_although_its_task_never_ran():
    async def scenario(echo, server, port):
        request = b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n"
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(request)
        await until(lambda: len(echo.closed_exchanges) == len(echo.opened) and server.connections == 0)
        assert {exchange.outcome for exchange in echo.closed_exchanges} <= {"cancelled"}

    run(scenario)

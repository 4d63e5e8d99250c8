"""The server's addresses and limits change while it runs."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from ghostllm.config.schema import Limits, Server, ServerTimeouts
from ghostllm.net import loop
from ghostllm.net import server as net
from tests.fakes.ports import free_port
from tests.net.peers import Echo, read_answer, serving, until

GET = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"


def free(host="127.0.0.1"):
    return f"{host}:{free_port(host)}"


def run(scenario):
    async def main():
        async with serving(Echo()) as (server, port):
            await scenario(server, port)

    loop.run(main())


async def connect(address):
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def ask(reader, writer):
    writer.write(GET)
    return (await read_answer(reader))[0]


async def change(server, config):
    with ExitStack() as undo:
        commit = server.prepare(config, undo)
        undo.pop_all()
    await commit()


def test_what_is_prepared_and_abandoned_leaves_nothing():
    async def scenario(server, port):
        address = free()
        with ExitStack() as undo:
            server.prepare(Server(listen=("127.0.0.1:0", address)), undo)
        with pytest.raises(OSError):
            await connect(address)
        assert server.bound == [f"127.0.0.1:{port}"]
        reader, writer = await connect(server.bound[0])
        assert await ask(reader, writer) == 200
        writer.close()

    run(scenario)


def test_who_comes_before_the_change_is_served_after_it():
    async def scenario(server, port):
        address = free()
        with ExitStack() as undo:
            commit = server.prepare(Server(listen=(address,), limits=Limits(body_bytes=1)), undo)
            undo.pop_all()
        reader, writer = await connect(address)  # the system has taken it, nobody else yet
        writer.write(GET)
        await asyncio.sleep(0)
        assert server.connections == 0 and server.body_limit > 1
        await commit()
        assert server.body_limit == 1
        assert (await read_answer(reader))[0] == 200
        writer.close()

    run(scenario)


@pytest.mark.parametrize("turns", range(5))
def test_nobody_who_comes_while_a_listener_closes_is_left_without_an_end(turns):
    async def scenario(server, port):
        late = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        for _ in range(turns):  # so far has the loop come with accepting them
            await asyncio.sleep(0)
        [listener] = server._listeners.values()
        await listener.close()
        for each in late:
            each.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=each)
            writer.write(GET)
            try:
                async with asyncio.timeout(20):
                    data = await reader.read(5)
            except ConnectionError:
                data = b""
            assert data in (b"HTTP/", b"")
            writer.close()

    run(scenario)


def test_who_has_just_come_to_an_address_that_goes_is_served():
    async def scenario(server, port):
        old = server.bound[0]
        with ExitStack() as undo:
            commit = server.prepare(Server(listen=(free(),)), undo)
            undo.pop_all()
        late = socket.create_connection(("127.0.0.1", port))  # without a turn of the loop in between
        late.sendall(GET)
        await commit()
        late.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=late)
        assert (await read_answer(reader))[0] == 200
        assert await ask(reader, writer) == 200
        with pytest.raises(OSError):
            await connect(old)
        writer.close()
        await until(lambda: server.connections == 0)

    run(scenario)


def test_limits_hold_for_connections_that_are_there():
    async def scenario(server, port):
        reader, writer = await connect(server.bound[0])
        assert await ask(reader, writer) == 200
        await change(server, Server(listen=("127.0.0.1:0",), timeouts=ServerTimeouts(idle=0.05)))
        assert await reader.read() == b""
        writer.close()

    run(scenario)


def test_one_port_from_interface_to_interface():
    async def scenario(server, port):
        reader, writer = await connect(server.bound[0])
        for address in (f"0.0.0.0:{port}", f"127.0.0.1:{port}", f"127.0.0.2:{port}", f"0.0.0.0:{port}"):
            await change(server, Server(listen=(address,)))
            assert server.bound == [address]
            more = await connect(address.replace("0.0.0.0", "127.0.0.1"))
            assert await ask(*more) == 200 and await ask(reader, writer) == 200
            more[1].close()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            other = net.Server(Echo(), Server(listen=(f"127.0.0.1:{port}",)), print)
            await other.start()
        writer.close()

    run(scenario)


def test_several_times_no_descriptor_stays():
    async def scenario(server, port):
        one, two = free(), free()
        for _ in range(3):
            await change(server, Server(listen=(one,)))
            await change(server, Server(listen=(two, one)))
            with ExitStack() as undo, socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                name = f"127.0.0.1:{taken.getsockname()[1]}"
                with pytest.raises(OSError, match=f"cannot listen on {name}"):
                    server.prepare(Server(listen=(free(), name)), undo)
            assert server.bound == [two, one]

    run(scenario)

"""Looking through a network: what is asked, what is left out."""

import asyncio
import contextlib

from ghostllm.config.finding import Discovery
from ghostllm.net import loop
from ghostllm.routing.discovery.network import AT_ONCE, NetworkSource
from tests.net.peers import until
from tests.routing.discovery.test_sightings import Server
from tests.routing.discovery.watching import Watch, running


@contextlib.asynccontextmanager
async def listening(host, port=0):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Looker:
    """Knows what answers at which URL, and remembers what it was asked."""

    def __init__(self, servers=()):
        self.servers = {server.url: server for server in servers}
        self.asked = []

    async def __call__(self, url):
        self.asked.append(url)
        return self.servers.get(url)


def source(looker, seen, *, own=(), ports=(), **more):
    config = Discovery(timeout=2.0, **{"interval": 0.02, **more})
    return NetworkSource(config, looker, ports, lambda url: url in own, seen.append)


def test_open_ports_are_asked_and_usable_servers_found():
    async def main():
        async with listening("127.0.0.2") as port, listening("127.0.0.3", port):
            url = [f"http://127.0.0.{number}:{port}" for number in range(5)]
            locked = Server(url[3], usable=False)
            looker, seen, watch = Looker([Server(url[2], "ollama"), locked]), [], Watch()
            net = source(looker, seen, network=("127.0.0.0/29", "127.0.0.2/32"), ports=(port,))
            async with running(net, watch):
                await watch.finds({f"ollama-127.0.0.2-{port}": url[2]})
                assert sorted(looker.asked[:2]) == [url[2], url[3]]  # nothing else is open there
                assert seen == [looker.servers[url[2]]]
                looker.servers.clear()
                await watch.finds({})

    loop.run(main())


def test_its_own_address_is_not_asked():
    async def main():
        async with listening("127.0.0.2") as port:
            looker, watch = Looker(), Watch()
            own = (f"http://127.0.0.2:{port}",)
            async with running(source(looker, [], own=own, network=("127.0.0.2/32",), ports=(port,)), watch):
                await until(lambda: len(watch.found) > 1)
        assert looker.asked == []

    loop.run(main())


def test_no_more_addresses_than_allowed_and_never_too_many_at_once():
    async def main():
        async with listening("127.0.0.9") as port:
            now, most, asked = 0, 0, []

            async def look(url):
                nonlocal now, most
                now, most = now + 1, max(most, now + 1)
                asked.append(url)
                await asyncio.sleep(0.001)
                now -= 1

            watch = Watch()
            net = source(look, [], network=("127.0.0.0/8",), ports=(port,), addresses=8, interval=0)
            async with running(net, watch):
                await until(lambda: watch.found)
            assert asked == []  # 127.0.0.9 is the ninth
            net = source(look, [], network=("127.0.0.9/32",), addresses=9, interval=0, ports=(port,) * 200)
            async with running(net, Watch()):
                await until(lambda: len(asked) == 200)
            assert 1 < most <= AT_ONCE

    loop.run(main())


def test_the_usual_ports_where_none_are_named():
    async def main():
        async with listening("127.0.0.2") as port:
            looker, watch = Looker(), Watch()
            config = Discovery(interval=0.0, network=("127.0.0.2/32",))
            async with running(NetworkSource(config, looker, (port,), lambda url: False, print), watch):
                await until(lambda: watch.found)
        assert looker.asked == [f"http://127.0.0.2:{port}"]

    loop.run(main())

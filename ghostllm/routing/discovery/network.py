"""The LLM servers of a network, found by looking at every address: only where somebody has asked for it.

An address that accepts a connection is asked what it is, by GET and without a key.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from ghostllm.config.finding import Discovery
from ghostllm.config.schema import BackendConfig
from ghostllm.net.address import parse_origin
from ghostllm.net.lookup import is_open
from ghostllm.routing.discovery.sightings import Sightings
from ghostllm.routing.discovery.source import Found, Identify, Server, once_each, pause

AT_ONCE = 64
"""Addresses that are being looked at at one time."""


class NetworkSource:
    """ports: looked at where the configuration names none. own: whether a URL is the gateway's."""

    name = "network"

    def __init__(
        self,
        config: Discovery,
        identify: Identify,
        ports: Sequence[int],
        own: Callable[[str], bool],
        seen: Callable[[Server], None],
    ) -> None:
        self._config = config
        self._identify = identify
        self._ports = config.ports or tuple(ports)
        self._own = own
        self._seen = seen
        self._sightings = Sightings()

    def __repr__(self) -> str:
        return f"<NetworkSource {', '.join(self._config.network)} {self._sightings!r}>"

    async def run(self, found: Found) -> None:
        while True:
            for server in self._sightings.look(await self._look()):
                self._seen(server)
            servers = self._sightings.servers
            found(self.name, once_each(map(backend_of, servers)))
            await pause(self._config.interval, known=True)

    async def _look(self) -> list[Server]:
        """The usable servers there are now, in the order of their addresses."""
        places = enumerate(self._places())
        there: dict[int, Server] = {}

        async def work() -> None:
            for number, (host, port) in places:  # shared: each takes the next one
                server = await self._server_at(host, port)
                if server is not None and server.usable:
                    there[number] = server

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        return [there[number] for number in sorted(there)]

    async def _server_at(self, host: str, port: int) -> Server | None:
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if self._own(url) or not await is_open(host, port, self._config.timeout):
            return None
        return await self._identify(url)

    def _places(self) -> Iterator[tuple[str, int]]:
        """Every address and port to look at; where networks overlap, once."""
        known: set[str] = set()
        for network in self._config.network:
            for address in islice(ipaddress.ip_network(network).hosts(), self._config.addresses):
                if (host := str(address)) not in known:
                    known.add(host)
                    for port in self._ports:
                        yield host, port


def backend_of(server: Server) -> BackendConfig:
    origin = parse_origin(server.url)
    return BackendConfig(name=f"{server.kind}-{origin.host}-{origin.port}", kind=server.kind, url=server.url)

"""The LLM servers on this machine, for a gateway that was told of none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ghostllm.config.schema import BackendConfig
from ghostllm.routing.discovery.sightings import Sightings
from ghostllm.routing.discovery.source import Condition, Found, Report, Server, once_each, pause

NAME = "local"
NOTHING = "no LLM server found on this machine"


class LocalSource:
    """find: looks once. seen: told of each server when it is new. interval: seconds between two looks."""

    name = NAME

    def __init__(
        self,
        find: Callable[[], Awaitable[Sequence[Server]]],
        interval: float,
        seen: Callable[[Server], None],
        report: Report,
    ) -> None:
        self._find = find
        self._interval = interval
        self._seen = seen
        self._sightings = Sightings()
        self._condition = Condition(NAME, report)

    def __repr__(self) -> str:
        return f"<LocalSource {self._sightings!r}>"

    async def run(self, found: Found) -> None:
        while True:
            for server in self._sightings.look(await self._find()):
                self._seen(server)
            servers = self._sightings.servers
            if servers:
                self._condition.works()
            else:
                self._condition.fails(NOTHING)
            found(NAME, once_each(map(_backend, servers)))
            await pause(self._interval, known=bool(servers))


def _backend(server: Server) -> BackendConfig:
    return BackendConfig(
        name=f"{server.kind}-{server.url.rpartition(':')[2]}", kind=server.kind, url=server.url
    )

"""The backends there are now: those configured, and those that sources have found.

A *source* gives its whole list again whenever it changes; the fleet works out what that means. A backend
whose configuration is the same is left alone, with its connections and all that is known of it. One that is
gone gets no new request at once, and is closed when the last that it was answering is over.

Two claims to one name, or from two sources to one server, cannot both hold: the configuration wins, then who
has it, then the older source. The loser is reported, and comes in when the winner goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from ghostllm.config.schema import BackendConfig
from ghostllm.net.address import Origin, parse_origin
from ghostllm.routing.upstream import Upstream

CONFIGURED = "configuration"
"""The source of what the configuration lists."""

IDLE_LOOK = 0.25
"""Seconds between two looks at whether a removed backend has finished."""

Claim = tuple[str, BackendConfig]
"""Who says that there is this backend, and what it is."""


class Fleet:
    """upstreams: by name; the same mapping for the gateway's whole life, changed between two turns of the
    loop only.

    make: opens nothing; raises OSError or ValueError for a configuration that cannot be used. close: ends a
    backend that nothing uses any more. added: also for one that took the place of another of its name.
    removed: its name is free now. report: takes a name and why a claim to it was refused.
    """

    def __init__(
        self,
        make: Callable[[BackendConfig], Upstream],
        close: Callable[[Upstream], Awaitable[None]],
        added: Callable[[Upstream], None],
        removed: Callable[[str], None],
        report: Callable[[str, str], None],
    ) -> None:
        self.upstreams: dict[str, Upstream] = {}
        self._make = make
        self._close = close
        self._added = added
        self._removed = removed
        self._report = report
        self._lists: dict[str, tuple[BackendConfig, ...]] = {CONFIGURED: ()}
        self._owners: dict[str, str] = {}  # backend -> the source whose claim holds
        self._refused: dict[tuple[str, str], str] = {}  # (source, backend) -> why, as last reported
        self._own: Callable[[str], bool] = _nobodys
        self._retiring: dict[asyncio.Task[None], Upstream] = {}

    def __repr__(self) -> str:
        return f"<Fleet {len(self.upstreams)} of {len(self._lists)} sources, {len(self._retiring)} retiring>"

    @property
    def backends(self) -> tuple[BackendConfig, ...]:
        """As configured or found, in order of their sources."""
        return tuple(upstream.config for upstream in self.upstreams.values())

    def apply(self, source: str, configs: Sequence[BackendConfig]) -> bool:
        """The whole list that `source` gives now. True: the fleet is another one than before."""
        if self._lists.get(source) == tuple(configs):
            return False
        self._lists[source] = tuple(configs)
        return self._settle()

    def drop(self, source: str) -> bool:
        """A source is no longer asked. Returns as `apply`."""
        return self._lists.pop(source, None) is not None and self._settle()

    def renew(self, fresh: Mapping[str, Upstream]) -> None:
        """These take the place of those of their names, although the configuration is the same."""
        before = dict(self.upstreams)
        self.upstreams.update({name: upstream for name, upstream in fresh.items() if name in before})
        self._announce(before, self.upstreams)

    def refuse(self, own: Callable[[str], bool]) -> bool:
        """own: whether a URL is the gateway's; such a backend would be a circle. Returns as `apply`."""
        self._own = own
        return self._settle()

    async def close(self) -> None:
        """Closes every backend, those that are still answering as well."""
        retiring, self._retiring = dict(self._retiring), {}
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        gone = [*self.upstreams.values(), *retiring.values()]
        self.upstreams.clear()
        for upstream in gone:
            await self._close(upstream)

    # --- who holds

    def _settle(self) -> bool:
        """Makes the fleet what the sources' claims come to."""
        before = dict(self.upstreams)
        refused: dict[tuple[str, str], str] = {}
        wanted = self._winners(refused)
        after: dict[str, Upstream] = {}
        for name, (source, config) in wanted.items():
            upstream = before.get(name)
            if upstream is None or upstream.config != config:
                try:
                    upstream = self._make(config)
                except (OSError, ValueError) as error:  # what it was before goes on, if there was anything
                    refused[source, name] = f"cannot be used: {error}"
            if upstream is not None:
                after[name] = upstream
        self._owners = {name: wanted[name][0] for name in after}
        self._tell(refused)
        if after == before and list(after) == list(before):
            return False
        self.upstreams.clear()
        self.upstreams.update(after)
        self._announce(before, after)
        return True

    def _winners(self, refused: dict[tuple[str, str], str]) -> dict[str, Claim]:
        """The claims that hold, by name. Adds the others to `refused`."""
        names: dict[str, Claim] = {}
        servers: dict[Origin, Claim] = {}
        for source, config in sorted(self._claims(), key=self._standing):
            server = server_of(config)
            if config.name in names:
                why = f"the name is taken by the {names[config.name][0]}"
            elif server is not None and self._own(config.url):
                why = f"{config.url} is an address of this gateway"
            elif server in servers and servers[server][0] != source:
                by, other = servers[server]
                why = f"its server is backend {other.name} of the {by} already"
            else:
                names[config.name] = source, config
                if server is not None:
                    servers.setdefault(server, (source, config))
                continue
            refused[source, config.name] = why
        order = {source: number for number, source in enumerate(self._lists)}
        return dict(sorted(names.items(), key=lambda item: order[item[1][0]]))

    def _claims(self) -> Iterator[Claim]:
        for source, configs in self._lists.items():
            for config in configs:
                yield source, config

    def _standing(self, claim: Claim) -> int:
        source, config = claim
        if source == CONFIGURED:
            return 0
        return 1 if self._owners.get(config.name) == source else 2

    def _tell(self, refused: dict[tuple[str, str], str]) -> None:
        for (source, name), why in refused.items():
            if self._refused.get((source, name)) != why:
                self._report(name, f"refused, from the {source}: {why}")
        self._refused = refused

    # --- coming and going

    def _announce(self, before: dict[str, Upstream], after: dict[str, Upstream]) -> None:
        for name, upstream in before.items():
            if after.get(name) is not upstream:
                self._retire(upstream)
            if name not in after:
                self._removed(name)
        for name, upstream in after.items():
            if before.get(name) is not upstream:
                self._added(upstream)

    def _retire(self, upstream: Upstream) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(upstream))
        self._retiring[task] = upstream
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        upstream = self._retiring.pop(task, None)
        if upstream is not None and not task.cancelled() and (error := task.exception()) is not None:
            self._report(upstream.name, f"did not close: {error}")

    async def _finish(self, upstream: Upstream) -> None:
        # Looked at now and then: a backend that is leaving is rare, and requests need not know of it. The
        # first wait is for those that have chosen it and are about to begin.
        while True:
            await asyncio.sleep(IDLE_LOOK)
            if not upstream.in_flight:
                break
        await self._close(upstream)


def server_of(config: BackendConfig) -> Origin | None:
    """What makes two URLs the same server; None for one that is ours to start."""
    if not config.url:
        return None
    origin = parse_origin(config.url)
    return Origin(origin.tls, origin.host.lower(), origin.port, origin.base.removesuffix("/v1"))


def _nobodys(url: str) -> bool:
    return False

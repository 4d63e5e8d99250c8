"""Asks the backends which models they have, now and then and on demand, and rebuilds the catalog from the
answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from ghostllm.errors import UpstreamError, UpstreamProtocolError
from ghostllm.net.fetch import fetch_by
from ghostllm.ports import ModelInfo
from ghostllm.routing.upstream import Upstream

TIMEOUT = 5.0
SOON = 1.0  # seconds in which a second refresh on demand is answered by the first


class Inventory:
    """known: what each backend last said; a backend that falls silent keeps its entry, so the list never
    empties.

    changed: called with `known` after a refresh that learned something. report: takes (backend, error or
    None) when a backend's state changes.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        changed: Callable[[Mapping[str, Sequence[ModelInfo]]], None],
        report: Callable[[str, UpstreamError | None], None],
    ) -> None:
        self.known: dict[str, Sequence[ModelInfo]] = {}
        self.reachable: dict[str, bool] = {}
        self._upstreams = upstreams
        self._changed = changed
        self._report = report
        self._refreshing: asyncio.Task[None] | None = None
        self._last = float("-inf")

    async def run(self, interval: float) -> None:
        """Refreshes every `interval` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await self.refresh()

    async def refresh_soon(self) -> None:
        """For a model that nobody knows: perhaps it is new. At most one round of questions a second, shared
        by all.
        """
        if self._refreshing is None and asyncio.get_running_loop().time() - self._last >= SOON:
            self._refreshing = asyncio.get_running_loop().create_task(self.refresh())
            self._refreshing.add_done_callback(self._refreshed)
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)

    async def refresh(self) -> None:
        """Asks every backend that is awake."""
        self._last = asyncio.get_running_loop().time()
        await self.ask(list(self._upstreams.values()))

    async def ask(self, upstreams: Iterable[Upstream]) -> None:
        """Asks those of them that are awake: new ones, at once."""
        before = dict(self.known)
        await asyncio.gather(*(self._ask(upstream) for upstream in upstreams if not upstream.asleep))
        if self.known != before:
            self._changed(self.known)

    def prune(self) -> None:
        """Forgets the backends that are gone. One that was replaced keeps what its predecessor said until it
        has been asked itself.
        """
        for name in self.known.keys() - self._upstreams.keys():
            del self.known[name]
        for name in self.reachable.keys() - self._upstreams.keys():
            del self.reachable[name]

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _refreshed(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _ask(self, upstream: Upstream) -> None:
        models: Sequence[ModelInfo] | None
        error: UpstreamError | None = None
        try:
            await upstream.identify()
            answer = await fetch_by(upstream.client, upstream.translator.inventory_request(), seconds=TIMEOUT)
            if answer.status != 200:
                raise UpstreamProtocolError(
                    f"backend {upstream.name!r}: its model list answers {answer.status}"
                )
            models = upstream.translator.inventory(answer.body)
        except UpstreamError as failed:
            models, error = None, failed
        if self._upstreams.get(upstream.name) is not upstream:
            return  # removed or replaced while it was being asked
        if models is not None:
            self.known[upstream.name] = models
        if self.reachable.get(upstream.name) is not (error is None):
            self.reachable[upstream.name] = error is None
            self._report(upstream.name, error)

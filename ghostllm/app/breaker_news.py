"""Breakers that open are told to the other nodes: they leave the backend alone for as long, and then try it
themselves. Part of the composition root: it joins routing and cluster.

The breakers are looked at now and then, so requests do nothing for it. A hint is only that: it opens a closed
breaker for a moment, as a backend's own Retry-After does, and no other node repeats it.
"""

from __future__ import annotations

import asyncio
import platform
import secrets
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ghostllm import jsonx
from ghostllm.config.forms import is_loopback
from ghostllm.routing.breaker import State, Verdict
from ghostllm.routing.router import Router
from ghostllm.routing.upstream import Upstream

if TYPE_CHECKING:
    from ghostllm.app.cluster_life import ClusterLife

LOOK = 0.5  # seconds between two looks
WORTH = 1.0  # seconds: what is open for less than that is over before anybody has heard of it
LONGEST = 10.0  # seconds that a hint counts: who hears of it late waits longer than the node that tells it
REMEMBERED = 10_000  # hints of late: a message may come again


class BreakerNews:
    """heard: hints that opened a breaker here. told: those given to others."""

    def __init__(self, cluster: ClusterLife, upstreams: Mapping[str, Upstream], router: Router) -> None:
        self.heard = self.told = 0
        self._upstreams = upstreams
        self._router = router
        self._news = cluster.news("breakers", self._hear)
        self._known: dict[str, float] = {}  # until when each backend's breaker is open, once told or heard
        self._seen: deque[str] = deque(maxlen=REMEMBERED)

    def __repr__(self) -> str:
        return f"<BreakerNews told={self.told} heard={self.heard}>"

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        for name, upstream in self._upstreams.items():
            breaker = self._router.state(name).breaker
            if breaker.state is not State.OPEN or breaker.until == self._known.get(name):
                continue
            self._known[name] = breaker.until
            left = min(breaker.until - now, LONGEST)
            if left >= WORTH and upstream.config.url:
                mark = secrets.token_hex(8)
                self._seen.append(mark)
                self.told += 1
                self._news.post(_place(upstream.config.url), jsonx.dumps([mark, left]), left)

    def _hear(self, entries: Mapping[str, bytes]) -> None:
        now = time.monotonic()
        for place, value in entries.items():
            mark, left = jsonx.loads(value)
            if mark in self._seen:
                continue
            self._seen.append(mark)
            for name, upstream in self._upstreams.items():
                breaker = self._router.state(name).breaker
                if breaker.state is State.CLOSED and _place(upstream.config.url) == place:
                    ticket = breaker.admit(now)
                    if ticket is not None:
                        breaker.settle(ticket, Verdict.FAILURE, now, retry_after=left)
                        self._known[name] = breaker.until
                        self.heard += 1


def _place(url: str) -> str:
    """What the nodes know a backend by: its address, and of one on a node's own machine whose that is."""
    host = urlsplit(url).hostname or ""
    return f"{platform.node()} {url}" if is_loopback(f"[{host}]:1" if ":" in host else f"{host}:1") else url

"""The server that nodes share, from the first look to the last command. Part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ghostllm.app.breaker_news import BreakerNews
from ghostllm.app.key_news import KeyNews
from ghostllm.app.shared_books import SharedBooks
from ghostllm.app.sources import Own
from ghostllm.cluster.away import Away
from ghostllm.cluster.budgets import SharedBudgets
from ghostllm.cluster.limits import SharedLimits
from ghostllm.cluster.link import connect
from ghostllm.cluster.news import Apply, News, Whole
from ghostllm.config.remember import Redis
from ghostllm.observe.log import Logger
from ghostllm.observe.metrics import Metrics
from ghostllm.policy.budgets import Budgets
from ghostllm.policy.issued import IssuedKeys
from ghostllm.policy.keyhash import KeyHash
from ghostllm.routing.router import Router
from ghostllm.routing.upstream import Upstream
from ghostllm.state.calendar import Calendar

RETRY = 1.0  # seconds between two looks for a server that was not there at the start


class ClusterLife:
    """link: the way to the server. watchers: called when it has gone (False) and when it is back (True). Made
    and used within one event loop.
    """

    def __init__(self, config: Redis, log: Logger) -> None:
        """Makes no connection yet. Raises ConfigError naming the extra that is missing."""
        self.link = connect(config, self._told)
        self._config = config
        self._log = log
        self.watchers: list[Callable[[bool], None]] = []
        self._news: list[News] = []
        self._works: list[SharedLimits | SharedBudgets | BreakerNews] = []

    def __repr__(self) -> str:
        return f"<ClusterLife {self.link!r}>"

    def news(
        self, name: str, apply: Apply, whole: Whole = lambda names: None, most: int | None = None
    ) -> News:
        """What all nodes hear of, under a name of its own. Before `start`."""
        news = News(self.link, name, apply, whole=whole, most=most)
        self._news.append(news)
        return news

    def start(self, own: Own) -> None:
        own(self._greet())
        for news in self._news:
            own(news.run())
        for work in self._works:
            own(work.run())

    async def close(self) -> None:
        """Once the tasks given to `own` have ended. Sends what is waiting, if that goes quickly."""
        await self.link.close()

    def figures(self) -> dict[str, Any]:
        """JSON. The address has no credentials in it: the configuration keeps them apart."""
        heard = {news.name: news.received for news in self._news}
        return {"url": self._config.url, **self.link.stats(), "news": heard}

    def share(self, calendar: Calendar, own: Budgets) -> SharedBooks:
        """Limits and budgets that hold over all nodes. Before `start`."""
        books = SharedBooks(self.link, self._config, calendar, own)
        self.watchers.append(lambda up: books.back() if up else books.lost())
        self._works += [books.limits, books.budgets]
        return books

    def share_breakers(self, upstreams: Mapping[str, Upstream], router: Router) -> BreakerNews:
        """Before `start`."""
        news = BreakerNews(self, upstreams, router)
        self._works.append(news)
        return news

    def share_keys(self, issued: IssuedKeys, hasher: KeyHash) -> KeyNews:
        """Keys made at run time, hashed with the nodes' one secret. Before `start`."""
        return KeyNews(self, issued, hasher, self._log)

    def add_gauges(self, metrics: Metrics) -> None:
        link = self.link
        metrics.gauge(
            "ghostllm_redis_up", "Whether the shared server answered last time.", lambda: [({}, int(link.up))]
        )
        metrics.counter(
            "ghostllm_redis_commands",
            "Commands for the shared server: sent, skipped as it was away, lost without an answer.",
            lambda: [({"state": name}, link.stats()[name]) for name in ("sent", "skipped", "lost")],
        )
        metrics.counter(
            "ghostllm_redis_failures",
            "Times that the shared server failed or was too slow.",
            lambda: [({}, link.stats()["failures"])],
        )

    async def _greet(self) -> None:
        """Until it has answered once, so that the log says whether it is there."""
        while True:
            try:
                await self.link.ask("PING")
            except Away:
                await asyncio.sleep(max(RETRY, self.link.pause))
            else:
                self._log.info("redis answers", url=self._config.url)
                return

    def _told(self, up: bool, why: str) -> None:
        for watcher in self.watchers:
            watcher(up)
        if up:
            self._log.info("redis is back")
        else:
            self._log.warning("redis is away", reason=why)

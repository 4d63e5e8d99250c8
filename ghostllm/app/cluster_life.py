"""The server that nodes share, from the first look to the last command. Part of the composition root."""

from __future__ import annotations

import asyncio
from typing import Any

from ghostllm.app.sources import Own
from ghostllm.cluster.away import Away
from ghostllm.cluster.link import connect
from ghostllm.cluster.news import Apply, News
from ghostllm.config.remember import Redis
from ghostllm.observe.log import Logger
from ghostllm.observe.metrics import Metrics

RETRY = 1.0  # seconds between two looks for a server that was not there at the start


class ClusterLife:
    """link: the way to the server. Made and used within one event loop."""

    def __init__(self, config: Redis, log: Logger) -> None:
        """Makes no connection yet. Raises ConfigError naming the extra that is missing."""
        self.link = connect(config, self._told)
        self._config = config
        self._log = log
        self._news: list[News] = []

    def __repr__(self) -> str:
        return f"<ClusterLife {self.link!r}>"

    def news(self, name: str, apply: Apply) -> News:
        """What all nodes hear of, under a name of its own. Before `start`."""
        news = News(self.link, name, apply)
        self._news.append(news)
        return news

    def start(self, own: Own) -> None:
        own(self._greet())
        for news in self._news:
            own(news.run())

    async def close(self) -> None:
        """Once the tasks given to `own` have ended. Sends what is waiting, if that goes quickly."""
        await self.link.close()

    def figures(self) -> dict[str, Any]:
        """JSON. The address has no credentials in it: the configuration keeps them apart."""
        heard = {news.name: news.received for news in self._news}
        return {"url": self._config.url, **self.link.stats(), "news": heard}

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
        if up:
            self._log.info("redis is back")
        else:
            self._log.warning("redis is away", reason=why)

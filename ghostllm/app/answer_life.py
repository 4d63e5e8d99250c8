"""The cache of a running gateway: made, shown, emptied. Part of the composition root."""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.cache.answers import Answers
from ghostllm.config.schema import Config
from ghostllm.observe.log import Logger
from ghostllm.observe.metrics import Metrics
from ghostllm.routing.catalog import Catalog

if TYPE_CHECKING:
    from ghostllm.app.cluster_life import ClusterLife

DAY = 86_400.0  # seconds that a flush is told to nodes whose answers have no end of their own

REMEMBERED = 10_000  # flushes of late: a message may come again


class AnswerLife:
    """Implements ports.CacheOperations. answers: what the gateway asks. cluster: where it is shared."""

    def __init__(
        self, config: Config, log: Logger, cluster: ClusterLife | None, catalog: Callable[[], Catalog]
    ) -> None:
        self._config = config
        self._log = log
        self._catalog = catalog
        self._cluster = cluster if config.cache.backend == "redis" else None
        self._heard: deque[str] = deque(maxlen=REMEMBERED)
        store = None
        if self._cluster is not None:
            from ghostllm.cluster.store import AnswerStore

            store = AnswerStore(self._cluster.link)
            self._news = self._cluster.news("flushes", self._told)
        self.answers = Answers(config.cache, store)

    def __repr__(self) -> str:
        return f"<AnswerLife {self.answers!r}>"

    def adopt(self, config: Config) -> None:
        """After a reload. What is kept stays, as far as there is room; where it is kept stays as it was."""
        self._config = config
        self.answers.configure(config.cache)

    # --- ports.CacheOperations

    def figures(self) -> dict[str, Any]:
        told = {"backend": self._config.cache.backend, **self.answers.stats()}
        return told if self._cluster is None else {**told, "redis": self._cluster.figures()}

    async def flush(self, models: str, key: str, team: str) -> dict[str, Any]:
        pattern = self._pattern(models)
        tenant = f"key:{key}" if key else f"team:{team}" if team else None
        if self._cluster is not None:
            name = secrets.token_hex(8)
            self._heard.append(name)
            self._news.post(name, jsonx.dumps([pattern, tenant]), self._longest())
        count = await self.answers.flush(pattern, tenant)
        complete = self._cluster is None or self._cluster.link.up
        self._log.info("cache flushed", models=pattern, tenant=tenant, answers=count, complete=complete)
        return {"flushed": count, "complete": complete}

    # --- metrics

    def add_gauges(self, metrics: Metrics) -> None:
        stats = self.answers.stats
        gauge, counter = metrics.gauge, metrics.counter

        def hits() -> list[tuple[dict[str, str], float]]:
            told = stats()
            return [({"store": "memory"}, told["hits"]), ({"store": "redis"}, told["remote_hits"])]

        def count(name: str) -> Callable[[], list[tuple[dict[str, str], float]]]:
            return lambda: [({}, stats()[name])]

        counter("ghostllm_cache_hits", "Answers from the cache, by where they were.", hits)
        counter("ghostllm_cache_misses", "Requests whose answer was in no cache.", count("missed"))
        counter("ghostllm_cache_bypasses", "Requests that are not answered from it.", count("bypassed"))
        counter("ghostllm_cache_stores", "Answers that were kept in memory.", count("stored"))
        counter("ghostllm_cache_evictions", "Answers that made room for others.", count("evicted"))
        counter("ghostllm_cache_expirations", "Answers found too old.", count("expired"))
        gauge("ghostllm_cache_entries", "Answers in memory.", count("entries"))
        gauge("ghostllm_cache_bytes", "Memory that they take.", count("bytes"), unit="bytes")

    # --- several nodes

    def _told(self, entries: Mapping[str, bytes]) -> None:
        """Other nodes have flushed; the shared store they have seen to."""
        for name, value in entries.items():
            if name not in self._heard:
                self._heard.append(name)
                pattern, tenant = jsonx.loads(value)
                self.answers.forget(pattern, tenant)

    def _longest(self) -> float:
        """Seconds after which no answer of now is kept anywhere."""
        config = self._config
        ttls = [
            config.cache.ttl,
            *(model.cache.ttl for model in config.models if model.cache.ttl is not None),
        ]
        return max(ttls) if min(ttls) > 0 else max(DAY, *ttls)

    def _pattern(self, models: str) -> str:
        """Answers are kept under the name of the model that gave them: an alias stands for it."""
        model = self._catalog().find(models) if models else None
        if model is None:
            return models or "*"
        return re.sub(r"([*?\[])", r"[\1]", model.asked or model.name)

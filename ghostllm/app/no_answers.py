"""The cache of a gateway that keeps no answers. Apart, so that it imports nothing of one that does."""

from __future__ import annotations

from typing import Any

from ghostllm.config.schema import Config
from ghostllm.errors import NotFound


class NoAnswers:
    """Implements ports.CacheOperations."""

    def adopt(self, config: Config) -> None:
        """After a reload, which cannot turn it on."""

    def figures(self) -> dict[str, Any]:
        return {"backend": "off"}

    async def flush(self, models: str, key: str, team: str) -> dict[str, Any]:
        raise NotFound('no answer is kept here: cache.backend is "off"')

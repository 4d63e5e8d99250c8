"""The sources of backends that run now, as the configuration asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ghostllm.config.schema import Config
from ghostllm.routing import discovery
from ghostllm.routing.discovery.source import Found

Own = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Runs a coroutine as a task that somebody holds, and cancels at the end."""


class Sources:
    """found: takes what they find. dropped: told of a source that is not wanted any more."""

    def __init__(
        self, means: discovery.Means, own: Own, found: Found, dropped: Callable[[str], object]
    ) -> None:
        self._means = means
        self._own = own
        self._found = found
        self._dropped = dropped
        self._running: dict[str, tuple[object, asyncio.Task[None]]] = {}  # settings and task, by name

    def __repr__(self) -> str:
        return f"<Sources {' '.join(self._running)}>"

    def __len__(self) -> int:
        return len(self._running)

    def follow(self, config: Config) -> None:
        """Begins those that are new or changed, and ends those that are not wanted any more. What a changed
        one has found holds until it finds something else.
        """
        wanted = discovery.sections(config)
        for name, (settings, task) in list(self._running.items()):
            if wanted.get(name) != settings:
                task.cancel()
                del self._running[name]
                if name not in wanted:
                    self._dropped(name)
        if wanted.keys() <= self._running.keys():
            return
        for source in discovery.build(config, self._means):
            if source.name not in self._running:
                work = discovery.keep_running(source, self._found, self._means.report)
                self._running[source.name] = wanted[source.name], self._own(work)

"""A call that begins once something has been waited for, such as the word of other nodes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ghostllm.ports import Responder, Work


class Deferred:
    """Implements ports.Work. begin: raises GhostError for the client, as `first` may."""

    __slots__ = ("_begin", "_work")

    def __init__(
        self, responder: Responder, first: Coroutine[Any, Any, None], begin: Callable[[], Work]
    ) -> None:
        self._begin = begin
        self._work: Work = responder.run(self._go(first))

    async def _go(self, first: Coroutine[Any, Any, None]) -> None:
        await first
        self._work = self._begin()

    def cancel(self) -> None:
        self._work.cancel()

"""Ways back at which no single client stands: of an answer that nobody sees, and of one that is shared."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ghostllm.errors import GhostError
from ghostllm.message import Exchange, Pairs
from ghostllm.ports import Flow, Work

FAILED = "the gateway failed on this request; its log says why"


class Detached(abc.ABC):
    """What ports.Responder asks for, but for what becomes of the answer. exchange: of the call that is made
    for them.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> Work:
        task = asyncio.get_running_loop().create_task(self._watch(work))
        self._tasks.add(task)  # the loop itself does not keep it
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GhostError as error:
            self.fail(error)
        except Exception as error:
            self.fail(GhostError(FAILED))
            told = {"message": f"{self.exchange!r} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    @abc.abstractmethod
    def fail(self, error: GhostError) -> None:
        """See ports.Responder."""


class Unseen(Detached):
    """Implements ports.Responder for a copy of a request whose answer is discarded. ended: called once, with
    the exchange.
    """

    def __init__(self, exchange: Exchange, ended: Callable[[Exchange], None]) -> None:
        super().__init__(exchange)
        self._ended = ended

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        self._ended(self.exchange)

    def begin(self, status: int, headers: Pairs) -> None:
        self.exchange.status = status

    def write(self, data: bytes) -> None:
        self.exchange.bytes_out += len(data)

    def end(self, *, close: bool = False) -> None:
        self._ended(self.exchange)

    def fail(self, error: GhostError) -> None:
        self.exchange.error = error
        self.exchange.outcome = "error"
        self._ended(self.exchange)

    def attach(self, source: Flow) -> None:
        """Nobody reads slowly."""

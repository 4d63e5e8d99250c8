"""The way to the server that nodes share: commands go over one connection in batches, whoever they are for.

While one batch is on its way, the next gathers, so that many requests at one time cost little more than one.
Nobody waits longer than the timeout. Whatever goes wrong ends the wait of all who are waiting, and for a
moment nobody asks again: a server that is slow makes no request slow.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ghostllm.cluster.away import Away, NoScript, ServerError
from ghostllm.cluster.circuit import Circuit
from ghostllm.config.remember import Redis
from ghostllm.errors import ConfigError

Command = tuple[bytes | str | int | float, ...]

BATCH = 256  # commands sent in one go

DRAIN = 2.0  # seconds that closing waits for what is still to be sent

Told = Callable[[bool, str], None]
"""Called when the server has gone (False, and why) and when it is back (True): for a log line, a metric."""


class Server(Protocol):
    async def run(self, batch: Sequence[Command]) -> list[Any]: ...
    def messages(self, channel: str, every: float) -> AsyncGenerator[bytes | None, None]: ...
    async def close(self) -> None: ...


class Script:
    """Lua that the server runs as one step, and the name that it knows it by."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Waiting(NamedTuple):
    """answer: None where nobody waits. again: what to send instead if the script is not there."""

    command: Command
    answer: asyncio.Future[Any] | None
    again: Command | None


class Link:
    """Made and used within one event loop. prefix: what the names of all keys begin with."""

    def __init__(
        self,
        config: Redis,
        server: Server,
        told: Told = lambda up, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prefix = f"{{{config.prefix}}}:"
        self.pause = config.pause
        self._server = server
        self._timeout = config.timeout or None
        self._most = config.queue
        self._told = told
        self._clock = clock
        self._circuit = Circuit(config.pause)
        self._queue: deque[Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._asked = self._sent = self._batches = self._failed = self._skipped = self._lost = 0
        self._why = ""

    def __repr__(self) -> str:
        return f"<Link {self._circuit!r} {len(self._queue)} waiting>"

    @property
    def up(self) -> bool:
        return self._circuit.closed

    # --- commands

    async def ask(self, *command: bytes | str | int | float) -> Any:
        """The answer. Raises Away."""
        return await self._answered(command, None)

    async def run(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int | float) -> Any:
        """What the script gives, run in one step. Raises Away."""
        return await self._answered(*_calls(script, keys, arguments))

    def post(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int | float) -> bool:
        """Has it run, and does not wait. False: the server is away, and never hears of it."""
        return self._put(*_calls(script, keys, arguments))

    def send(self, *command: bytes | str | int | float) -> bool:
        """As `post`, for a command."""
        return self._put(command, None)

    def messages(self, channel: str, every: float) -> AsyncGenerator[bytes | None, None]:
        """See redis_client. Raises ServerError."""
        return self._server.messages(self.prefix + channel, every)

    def stats(self) -> dict[str, Any]:
        """asked: commands whose answer somebody waited for. skipped: not sent, as it was away. lost: without
        an answer.
        """
        return {
            "up": self.up, "why": self._why, "asked": self._asked, "sent": self._sent,
            "batches": self._batches, "failures": self._failed, "skipped": self._skipped, "lost": self._lost,
            "waiting": len(self._queue),
        }  # fmt: skip

    async def close(self) -> None:
        """Sends what is waiting, if that goes quickly."""
        sender = self._sender
        if sender is not None:
            _, running = await asyncio.wait([sender], timeout=DRAIN)
            if running:
                sender.cancel()
                await asyncio.wait([sender])
        await self._server.close()

    # --- steps

    async def _answered(self, command: Command, again: Command | None) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked += 1
        if not self._put(command, again, answer):
            raise Away(self._why)
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            self._fail(f"no answer within {self._timeout} s")
            raise Away(self._why) from None

    def _put(
        self, command: Command, again: Command | None, answer: asyncio.Future[Any] | None = None
    ) -> bool:
        if len(self._queue) >= self._most or not self._circuit.admits(self._clock()):
            self._skipped += 1
            return False
        self._queue.append(Waiting(command, answer, again))
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return True

    async def _send(self) -> None:
        """Until nothing is waiting."""
        batch: list[Waiting] = []
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._exchange(batch)
                except Exception as error:  # whatever it is, somebody is waiting
                    why = f"no answer within {self._timeout} s"
                    if not isinstance(error, TimeoutError):
                        why = str(error) or type(error).__name__
                    self._fail(why)
                    self._lose(batch)
                    self._lose(self._queue)
                    self._queue.clear()
        except asyncio.CancelledError:
            self._circuit.abandoned()
            self._lose(batch)
            self._lose(self._queue)
            raise
        finally:
            self._sender = None

    async def _exchange(self, batch: list[Waiting]) -> None:
        self._sent += len(batch)
        self._batches += 1
        answers = await self._server.run([waiting.command for waiting in batch])
        missing = [at for at, answer in enumerate(answers) if isinstance(answer, NoScript)]
        commands = [batch[at].again or batch[at].command for at in missing]
        if commands:
            for at, answer in zip(missing, await self._server.run(commands), strict=True):
                answers[at] = answer
        failure = next((answer for answer in answers if isinstance(answer, ServerError)), None)
        if failure is not None:
            self._fail(str(failure))
        elif self._circuit.worked():
            self._why = ""
            self._told(True, "")
        for waiting, answer in zip(batch, answers, strict=True):
            self._give(waiting, answer)

    def _give(self, waiting: Waiting, answer: Any) -> None:
        if isinstance(answer, ServerError):
            self._lost += 1
            answer = Away(str(answer))
        future = waiting.answer
        if future is None or future.done():  # its caller has left
            return
        if isinstance(answer, Away):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _lose(self, rows: Sequence[Waiting] | deque[Waiting]) -> None:
        for waiting in rows:
            self._give(waiting, ServerError(self._why))

    def _fail(self, why: str) -> None:
        self._failed += 1
        self._why = why
        if self._circuit.failed(self._clock()):
            self._told(False, why)


def _calls(
    script: Script, keys: Sequence[str], arguments: tuple[bytes | str | int | float, ...]
) -> tuple[Command, Command]:
    """By its name, and in full for a server that does not know it."""
    rest = (len(keys), *keys, *arguments)
    return ("EVALSHA", script.digest, *rest), ("EVAL", script.text, *rest)


def connect(config: Redis, told: Told = lambda up, why: None) -> Link:
    """Makes no connection yet. Raises ConfigError naming the extra that is missing."""
    try:
        from ghostllm.cluster.redis_client import RedisClient
    except ImportError:
        raise ConfigError(["redis: needs an extra: pip install 'ghostllm[redis]'"]) from None
    return Link(config, RedisClient(config), told)

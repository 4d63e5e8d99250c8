"""redis-py (extra `redis`): a batch of commands in one go, and messages. The one module that knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ghostllm.cluster.away import NoScript, ServerError
from ghostllm.cluster.link import Command
from ghostllm.config.remember import Redis

LONGEST_CONNECT = 5.0  # seconds, of the connection for messages: no request waits for it


class RedisClient:
    """Implements link.Server. Connections are made when they are needed."""

    def __init__(self, config: Redis) -> None:
        self._config = config
        self._client = self._connected(config.timeout)
        self._client.response_callbacks.clear()  # answers as the server gave them
        self._patience = max(config.timeout, LONGEST_CONNECT)
        self._listener = self._connected(self._patience)

    def __repr__(self) -> str:
        return f"<RedisClient {self._config.url}>"

    async def run(self, batch: Sequence[Command]) -> list[Any]:
        """The answers in the commands' order; a ServerError in the place of one that failed by itself.

        Raises ServerError where nothing is known of any of them. Who is cancelled here leaves no answer
        behind for the next: redis-py closes the connection.
        """
        try:
            if len(batch) == 1:
                command: Any = self._client.execute_command  # it has no types
                return [await command(*batch[0])]
            pipeline = self._client.pipeline(transaction=False)
            for command in batch:
                pipeline.execute_command(*command)
            answers = await pipeline.execute(raise_on_error=False)
        except NoScriptError as error:
            return [NoScript(str(error))]
        except (RedisError, OSError) as error:
            raise ServerError(_told(error)) from None
        return [_answer(answer) for answer in answers]

    async def messages(self, channel: str, every: float) -> AsyncGenerator[bytes | None, None]:
        """The messages of a channel as they come; None once it listens, and again after `every` seconds of
        silence. Raises ServerError when the connection is lost.
        """
        pubsub = self._listener.pubsub()
        try:
            async with asyncio.timeout(self._patience):
                await pubsub.subscribe(channel)
            while True:
                message = await pubsub.get_message(timeout=every)
                if message is None or message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield cast(bytes, message["data"])
        except (RedisError, OSError) as error:
            raise ServerError(_told(error)) from None
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._client.aclose()
        await self._listener.aclose()

    def _connected(self, timeout: float) -> Client:
        config = self._config
        options: dict[str, Any] = {}
        if config.url.startswith("rediss:"):
            options["ssl_cert_reqs"] = "required" if config.tls_verify else "none"
            options["ssl_check_hostname"] = config.tls_verify
            if config.tls_ca:
                options["ssl_ca_certs"] = config.tls_ca
        if not config.url.startswith("unix:"):
            options["socket_connect_timeout"] = timeout or None
        return Client.from_url(
            config.url,
            username=config.user or None,
            password=config.password.reveal() if config.password is not None else None,
            # With one, redis-py uses asyncio.wait_for, which in Python 3.11 may swallow a cancellation: who
            # ends the task then waits for ever. All waits here have an end of their own.
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),  # whoever asks decides what to do without an answer
            protocol=2,
            **options,
        )


def _answer(answer: Any) -> Any:
    if isinstance(answer, NoScriptError):
        return NoScript(str(answer))
    return ServerError(_told(answer)) if isinstance(answer, RedisError) else answer


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__

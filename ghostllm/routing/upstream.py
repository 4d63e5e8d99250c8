"""One backend as the gateway uses it: its dialect, its connections, its load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from ghostllm.config.schema import BackendConfig
from ghostllm.net.address import parse_origin
from ghostllm.net.client import Client
from ghostllm.net.pool import PoolStats
from ghostllm.net.tls import Context
from ghostllm.ports import Translator

Learn = Callable[[], Awaitable[tuple[Translator, str] | None]]
"""Looks at a server of unknown kind: how to talk to it, and its base URL; None while it does not answer."""

Wake = Callable[[], Awaitable[str]]
"""Starts the server behind a backend if need be, and gives its URL. Raises UpstreamError."""


class Upstream:
    """in_flight: attempts under way. asleep: a call may first have to start (or restart) the server.

    wake: for a backend whose server is ours to start. learn: for one whose kind nobody has said.
    """

    def __init__(
        self,
        config: BackendConfig,
        url: str,
        translator: Translator,
        *,
        tls: Context | None,
        wake: Wake | None = None,
        learn: Learn | None = None,
    ) -> None:
        self.name = config.name
        self.config = config
        self.translator = translator
        self.in_flight = 0
        self._tls = tls
        self._wake = wake
        self._learn = learn
        self._url = url
        self.asleep = wake is not None
        self._client: Client | None = None if wake else self._connect_to(url)

    def __repr__(self) -> str:
        return f"<Upstream {self.name} in_flight={self.in_flight} {self._client!r}>"

    @property
    def full(self) -> bool:
        return bool(self.config.max_inflight) and self.in_flight >= self.config.max_inflight

    @property
    def pool(self) -> PoolStats:
        return self._client.stats if self._client is not None else PoolStats(0, 0, 0)

    @property
    def known(self) -> bool:
        """Whether it is settled what kind of server this is."""
        return self._learn is None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def ready(self) -> Client:
        """The client to call, once there is a server behind it."""
        if self._wake is not None:
            url = await self._wake()
            await self._move(url)
        return self.client

    async def identify(self) -> None:
        """Finds out what kind of server this is, if that is still open."""
        found = await self._learn() if self._learn is not None else None
        if found is not None:
            self._learn = None
            self.translator, url = found
            await self._move(url)

    def beside(self) -> Client:
        """A client of its own to the server's root, for looks that must not wait for a place among calls."""
        origin = self.client.origin
        root = replace(origin, base=origin.base.removesuffix("/v1"))
        return Client(root, self.name, tls=self._tls)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _move(self, url: str) -> None:
        if self._client is None or url != self._url:
            stale, self._client, self._url = self._client, self._connect_to(url), url
            if stale is not None:
                await stale.close()

    def _connect_to(self, url: str) -> Client:
        return Client(
            parse_origin(url),
            self.name,
            tls=self._tls,
            max_connections=self.config.max_connections,
            idle_limit=self.config.idle_connection,
        )

"""One small answer as a whole, for probes and model lists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.message import UpstreamRequest
from ghostllm.net.address import parse_origin
from ghostllm.net.client import Client, TimeLimits
from ghostllm.net.tls import client_context
from ghostllm.wire.h1 import ResponseHead


@dataclass(slots=True)
class Fetched:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(slots=True)
class _Whole:
    """A sink that keeps everything, up to a limit."""

    limit: int
    answer: asyncio.Future[Fetched]
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    response: ResponseHead | None = None

    def whole(self, head: ResponseHead, body: bytes) -> bool:
        return False

    def head(self, head: ResponseHead) -> None:
        self.response = head

    def data(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit:
            raise UpstreamProtocolError(f"the answer exceeds {self.limit} bytes")
        self.parts.append(data)

    def end(self) -> None:
        assert self.response is not None
        if not self.answer.done():
            self.answer.set_result(Fetched(self.response.status, self.response.headers, b"".join(self.parts)))

    def fail(self, error: GhostError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def fetch_by(
    client: Client, request: UpstreamRequest, *, seconds: float, limit: int = 8 << 20
) -> Fetched:
    """Asks through `client`. Raises UpstreamError; the total time is at most `seconds`, the body at most
    `limit` bytes.
    """
    sink = _Whole(limit, asyncio.get_running_loop().create_future())
    call = client.start(request, b"", sink, TimeLimits(seconds, seconds, seconds, seconds, seconds))
    try:
        return await sink.answer
    finally:
        call.cancel()


async def fetch(base_url: str, path: str, *, seconds: float, limit: int = 1 << 20) -> Fetched:
    """GET `path` below `base_url` on a connection of its own: for servers that are only being looked at."""
    origin = parse_origin(base_url)
    client = Client(origin, str(origin), tls=client_context() if origin.tls else None)
    try:
        request = UpstreamRequest("GET", path, ((b"accept", b"*/*"), (b"user-agent", b"ghostllm")))
        return await fetch_by(client, request, seconds=seconds, limit=limit)
    finally:
        await client.close()

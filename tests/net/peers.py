"""Peers for the tests of `net`: an application that echoes, and upstreams that say what they are told."""

import asyncio
import contextlib

from ghostllm.config.schema import Limits, Server, ServerTimeouts
from ghostllm.errors import GhostError
from ghostllm.message import Exchange, Request
from ghostllm.net.server import Server as NetServer

TEXT = ((b"content-type", b"text/plain"),)


class Echo:
    """An application: answers with what it got. `/stream` streams, `/slow` waits for `release`."""

    def __init__(self):
        self.opened, self.closed_exchanges, self.cancelled = [], [], 0
        self.release = asyncio.Event()
        self.source = None

    def open(self, request, now):
        exchange = Exchange(request, "id", now)
        self.opened.append(exchange)
        if request.path == "/refused":
            exchange.error = GhostError("refused")
            return exchange, None
        return exchange, self.answer

    def malformed(self, error, peer, now):
        exchange = Exchange(Request("-", "-", {}), "id", now)
        exchange.error = error
        return exchange

    def render(self, exchange):
        return exchange.error.status, TEXT, exchange.error.message.encode()

    def closed(self, exchange):
        self.closed_exchanges.append(exchange)

    def answer(self, exchange, responder):
        return responder.run(self._answer(exchange, responder))

    async def _answer(self, exchange, responder):
        request = exchange.request
        try:
            if request.path == "/boom":
                raise RuntimeError("boom")
            if request.path == "/slow":
                await self.release.wait()
            if request.path == "/stream":
                responder.begin(200, TEXT)
                if self.source is not None:
                    responder.attach(self.source)
                for word in (b"one ", b"two ", b"three"):
                    responder.write(word)
                    await asyncio.sleep(0)
                if self.source is not None:
                    await self.source.run(responder)
                responder.end()
            else:
                responder.respond(200, TEXT, b"%s %s" % (request.path.encode(), bytes(request.body)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextlib.asynccontextmanager
async def serving(application, *, limits=None, timeouts=None, reports=None, **options):
    config = Server(
        listen=("127.0.0.1:0",),
        limits=Limits(**(limits or {})),
        timeouts=ServerTimeouts(**(timeouts or {})),
        **options,
    )
    reports = [] if reports is None else reports
    server = NetServer(application, config, lambda what, error: reports.append((what, error)))
    (address,) = await server.start()
    try:
        yield server, int(address.rpartition(":")[2])
    finally:
        await server.close(1)


@contextlib.asynccontextmanager
async def upstream(handle):
    """A raw TCP server: `handle(reader, writer, number)` for the number-th connection. Gives its port."""
    tasks, count = set(), 0

    async def connected(reader, writer):
        nonlocal count
        count += 1
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await handle(reader, writer, count)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader):
    """One request's head and its Content-Length body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head, await reader.readexactly(length)


async def read_answer(reader):
    """One answer with a Content-Length: its status and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, head, await reader.readexactly(length)


async def until(condition, seconds=20.0):
    """Waits for something that is bound to happen."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)

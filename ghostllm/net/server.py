"""The server: listening sockets, the connections they accept, the clock sweep over them, and the drain at the
end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence

from ghostllm.config.schema import Server as ServerConfig
from ghostllm.errors import GhostError, Overloaded
from ghostllm.net.address import split_listen
from ghostllm.net.connection import Connection
from ghostllm.net.outbox import Outbox
from ghostllm.ports import Application
from ghostllm.wire.h1 import HeadLimits

BACKLOG = 1024


class Server:
    """Listens as `config.listen` says and hands every request to `application`.

    report: takes a message and an exception that nobody else handles.
    """

    def __init__(
        self, application: Application, config: ServerConfig, report: Callable[[str, BaseException], None]
    ) -> None:
        limits = config.limits
        self.application = application
        self.timeouts = config.timeouts
        self.report = report
        self.head_limits = HeadLimits(limits.head_bytes, limits.header_count, limits.target_bytes)
        self.body_limit = limits.body_bytes
        self.pipeline_limit = limits.pipeline_bytes
        self.draining = False
        self.outbox = Outbox(asyncio.get_running_loop())
        self._listen = config.listen
        self._connection_limit = limits.connections
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        set_limits = [limit for limit in (self.timeouts.header, self.timeouts.idle, self.timeouts.body,
                                          self.timeouts.write) if limit]  # fmt: skip
        self._sweep_interval = min(0.5, max(0.05, min(set_limits, default=1.0) / 4))

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> list[str]:
        """Binds every address and returns them as bound (port 0 resolved). Raises OSError naming the address.

        An IPv6 loopback that this machine does not have is skipped when an IPv4 address is being listened on
        too.
        """
        loop = asyncio.get_running_loop()
        bound: list[str] = []
        for address in self._listen:
            host, port = split_listen(address)
            if (
                port == 0 and bound
            ):  # `[::1]:0` after `127.0.0.1:0`: the same port on both, as the default has it
                port = int(bound[0].rpartition(":")[2])
            try:
                listener = await loop.create_server(
                    lambda: Connection(self, loop), sock=_listening_socket(host, port)
                )
            except OSError as error:
                if bound and host == "::1" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                await self.close(1)
                raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
            self._listeners.append(listener)
            bound += [_name(sock.getsockname()) for sock in listener.sockets]
        self._sweeper = loop.call_later(self._sweep_interval, self._sweep)
        return bound

    async def close(self, drain: float) -> None:
        """Stops listening at once, gives exchanges under way `drain` seconds to finish (0: as long as they
        take), then ends what is left.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.shut()
        await self._emptied(drain)
        for connection in list(self._connections):
            connection.abort()
        await self._emptied(1.0)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _emptied(self, seconds: float) -> None:
        """Waits until the last connection is gone, for at most `seconds`; 0 = without limit."""
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds or None):
                    await self._empty.wait()

    # --- for connections

    def admit(self, connection: Connection) -> GhostError | None:
        """Takes the connection in; an error when it is to be told that there are too many."""
        self._connections.add(connection)
        self._empty.clear()
        if self._connection_limit and len(self._connections) > self._connection_limit:
            return Overloaded(f"too many connections (limit {self._connection_limit})", retry_after=1)
        return None

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._sweep_interval, self._sweep)
        now = loop.time()
        for connection in list(self._connections):
            connection.sweep(now)


def _listening_socket(host: str, port: int) -> socket.socket:
    """One bound socket; an empty host is every interface, IPv4 and IPv6 in one socket where the machine has
    both.
    """
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    if host and family == socket.AF_INET:
        host = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind((host or ("::" if dual else "0.0.0.0"), port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _name(address: Sequence[object]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""The server: listening sockets, the connections they accept, the clock sweep over them, and the drain at the
end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from ghostllm.config.schema import Server as ServerConfig
from ghostllm.errors import GhostError, Overloaded
from ghostllm.net.address import split_listen
from ghostllm.net.connection import Connection
from ghostllm.net.guests import Guests
from ghostllm.net.loop import NAME
from ghostllm.net.outbox import Outbox
from ghostllm.ports import Application
from ghostllm.wire.h1 import HeadLimits

BACKLOG = 1024  # connections that wait to be accepted; more would have to try again, a second later

LAST_LOOK = 0.05
"""Seconds for which an address that is given up goes on accepting."""


class Server:
    """Listens as `config.listen` says and hands every request to `application`.

    report: takes a message and an exception that nobody else handles.
    """

    def __init__(
        self, application: Application, config: ServerConfig, report: Callable[[str, BaseException], None]
    ) -> None:
        self.application = application
        self.report = report
        self.draining = False
        self.outbox = Outbox(asyncio.get_running_loop())
        self.guests = Guests()
        self._connections: set[Connection] = set()
        self._listeners: dict[str, Listener] = {}  # by the addresses as configured
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._configure(config)

    def _configure(self, config: ServerConfig) -> None:
        limits = config.limits
        self.timeouts = config.timeouts
        self.head_limits = HeadLimits(limits.head_bytes, limits.header_count, limits.target_bytes)
        self.body_limit = limits.body_bytes
        self.pipeline_limit = limits.pipeline_bytes
        self.client_rate = limits.client_rate
        self.guests.configure(config)
        self._listen = config.listen
        self._connection_limit = limits.connections
        set_limits = [limit for limit in (self.timeouts.header, self.timeouts.idle, self.timeouts.body,
                                          self.timeouts.write) if limit]  # fmt: skip
        self._sweep_interval = min(0.5, max(0.05, min(set_limits, default=1.0) / 4))

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def bound(self) -> list[str]:
        """The addresses that it listens on, as bound."""
        return [listener.name for listener in self._listeners.values()]

    async def start(self) -> list[str]:
        """Binds every address and returns them as bound (port 0 resolved). Raises OSError naming the address.

        An IPv6 loopback that this machine does not have is skipped when an IPv4 address is being listened on
        too.
        """
        with ExitStack() as undo:
            self._listeners = self._bind(self._listen, undo)
            undo.pop_all()
        for listener in self._listeners.values():
            await self._accept(listener)
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_interval, self._sweep)
        return self.bound

    def prepare(self, config: ServerConfig, undo: ExitStack) -> Callable[[], Coroutine[Any, Any, None]]:
        """Binds the addresses that are new in `config`; `undo` lets go of them. Raises OSError naming one.

        What it returns is called to go by `config` from then on, and gives the rest of the work: to accept
        connections at the new addresses, and no more at the old ones. Those that are there live on.
        """
        listeners = self._bind(config.listen, undo)

        def commit() -> Coroutine[Any, Any, None]:
            before, self._listeners = self._listeners, listeners
            self._configure(config)
            return self._switch(before, listeners)

        return commit

    def _bind(self, listen: Sequence[str], undo: ExitStack) -> dict[str, Listener]:
        """The listeners for these addresses: those that are there, and new ones, which accept nothing yet."""
        listeners: dict[str, Listener] = {}
        leaving = [one for address, one in self._listeners.items() if address not in listen]
        for address in listen:
            host, port = split_listen(address)
            # `[::1]:0` after `127.0.0.1:0`: the same port on both, as the default has it
            if port == 0 and listeners:
                port = int(next(iter(listeners.values())).name.rpartition(":")[2])
            listener = self._listeners.get(address)
            if listener is None:
                try:
                    with beside([one.socket for one in leaving if one.port == port]) as shared:
                        listener = Listener(_listening_socket(host, port, shared=shared))
                except OSError as error:
                    absent = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
                    if listeners and host == "::1" and absent:
                        continue
                    raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
                undo.callback(listener.socket.close)
            listeners[address] = listener
        return listeners

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        listener.server = await loop.create_server(
            lambda: Connection(self, loop), sock=listener.socket, backlog=BACKLOG
        )

    async def _switch(self, before: dict[str, Listener], after: dict[str, Listener]) -> None:
        for listener in after.values():
            if listener.server is None:
                await self._accept(listener)
        gone = [listener for address, listener in before.items() if address not in after]
        if gone:
            await asyncio.sleep(LAST_LOOK)  # whoever has connected by now is accepted
        for listener in gone:
            await listener.close()

    async def close(self, drain: float) -> None:
        """Stops listening at once, gives exchanges under way `drain` seconds to finish (0: as long as they
        take), then ends what is left.
        """
        self.draining = True
        for listener in self._listeners.values():
            await listener.close()
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


class Listener:
    """One listening socket. name: its address as bound. server: accepts its connections; None: not yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.name = _name(sock.getsockname())
        self.port = int(sock.getsockname()[1])
        self.server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Listener {self.name}>"

    async def close(self) -> None:
        """Accepts nothing more. What has been accepted lives on."""
        if self.server is None:
            self.socket.close()
            return
        if NAME == "asyncio" and sys.platform != "win32":
            # It drops what it has accepted and not yet set up when the server closes, and nobody closes that.
            for sock in self.server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
        self.server.close()


@contextlib.contextmanager
def beside(leaving: Sequence[socket.socket]) -> Iterator[bool]:
    """Lets a port be bound a second time while those who have it are about to go: 127.0.0.1:8080 becomes
    :8080 without a moment in which neither listens. True: the new socket has to share the port as well.
    """
    leaving = leaving if hasattr(socket, "SO_REUSEPORT") else ()
    for sock in leaving:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield bool(leaving)
    finally:
        for sock in leaving:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _is_ipv4(host: str) -> bool:
    """Whether it needs no resolver, with which Python's tables of international names would be loaded."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def _listening_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """One bound socket; an empty host is every interface, IPv4 and IPv6 in one socket where the machine has
    both.
    """
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    if host and family == socket.AF_INET and not _is_ipv4(host):
        host = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host or ("::" if dual else "0.0.0.0"), port))
        sock.listen(BACKLOG)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)  # nobody else is to come beside it
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _name(address: Sequence[object]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

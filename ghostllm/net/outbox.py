"""Writes of one turn of the event loop, carried out together at its end.

A write to a socket on the same machine wakes the process behind it, and on a small machine that wake-up costs
more than the write: one after the other, between two pieces of work, each of them finds the reader asleep
again. In a burst the first one wakes it and the others find it at work.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final, Protocol

AT_ONCE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # struct linger: on, no time


class Flushable(Protocol):
    def flush(self) -> None: ...


class Outbox:
    """The connections that have something to send."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Flushable] = []

    def __repr__(self) -> str:
        return f"<Outbox of {len(self._waiting)}>"

    def add(self, connection: Flushable) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with what its client has not taken: the kernel would keep that for as long as the
    client likes.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    transport.abort()

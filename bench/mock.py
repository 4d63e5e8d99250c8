"""The upstream of the benchmark: `python -m bench.mock`. Prints its address; ends when standard input ends.

It speaks OpenAI's, Ollama's and Anthropic's dialect, told apart by the path. A whole answer comes at once,
from one precomputed write. A stream has TOKENS events, PACE seconds apart, or SLOW_PACE for the model `slow`;
each event carries the clock at its writing. One timer writes for all the streams that are due: 2000 of them
are to cost little here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import cast

from bench import loops
from bench.processes import raise_descriptor_limit
from bench.speech import SPEECH, TOKENS, Speech, chunk, whole

PACE = 0.020
SLOW_PACE = 0.200
TICK = 0.001

BY_PATH = {speech.path.encode(): speech for speech in SPEECH.values()}
LISTING = SPEECH["openai"].listing
ANTHROPIC_LISTING = SPEECH["anthropic"].listing
PAGES = {
    b"/api/tags": SPEECH["ollama"].listing,
    b"/api/version": whole({"version": "0.17.4"}),
    b"/api/ps": whole({"models": []}),
}
NOT_FOUND = whole({"error": {"message": "no such path", "type": "not_found_error"}}, b"404 Not Found")
_LENGTH = b"content-length:"


class Pacer:
    """Writes the next event of every stream that is due: of one pace, all are in one queue, by due time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, deque[tuple[float, Mock, Speech, int]]] = {
            PACE: deque(),
            SLOW_PACE: deque(),
        }
        self._tick()

    def start(self, connection: Mock, speech: Speech, pace: float) -> None:
        self._queues[pace].append((self._loop.time(), connection, speech, 0))

    def _tick(self) -> None:
        self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        for pace, queue in self._queues.items():
            while queue and queue[0][0] <= now:
                due, connection, speech, sent = queue.popleft()
                if connection.transport.is_closing():
                    continue
                if sent < TOKENS:
                    connection.transport.write(chunk(speech.token % time.monotonic_ns()))
                    queue.append((due + pace, connection, speech, sent + 1))
                else:
                    connection.write_last(speech.end)


class Mock(asyncio.Protocol):
    """One connection. Requests are told apart by searching the body, which is all that is read of it."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = bytearray()
        self._wanted = 0  # bytes until it is worth looking again
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._wanted and (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(buffer[:end]).lower()
            size = self._body_size(head, end + 4)
            if size is None:
                return
            self._wanted = end + 4 + size
            if len(buffer) < self._wanted:
                return
            body = bytes(buffer[end + 4 : self._wanted])
            del buffer[: self._wanted]
            self._wanted = 0
            self._answer(head, body)

    def _body_size(self, head: bytes, start: int) -> int | None:
        """None: not known yet. Some peers re-frame what they pass on, as chunks."""
        at = head.find(_LENGTH)
        if at >= 0:
            return int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if b"transfer-encoding: chunked" not in head:
            return 0
        last = self._buffer.find(b"0\r\n\r\n", max(start, self._wanted - 5))
        self._wanted = len(self._buffer)
        return None if last < 0 else last + 5 - start

    def _answer(self, head: bytes, body: bytes) -> None:
        self.closing = b"\r\nconnection: close" in head
        method, path, _ = head.split(b" ", 2)
        path = path.partition(b"?")[0]
        if method != b"post":
            listing = ANTHROPIC_LISTING if b"\r\nanthropic-version:" in head else LISTING
            self.write_last(PAGES.get(path, NOT_FOUND if path.startswith(b"/api/") else listing))
            return
        speech = BY_PATH.get(path)
        if speech is None:
            self.write_last(NOT_FOUND)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.transport.write(speech.begin)
            slow = b'"model":"slow"' in body or b'"model": "slow"' in body
            self._pacer.start(self, speech, SLOW_PACE if slow else PACE)
        else:
            self.write_last(speech.answer)

    def write_last(self, data: bytes) -> None:
        """The end of an answer."""
        self.transport.write(data)
        if self.closing:
            self.transport.close()


async def main() -> None:
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    server = await loop.create_server(lambda: Mock(pacer), "127.0.0.1", 0, backlog=4096)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    over = loop.create_future()

    def watch() -> None:
        if not os.read(0, 4096) and not over.done():
            over.set_result(None)

    loop.add_reader(0, watch)
    await over


if __name__ == "__main__":
    loops.run(main())

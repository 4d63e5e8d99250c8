"""The upstream of the benchmark: `python -m bench.mock`. Prints its address; ends when standard input ends.

A whole answer comes at once, from one precomputed write. A stream has TOKENS events, PACE seconds apart, or
SLOW_PACE for the model `slow`; each event carries the clock at its writing, the machine-wide monotonic one,
in nanoseconds. One timer writes for all the streams that are due: 2000 of them are to cost little here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from typing import cast

from bench import loops

TOKENS = 64
PACE = 0.020
SLOW_PACE = 0.200
TICK = 0.001

ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1790000000, "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "All is well. " * 8},
                     "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 32, "total_tokens": 232},
    }
).encode()  # fmt: skip
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":"%d"},"logprobs":null,"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",'
    b'"choices":[],"usage":{"prompt_tokens":200,"completion_tokens":64,"total_tokens":264}}\n\n',
    b"data: [DONE]\n\n",
)
MODELS = json.dumps(
    {"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": "bench"}
                                for name in ("bench", "slow")]}
).encode()  # fmt: skip
LISTING = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(MODELS),
    MODELS,
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"".join(_chunk(data) for data in LAST) + b"0\r\n\r\n"


class Pacer:
    """Writes the next event of every stream that is due: of one pace, all are in one queue, by due time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, deque[tuple[float, Mock, int]]] = {PACE: deque(), SLOW_PACE: deque()}
        self._tick()

    def start(self, connection: Mock, pace: float) -> None:
        self._queues[pace].append((self._loop.time(), connection, 0))

    def _tick(self) -> None:
        self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        for pace, queue in self._queues.items():
            while queue and queue[0][0] <= now:
                due, connection, sent = queue.popleft()
                if connection.transport.is_closing():
                    continue
                if sent < TOKENS:
                    connection.transport.write(_chunk(EVENT % time.monotonic_ns()))
                    queue.append((due + pace, connection, sent + 1))
                else:
                    connection.transport.write(END)


class Mock(asyncio.Protocol):
    """One connection. Requests are told apart by searching the body, which is all that is read of it."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if at < 0 and b"chunked" in head:  # some peers re-frame what they pass on
                tail = self._buffer.find(b"0\r\n\r\n", end)
                if tail < 0:
                    return
                length = tail + 5 - end - 4
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self.transport.write(LISTING)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.transport.write(STREAM_HEAD)
            slow = b'"model":"slow"' in body or b'"model": "slow"' in body
            self._pacer.start(self, SLOW_PACE if slow else PACE)
        else:
            self.transport.write(WHOLE)


async def main() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    server = await loop.create_server(lambda: Mock(pacer), "127.0.0.1", 0, backlog=4096)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    over = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 4096) or over.done() or over.set_result(None))
    await over


if __name__ == "__main__":
    loops.run(main())

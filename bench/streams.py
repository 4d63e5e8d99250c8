"""The load of many paced streams: `python -m bench.streams ADDRESS --streams N`, a process of its own.

Prints one JSON object. An event is late when more than LATE seconds lie between its writing by the mock and
its reading here, lost when it never came. Each connection carries several streams, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

from bench import loops
from bench.mock import PACE, SLOW_PACE
from bench.processes import raise_descriptor_limit
from bench.speech import ENDINGS, SPEECH, STAMP, TOKENS, body

LATE = 0.050


class Stream(asyncio.Protocol):
    """One connection, asking `rounds` times."""

    def __init__(self, request: bytes, rounds: int, over: asyncio.Future[None]) -> None:
        self._request = request
        self._rounds = rounds
        self._over = over
        self._tail = b""
        self.events = 0
        self.late: list[int] = []
        self.worst = 0
        self.first: list[float] = []
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._rounds -= 1
        self._waiting = True
        self._asked = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        text = self._tail + data
        end = 0
        for match in STAMP.finditer(text):
            self.events += 1
            end = match.end()
            delay = now - int(match[1])
            if delay > self.worst:
                self.worst = delay
            if delay > LATE * 1e9:
                self.late.append(delay)
        if end and self._waiting:
            self._waiting = False
            self.first.append(time.monotonic() - self._asked)
        if text.endswith(b"0\r\n\r\n") and any(ending in text for ending in ENDINGS):
            self._tail = b""
            self._finish()
        else:
            self._tail = text[end:] if len(text) - end < 4096 else text[-1024:]

    def _finish(self) -> None:
        if self._rounds > 0:
            self._ask()
        else:
            if not self._over.done():
                self._over.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self.failed = f"closed early: {exc} {self._tail[:200]!r}"
            self._over.set_result(None)


async def one(address: str, request: bytes, rounds: int, wait: float, limit: float) -> Stream:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(wait)
    over = loop.create_future()
    stream = Stream(request, rounds, over)
    host, _, port = address.rpartition(":")
    try:
        await loop.create_connection(lambda: stream, host, int(port))
        await asyncio.wait_for(over, limit)
    except (OSError, TimeoutError) as error:
        stream.failed = stream.failed or repr(error)
    return stream


def request(dialect: str, model: str, fields: list[str]) -> bytes:
    """A streamed chat of about 1 KB, as a client of that dialect writes it."""
    text = body(dialect, model, stream=True)
    lines = [f"POST {SPEECH[dialect].path} HTTP/1.1", "Host: bench", *fields]
    lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + text


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dialect", default="openai", choices=list(SPEECH))
    parser.add_argument("--model", default="bench", help="`slow` has the slower pace")
    parser.add_argument("--key", default="", help="sent as bearer token")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    args = parser.parse_args()
    raise_descriptor_limit()
    limit = args.rounds * TOKENS * (SLOW_PACE if args.model == "slow" else PACE) * 3 + 10
    spread = max(0.5, args.streams / 1000)  # nobody opens thousands of streams in one moment
    fields = [*args.header, *([f"Authorization: Bearer {args.key}"] if args.key else [])]
    ask = request(args.dialect, args.model, fields)
    streams = await asyncio.gather(
        *(
            one(args.address, ask, args.rounds, spread * at / args.streams, limit)
            for at in range(args.streams)
        )
    )
    expected = args.streams * args.rounds * TOKENS
    events = sum(stream.events for stream in streams)
    first = sorted(value for stream in streams for value in stream.first)
    print(
        json.dumps(
            {
                "streams": args.streams,
                "events": events,
                "lost": expected - events,
                "late": sum(len(stream.late) for stream in streams),
                "clean": sum(not s.late and s.events == args.rounds * TOKENS for s in streams),
                "worst_ms": max(stream.worst for stream in streams) / 1e6,
                "first_ms": first[len(first) // 2] * 1e3 if first else None,
                "failed": next((stream.failed for stream in streams if stream.failed), ""),
            }
        )
    )


if __name__ == "__main__":
    loops.run(main())

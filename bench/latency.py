"""Delays at one connection, of all peers in turns: `python -m bench.latency`, a process of its own.

A hundred microseconds are small beside what a shared machine does in the seconds between two measurements. So
the peers take turns of SLICE seconds, in an order that changes, in one process with one open connection to
each, and every peer sees the same weather. Client, mock and peers are held on one core: with two, a request
takes 18 or 59 µs without any gateway, as the scheduler likes. The first requests of a turn warm caches and do
not count. The client is a blocking socket and nothing else, as an event loop adds a spread of its own.

Standard input: {"peers": {name: {"address": …, "request": base64}}, "seconds": for each peer}.
Standard output: {name: {"p50_us": …, "p99_us": …, "p99_pooled_us": …, "requests": …}}.
p99_us is the median of the p99 of blocks of turns: a burst of somebody else's work spoils the blocks that it
falls into, and no others.
"""

from __future__ import annotations

import base64
import gc
import json
import random
import re
import socket
import sys
import time
from statistics import median

SLICE = 0.1
WARM = 20
BLOCK = 200
"""Requests that are enough for a p99."""

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Lane:
    """The connection to one peer, and its delays, turn by turn, in nanoseconds."""

    def __init__(self, address: str, request: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._where = host, int(port)
        self._request = request
        self._buffer = memoryview(bytearray(1 << 16))
        self.turns: list[list[int]] = []
        self._connect()

    def _connect(self) -> None:
        self._sock = socket.create_connection(self._where, timeout=30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def turn(self, seconds: float) -> None:
        for _ in range(WARM):
            self._once()
        end = time.perf_counter_ns() + int(seconds * 1e9)
        clock, once, delays = time.perf_counter_ns, self._once, []
        while (began := clock()) < end:
            once()
            delays.append(clock() - began)
        self.turns.append(delays)

    def _once(self) -> None:
        self._sock.sendall(self._request)
        size = 0
        while not is_whole(self._buffer, size):
            got = self._sock.recv_into(self._buffer[size:])
            if not got:
                raise RuntimeError(f"{self._where} closed the connection")
            size += got


def is_whole(buffer: memoryview, size: int) -> bool:
    """Whether the first `size` bytes are one whole answer. Raises RuntimeError for any status but 200."""
    text = bytes(buffer[:size])
    head = text.find(b"\r\n\r\n")
    if head < 0:
        return False
    if not text.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answered {text[:300]!r}")
    length = LENGTH.search(text, 0, head + 2)
    if length is None:
        return text.endswith(b"\r\n0\r\n\r\n")
    return size == head + 4 + int(length[1])


def main() -> None:
    task = json.load(sys.stdin)
    lanes = {
        name: Lane(peer["address"], base64.b64decode(peer["request"])) for name, peer in task["peers"].items()
    }
    gc.disable()
    order = list(lanes.values())
    chance = random.Random(1)
    for _ in range(max(1, round(task["seconds"] / SLICE))):
        chance.shuffle(order)
        for lane in order:
            lane.turn(SLICE)
    print(json.dumps({name: summary(lane.turns) for name, lane in lanes.items()}))


def summary(turns: list[list[int]]) -> dict[str, float]:
    """Delays in nanoseconds, turn by turn."""
    pooled = sorted(delay for turn in turns for delay in turn)
    blocks: list[list[int]] = [[]]
    for turn in turns:
        if len(blocks[-1]) >= BLOCK:
            blocks.append([])
        blocks[-1] += turn
    if len(blocks) > 1 and len(blocks[-1]) < BLOCK:
        rest = blocks.pop()
        blocks[-1] += rest
    return {
        "p50_us": percentile(pooled, 50) / 1e3,
        "p99_us": median(percentile(sorted(block), 99) for block in blocks) / 1e3,
        "p99_pooled_us": percentile(pooled, 99) / 1e3,
        "requests": len(pooled),
    }


def percentile(ordered: list[int], percent: int) -> int:
    return ordered[len(ordered) * percent // 100]


if __name__ == "__main__":
    main()

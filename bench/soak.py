"""Mixed traffic for a long time, and whether anything is left behind: `scripts/soak [--minutes 30]`.

Clients that finish, that leave at every moment, that read slowly and that send nonsense, in front of backends
that answer, fail, stall and break off. Every few seconds all of it pauses until the gateway is idle, and its
memory, descriptors and counters are looked at. Ends with status 1 if a counter does not return to where it
began or if memory keeps growing after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from bench.processes import memory_mb
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway
from tests.fakes.raw import request, split

SECONDS_A_ROUND = 8.0
WORKERS = 24
SLOPE_LIMIT = 1.0  # MB a minute, over the last two thirds
BEHAVIOURS: dict[str, dict[str, Any]] = {
    "fine": {"tokens": 20},
    "slow": {"tokens": 30, "token_delay": 0.02},
    "large": {"tokens": ["x" * 4000] * 1000},
    "error": {"status": 500},
    "busy": {"status": 429, "headers": {"Retry-After": "60"}},
    "cut": {"tokens": 20, "fault": "fin", "at": 7},
    "reset": {"tokens": 20, "fault": "rst", "at": 7},
    "broken": {"tokens": 20, "fault": "bad_json", "at": 7},
    "stall": {"tokens": 20, "fault": "stall", "at": 7},
    "hang": {"hang": True},
    "hangup": {"hang_up": True},
}
COUNTERS = ("requests_in_flight", "upstream_connections", "connections", "process_open_fds")

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Traffic:
    """The clients. `seen` counts what they did and what came of it."""

    def __init__(self, address: str, seed: int) -> None:
        self._host, self._port = split(address)
        self._chance = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.running = True

    async def worker(self) -> None:
        scenarios: list[Callable[[Reader, Writer], Awaitable[str]]] = [
            self._ask, self._ask, self._leave, self._read_slowly, self._talk_nonsense,
        ]  # fmt: skip
        while self.running:
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 18)
            try:
                async with asyncio.timeout(30):
                    for _ in range(self._chance.randint(1, 5)):
                        self.seen[await self._chance.choice(scenarios)(reader, writer)] += 1
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.seen[type(error).__name__] += 1
            finally:
                writer.transport.abort()

    def _send(self, writer: Writer) -> str:
        model = self._chance.choice([name for name in BEHAVIOURS if name != "large"])
        message = {"role": "user", "content": "x" * self._chance.choice((10, 1000, 100_000))}
        body = {"model": model, "messages": [message], "stream": self._chance.random() < 0.7}
        writer.write(request("POST", "/v1/chat/completions", json.dumps(body).encode()))
        return model

    async def _ask(self, reader: Reader, writer: Writer) -> str:
        model = self._send(writer)
        if model in ("hang", "stall"):  # nothing to wait for
            return await self._abandon(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if b"chunked" in head.lower():
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            ending = "done" if b"[DONE]" in body else "error" if b'"error"' in body else "neither"
            return f"{model}: {status}, {ending}"
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return f"{model}: {status}"

    async def _leave(self, reader: Reader, writer: Writer) -> str:
        self._send(writer)
        return await self._abandon(writer)

    async def _abandon(self, writer: Writer) -> str:
        await asyncio.sleep(self._chance.random() * 0.3)
        writer.transport.abort()
        raise EOFError

    async def _read_slowly(self, reader: Reader, writer: Writer) -> str:
        body = {"model": "large", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        writer.write(request("POST", "/v1/chat/completions", json.dumps(body).encode()))
        read = b""
        while not read.endswith(b"\r\n0\r\n\r\n"):
            await asyncio.sleep(0.002)
            piece = await reader.read(16384)
            if not piece:
                raise EOFError
            read = read[-16:] + piece
        return "read slowly"

    async def _talk_nonsense(self, reader: Reader, writer: Writer) -> str:
        nonsense = [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            request("POST", "/v1/chat/completions", b"{"),
        ]
        writer.write(self._chance.choice(nonsense))
        await reader.readuntil(b"\r\n\r\n")
        raise EOFError


def counters(gateway: Gateway) -> dict[str, float]:
    """The gauges that must return to where they began; idle upstream connections may stay."""
    found: Counter[str] = Counter()
    for line in gateway.ask("GET", "/metrics").body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        bare = name.partition("{")[0].removeprefix("ghostllm_")
        if bare in COUNTERS and 'state="idle"' not in name:
            found[bare] += float(value)
        elif bare == "upstream_connections":
            found["idle"] += float(value)
    found["process_open_fds"] -= found.pop("idle", 0)
    return dict(found)


def settle(gateway: Gateway, start: dict[str, float] | None) -> dict[str, float]:
    """Waits for the counters to be as at the start, for ten seconds at most; what they then are."""
    end = time.monotonic() + 10
    while (now := counters(gateway)) != start and start is not None and time.monotonic() < end:
        time.sleep(0.1)
    return now


async def traffic(load: Traffic, seconds: float) -> None:
    load.running = True
    workers = [asyncio.create_task(load.worker()) for _ in range(WORKERS)]
    await asyncio.sleep(seconds)
    load.running = False
    await asyncio.gather(*workers)


def slope(samples: list[tuple[float, float]]) -> float:
    """Least squares, units of the second a minute of the first."""
    count = len(samples)
    middle = sum(at for at, _ in samples) / count
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return 60 * sum((at - middle) * value for at, value in samples) / spread if spread else 0.0


def settings(fakes: list[Fake]) -> dict[str, Any]:
    names = [f"b{number}" for number in range(len(fakes))]
    return {
        "routing": {"attempts": 2, "backoff": 0.01, "retry_after_max": 1.0},
        "timeouts": {"first_token": 3.0, "idle": 3.0, "total": 10.0},
        "log": {"access": False},
        "backends": [{"name": n, "kind": f.kind, "url": f.url} for n, f in zip(names, fakes, strict=True)],
        "models": [
            {"name": name, "targets": [{"backend": backend} for backend in names], "balance": "round_robin"}
            for name in BEHAVIOURS
        ],
    }  # fmt: skip


def soak(minutes: float, seed: int) -> int:
    with Fake("openai", *BEHAVIOURS) as one, Fake("ollama", *BEHAVIOURS) as two:
        with Gateway(settings([one, two])) as gateway:
            load = Traffic(gateway.address, seed)
            asyncio.run(traffic(_scripted(load, one, two), 2.0))  # pools and caches fill
            start = settle(gateway, None)
            began, samples, faults = time.monotonic(), list[tuple[float, float]](), list[str]()
            while (elapsed := time.monotonic() - began) < minutes * 60:
                asyncio.run(traffic(_scripted(load, one, two), min(SECONDS_A_ROUND, minutes * 20)))
                now = settle(gateway, start)
                memory = memory_mb(gateway.process.pid)
                samples.append((time.monotonic() - began, memory))
                print(f"{elapsed / 60:5.1f} min  {memory:6.1f} MB  {now}", flush=True)
                if now != start:
                    faults.append(f"counters were {start} and are {now}")
                    start = now
            for what, count in sorted(load.seen.items()):
                print(f"{count:8} {what}")
            growth = slope(samples[len(samples) // 3 :])
            print(f"memory grows {growth:+.2f} MB a minute")
            if growth > SLOPE_LIMIT:
                faults.append(f"memory grows {growth:.2f} MB a minute, more than {SLOPE_LIMIT}")
            lies = [
                what
                for what in load.seen
                if what.startswith(("cut", "reset", "broken")) and "200, done" in what
            ]
            faults += [
                f"a broken stream was presented as whole: {what}" for what in lies if _cannot_heal(what)
            ]
            faults += [f"an answer that ended neither way: {what}" for what in load.seen if "neither" in what]
            if "Traceback" in gateway.log:
                faults.append("the gateway's log has a traceback:\n" + gateway.log[-2000:])
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _cannot_heal(what: str) -> bool:
    """Both backends break all of these off after seven tokens, so none of them can have been whole."""
    return what.partition(":")[0] in ("cut", "reset", "broken")


def _scripted(load: Traffic, *fakes: Fake) -> Traffic:
    for fake in fakes:  # anew in each round, as fakes remember every request
        fake.reset()
        fake.script(*({**behaviour, "model": name, "times": None} for name, behaviour in BEHAVIOURS.items()))
    return load


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="soak", description="Mixed traffic, and whether anything is left behind."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    return soak(args.minutes, args.seed)


if __name__ == "__main__":
    sys.exit(main())

"""Mixed traffic for a long time, and whether anything is left behind: `scripts/soak [--minutes 30]`.

Clients of every kind (`soak_traffic`) in front of backends that answer, fail, stall and break off. Every few
seconds all of it pauses until the gateway is idle, and its memory, descriptors and counters are looked at.
Ends with status 1, and the figure that failed, if a counter does not return to where it began, if memory
keeps growing in the second half, or if a client was told something that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from statistics import median
from typing import Any

from bench.processes import memory_mb
from bench.soak_traffic import BEHAVIOURS, HALVED, Traffic
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway

OPENED_ONCE = "process_open_fds"
"""May be more after the first traffic than before it: what is opened at first use. Not from then on."""
SECONDS_A_ROUND = 8.0
SETTLE = 15.0
"""Seconds that the gateway may take to be idle: the backends' first-token limit is within."""
SLOPE_LIMIT = 1.0  # MB a minute, over the second half
GROWTH_LIMIT = 3.0
"""MB in all over the same time. Less is the allocator's up and down. So three minutes find what leaves 200
bytes a scenario behind, half an hour 20.
"""
PLAIN_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Large blocks go back to the system when they are freed (mallopt(3)). Left alone, glibc's limits follow the
largest block that was ever freed: the heap then keeps tens of MB of bodies that are long gone, more in one
round and less in the next, and a leak cannot be told from that.
"""
JUDGED_AFTER = 90.0  # seconds; before, memory is still being filled for the first time
COUNTERS = {
    "ghostllm_requests_in_flight", "ghostllm_upstream_connections", "ghostllm_connections",
    "ghostllm_tasks", "process_open_fds",
}  # fmt: skip
"""Gauges that must return to where they began. One that the gateway does not have is not missed."""


def counters(page: str) -> dict[str, float]:
    """The gauges of a metrics page. Idle upstream connections may stay, so they and their descriptors do not
    count.
    """
    found: defaultdict[str, float] = defaultdict(float)
    idle = 0.0
    for line in page.splitlines():
        name, _, value = line.rpartition(" ")
        bare = name.partition("{")[0]
        if bare not in COUNTERS:
            continue
        if 'state="idle"' in name:
            idle += float(value)
        else:
            found[bare] += float(value)
    found["process_open_fds"] -= idle
    return dict(found)


def settled(gateway: Gateway, start: dict[str, float] | None) -> dict[str, float]:
    """Waits for the counters to be as at the start; what they are when they are, or after SETTLE."""
    end = time.monotonic() + SETTLE
    while True:
        now = counters(gateway.ask("GET", "/metrics").body.decode())
        if start is None or not differences(start, now) or time.monotonic() > end:
            return now
        time.sleep(0.1)


def differences(start: dict[str, float], now: dict[str, float]) -> list[str]:
    """A line for each counter that is above where it began; a look at a backend may have been under way
    then.
    """
    return [
        f"{name} began at {start.get(name, 0):g} and is {now.get(name, 0):g}"
        for name in sorted({*start, *now})
        if now.get(name, 0) > start.get(name, 0)
    ]


def slope(samples: list[tuple[float, float]]) -> float:
    """Units of the second for a minute of the first, which is in seconds: the median over all pairs, which
    one odd sample does not move (Theil and Sen).
    """
    slopes = [
        60 * (later - earlier) / (end - start)
        for (start, earlier), (end, later) in combinations(samples, 2)
        if end > start
    ]
    return median(slopes) if slopes else 0.0


def grown(samples: list[tuple[float, float]]) -> tuple[float, str | None]:
    """MB a minute in the second half, and what is wrong with it. samples: seconds and MB."""
    late = samples[len(samples) // 2 :]
    growth = slope(late)
    if not late or late[-1][0] < JUDGED_AFTER:
        return growth, None
    total = growth * (late[-1][0] - late[0][0]) / 60
    if growth > SLOPE_LIMIT and total > GROWTH_LIMIT:
        return growth, f"memory grows {growth:.2f} MB a minute, {total:.1f} MB in the second half"
    return growth, None


def lies(seen: Iterable[str]) -> list[str]:
    """What clients were told that cannot be."""
    return [
        f"a broken stream was presented as whole: {what}"
        for what in seen
        if what.startswith(HALVED) and what.endswith("200, done")
    ] + [f"an answer that ended neither way: {what}" for what in seen if what.endswith("neither")]


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


def scripted(*fakes: Fake) -> None:
    """Anew in each round, as fakes remember every request."""
    for fake in fakes:
        fake.reset()
        fake.script(*({**behaviour, "model": name, "times": None} for name, behaviour in BEHAVIOURS.items()))


def soak(minutes: float, seed: int) -> int:
    with Fake("openai", *BEHAVIOURS) as one, Fake("ollama", *BEHAVIOURS) as two:
        with Gateway(settings([one, two]), environment=PLAIN_MALLOC) as gateway:
            traffic = Traffic(gateway.address, seed)
            fresh = settled(gateway, None)
            if "ghostllm_tasks" not in fresh:
                print("note: the gateway has no gauge ghostllm_tasks, so its tasks are not counted")
            scripted(one, two)
            asyncio.run(traffic.run(2.0))
            start = settled(gateway, fresh)
            start |= {name: fresh[name] for name in fresh if name != OPENED_ONCE}
            samples, faults = rounds(gateway, traffic, start, (one, two), minutes * 60)
            if "Traceback" in gateway.log:
                faults.append("the gateway's log has a traceback:\n" + gateway.log[-2000:])
    for what, count in sorted(traffic.seen.items()):
        print(f"{count:8} {what}")
    growth, fault = grown(samples)
    print(f"memory grows {growth:+.2f} MB a minute; {sum(traffic.seen.values())} scenarios")
    faults += [fault] if fault is not None else []
    faults += lies(traffic.seen)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


def rounds(
    gateway: Gateway, traffic: Traffic, start: dict[str, float], fakes: tuple[Fake, ...], seconds: float
) -> tuple[list[tuple[float, float]], list[str]]:
    """(seconds, MB) after each round of traffic, and the faults found."""
    began, samples, faults = time.monotonic(), list[tuple[float, float]](), list[str]()
    while (elapsed := time.monotonic() - began) < seconds and not gateway.over:
        scripted(*fakes)
        asyncio.run(traffic.run(min(SECONDS_A_ROUND, seconds / 3)))
        now = settled(gateway, start)
        memory = memory_mb(gateway.process.pid)
        samples.append((time.monotonic() - began, memory))
        open_ones = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
        shown = " ".join(f"{name.removeprefix('ghostllm_')}={value:g}" for name, value in now.items())
        print(f"{elapsed / 60:5.1f} min  {memory:6.1f} MB  {open_ones:4} descriptors  {shown}", flush=True)
        faults += differences(start, now)
        start = now  # what is left behind is told once
    if gateway.over:
        faults.append(f"the gateway has ended:\n{gateway.log[-2000:]}")
    return samples, faults


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

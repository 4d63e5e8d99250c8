"""`python -m bench.simulate`: the balancing policies against each other on one trace, under a virtual clock.

Nothing is measured but the cost of a decision: a backend is a model of one (serial prefill, a cache of
prompt prefixes), so the figures compare policies and say nothing of any hardware. Left out: chunked prefill,
batch limits, caching of generated text, network, failures.

Without --trace the traces are generated, always the same for the same --seed.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, quantiles

from bench.trace import (
    DECODE,
    OVERHEAD,
    PREFILL,
    TOKENS,
    WORKLOADS,
    Arrival,
    Workload,
    describe,
    generate,
    read,
)
from ghostllm.routing import balance, latency, sticky
from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt, Sent
from ghostllm.routing.prefix import BLOCK, chain

BYTES = 4  # per token
CACHE = 800  # blocks of a backend's cache


class Backend:
    """Prefills one prompt after the other. free: when it has done all it was given."""

    def __init__(self) -> None:
        self.free = 0.0
        self.tokens = 0
        self.hits = 0
        self._cache: OrderedDict[int, None] = OrderedDict()

    def take(self, arrival: Arrival) -> float:
        """When its first token comes."""
        depth = 0
        for block in arrival.blocks:
            if block not in self._cache:
                break
            depth += 1
        cached = min(arrival.tokens, depth * TOKENS)
        for block in reversed(arrival.blocks):
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) > CACHE:
            self._cache.popitem(last=False)
        self.tokens += arrival.tokens
        self.hits += cached
        self.free = max(arrival.at, self.free) + OVERHEAD + PREFILL * (arrival.tokens - cached)
        return self.free


class Policy:
    """Chooses a target, and hears what becomes of the request. in_flight: by backend."""

    def __init__(self, name: str, targets: Sequence[Target], seed: int) -> None:
        self.name = name
        self.in_flight = {target.backend: 0 for target in targets}
        self._targets = targets
        self._chance = random.Random(seed)
        self._rotation = balance.Rotation()

    def choose(self, arrival: Arrival) -> tuple[Target, object]:
        ordered = balance.order(
            self.name,
            "m",
            self._targets,
            load=self.in_flight.__getitem__,
            rotation=self._rotation,
            chance=self._chance,
        )
        return ordered[0], arrival.at

    def first_token(self, target: Target, note: object, now: float) -> None:
        pass

    def ended(self, target: Target, note: object) -> None:
        pass


class Sticky(Policy):
    def choose(self, arrival: Arrival) -> tuple[Target, object]:
        return sticky.order(str(arrival.conversation), self._targets)[0], None


class Latency(Policy):
    def __init__(self, name: str, targets: Sequence[Target], seed: int) -> None:
        super().__init__(name, targets, seed)
        self._meters = {target.backend: latency.PeakEwma() for target in targets}

    def choose(self, arrival: Arrival) -> tuple[Target, object]:
        ordered = latency.order(
            self._targets,
            self._meters.__getitem__,
            self.in_flight.__getitem__,
            arrival.at,
            chance=self._chance,
        )
        return ordered[0], arrival.at

    def first_token(self, target: Target, note: object, now: float) -> None:
        assert isinstance(note, float)
        self._meters[target.backend].observed(now - note, now)


class Smart(Policy):
    def __init__(self, name: str, targets: Sequence[Target], seed: int, *, wrong: float = 1.0) -> None:
        """wrong: factor by which the prefill rate is misjudged, for good."""
        super().__init__(name, targets, seed)
        self._ledger = Ledger()
        for target in targets:
            self._ledger.resize(target.backend, CACHE * TOKENS * BYTES // BLOCK)
            self._ledger.rate(target).seconds = PREFILL * wrong
            self._ledger.rate(target).LEAST = sys.maxsize if wrong != 1.0 else 256
        self._seats = [self._ledger.seat(target) for target in targets]

    def choose(self, arrival: Arrival) -> tuple[Target, object]:
        size = arrival.tokens * BYTES
        halves = TOKENS * BYTES // BLOCK
        blocks = [hash((block, half)) for block in arrival.blocks for half in range(halves)][: size // BLOCK]
        prompt = Prompt("m", size, blocks)
        choices, _ = self._ledger.order(self._seats, prompt, None, arrival.at, self._chance)
        seat = choices[0][1]
        return seat.target, self._ledger.dispatched(seat, prompt, arrival.at)

    def first_token(self, target: Target, note: object, now: float) -> None:
        assert isinstance(note, Sent)
        self._ledger.first_token(note, now)

    def ended(self, target: Target, note: object) -> None:
        assert isinstance(note, Sent)
        self._ledger.ended(note)


@dataclass(frozen=True)
class Result:
    """Seconds to first token. hits: share of prompt tokens found in the caches."""

    mean: float
    p50: float
    p90: float
    hits: float


POLICIES: dict[str, Callable[[str, Sequence[Target], int], Policy]] = {
    "round_robin": Policy,
    "least_requests": Policy,
    "latency": Latency,
    "sticky": Sticky,
    "smart": Smart,
}


def replay(trace: Sequence[Arrival], policy: Policy) -> Result:
    backends = {name: Backend() for name in policy.in_flight}
    due: list[tuple[float, int, str, Target, object]] = []
    waits = []
    for number, arrival in enumerate(trace):
        while due and due[0][0] <= arrival.at:
            now, _, what, target, note = heapq.heappop(due)
            if what == "first":
                policy.first_token(target, note, now)
            else:
                policy.in_flight[target.backend] -= 1
                policy.ended(target, note)
        target, note = policy.choose(arrival)
        policy.in_flight[target.backend] += 1
        first = backends[target.backend].take(arrival)
        heapq.heappush(due, (first, 2 * number, "first", target, note))
        heapq.heappush(due, (first + arrival.output * DECODE, 2 * number + 1, "end", target, note))
        waits.append(first - arrival.at)
    hits = sum(backend.hits for backend in backends.values())
    tokens = sum(backend.tokens for backend in backends.values())
    return Result(fmean(waits), median(waits), quantiles(waits, n=10)[-1], hits / tokens)


def pool(size: int) -> list[Target]:
    return [Target(f"b{number}", "m") for number in range(size)]


def compare(trace: Sequence[Arrival], backends: int, seed: int) -> dict[str, Result]:
    return {name: replay(trace, make(name, pool(backends), seed)) for name, make in POLICIES.items()}


def gates(workload: Workload, results: dict[str, Result]) -> Iterator[tuple[str, bool]]:
    """What must hold, in words, and whether it does."""
    smart, rotation, least = (results[name].mean for name in ("smart", "round_robin", "least_requests"))
    below_rotation, below_least = 1 - smart / rotation, 1 - smart / least
    if workload.name == "light load":
        yield f"mean {below_rotation:+.0%} below round robin (>= 0 %)", below_rotation >= 0
    elif workload.shared:
        rotation_gate, least_gate = workload.below
        yield (
            f"mean {below_rotation:.0%} below round robin (>= {rotation_gate:.0%})",
            (below_rotation >= rotation_gate),
        )
        yield f"mean {below_least:.0%} below least requests (>= {least_gate:.0%})", below_least >= least_gate
    else:
        yield f"mean {-below_least:+.0%} against least requests (<= +10 %)", below_least >= -0.10


def decision(tokens: int = 12_000, backends: int = 16, rounds: int = 500) -> float:
    """Median microseconds of one real decision: hashing the prompt, matching, scoring, ordering."""
    chance = random.Random(1)
    ledger = Ledger()
    seats = [ledger.seat(target) for target in pool(backends)]
    prompts = [chance.randbytes(tokens * BYTES) for _ in range(8)]
    for at, data in enumerate(prompts):
        sent = Prompt("m", len(data), chain(data, "m"))
        for seat in seats[at : at + 8]:
            ledger.dispatched(seat, sent, 0.0)
    spent = []
    for turn in range(rounds):
        data = prompts[turn % len(prompts)]
        start = time.perf_counter()
        prompt = Prompt("m", len(data), chain(data, "m"))
        ledger.order(seats, prompt, None, 1.0, chance)
        spent.append(time.perf_counter() - start)
    return median(spent) * 1e6


def report(title: str, trace: Sequence[Arrival], results: dict[str, Result]) -> None:
    print(f"\n{title}\n  {describe(trace)}")
    print(f"  {'time to first token, s':24}{'mean':>8}{'p50':>8}{'p90':>8}{'hits':>7}")
    for name, result in results.items():
        print(f"  {name:24}{result.mean:8.2f}{result.p50:8.2f}{result.p90:8.2f}{result.hits:7.0%}")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.simulate", description="Balancing policies, simulated.")
    parser.add_argument("--requests", type=int, default=12_000, help="length of a generated trace (12000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=Path, metavar="FILE", help="JSON lines instead of generated traces")
    parser.add_argument("--backends", type=int, help="with --trace (12), or instead of each workload's own")
    args = parser.parse_args(words)
    if args.trace is not None:
        trace = read(args.trace)
        report(str(args.trace), trace, compare(trace, args.backends or 12, args.seed))
        return 0
    missed = 0
    for workload in WORKLOADS:
        workload = replace(workload, backends=args.backends or workload.backends)
        trace = generate(workload, args.requests, args.seed)
        results = compare(trace, workload.backends, args.seed)
        report(f"{workload.name}, {workload.backends} backends", trace, results)
        for text, holds in gates(workload, results):
            missed += not holds
            print(f"  {'holds' if holds else 'MISSED'}: {text}")
    print(f"\none decision, 12000 tokens, 16 backends: {decision():.0f} us (median, measured)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What single functions of the hot path cost: `python -m bench.micro [WORD…]` prints µs of this thread's CPU.

A row is a function that prepares and returns what is to be timed:

    @ROWS("wire: scan a request head", budget=4.0)
    def scan_head() -> Timed:
        from ghostllm.wire.h1_request import HeadLimits, read_request
        ...
        return lambda: read_request(head, limits)

budget: µs that the design allows, None where it names no figure. calls: how many operations one call of
what is returned stands for. Best of several runs: the others measure the machine's other work. Rows import
what they time themselves: one whose function has moved fails by its name, and the others are measured.
"""

from __future__ import annotations

import argparse
import sys
import time
import timeit
from collections.abc import Callable
from typing import NamedTuple

Timed = Callable[[], object]


class Row(NamedTuple):
    name: str
    prepare: Callable[[], Timed]
    budget: float | None
    calls: int


class Rows(list[Row]):
    """Called with a name, it decorates the function that prepares a row."""

    def __call__(
        self, name: str, *, budget: float | None = None, calls: int = 1
    ) -> Callable[[Callable[[], Timed]], Callable[[], Timed]]:
        def register(prepare: Callable[[], Timed]) -> Callable[[], Timed]:
            self.append(Row(name, prepare, budget, calls))
            return prepare

        return register


def measure(one: Row, seconds: float, repeats: int) -> float:
    """µs of CPU for one operation."""
    timer = timeit.Timer(one.prepare(), timer=time.thread_time)
    number = 1
    while (spent := timer.timeit(number)) < seconds / 4:
        number *= 4 if spent < seconds / 16 else 2
    return min(timer.repeat(repeats, number)) / number / one.calls * 1e6


def run(rows: list[Row], seconds: float, repeats: int) -> int:
    """Prints a line for each; how many failed."""
    width = max(len(one.name) for one in rows)
    print(f"{'µs of CPU per operation':<{width}}  {'best':>8}  {'budget':>7}")
    failed = 0
    for one in rows:
        try:
            cost = measure(one, seconds, repeats)
        except Exception as error:  # whatever a function that has moved may come to
            failed += 1
            print(f"{one.name:<{width}}  FAILED: {type(error).__name__}: {error}", flush=True)
            continue
        budget = "" if one.budget is None else f"{one.budget:g}"
        over = "  over" if one.budget is not None and cost > one.budget else ""
        print(f"{one.name:<{width}}  {cost:>8.2f}  {budget:>7}{over}", flush=True)
    return failed


def main() -> int:
    from bench import micro_observe, micro_path, micro_routing

    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows with one of these in their names")
    parser.add_argument("--seconds", type=float, default=0.1, help="CPU time of one run")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    rows = [
        one
        for one in (*micro_path.ROWS, *micro_routing.ROWS, *micro_observe.ROWS)
        if not args.words or any(word in one.name for word in args.words)
    ]
    if not rows:
        parser.error(f"no row has {' or '.join(args.words)} in its name")
    return 1 if run(rows, args.seconds, args.repeats) else 0


if __name__ == "__main__":
    sys.exit(main())

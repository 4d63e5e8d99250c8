"""`python -m bench`: starts the mock and every peer that is here, measures in turns, prints tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import bodies, legs, peers, report, sizes
from bench.processes import memory_mb, raise_descriptor_limit

Leg = Callable[[list[peers.Peer]], dict[str, legs.Figures]]

SLOW_STREAMS = 2000
IDLE_CONNECTIONS = 5000


def main() -> int:
    args = _arguments()
    if args.list:
        for one in peers.ALL:
            print(f"{one.name:12} {one.missing() or 'is here'}")
        return 0
    if (reason := legs.missing()) is not None:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    try:
        chosen, skipped = peers.chosen(args.peers)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    for line in skipped:
        print(line, file=sys.stderr)
    raise_descriptor_limit()
    with running(chosen) as (here, mock):
        result = Run(here, mock, legs.QUICK if args.quick else legs.Durations(), set(args.peers)).measure(
            args.repeats, set(filter(None, args.legs.split(",")))
        )
        result["titles"] = {peer.name: peer.title or peer.name for peer in here}
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    print(report.page(result))
    print()
    for peer in here:
        if peer.note:
            print(f"{peer.title or peer.name}: {peer.note}")
    print(f"written to {args.json}; `python -m bench.report {args.json}` prints it again")
    return 0


@contextlib.contextmanager
def running(chosen: list[type[peers.Peer]]) -> Iterator[tuple[list[peers.Peer], int]]:
    """The peers, not started yet, and the mock's process id. All of it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="ghostllm-bench-") as folder:
        with subprocess.Popen(
            [sys.executable, "-m", "bench.mock"], cwd=peers.ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        ) as mock:  # fmt: skip
            assert mock.stdout is not None
            address = mock.stdout.readline().strip()
            here = [peer(address, Path(folder)) for peer in chosen]
            try:
                yield here, mock.pid
            finally:
                for peer in here:
                    peer.stop()


class Run:
    """named: peers that were asked for by name, which take part in every leg."""

    def __init__(self, here: list[peers.Peer], mock: int, durations: legs.Durations, named: set[str]) -> None:
        self.here = here
        self.mock = mock
        self.durations = durations
        self.named = named

    def measure(self, repeats: int, only: set[str]) -> dict[str, Any]:
        """only: names of legs; empty for all of them. Raises ValueError for a name that none has."""
        plan = self._plan()
        if unknown := only - {title for title, _ in plan} - {"size"}:
            raise ValueError(
                f"no leg {min(unknown)!r}; there are size {' '.join(title for title, _ in plan)}"
            )
        found: dict[str, list[legs.Figures]] = {peer.name: [] for peer in self.here}
        once = self._at_rest()
        if not only or "size" in only:
            self._sizes(once)
        for repeat in range(repeats):
            here = self.here[repeat % len(self.here) :] + self.here[: repeat % len(self.here)]
            figures = {peer.name: dict(once[peer.name]) for peer in self.here}
            for title, leg in plan:
                if only and title not in only:
                    continue
                print(f"{repeat + 1}/{repeats} {title}", file=sys.stderr)
                for name, value in leg(here).items():
                    figures[name] |= value
            for name, value in figures.items():
                found[name].append(value)
        return {"machine": machine(), "medians": report.medians(found), "repeats": found}

    def _at_rest(self) -> dict[str, legs.Figures]:
        """Starts them all: the time until the first answer, and memory a second after the last start."""
        once: dict[str, legs.Figures] = {}
        for peer in self.here:
            starts = []
            for _ in range(1 if peer.heavy else 3):  # the first one after an installation reads cold files
                peer.stop()
                starts.append(peer.start())
            once[peer.name] = {"start_s": sorted(starts)[len(starts) // 2]}
        time.sleep(1)
        for peer in self.here:
            if peer.process is not None:
                once[peer.name]["memory_rest_mb"] = memory_mb(peer.process.pid)
        return once

    def _sizes(self, once: dict[str, legs.Figures]) -> None:
        for peer in self.here:
            size = sizes.installed_mb(peer.name) if peer.process is not None else None
            if size is not None:
                once[peer.name]["installed_mb"] = size
        if "ghostllm" in once and (zipapp := sizes.zipapp_mb()) is not None:
            once["ghostllm"]["zipapp_mb"] = zipapp

    def _plan(self) -> list[tuple[str, Leg]]:
        durations = self.durations
        large = bodies.both(durations.bodies)
        plan: list[tuple[str, Leg]] = [
            ("latency", lambda here: legs.latency(here, durations, self.mock)),
            ("load", _each(lambda peer: legs.load(peer, durations))),
            ("64", _each(lambda peer: legs.streams(peer, durations, 64))),
            ("512", self._many(lambda peer: legs.streams(peer, durations, 512))),
            ("translated", _each(lambda peer: legs.translated(peer, durations, 64))),
            ("bodies", _each(lambda peer: bodies.measure_all(peer, large))),
        ]
        if durations.settle:
            plan.append(("settle", lambda here: legs.memory_after(here, durations.settle)))
        if durations.slow:  # these begin with fresh processes
            plan += [
                ("2000", self._many(lambda peer: legs.slow_streams(peer, SLOW_STREAMS))),
                ("idle", self._many(lambda peer: legs.idle(peer, IDLE_CONNECTIONS))),
            ]
        return plan

    def _many(self, measure: Callable[[peers.Peer], legs.Figures]) -> Leg:
        """A leg of hundreds of connections: not for heavy peers, unless they are named."""
        leg = _each(measure)
        return lambda here: leg([peer for peer in here if not peer.heavy or peer.name in self.named])


def _each(measure: Callable[[peers.Peer], legs.Figures]) -> Leg:
    """One peer after the other."""

    def leg(here: list[peers.Peer]) -> dict[str, legs.Figures]:
        found = {}
        for peer in here:
            print(f"    {peer.name}", file=sys.stderr)
            try:
                found[peer.name] = measure(peer)
            except RuntimeError as error:  # of a peer: the others' figures are none the worse for it
                print(f"    FAILED: {error}", file=sys.stderr)
        return found

    return leg


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": sys.version,
        "kernel": platform.release(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="GhostLLM beside other gateways, in one run.")
    parser.add_argument("--quick", action="store_true", help="short legs: a first look, not figures to quote")
    parser.add_argument("--repeats", type=int, help="times every leg is run (3; quick: 1)")
    parser.add_argument("--json", default="build/bench.json", metavar="FILE", help="where the figures go")
    parser.add_argument("--list", action="store_true", help="the peers, and how to install those not here")
    parser.add_argument(
        "--legs", default="", metavar="LEG,…",
        help="only these of: size latency load 64 512 translated bodies settle 2000 idle",
    )  # fmt: skip
    parser.add_argument("peers", nargs="*", metavar="PEER", help="only these (and direct); see --list")
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.quick else 3)
    return args


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench`: starts the mock and every peer that is here, measures in turns, prints a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import legs, peers, report
from bench.processes import memory_mb


def main() -> int:
    args = _arguments()
    if (reason := legs.missing()) is not None:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    chosen = []
    for peer in peers.ALL:
        if args.peers and peer.name not in {*args.peers, "direct"}:
            continue
        if (reason := peer.missing()) is not None:
            print(f"skipped: {peer.name}: {reason}", file=sys.stderr)
        else:
            chosen.append(peer)
    mock = subprocess.Popen(
        [sys.executable, "-m", "bench.mock"],
        cwd=peers.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert mock.stdout is not None and mock.stdin is not None
    running: list[peers.Peer] = []
    try:
        with tempfile.TemporaryDirectory(prefix="ghostllm-bench-") as folder:
            address = mock.stdout.readline().strip()
            for number, peer in enumerate(chosen):
                running.append(peer(address, Path(folder, str(number))))
            result = measure(running, args.repeats, legs.QUICK if args.quick else legs.Durations())
    finally:
        for peer in running:
            peer.stop()
        mock.stdin.close()
        mock.stdout.close()
        mock.wait()
    print(report.table(result["medians"]))
    for peer in running:
        if peer.note:
            print(f"{peer.name}: {peer.note}")
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {args.json}")
    return 0


def measure(running: list[peers.Peer], repeats: int, durations: legs.Durations) -> dict[str, Any]:
    found: dict[str, list[legs.Figures]] = {peer.name: [] for peer in running}
    atrest: dict[str, legs.Figures] = {}
    for peer in running:
        starts = []
        for _ in range(3):  # the first start after an installation reads cold files
            peer.stop()
            starts.append(peer.start())
        atrest[peer.name] = {"start_s": sorted(starts)[1]}
    time.sleep(1)
    for peer in running:
        if peer.process is not None:
            atrest[peer.name]["memory_rest_mb"] = memory_mb(peer.process.pid)
    for repeat in range(repeats):
        turn = running[repeat % len(running) :] + running[: repeat % len(running)]
        figures: dict[str, legs.Figures] = {peer.name: dict(atrest[peer.name]) for peer in running}
        for title, leg in _plan(durations):
            for peer in turn:
                print(f"{repeat + 1}/{repeats} {title}: {peer.name}", file=sys.stderr)
                figures[peer.name] |= leg(peer)
        for name, value in figures.items():
            found[name].append(value)
    machine = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {"machine": machine, "medians": report.medians(found), "repeats": found}


def _plan(durations: legs.Durations) -> list[tuple[str, Any]]:
    plan: list[tuple[str, Any]] = [
        ("latency", lambda peer: legs.latency(peer, durations)),
        ("load", lambda peer: legs.load(peer, durations)),
        ("64 streams", lambda peer: legs.streams(peer, durations, 64)),
        ("512 streams", lambda peer: legs.streams(peer, durations, 512)),
    ]
    if durations.slow:
        plan.append(("2000 slow streams", lambda peer: legs.streams(peer, durations, 2000, "slow")))
    return plan


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
    parser.add_argument(
        "peers", nargs="*", metavar="PEER", help="only these (and direct): nginx envoy ghostllm …"
    )
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.quick else 3)
    return args


if __name__ == "__main__":
    sys.exit(main())

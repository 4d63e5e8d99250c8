"""The measurements: one leg is one load on one peer, with the CPU time that its process tree took for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.mock import TOKENS
from bench.peers import ROOT, Peer
from bench.processes import cpu_seconds, memory_mb

POST = Path(__file__).with_name("post.lua")
BODY = json.dumps(
    {
        "model": "bench",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Tell me how things are. " * 36},
        ],
        "temperature": 0.7,
        "max_tokens": 64,
    },
    separators=(",", ":"),
)
"""A request of about 1 KB."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Durations:
    """Seconds of the legs under wrk, rounds of 64 events of the streaming ones."""

    latency: float = 4.0
    load: float = 5.0
    rounds: int = 3
    slow: bool = True


QUICK = Durations(latency=1.0, load=1.5, rounds=1, slow=False)


def missing() -> str | None:
    return None if shutil.which("wrk") else "wrk is not installed (Debian: wrk)"


def _wrk(peer: Peer, connections: int, seconds: float) -> Figures:
    environment = {**os.environ, "BENCH_KEY": peer.key, "BENCH_BODY": BODY}
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s",
         "-s", str(POST),  f"http://{peer.address}/v1/chat/completions"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    figures: Figures = json.loads(line.removeprefix("RESULT "))
    if figures["errors"]:
        raise RuntimeError(
            f"{peer.name}: {figures['errors']} of {figures['requests']} requests failed under wrk"
        )
    return figures


def latency(peer: Peer, durations: Durations) -> Figures:
    """One connection, one request after the other."""
    figures = _wrk(peer, 1, durations.latency)
    return {"p50_us": figures["p50_us"], "p99_us": figures["p99_us"]}


def load(peer: Peer, durations: Durations) -> Figures:
    """32 connections, as fast as it goes."""
    before = _cpu(peer)
    figures = _wrk(peer, 32, durations.load)
    result = {"requests_s": figures["requests"] / figures["seconds"], "p99_32_us": figures["p99_us"]}
    if peer.process is not None:
        result["cpu_request_us"] = (_cpu(peer) - before) / figures["requests"] * 1e6
        result["memory_load_mb"] = memory_mb(peer.process.pid)
    return result


def streams(peer: Peer, durations: Durations, count: int, model: str = "bench") -> Figures:
    """`count` paced streams at the same time."""
    before = _cpu(peer)
    rounds = durations.rounds if model == "bench" else 1
    done = subprocess.run(
        [sys.executable, "-m", "bench.streams", peer.address, "--streams", str(count), "--rounds",
         str(rounds), "--key", peer.key, "--model", model],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(done.stdout)
    if seen["failed"]:
        print(f"  {peer.name}, {count} streams: {seen['failed']}", file=sys.stderr)
    result = {
        f"clean_{count}": seen["clean"],
        f"lost_{count}": seen["lost"],
        f"late_{count}": seen["late"],
        f"worst_ms_{count}": seen["worst_ms"],
    }
    if seen["first_ms"] is not None:
        result[f"first_us_{count}"] = seen["first_ms"] * 1e3
    if peer.process is not None:
        result[f"cpu_token_us_{count}"] = (_cpu(peer) - before) / (count * rounds * TOKENS) * 1e6
        result[f"memory_mb_{count}"] = memory_mb(peer.process.pid)
    return result


def _cpu(peer: Peer) -> float:
    return cpu_seconds(peer.process.pid) if peer.process is not None else 0.0

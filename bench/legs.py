"""The measurements: one leg is one load on one peer, with the CPU time that its process tree took for it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import ROOT, Peer
from bench.processes import cpu_seconds, memory_mb, pinned, resident_mb
from bench.speech import BACKEND_MODEL, SPEECH, STAMP, TOKENS, body

POST = Path(__file__).with_name("post.lua")
BODY = body()
"""A request of about 1 KB."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Durations:
    """latency, load: seconds of a peer's leg. rounds: of 64 events each, of the streaming legs. bodies: large
    requests. slow: whether the legs with thousands of connections are run. settle: seconds of rest before
    memory is looked at for the last time.
    """

    latency: float = 4.0
    load: float = 5.0
    rounds: int = 3
    bodies: int = 5
    slow: bool = True
    settle: float = 60.0


QUICK = Durations(latency=1.0, load=1.5, rounds=1, bodies=2, slow=False, settle=0.0)


def missing() -> str | None:
    return None if shutil.which("wrk") else "wrk is not installed (Debian: wrk)"


# --- whole answers


def latency(running: list[Peer], durations: Durations, mock: int) -> dict[str, Figures]:
    """One connection, one request after the other, all peers in turns. mock: its process."""
    peers = {
        peer.name: {"address": peer.address, "request": base64.b64encode(peer.request(BODY)).decode()}
        for peer in running
    }
    core = {max(os.sched_getaffinity(0))}  # interrupts and whoever else is here tend to be on the first
    pids = [mock, *(peer.process.pid for peer in running if peer.process is not None)]
    with pinned(pids, core) as done:
        if not done:
            print("  not everything could be held on one core: delays have more spread", file=sys.stderr)
        return dict(
            json.loads(
                _output(
                    "bench.latency",
                    [],
                    json.dumps({"peers": peers, "seconds": durations.latency}).encode(),
                    core,
                )
            )
        )


def load(peer: Peer, durations: Durations) -> Figures:
    """32 connections, as fast as it goes."""
    before = cpu(peer)
    figures = _wrk(peer, 32, durations.load)
    result = {"requests_s": figures["requests"] / figures["seconds"], "p99_32_us": figures["p99_us"]}
    if peer.process is not None:
        result["cpu_request_us"] = (cpu(peer) - before) / figures["requests"] * 1e6
        result["memory_load_mb"] = memory_mb(peer.process.pid)
    return result


def _wrk(peer: Peer, connections: int, seconds: float) -> Figures:
    fields = "\n".join(f"{name}: {value}" for name, value in peer.headers().items())
    environment = {**os.environ, "BENCH_HEADERS": fields, "BENCH_BODY": BODY.decode()}
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


# --- streams


def streams(peer: Peer, durations: Durations, count: int) -> Figures:
    """`count` paced streams at the same time."""
    seen, spent, _ = _stream(peer, count, durations.rounds)
    result = _delivery(seen, count)
    if seen["first_ms"] is not None:
        result[f"first_us_{count}"] = seen["first_ms"] * 1e3
    if peer.process is not None:
        result[f"cpu_token_us_{count}"] = spent / (count * durations.rounds * TOKENS) * 1e6
        result[f"memory_mb_{count}"] = memory_mb(peer.process.pid)
    return result


def slow_streams(peer: Peer, count: int) -> Figures:
    """`count` streams of five tokens a second on a fresh process, and the memory that one of them takes."""
    if peer.process is not None:
        _refresh(peer)
    before = resident_mb(peer.process.pid) if peer.process is not None else 0.0
    seen, spent, most = _stream(peer, count, 1, model="slow")
    result = _delivery(seen, count)
    if peer.process is not None:
        result[f"cpu_token_us_{count}"] = spent / (count * TOKENS) * 1e6
        result[f"memory_mb_{count}"] = memory_mb(peer.process.pid)
        result["stream_kb"] = (most - before) / count * 1e3
    return result


def _delivery(seen: dict[str, Any], count: int) -> Figures:
    return {
        f"clean_{count}": seen["clean"],
        f"lost_{count}": seen["lost"],
        f"late_{count}": seen["late"],
        f"worst_ms_{count}": seen["worst_ms"],
    }


def translated(peer: Peer, durations: Durations, count: int) -> Figures:
    """CPU per token of every pair of dialects that the gateway serves; the same on both sides is passed
    through. Only for gateways that know the mock's other sides; pairs that are not served are left out.
    """
    if peer.name != "ghostllm":
        return {}
    result: Figures = {}
    for client, speech in SPEECH.items():
        for backend, model in BACKEND_MODEL.items():
            answer = peer.ask(body(client, model, stream=True), speech.path)
            if len(STAMP.findall(answer)) != TOKENS:
                continue
            seen, spent, _ = _stream(peer, count, durations.rounds, dialect=client, model=model)
            result[f"cpu_token_us_{client}_{backend}"] = spent / (count * durations.rounds * TOKENS) * 1e6
            result[f"clean_{client}_{backend}"] = seen["clean"]
    return result


def _stream(
    peer: Peer, count: int, rounds: int, *, dialect: str = "openai", model: str = "bench"
) -> tuple[dict[str, Any], float, float]:
    """What the clients saw, CPU seconds of the peer, and the most memory that it was seen to have in MB."""
    fields = [f"{name}: {value}" for name, value in peer.headers().items()]
    command = [sys.executable, "-m", "bench.streams", peer.address, "--streams", str(count), "--rounds",
               str(rounds), "--dialect", dialect, "--model", model]  # fmt: skip
    command += [part for field in fields for part in ("--header", field)]
    before, most = cpu(peer), 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        while client.poll() is None:
            if model == "slow" and peer.process is not None:
                # The counter, not the PSS: who walks the page tables of a process makes it wait.
                most = max(most, resident_mb(peer.process.pid))
            time.sleep(0.5)
        output, errors = client.communicate()
    if client.returncode:
        raise RuntimeError(f"the streaming client failed: {errors.decode()[-1000:]}")
    seen: dict[str, Any] = json.loads(output)
    if seen["failed"]:
        print(f"  {peer.name}, {count} streams: {seen['failed']}", file=sys.stderr)
    return seen, cpu(peer) - before, most


# --- connections, memory


def idle(peer: Peer, count: int) -> Figures:
    """`count` connections that have made one request each and stay: memory of one, on a fresh process."""
    if peer.process is None:
        return {}
    _refresh(peer)
    before = memory_mb(peer.process.pid)
    command = [sys.executable, "-m", "bench.idle", peer.address, "--connections", str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(peer.request(BODY))
        client.stdin.close()
        if not client.stdout.readline():
            raise RuntimeError(f"{peer.name}: the client with {count} connections failed")
        time.sleep(1)
        held = memory_mb(peer.process.pid)
        kept = int(client.stdout.readline())
    return {"connection_kb": (held - before) / count * 1e3, "connections_kept": kept}


def _refresh(peer: Peer) -> None:
    """A new process that has had its first requests."""
    peer.restart()
    for _ in range(200):
        peer.ask(BODY)


def memory_after(running: Iterable[Peer], seconds: float) -> dict[str, Figures]:
    """Memory when all load has been over for a while."""
    time.sleep(seconds)
    return {
        peer.name: {"memory_after_mb": memory_mb(peer.process.pid)} if peer.process is not None else {}
        for peer in running
    }


def cpu(peer: Peer) -> float:
    return cpu_seconds(peer.process.pid) if peer.process is not None else 0.0


def _output(module: str, arguments: list[str], given: bytes, cores: set[int]) -> bytes:
    """What a module of ours prints, run on `cores`."""
    held = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # inherited
    try:
        client = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.sched_setaffinity(0, held)
    output, errors = client.communicate(given)
    if client.returncode:
        raise RuntimeError(f"{module} failed: {errors.decode()[-1000:]}")
    return output

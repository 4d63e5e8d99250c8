"""Real servers killed under load: `scripts/chaos [--minutes 2] [--clients 64] [--seed 1]`.

Three llama.cpp processes with one small model behind one gateway; clients stream short answers through all
four doors, while a schedule kills, freezes, restarts, moves, removes and drains the backends. Each answer is
judged by its own dialect's rules (`chaos_judge`). Ends with status 1, and the reason, if one was presented
as whole and is not, if one never ended, if kills hit streams and none was rescued, or if something is left
behind in the gateway when all is over.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.chaos_backends import Backend, missing, publish
from bench.chaos_clients import QUESTIONS, Crowd
from bench.chaos_doors import DOORS, MODEL
from bench.chaos_judge import Answer, Reference, Verdict, judge
from bench.chaos_schedule import Schedule
from bench.soak import differences, settled
from tests.fakes.gateway import Gateway

BACKENDS = 3
CALM = 0.2
"""Share of the time in which nothing is disturbed, at first."""
RECOVERY = 60.0
"""Seconds that the gateway may take to see that all backends are back."""
MUST_BE_ZERO = ("ghostllm_queue_waiting", "ghostllm_queue_running", "ghostllm_backend_in_flight")
EXPLAINED = 20_000
SHOWN = 12  # reasons of one kind

Judged = list[tuple[Answer, Verdict, str]]


def settings(file: Path) -> dict[str, Any]:
    """Impatient, so that much happens in little time. The log of requests is kept by the admin API."""
    return {
        "discovery": {"local": False, "file": str(file), "interval": 0.5},
        "routing": {
            "balance": "smart", "rescue": True, "refresh": 2, "explain": EXPLAINED,
            "health": {"interval": 1, "timeout": 1, "load": 1, "slow_start": 5},
            "queue": {"wait": 90},
        },
        "timeouts": {"connect": 2, "first_token": 10, "idle": 4},
        "log": {"access": False},
    }  # fmt: skip


async def chaos(seconds: float, clients: int, seed: int) -> int:
    backends = [Backend(f"b{number}", MODEL) for number in range(BACKENDS)]
    try:
        await asyncio.gather(*(one.start() for one in backends))
        with tempfile.TemporaryDirectory(prefix="ghostllm-chaos-") as folder:
            file = Path(folder, "backends.json")
            publish(backends, file)
            with Gateway(settings(file)) as gateway:
                return await disturbed(gateway, backends, file, (seconds, clients, seed))
    finally:
        await asyncio.gather(*(one.end() for one in backends))


async def disturbed(
    gateway: Gateway, backends: Sequence[Backend], file: Path, size: tuple[float, int, int]
) -> int:
    seconds, clients, seed = size
    faults = await recovered(gateway)
    crowd = Crowd(gateway.address, seed, [], set())
    known = [await crowd.ask(DOORS[0], question) for question in QUESTIONS]
    references = {
        answer.question: Reference(answer.hearing.text, answer.hearing.finish == answer.door.cut)
        for answer in known
    }
    await crowd.run(clients, seconds * CALM)
    start = await asyncio.to_thread(settled, gateway, None)
    crowd.calm = False
    schedule = Schedule(backends, file, gateway, crowd)
    lasting = seconds * (1 - CALM)
    await asyncio.gather(crowd.run(clients, lasting), schedule.run(lasting, seed))
    faults += await recovered(gateway)
    faults += await asyncio.to_thread(left_behind, gateway, start)
    await asyncio.to_thread(explain, gateway, crowd.answers)
    judged = [(answer, *judge(answer, references[answer.question])) for answer in crowd.answers]
    print(page(judged, schedule))
    faults += untrue(judged, schedule)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


async def recovered(gateway: Gateway) -> list[str]:
    """Waits until the gateway uses every backend; what it says of them if it does not."""
    end = time.monotonic() + RECOVERY
    while True:
        answer = await asyncio.to_thread(gateway.ask, "GET", "/admin/api/backends")
        rows = answer.json()["backends"]
        if len(rows) == BACKENDS and all(row["state"] == "up" and row["lists_models"] for row in rows):
            return []
        if time.monotonic() > end:
            return [f"a backend that is back is not used after {RECOVERY:g} s: {rows}"]
        await asyncio.sleep(0.2)


def left_behind(gateway: Gateway, start: dict[str, float]) -> list[str]:
    """What is not as it was before the backends were disturbed."""
    now = settled(gateway, start)
    now["process_open_fds"] = max(now["process_open_fds"], start["process_open_fds"])  # fewer are no fault
    faults = differences(start, now)
    for line in gateway.ask("GET", "/metrics").body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in MUST_BE_ZERO and float(value):
            faults.append(f"{name} is {value} when all is over")
    if "Traceback" in gateway.log:
        faults.append("the gateway's log has a traceback:\n" + gateway.log.partition("Traceback")[2][:3000])
    if gateway.over:
        faults.append(f"the gateway has ended:\n{gateway.log[-2000:]}")
    return faults


def explain(gateway: Gateway, answers: Iterable[Answer]) -> None:
    """Asks the gateway which answers it has rescued."""
    for answer in answers:
        if answer.request_id:
            found = gateway.ask("GET", f"/admin/api/requests/{answer.request_id}")
            answer.rescued = found.json()["rescued"] if found.status == 200 else None


def untrue(judged: Judged, schedule: Schedule) -> list[str]:
    """What must not be."""
    faults = [
        f"{verdict.value}: {answer.door.name}, {answer.question.text!r}, {answer.request_id}: {why}"
        for answer, verdict, why in judged
        if verdict in (Verdict.LYING, Verdict.HUNG)
    ]
    if schedule.struck and not any(verdict is Verdict.RESCUED for _, verdict, _ in judged):
        faults.append(f"no stream was rescued although {schedule.struck} were hit")
    if any(answer.calm and verdict is not Verdict.COMPLETE for answer, verdict, _ in judged):
        faults.append("an answer failed before anything was disturbed")
    return faults


# --- what is shown


def page(judged: Judged, schedule: Schedule) -> str:
    lines = [f"{'':12}" + "".join(f"{verdict.value:>17}" for verdict in Verdict)]
    counts = Counter((answer.door.name, verdict) for answer, verdict, _ in judged)
    for door in DOORS:
        lines.append(f"{door.name:12}" + "".join(f"{counts[door.name, verdict]:17}" for verdict in Verdict))
    total = Counter(verdict for _, verdict, _ in judged)
    lines.append(f"{'all':12}" + "".join(f"{total[verdict]:17}" for verdict in Verdict))
    done = ", ".join(f"{deed} {times}" for deed, times in sorted(schedule.done.items()))
    lines.append(f"\ndone to the backends: {done}; streams hit by kills: {schedule.struck}")
    for name, calm in (("undisturbed", True), ("disturbed", False)):
        waits = sorted(
            answer.waited for answer, _, _ in judged if answer.calm is calm and answer.waited is not None
        )
        lines.append(f"time to first token, {name}: {_percentiles(waits)} ({len(waits)} answers)")
    reasons = Counter(why for _, verdict, why in judged if verdict is Verdict.FAILED)
    lines += [f"{times:6} failed: {why}" for why, times in reasons.most_common(SHOWN)]
    return "\n".join(lines)


def _percentiles(ordered: Sequence[float]) -> str:
    if not ordered:
        return "nothing measured"
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description="Real servers killed under load.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if (reason := missing()) is not None:
        print(f"chaos: {reason}", file=sys.stderr)
        return 2
    return asyncio.run(chaos(args.minutes * 60, args.clients, args.seed))


if __name__ == "__main__":
    sys.exit(main())

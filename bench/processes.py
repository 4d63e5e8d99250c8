"""What a process and its children use, and where they may run, from Linux."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and everything below it."""
    found = [root]
    for pid in found:
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                found += [
                    int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                ]
    return found


def _tasks(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, of children that have ended too (those in hundredths)."""
    total = 0.0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            # The CPU clock of another process, clock_getcpuclockid(3): nanoseconds, where stat has ticks.
            total += time.clock_gettime(~pid << 3 | 2)
            ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += sum(map(int, ended)) / TICK
    return total


def memory_mb(root: int) -> float:
    """Resident memory, shared pages counted once (PSS), in 10^6 bytes."""
    return sum(_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in tree(root)) * 1024 / 1e6


def forget_peak(root: int) -> None:
    """From now on `peak_mb` means what comes after (proc(5), clear_refs)."""
    for pid in tree(root):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(root: int) -> float:
    """Most resident memory (VmHWM) since the start or `forget_peak`, shared pages counted in each process."""
    return sum(_kilobytes(f"/proc/{pid}/status", "VmHWM:") for pid in tree(root)) * 1024 / 1e6


def resident_mb(root: int) -> float:
    """What `peak_mb` would say of this moment."""
    return sum(_kilobytes(f"/proc/{pid}/status", "VmRSS:") for pid in tree(root)) * 1024 / 1e6


def _kilobytes(path: str, label: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(label))


def raise_descriptor_limit() -> int:
    """As many as the system lets us have, for this process and its children; how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def pinned(pids: Iterable[int], cores: set[int]) -> Iterator[bool]:
    """Holds all threads of these process trees on `cores`; False where that is not possible."""
    before: list[tuple[int, set[int]]] = []
    done = True
    try:
        for pid in pids:
            for task in [task for one in tree(pid) for task in _tasks(one)]:
                try:
                    held = os.sched_getaffinity(task)
                    os.sched_setaffinity(task, cores)
                    before.append((task, held))
                except OSError:
                    done = False
        yield done
    finally:
        for task, held in before:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(task, held)

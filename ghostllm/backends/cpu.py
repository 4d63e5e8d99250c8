"""How many threads a model may use on this machine.

llama.cpp's threads wait for each other by spinning, so one more than there are free cores makes it many times
slower (up to 20 times, measured), not a little. Hence: physical cores that this process may use, less one for
the gateway and everything else, and never more than a container's quota.
"""

from __future__ import annotations

import os
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def choose_threads(cpus: Path = CPUS, quota: Path = QUOTA) -> int:
    """At least 1."""
    cores = physical_cores(cpus)
    allowed = cpu_quota(quota)
    if allowed is not None:
        cores = min(cores, int(allowed))
    return max(1, cores - 1)


def physical_cores(cpus: Path = CPUS) -> int:
    """Cores that this process may run on; hardware threads of one core count once where the system tells."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    cores = set()
    for cpu in usable:
        try:
            cores.add((cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:
            return len(usable)
    return len(cores)


def cpu_quota(path: Path = QUOTA) -> float | None:
    """CPUs' worth of time that the control group (version 2) may use; None: no limit, or nobody says."""
    try:
        limit, period = path.read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None

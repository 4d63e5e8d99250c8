"""Facts about this process, from /proc where there is one; None where nobody knows."""

from __future__ import annotations

import os
import time

STARTED = time.time()
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def cpu_seconds() -> float:
    times = os.times()
    return round(times.user + times.system, 3)


def resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return float(int(statm.read().split()[1]) * _PAGE)
    except OSError:
        return None


def open_descriptors() -> float | None:
    try:
        return float(len(os.listdir("/proc/self/fd")))
    except OSError:
        return None


GAUGES = (
    ("process_resident_memory_bytes", "Memory in use.", resident_bytes),
    ("process_open_fds", "Open file descriptors.", open_descriptors),
    ("process_start_time_seconds", "When this process started, in Unix time.", lambda: STARTED),
)

"""Facts about this process, from /proc where there is one; None where nobody knows."""

from __future__ import annotations

import os
import time

STARTED = time.time()  # this module is loaded within the first tenth of a second

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def cpu_seconds() -> float:
    return round(time.process_time(), 6)


def resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def open_descriptors() -> int | None:
    try:
        # Linux 6.2 and later give their number as the folder's size; before, it is 0 and listing takes time.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def most_descriptors() -> int | None:
    try:
        import resource  # not on every platform
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit

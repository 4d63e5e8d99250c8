"""What the soak calls a leak and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench import soak
from bench.processes import cpu_seconds, forget_peak, memory_mb, peak_mb, pinned, resident_mb, tree

PAGE = """# HELP ghostllm_connections Open client connections.
ghostllm_connections 3
ghostllm_upstream_connections{backend="a",state="idle"} 5
ghostllm_upstream_connections{backend="a",state="active"} 1
ghostllm_upstream_connections{backend="b",state="idle"} 2
ghostllm_upstream_connections{backend="b",state="active"} 2
ghostllm_requests_in_flight 1
ghostllm_requests_total{route="chat"} 99
process_open_fds 30
"""


def test_idle_upstream_connections_do_not_count() -> None:
    assert soak.counters(PAGE) == {
        "ghostllm_connections": 3,
        "ghostllm_upstream_connections": 3,
        "ghostllm_requests_in_flight": 1,
        "process_open_fds": 23,
    }


def test_each_counter_that_does_not_return_is_named() -> None:
    start = soak.counters(PAGE)
    assert soak.differences(start, dict(start)) == []
    found = soak.differences(start, start | {"process_open_fds": 25, "ghostllm_tasks": 4})
    assert found == ["ghostllm_tasks began at 0 and is 4", "process_open_fds began at 23 and is 25"]


def test_slope() -> None:
    assert soak.slope([(second, 50 + second / 30) for second in range(0, 600, 10)]) == pytest.approx(2)
    assert soak.slope([(5.0, 50.0)]) == 0


def test_one_odd_sample_is_no_slope() -> None:
    flat = [(second, 50.0) for second in range(0, 600, 30)]
    assert soak.slope([*flat, (600, 500.0)]) == 0


@pytest.mark.parametrize(
    ("curve", "leaks"),
    [
        (lambda minute: 50 + 3 * minute, True),
        (lambda minute: 50.0, False),
        (lambda minute: 50 + 20 * min(minute, 3), False),  # filled, and then no more
        (lambda minute: 50 + 0.5 * minute, False),
    ],
)
def test_what_grows_to_the_end_leaks(curve: object, leaks: bool) -> None:
    assert callable(curve)
    samples = [(minute * 60.0, curve(minute)) for minute in range(10)]
    _, fault = soak.grown(samples)
    assert (fault is not None) is leaks


def test_little_in_a_short_time_is_no_leak() -> None:
    assert soak.grown([(second, 50 + second / 30) for second in range(100)])[1] is None
    assert soak.grown([(second, 50 + second) for second in range(60)])[1] is None


def test_lies_are_found() -> None:
    honest = ["cut: 200, error", "cut: 502", "fine: 200, done", "read slowly", "images, fine: 200"]
    assert soak.lies(honest) == []
    assert len(soak.lies([*honest, "cut: 200, done", "slow: 200, neither"])) == 2


def test_a_process_tree_is_measured_with_its_children() -> None:
    grandchild = "b = bytearray(40_000_000)\nfor n in range(10**6): pass\nprint(flush=True)\ninput()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert len(tree(process.pid)) == 2
        assert memory_mb(process.pid) > 40
        assert cpu_seconds(process.pid) > 0.01
        forget_peak(process.pid)
        assert peak_mb(process.pid) >= resident_mb(process.pid) * 0.99
        process.stdin.close()


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    core = {min(before)}
    with pinned([os.getpid()], core) as done:
        assert done and os.sched_getaffinity(0) == core
    assert os.sched_getaffinity(0) == before


def test_cpu_time_is_told_finer_than_in_ticks() -> None:
    began = cpu_seconds(os.getpid())
    end = time.thread_time() + 0.003
    while time.thread_time() < end:
        pass
    assert 0.003 <= cpu_seconds(os.getpid()) - began

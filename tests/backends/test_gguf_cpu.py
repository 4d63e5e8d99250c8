"""How many threads a model gets, on machines laid out as files."""

from __future__ import annotations

import os

import pytest

from ghostllm.backends.cpu import choose_threads, cpu_quota, physical_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(["0-1", "0-1", …]): the CPUs this process may use, each with the threads of its core."""

    def make(siblings):
        for number, line in enumerate(siblings):
            topology = tmp_path / f"cpu{number}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(line + "\n")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(len(siblings))), raising=False)
        return tmp_path

    return make


def test_threads_of_one_core_count_once(machine):
    cpus = machine(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"])
    assert physical_cores(cpus) == 4
    assert choose_threads(cpus, cpus / "none") == 3


@pytest.mark.parametrize("siblings", [["0"], ["0-1", "0-1"], ["0", "1"]])
def test_small_machines_get_one_thread(machine, siblings):
    cpus = machine(siblings)
    assert choose_threads(cpus, cpus / "none") == 1


def test_a_container_gets_no_more_than_its_quota(machine):
    cpus = machine([str(n) for n in range(16)])
    quota = cpus / "cpu.max"
    quota.write_text("350000 100000\n")
    assert cpu_quota(quota) == 3.5
    assert choose_threads(cpus, quota) == 2
    quota.write_text("max 100000\n")
    assert choose_threads(cpus, quota) == 15


@pytest.mark.parametrize("content", ["", "max", "words here", "1 0"])
def test_a_quota_that_nobody_understands_is_none(tmp_path, content):
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_quota(tmp_path / "cpu.max") is None


def test_without_a_layout_every_cpu_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert physical_cores(tmp_path) == 3


def test_this_machine_has_cores():
    assert 1 <= choose_threads() <= (os.cpu_count() or 1)

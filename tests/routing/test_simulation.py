"""The gates of the simulator, on a shorter trace than `python -m bench.simulate` takes."""

import json

import pytest

from bench.simulate import Smart, compare, gates, main, pool, replay
from bench.trace import WORKLOADS, generate, read

SHORT = 2500


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_the_gates_hold(workload):
    results = compare(generate(workload, SHORT, seed=2), workload.backends, seed=2)
    assert [text for text, holds in gates(workload, results) if not holds] == []


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_a_prefill_rate_that_is_wrong_by_a_factor_of_two_costs_little(wrong):
    workload = WORKLOADS[0]
    trace = generate(workload, SHORT, seed=3)
    right = replay(trace, Smart("smart", pool(workload.backends), 1)).mean
    assert replay(trace, Smart("smart", pool(workload.backends), 1, wrong=wrong)).mean < 1.25 * right


def test_the_same_seed_gives_the_same_figures():
    trace = generate(WORKLOADS[0], 500, seed=4)
    assert trace == generate(WORKLOADS[0], 500, seed=4) != generate(WORKLOADS[0], 500, seed=5)
    assert compare(trace, 4, seed=1) == compare(trace, 4, seed=1)


def test_recorded_traces_are_read(tmp_path, capsys):
    rows = [
        {"timestamp": 1000 * at, "input_length": 1100, "output_length": 9, "hash_ids": [1, 2, 100 + at]}
        for at in range(20)
    ]
    file = tmp_path / "trace.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read(file)[3].blocks == (1, 2, 103)
    assert main(["--trace", str(file), "--backends", "2"]) == 0
    assert "smart" in capsys.readouterr().out

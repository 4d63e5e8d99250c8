"""Peak-EWMA: slow counts at once, fast little by little, failing fast never."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.catalog import Target
from ghostllm.routing.latency import MEMORY, PENALTY, PeakEwma, order

A, B = Target("a", "m"), Target("b", "m")


def test_a_peak_counts_in_full_and_fades():
    meter = PeakEwma()
    assert meter.cost(3, 0.0) is None
    meter.observed(1.0, 0.0)
    meter.observed(5.0, 1.0)
    assert meter.cost(0, 1.0) == 5.0 and meter.cost(1, 1.0) == 10.0
    assert meter.cost(0, 1.0 + MEMORY) == pytest.approx(5.0 / math.e)
    meter.observed(1.0, 1.0 + MEMORY)
    assert meter.cost(0, 1.0 + MEMORY) == pytest.approx(1.0 + 4.0 / math.e)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 30)), max_size=50))
def test_a_failure_never_makes_it_look_faster(events):
    meter, now = PeakEwma(), 0.0
    for failed, seconds, elapsed in events:
        now += elapsed
        before = meter.cost(0, now)
        if failed:
            meter.failed(seconds, now)
            assert meter.cost(0, now) >= max(PENALTY, seconds, before or 0.0)
        else:
            meter.observed(seconds, now)
        assert meter.cost(0, now) >= 0


def test_the_quickest_first_by_load_and_weight():
    meters = {"a": PeakEwma(), "b": PeakEwma()}
    chance = random.Random(1)

    def first(loads, *targets):
        return order(targets or (A, B), meters.__getitem__, loads.__getitem__, 0.0, chance=chance)[0]

    meters["a"].observed(1.0, 0.0)
    assert first({"a": 0, "b": 0}) == B  # nothing is known of it
    assert first({"a": 0, "b": 1}) == A  # the one that will tell is under way
    meters["b"].observed(3.0, 0.0)
    assert first({"a": 1, "b": 0}) == A
    assert first({"a": 3, "b": 0}) == B
    assert first({"a": 1, "b": 0}, A, Target("b", "m", 4.0)).backend == "b"
    meters["b"].failed(0.001, 0.0)
    assert first({"a": 5, "b": 0}) == A

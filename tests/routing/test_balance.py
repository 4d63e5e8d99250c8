"""The order of targets: every policy is a permutation, and each does what its name says."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.balance import Rotation, order
from ghostllm.routing.catalog import Target

POLICIES = ("failover", "round_robin", "weighted", "least_requests")
A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


def ordered(policy, targets, *, load=lambda name: 0, rotation=None, seed=1):
    return order(policy, "m", targets, load=load, rotation=rotation or Rotation(), chance=random.Random(seed))


@given(
    policy=st.sampled_from(POLICIES),
    weights=st.lists(st.floats(0, 10), min_size=1, max_size=8),
    loads=st.lists(st.integers(0, 100), min_size=8, max_size=8),
    seed=st.integers(),
)
def test_every_policy_gives_each_target_once(policy, weights, loads, seed):
    targets = [Target(f"b{index}", "m", weight) for index, weight in enumerate(weights)]
    result = ordered(policy, targets, load=lambda name: loads[int(name[1:])], seed=seed)
    assert sorted(result, key=lambda t: t.backend) == sorted(targets, key=lambda t: t.backend)


def test_failover_keeps_the_configured_order():
    assert ordered("failover", [B, A, C]) == [B, A, C]


def test_round_robin_begins_one_further_each_time_and_per_model():
    rotation = Rotation()
    firsts = [ordered("round_robin", [A, B, C], rotation=rotation)[0] for _ in range(6)]
    assert firsts == [A, B, C, A, B, C]
    other = order(
        "round_robin", "other", [A, B, C], load=lambda _: 0, rotation=rotation, chance=random.Random(1)
    )
    assert other[0] == A


def test_round_robin_survives_a_shrinking_target_list():
    rotation = Rotation()
    for _ in range(5):
        ordered("round_robin", [A, B, C], rotation=rotation)
    assert set(ordered("round_robin", [A, B], rotation=rotation)) == {A, B}


def test_weighted_draws_in_proportion():
    chance = random.Random(7)
    heavy, light = Target("heavy", "m", 3.0), Target("light", "m", 1.0)
    firsts = Counter(
        order("weighted", "m", [light, heavy], load=lambda _: 0, rotation=Rotation(), chance=chance)[
            0
        ].backend
        for _ in range(4000)
    )
    assert 0.72 < firsts["heavy"] / 4000 < 0.78


def test_weight_zero_comes_last():
    spare = Target("spare", "m", 0.0)
    assert all(ordered("weighted", [spare, A], seed=seed)[-1] == spare for seed in range(50))


def test_least_requests_counts_load_per_weight():
    strong = Target("strong", "m", 4.0)
    loads = {"strong": 4, "a": 1}
    assert ordered("least_requests", [A, strong], load=loads.__getitem__)[0] == strong
    loads["strong"] = 12
    assert ordered("least_requests", [A, strong], load=loads.__getitem__)[0] == A


def test_an_unknown_policy_is_an_error():
    with pytest.raises(ValueError, match="unknown balance policy"):
        ordered("astrology", [A, B])

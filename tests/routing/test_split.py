"""Variants: who gets which, and a canary that goes back when it is worse."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.split import TRANSITIONS, Arm, Canary, Event, Settings, State, assign, mirrored


def test_callers_spread_by_weight_and_stay():
    arms = [Arm("old", 0.9), Arm("new", 0.1)]
    got = Counter(assign("s", arms, str(key)).name for key in range(5000))
    assert 0.08 < got["new"] / 5000 < 0.12
    assert all(assign("s", arms, "me") == assign("s", arms[::-1], "me") for _ in range(5))
    other = [assign("t", arms, str(key)).name == "new" for key in range(5000)]
    both = sum(one and assign("s", arms, str(key)).name == "new" for key, one in enumerate(other))
    assert both < 120  # independent: about 50


@given(st.text(), st.floats(0.01, 1), st.floats(0, 1))
def test_a_growing_arm_only_gains(key, weight, more):
    before = assign("s", [Arm("old", 1.0), Arm("new", weight)], key)
    after = assign("s", [Arm("old", 1.0), Arm("new", weight + more)], key)
    assert before.name == "old" or after.name == "new"


def test_an_arm_without_weight_gets_nobody_and_somebody_must_have_one():
    assert {assign("s", [Arm("a", 1.0), Arm("b", 0.0)], str(key)).name for key in range(200)} == {"a"}
    with pytest.raises(ValueError, match="no arm with a weight"):
        assign("s", [Arm("a", 0.0)], "k")


def test_a_shadow_gets_its_share_within_its_limit():
    copies = sum(mirrored("s", 0.25, str(key)) for key in range(4000))
    assert 0.22 < copies / 4000 < 0.28
    assert not any(mirrored("s", 1.0, str(key), running=2, limit=2) for key in range(50))
    assert not mirrored("s", 0.0, "k") and mirrored("s", 1.0, "k")


def run(canary, bad, *, slower=1.0, old_bad=0.01, seed=1, most=20_000):
    """Answers at the canary's own share, 20 a second, until it ends."""
    chance, now = random.Random(seed), 0.0
    for number in range(most):
        now += 0.05
        new = canary.chosen(str(number))
        failed = chance.random() < (bad if new else old_bad)
        seconds = None if failed else chance.lognormvariate(0, 0.5) * (slower if new else 1.0)
        canary.ended(new, failed, now, seconds)
        if canary.state is not State.RUNNING:
            return number
    return most


QUICK = Settings(steps=(0.05, 0.5), seconds=10.0)


def test_a_good_canary_is_promoted():
    canary = Canary("c", QUICK)
    assert canary.share == 0.05
    run(canary, 0.01)
    assert canary.state is State.PROMOTED and canary.share == 1.0 and canary.why == ""
    assert all(canary.chosen(str(key)) for key in range(50))


def test_a_failing_one_goes_back_soon_and_for_good():
    canary = Canary("c", QUICK)
    assert run(canary, 0.5) < 2000
    assert canary.state is State.ROLLED_BACK and canary.share == 0.0
    assert "of its answers failed" in canary.why
    why = canary.why
    for _ in range(1000):
        canary.ended(True, False, 1e6, 0.1)
    assert canary.state is State.ROLLED_BACK and canary.why == why and not canary.chosen("k")


def test_a_slow_one_goes_back():
    canary = Canary("c", QUICK)
    run(canary, 0.01, slower=3.0)
    assert canary.state is State.ROLLED_BACK and "first token after" in canary.why


def test_an_equal_one_is_hardly_ever_sent_back():
    states = Counter()
    for seed in range(30):
        canary = Canary(f"c{seed}", QUICK)
        run(canary, 0.05, old_bad=0.05, seed=seed)
        states[canary.state] += 1
    assert states[State.PROMOTED] >= 25


@given(st.text(), st.floats(0, 100))
def test_who_has_the_new_one_keeps_it_in_later_steps(key, seconds):
    canary = Canary("c", Settings(steps=(0.1, 0.4, 0.9), answers=1, seconds=0.0))
    got = []
    for _ in range(4):
        got.append(canary.chosen(key))
        canary.ended(True, False, 1.0, seconds)
    assert got == sorted(got) and canary.state is State.PROMOTED


def test_the_table_and_the_settings():
    assert set(TRANSITIONS) == {(State.RUNNING, event) for event in Event}
    for steps in ((), (0.5, 0.1)):
        with pytest.raises(ValueError, match="must rise"):
            Canary("c", Settings(steps=steps))

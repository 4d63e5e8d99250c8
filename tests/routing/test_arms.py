"""Split models at run time."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.config.traffic import ArmConfig, CanaryConfig, ShadowConfig, SplitConfig
from ghostllm.routing.arms import Arms

KEYS = [str(number) for number in range(4000)]


def arms(*weights, canary=None, shadow=None, model="m"):
    """weights: of arms a, b, …"""
    variants = tuple(ArmConfig(model="abc"[at], weight=weight) for at, weight in enumerate(weights))
    split = SplitConfig(arms=variants, canary=canary or CanaryConfig(), shadow=shadow or ShadowConfig())
    return Arms(model, split, 0.0)


def canary(**more):
    """Two steps, each of twenty answers and ten seconds."""
    return CanaryConfig(**{"model": "new", "steps": (0.1, 0.5), "answers": 20, "seconds": 10.0} | more)


def play(tried, *, now, bad=(), times=None, slow=()):
    """Forty answers of either variant, evenly. bad, slow: the variants that fail or are ten times slower."""
    for number in range(40):
        for arm in ("new", "m"):
            outcome = "error" if arm in bad else "ok"
            tried.ended(arm, outcome, now, (1.0 if arm in slow else 0.1) * (1 + number % 3 / 10))


def told(tried):
    return jsonx.loads(jsonx.dumps(tried.told()))


def test_callers_are_shared_by_weight():
    tried = arms(3.0, 1.0)
    got = Counter(map(tried.pick, KEYS))
    assert set(got) == {"a", "b"} and 0.7 < got["a"] / len(KEYS) < 0.8
    assert [arm["share"] for arm in told(tried)["arms"]] == [0.75, 0.25]


@settings(deadline=None)
@given(st.text(), st.lists(st.floats(0, 10), min_size=1, max_size=3), st.integers(0, 5))
def test_a_caller_stays_with_its_arm_whatever_became_of_others(key, weights, others):
    tried = arms(*weights)
    arm = tried.pick(key)
    for number in range(others):
        tried.ended(tried.pick(str(number)), "error", float(number), None)
    assert tried.pick(key) == arm == arms(*weights).pick(key)
    assert arm in "abc"[: len(weights)] if any(weights) else arm == "m"


def test_an_arm_without_a_share_gets_nobody():
    assert set(map(arms(1.0, 0.0).pick, KEYS)) == {"a"}


def test_two_splits_draw_independently():
    one, other = arms(1.0, 1.0), arms(1.0, 1.0, model="n")
    same = sum(one.pick(key) == other.pick(key) for key in KEYS)
    assert 0.45 < same / len(KEYS) < 0.55


def test_a_canary_gets_its_share_and_keeps_who_has_it():
    tried = arms(canary=canary())
    first = {key for key in KEYS if tried.pick(key) == "new"}
    assert 0.08 < len(first) / len(KEYS) < 0.12
    play(tried, now=11.0)
    second = {key for key in KEYS if tried.pick(key) == "new"}
    assert first < second and 0.45 < len(second) / len(KEYS) < 0.55
    play(tried, now=12.0)
    assert told(tried)["canary"] == {"model": "new", "state": "running", "step": 1, "why": ""}, "too soon"
    play(tried, now=30.0)
    assert told(tried)["canary"]["state"] == "promoted"
    assert set(map(tried.pick, KEYS)) == {"new"}
    assert [arm["share"] for arm in told(tried)["arms"]] == [0.0, 1.0]


def test_a_canary_that_fails_goes_back_and_stays_away():
    tried = arms(canary=canary())
    play(tried, now=1.0, bad=("new",))
    assert told(tried)["canary"]["state"] == "rolled_back"
    assert "of its answers failed" in told(tried)["canary"]["why"]
    play(tried, now=100.0)
    assert set(map(tried.pick, KEYS)) == {"m"}


def test_a_canary_that_is_slower_goes_back():
    tried = arms(canary=canary(few=10))
    play(tried, now=1.0, slow=("new",))
    assert told(tried)["canary"]["state"] == "rolled_back"
    assert "first token after" in told(tried)["canary"]["why"]


def test_where_both_fail_it_is_not_the_canary_s_fault():
    tried = arms(canary=canary())
    play(tried, now=1.0, bad=("new", "m"))
    assert told(tried)["canary"]["state"] == "running"


@pytest.mark.parametrize("outcome", ["cancelled", "refused"])
def test_clients_that_leave_and_faults_of_theirs_are_no_word_on_a_canary(outcome):
    tried = arms(canary=canary())
    for _ in range(500):
        tried.ended("new", outcome, 99.0, None)
    assert told(tried)["canary"] == {"model": "new", "state": "running", "step": 0, "why": ""}
    assert tried.ends() == [("new", outcome, 500)]


def test_without_a_canary_failures_change_nothing():
    tried = arms(1.0, 1.0)
    before = [tried.pick(key) for key in KEYS]
    for _ in range(200):
        tried.ended("a", "error", 99.0, None)
    assert [tried.pick(key) for key in KEYS] == before and "canary" not in told(tried)


def test_copies_are_made_up_to_the_limit_and_no_further():
    tried = arms(shadow=ShadowConfig(model="shade", share=1.0, inflight=2))
    assert [tried.mirrors(key) for key in "1234"] == [True, True, False, False]
    assert tried.shadows == 2 and set(map(tried.pick, KEYS)) == {"m"}
    tried.mirrored("ok", 0.5)
    assert tried.mirrors("5") and not tried.mirrors("6")
    tried.mirrored("error", None)
    tried.mirrored("ok", 1.5)
    assert tried.shadows == 0
    assert tried.ends() == [("shadow:shade", "error", 1), ("shadow:shade", "ok", 2)]
    [_, row] = told(tried)["arms"]
    assert row == {
        "model": "shadow:shade", "share": None, "outcomes": {"error": 1, "ok": 2}, "mean_first_token_s": 1.0,
    }  # fmt: skip


def test_a_share_of_the_requests_is_copied():
    tried = arms(shadow=ShadowConfig(model="shade", share=0.25, inflight=len(KEYS)))
    assert 0.2 < sum(map(tried.mirrors, KEYS)) / len(KEYS) < 0.3
    assert not any(map(arms(1.0, 1.0).mirrors, KEYS))


def test_a_shadow_is_no_word_on_the_canary():
    tried = arms(canary=canary(), shadow=ShadowConfig(model="new"))
    for key in KEYS[:100]:
        assert tried.mirrors(key)
        tried.mirrored("error", None)
    assert told(tried)["canary"]["state"] == "running"


def test_what_became_of_each_arm_is_counted():
    tried = arms(1.0, 1.0)
    for outcome, seconds in (("ok", 0.2), ("ok", 0.4), ("broken", 0.6), ("error", None)):
        tried.ended("b", outcome, 1.0, seconds)
    assert tried.ends() == [("b", "broken", 1), ("b", "error", 1), ("b", "ok", 2)]
    [(arm, times, total)] = tried.first_tokens()
    assert (arm, times, total) == ("b", 3, pytest.approx(1.2))
    first, second = told(tried)["arms"]
    assert first["outcomes"] == {} and first["mean_first_token_s"] is None
    assert second["mean_first_token_s"] == 0.4

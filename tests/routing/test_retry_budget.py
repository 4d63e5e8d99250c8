"""Retries cannot double an outage."""

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.retry_budget import RetryBudget, Settings


def test_an_outage_gets_a_share_of_retries_and_no_more():
    budget, retries = RetryBudget(Settings(share=0.2, per_second=0.0, burst=10.0)), 0
    for _ in range(1000):
        budget.first(0.0)
        retries += budget.take(0.0)
    assert 200 <= retries <= 210


def test_retries_that_succeed_are_free():
    budget = RetryBudget(Settings(per_second=0.0, burst=5.0))
    for _ in range(1000):
        assert budget.take(0.0)
        budget.refund()
    assert budget.tokens == 5.0


def test_time_alone_brings_one_back():
    budget = RetryBudget(Settings(per_second=0.5, burst=1.0))
    assert budget.wait(0.0) == 0.0 and budget.take(0.0) and not budget.take(0.0)
    assert budget.wait(1.0) == 1.0
    assert budget.take(2.0)
    never = RetryBudget(Settings(per_second=0.0, burst=1.0))
    assert never.take(0.0) and never.wait(99.0) is None


@given(
    st.lists(st.tuples(st.sampled_from(("first", "retry", "good retry")), st.floats(0, 3)), max_size=200),
    st.floats(0, 1),
    st.floats(0, 2),
    st.floats(0, 20),
)
def test_failed_retries_are_bounded_over_any_history(actions, share, rate, burst):
    budget, now, firsts, failed = RetryBudget(Settings(share=share, per_second=rate, burst=burst)), 0.0, 0, 0
    for action, elapsed in actions:
        now += elapsed
        if action == "first":
            budget.first(now)
            firsts += 1
        elif budget.take(now):
            if action == "retry":
                failed += 1
            else:
                budget.refund()
        assert -1e-9 <= budget.tokens <= burst
        assert failed <= burst + share * firsts + rate * now + 1e-6

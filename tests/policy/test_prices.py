"""What a request costs, to the millionth."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.money import Price
from ghostllm.message import Usage
from ghostllm.policy.prices import MOST_COST, Prices, Rates, micros, shown

SONNET = Price(input=3.0, output=15.0, cached=0.3, cache_write=3.75)
PRICES = Prices({"sonnet": SONNET, "mini": Price(input=0.15, output=0.6)})
TOKENS = st.integers(0, 10**7)
AMOUNTS = st.integers(0, 10**8).map(lambda number: number / 10**6)


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("sonnet", Usage(prompt=1000, completion=200), 6000),
        ("sonnet", Usage(prompt=1000, completion=200, cached=800, cache_write=100), 3915),
        ("mini", Usage(prompt=1000, completion=200, cached=800), 270),  # without a price of its own: as input
        ("mini", Usage(prompt=1), 0),
        ("mini", Usage(completion=1), 1),
        ("mini", Usage(prompt=0, completion=0), 0),
        ("mini", Usage(), None),
        ("mini", Usage(prompt=10, completion=10, cached=5000), 756),
        ("unknown", Usage(prompt=1000, completion=200), None),
    ],
)
def test_costs(model, usage, cost):
    assert PRICES.cost(model, usage) == cost


@settings(deadline=None)
@given(TOKENS, TOKENS, TOKENS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_cost_is_right_to_half_a_millionth_and_no_float_is_in_it(prompt, completion, cached, a, b, c):
    rates = Rates(Price(input=a, output=b, cached=c))
    cached = min(prompt, cached)
    cost = rates.cost(Usage(prompt=prompt, completion=completion, cached=cached))
    exact = sum(
        Fraction(str(price)) * tokens
        for price, tokens in ((a, prompt - cached), (b, completion), (c, cached))
    )
    assert isinstance(cost, int) and abs(cost - exact) <= Fraction(1, 2)
    assert rates.estimate(prompt, completion) >= (cost if c <= a else 0)


def test_nonsense_of_a_backend_stays_finite_and_is_no_income():
    assert PRICES.cost("mini", Usage(prompt=10**30, completion=1)) == MOST_COST
    assert PRICES.cost("mini", Usage(prompt=-5, completion=-7, cached=-3)) == 0


def test_an_estimate_is_rounded_up_and_takes_the_dearest_way():
    assert PRICES.of("mini").estimate(1, 0) == 1
    assert PRICES.of("sonnet").estimate(1000, 200) == 6750
    assert PRICES.of("unknown") is None


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (12_500_000, "12.50"), (4, "0.000004"), (-1_230_000, "-1.23")]
)
def test_amounts_are_shown_as_money(amount, text):
    assert shown(amount) == text


def test_amounts_of_the_configuration_become_whole():
    assert [micros(amount) for amount in (0.1, 0.15, 2.675, 10.0)] == [
        100_000,
        150_000,
        2_675_000,
        10_000_000,
    ]

"""Limits, budgets and prices as a configuration writes them."""

from __future__ import annotations

import tomllib

import pytest

from ghostllm.config import money
from ghostllm.config.build import Builder, Rejected
from ghostllm.config.fields import fields_of
from ghostllm.config.money import Budget, LimitsConfig, Price, RateLimits, TeamConfig, UsageConfig
from ghostllm.config.tree import located


def build(cls, text):
    builder = Builder({})
    try:
        section = builder.section(cls, located(tomllib.loads(text), {}, "test.toml"), (), "test.toml")
    except Rejected:
        section = None
    return section, builder.problems


def test_a_team_with_limits_and_a_budget():
    text = """
        name = "blue"
        limits = { requests_per_minute = 60, concurrent = 4 }
        budget = { day = 10, month = 99.5, soft = 0.9 }
    """
    limits, budget = RateLimits(requests_per_minute=60, concurrent=4), Budget(day=10.0, month=99.5, soft=0.9)
    assert build(TeamConfig, text) == (TeamConfig(name="blue", limits=limits, budget=budget), [])
    assert build(LimitsConfig, text) == (LimitsConfig(name="blue", limits=limits, budget=budget), [])


def test_without_anything_there_are_no_limits():
    assert not RateLimits().any and not Budget().any
    assert RateLimits(concurrent=1).any and Budget(day=0.0).any
    assert build(UsageConfig, "") == (UsageConfig(), [])


@pytest.mark.parametrize(
    ("cls", "text", "fault"),
    [
        (RateLimits, "requests_per_minute = -1", "at least 0"),
        (RateLimits, "tokens_per_minute = 2_000_000_000", "at most 1e+09"),
        (Budget, "day = -0.5", "at least 0"),
        (Budget, "month = nan", "finite"),
        (Budget, "soft = 1.5", "at most 1"),
        (Price, "input = -3", "at least 0"),
        (UsageConfig, 'currency = "dollar"', "three capital letters"),
        (UsageConfig, 'timezone = "../etc"', "time zone database"),
    ],
)
def test_what_is_wrong_is_told(cls, text, fault):
    _, problems = build(cls, text)
    assert len(problems) == 1 and fault in problems[0]


@pytest.mark.parametrize("cls", [RateLimits, Budget, Price, TeamConfig, LimitsConfig, UsageConfig])
def test_every_key_has_a_meaning(cls):
    assert cls.__module__ == money.__name__
    assert all(field.meaning for field in fields_of(cls).values())

"""Limits, budgets and prices as a configuration writes them."""

from __future__ import annotations

import tomllib

import pytest

from ghostllm.config import money
from ghostllm.config.build import Builder, Rejected
from ghostllm.config.fields import fields_of
from ghostllm.config.load import load
from ghostllm.config.money import Budget, LimitsConfig, Price, RateLimits, TeamConfig, UsageConfig
from ghostllm.config.tree import located
from ghostllm.errors import ConfigError


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


# --- what holds between sections

BACKEND = '[[backends]]\nname = "b"\nkind = "openai"\nurl = "http://b:1"\n'
MODEL = '[[models]]\nname = "m"\ntargets = [{ backend = "b" }]\n'
KEY = '[[keys]]\nname = "alice"\nkey = "secret-1"\n'


def problems(text, tmp_path):
    path = tmp_path / "g.toml"
    path.write_text(BACKEND + text)
    try:
        load(str(path), environ={})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[teams]]\nname = "a"\n[[teams]]\nname = "a"\n', 'teams[1].name: "a" is the name of another one'),
        (
            '[[limits]]\nname = "a"\n[[limits]]\nname = "a"\n',
            'limits[1].name: "a" is the name of another one',
        ),
        (KEY + 'team = "blu"\n[[teams]]\nname = "blue"\n', 'team: no team is called "blu"'),
        (KEY + "budget = { day = 1 }\n" + MODEL, "budget: nothing is ever spent of it: no model has a price"),
        (MODEL + "budget = { month = 1 }\n", "no model has a price"),
        ('[[teams]]\nname = "a"\nbudget = { day = 0 }\n', "no model has a price"),
        ('[usage]\ntimezone = "Mars/Olympus"\n', "'Mars/Olympus' is not known here"),
        ("[address_limits]\nrequests = 5\n", "unknown key"),
        (MODEL + "price = { input = -1 }\n", "at least 0"),
    ],
)
def test_what_does_not_fit_together_is_told(text, fault, tmp_path):
    found = problems(text, tmp_path)
    assert len(found) == 1 and fault in found[0], found


@pytest.mark.parametrize(
    "text",
    [
        KEY + 'team = "blue"\n',
        KEY + "budget = { day = 1 }\n" + MODEL + "price = { output = 2 }\n",
        '[usage]\ntimezone = "Europe/Berlin"\ncurrency = "EUR"\n[address_limits]\nconcurrent = 5\n',
    ],
)
def test_what_fits_together(text, tmp_path):
    assert problems(text, tmp_path) == []

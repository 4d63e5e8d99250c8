"""Which limits and budgets hold for whom."""

from __future__ import annotations

import pytest

from ghostllm.config.money import Budget, LimitsConfig, Price, RateLimits, TeamConfig
from ghostllm.config.schema import Config, KeyConfig, ModelConfig, TargetConfig
from ghostllm.errors import Forbidden
from ghostllm.message import Identity
from ghostllm.policy.rules import REMEMBERED, Rules
from ghostllm.policy.subjects import Subject

FEW, MORE = RateLimits(tokens_per_minute=100), RateLimits(requests_per_minute=50, tokens_per_minute=900)
TIGHT = Budget(day=1.0)


def model(name, **more):
    return ModelConfig(name=name, targets=(TargetConfig(backend="b"),), **more)


def test_without_any_nobody_is_limited():
    rules = Rules(Config(keys=(KeyConfig(name="alice"),), models=(model("m"),)))
    assert not rules.limited
    assert rules.of(Identity("alice"), "m").free


def test_key_team_and_model():
    rules = Rules(Config(
        keys=(KeyConfig(name="alice", team="blue", limits=MORE),),
        teams=(TeamConfig(name="blue", limits=FEW),),
        models=(model("m", limits=RateLimits(concurrent=2)), model("free")),
    ))  # fmt: skip
    assert rules.limited
    standing = rules.of(Identity("alice", team="blue"), "m")
    assert [subject for subject, _ in standing.limits] == [
        Subject("key", "alice"), Subject("team", "blue"), Subject("model", "m"),
    ]  # fmt: skip
    assert standing.least == 100 and standing.shares == ()
    assert rules.of(Identity("alice", team="blue"), "m") is standing
    assert [subject.kind for subject, _ in rules.of(Identity("bob"), "m").limits] == ["model"]
    assert rules.of(Identity("bob"), "free").free and rules.of(Identity("bob"), "unheard-of").free


def test_limits_by_name_stand_for_the_key_s_own():
    rules = Rules(Config(limits=(LimitsConfig(name="trial", limits=FEW),)))
    standing = rules.of(Identity("issuer:7", limits="trial"), "")
    assert standing.limits == ((Subject("key", "issuer:7"), FEW),)
    with pytest.raises(Forbidden, match=r"'bob' has the limits 'tryal', and no \[\[limits\]\]"):
        rules.of(Identity("bob", limits="tryal"), "")


def test_everybody_is_counted_where_something_costs_money():
    rules = Rules(Config(
        keys=(KeyConfig(name="alice", budget=TIGHT),),
        models=(model("dear", price=Price(output=1.0)), model("free")),
    ))  # fmt: skip
    assert rules.limited
    assert rules.of(Identity("alice"), "free").shares == (
        (Subject("key", "alice"), TIGHT), (Subject("model", "free"), None),
    )  # fmt: skip
    assert rules.of(Identity("bob", team="red"), "dear").shares == (
        (Subject("key", "bob"), None), (Subject("team", "red"), None), (Subject("model", "dear"), None),
    )  # fmt: skip


def test_addresses():
    rules = Rules(Config(address_limits=FEW))
    standing = rules.of(Identity(), "")
    assert not standing.free and standing.least == 100 and standing.limits == ()


def test_names_that_clients_make_up_are_not_remembered():
    rules = Rules(Config(address_limits=FEW, models=(model("m", limits=FEW),)))
    for number in range(REMEMBERED + 10):
        rules.of(Identity(f"issuer:{number}"), f"invented-{number}")
    assert 0 < len(rules._known) <= REMEMBERED

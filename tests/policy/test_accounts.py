"""The books of an exchange: what is reserved before its call, and what is settled and written after it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.money import Budget, Price, RateLimits, TeamConfig
from ghostllm.config.schema import Config, KeyConfig, ModelConfig, TargetConfig
from ghostllm.message import Attempt, Call, Exchange, Identity, Request, Usage
from ghostllm.policy.accounts import MOST_SERIES, Accounts
from ghostllm.policy.refusals import BudgetExceeded, RateLimited
from ghostllm.policy.subjects import Subject
from ghostllm.state.calendar import Calendar

ALICE = Identity("alice", team="blue")
KEY, MODEL = Subject("key", "alice"), Subject("model", "m")
PRICE = Price(input=1.0, output=10.0)


class Written:
    """Stands where a Ledger would: it keeps the entries."""

    def __init__(self):
        self.entries = []

    def record(self, entry):
        self.entries.append(entry)


class Planned:
    """Implements message.Plan."""

    def __init__(self, name):
        self.name = name

    def told(self):
        return {}


def config(limits=None, *, budget=None, price=None, **more):
    key = KeyConfig(name="alice", limits=limits or RateLimits(), budget=budget or Budget())
    names = {"m": price or Price(), "other": Price(output=1.0) if price else Price()}
    models = tuple(
        ModelConfig(name=name, targets=(TargetConfig(backend="b"),), price=price)
        for name, price in names.items()
    )
    return Config(keys=(key,), models=models, **more)


class Play:
    def __init__(self, *args, **more):
        self.written, self.told = Written(), []
        self.accounts = Accounts(config(*args, **more), Calendar(), self.written, self.told.append)

    def exchange(self, *, max_tokens=10, stream=False, operation="chat"):
        fields = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        request = Request("POST", "/v1/chat/completions", {})
        request.peer = "10.0.0.1"
        exchange = Exchange(request, "req_1", 1.0)
        exchange.identity, exchange.route, exchange.finished = ALICE, "chat", 3.0
        exchange.call = Call("openai", operation, "m", b"", fields, stream)
        return exchange

    def reserve(self, **more):
        exchange = self.exchange(**more)
        self.accounts.reserve(exchange, "m", None)
        return exchange

    def sent(self, exchange, outcome="ok", usage=None, model="m", status=200, out=10_000):
        exchange.attempts.append(Attempt("b", model, 1.0))
        exchange.plan, exchange.backend = Planned(model), "b"
        exchange.outcome, exchange.status, exchange.bytes_out = outcome, status, out
        exchange.usage = usage or Usage()
        self.accounts.closed(exchange)
        return self.written.entries[-1]

    @property
    def left(self):
        """Tokens of the minute, of a limit so large that what comes back meanwhile is nothing."""
        [row] = self.accounts.told()["limits"]
        return row["remaining_tokens"]

    @property
    def micros(self):
        import time

        return self.accounts.budgets.spent(KEY, time.time())[0]


def told(exchange):
    """The header lines of its answer."""
    return dict(line.split(": ") for line in exchange.fields.decode().splitlines())


MANY = RateLimits(requests_per_minute=1000, tokens_per_minute=1000)
SLACK = 3
"""Tokens that come back while a test runs: 1000 a minute are one in 60 ms."""


def near(value, wanted):
    return wanted <= value <= wanted + SLACK


def test_tokens_are_held_and_settled():
    play = Play(MANY)
    exchange = play.reserve()
    assert play.accounts.open == 1 and near(play.left, 1000 - 19)
    assert told(exchange)["x-ratelimit-limit-tokens"] == "1000"
    play.sent(exchange, usage=Usage(100, 50))
    assert play.accounts.open == 0 and exchange.booking is None and near(play.left, 850)


@pytest.mark.parametrize(
    ("outcome", "usage", "used"),
    [
        ("ok", Usage(7, 3), 10),
        ("ok", Usage(), 19),  # nobody said: what was reserved
        ("ok", Usage(7, None), 17),
        ("error", Usage(), 0),
        ("error", Usage(7, 0), 7),
        ("broken", Usage(None, 4, estimated=True, partial=True), 13),
        ("cancelled", Usage(None, 4, estimated=True, partial=True), 13),
        ("cancelled", Usage(partial=True), 9),  # the prompt had gone out
        ("ok", Usage(0, 0), 0),  # a follower of a shared call
    ],
)
def test_what_counts_by_how_it_ended(outcome, usage, used):
    play = Play(MANY)
    entry = play.sent(play.reserve(), outcome, usage)
    assert near(play.left, 1000 - used)
    assert (entry.prompt, entry.completion, entry.partial) == (usage.prompt, usage.completion, usage.partial)
    assert entry.estimated == (usage.estimated or used != (usage.prompt or 0) + (usage.completion or 0))


def test_an_answer_has_no_more_tokens_than_bytes():
    play = Play(MANY)
    play.sent(play.reserve(max_tokens=800), usage=Usage(), out=5)
    assert near(play.left, 1000 - 14)


def test_an_answer_that_nobody_counted_is_not_free():
    play = Play(MANY)
    exchange = play.reserve(max_tokens=500, stream=True)
    exchange.committed = 2.0
    play.sent(exchange, "cancelled", Usage(partial=True), out=4000)
    assert near(play.left, 1000 - 9 - 27)


def test_what_was_sent_nowhere_used_nothing():
    play = Play(MANY)
    exchange = play.reserve()
    exchange.outcome = "cancelled"
    play.accounts.closed(exchange)
    assert play.left == 1000 and play.accounts.open == 0
    [entry] = play.written.entries
    assert (entry.model, entry.backend, entry.attempts, entry.status) == ("m", "", 0, 0)


def test_an_open_answer_gets_at_most_the_whole_limit():
    play = Play(RateLimits(tokens_per_minute=100))
    play.reserve(max_tokens=None)
    assert play.left in (0, 1)
    with pytest.raises(RateLimited, match="this request needs up to 100"):
        play.reserve(max_tokens=None)
    with pytest.raises(RateLimited, match="ask for a shorter answer"):
        play.reserve(max_tokens=95)


def test_a_refusal_says_what_is_left_and_is_counted():
    play = Play(RateLimits(requests_per_minute=1, concurrent=5))
    first = play.reserve()
    exchange = play.exchange()
    with pytest.raises(RateLimited) as refused:
        play.accounts.reserve(exchange, "m", None)
    assert 59 < refused.value.retry_after <= 60.1
    assert told(exchange)["x-ratelimit-remaining-requests"] == "0"
    assert exchange.booking is None and play.accounts.refused == {("key", "requests"): 1}
    exchange.outcome, exchange.status = "error", 429
    play.accounts.closed(exchange)
    assert play.accounts.open == 1 and play.written.entries[-1].status == 429
    play.sent(first)
    assert play.accounts.open == 0


def test_money_is_held_settled_and_told_of():
    play = Play(budget=Budget(day=0.001, soft=0.5), price=PRICE)
    exchange = play.reserve()  # 9 x 1 + 10 x 10 = 109 millionths
    entry = play.sent(exchange, usage=Usage(100, 50))
    assert entry.cost == 600 and play.micros == 600
    assert play.accounts.spent == {("m", "alice"): 600} and play.accounts.soft == {"key": 1}
    assert [(found.subject, found.spent) for found in play.told] == [(KEY, 600)]
    assert told(play.reserve())["x-ghostllm-budget"] == "key day 60%"
    with pytest.raises(BudgetExceeded) as refused:
        play.reserve(max_tokens=40)
    assert refused.value.period == "day" and play.accounts.refused == {("key", "day"): 1}


def test_a_budget_holds_nothing_of_a_request_that_its_limit_refused():
    play = Play(RateLimits(concurrent=1), budget=Budget(day=1.0), price=PRICE)
    first = play.reserve()
    with pytest.raises(RateLimited):
        play.reserve()
    play.sent(first, usage=Usage(1, 1))
    assert all(row["held"] == 0 for row in play.accounts.told()["budgets"])


def test_the_model_that_answered_is_paid():
    play = Play(budget=Budget(day=1.0), price=PRICE)
    entry = play.sent(play.reserve(), usage=Usage(100, 50), model="other")
    assert (entry.asked, entry.model, entry.cost) == ("m", "other", 50)
    spent = {row["name"]: row["day"] for row in play.accounts.told()["budgets"] if row["kind"] == "model"}
    assert spent == {"m": 0.0, "other": 0.00005}


def test_without_limits_there_is_a_record_only():
    play = Play()
    assert play.accounts.active and not play.accounts.limited
    entry = play.sent(play.exchange(), usage=Usage(3, 2))
    assert (entry.key, entry.team, entry.prompt, entry.cost, entry.duration) == (
        "alice",
        "blue",
        3,
        None,
        2.0,
    )
    unknown = Exchange(Request("GET", "/health", {}), "req_2", 1.0)
    play.accounts.closed(unknown)
    assert len(play.written.entries) == 1, "only calls are written down"


def test_other_rules_take_over_what_was_used():
    play = Play(RateLimits(tokens_per_minute=1000))
    before = play.reserve()
    play.accounts.adopt(config(RateLimits(tokens_per_minute=500)))
    during = play.reserve()
    assert near(play.left, 500 - 2 * 19)
    play.sent(before, usage=Usage(50, 50))
    assert near(play.left, 400 - 19)
    play.accounts.adopt(Config())
    assert not play.accounts.limited and play.accounts.active
    assert play.reserve().booking is None
    play.sent(during)
    assert play.accounts.open == 0


@pytest.mark.parametrize("count", [10**12, 10**40])
def test_nonsense_of_a_backend_ends_no_sums(count):
    play = Play(MANY, budget=Budget(day=1.0), price=PRICE)
    entry = play.sent(play.reserve(), usage=Usage(count, count, cached=count))
    assert entry.cost == 10**13 and play.left == 0
    with pytest.raises(BudgetExceeded):
        play.reserve()
    assert play.accounts.open == 0


def test_series_are_bounded():
    play = Play(price=PRICE)
    for number in range(MOST_SERIES + 5):
        exchange = play.exchange()
        exchange.identity = Identity(f"k{number}")
        play.accounts.reserve(exchange, "m", None)
        play.sent(exchange, usage=Usage(0, 1))
    assert len(play.accounts.spent) == MOST_SERIES + 1
    assert play.accounts.spent["other", "other"] == 50


STEPS = st.lists(
    st.tuples(st.sampled_from(["ok", "error", "broken", "cancelled", "unsent"]), st.integers(0, 60),
              st.integers(0, 60) | st.none(), st.integers(0, 40) | st.none()),
    max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_in_whatever_order_they_end_nothing_stays_reserved(steps, at_once):
    team = TeamConfig(name="blue", limits=RateLimits(tokens_per_minute=700, concurrent=3))
    play = Play(RateLimits(tokens_per_minute=500), budget=Budget(day=0.02), price=PRICE, teams=(team,))
    running = []
    for outcome, wanted, prompt, answer in steps:
        try:
            running.append((play.reserve(max_tokens=wanted), outcome, Usage(prompt, answer)))
        except (RateLimited, BudgetExceeded):
            pass
        assert play.accounts.open == len(running) <= 3
        if len(running) >= at_once:
            end(play, *running.pop(0))
    for each in running:
        end(play, *each)
    assert play.accounts.open == 0
    told = play.accounts.told()
    assert all(row["in_flight"] == 0 for row in told["limits"])
    assert all(row["held"] == 0 for row in told["budgets"])


def end(play, exchange, outcome, usage):
    if outcome == "unsent":
        exchange.outcome = "cancelled"
        play.accounts.closed(exchange)
    else:
        play.sent(exchange, outcome, usage)

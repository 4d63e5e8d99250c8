"""Rates over the last minute, of totals that a test moves."""

from __future__ import annotations

from ghostllm.observe.metrics import Metrics
from ghostllm.observe.rates import Rates
from tests.observe.exchanges import chat


def test_nothing_is_said_before_there_is_a_second():
    totals = {"requests": 5}
    rates = Rates(lambda: totals)
    assert rates.told(100.0) == {"window_s": 0.0, "requests": None}
    rates.look(100.0)
    assert rates.told(100.9)["requests"] is None
    assert rates.told(101.0) == {"window_s": 1.0, "requests": 0.0}


def test_over_a_minute_at_most():
    totals = {"requests": 0, "failed": 0}
    rates = Rates(lambda: dict(totals))
    for look in range(100):
        rates.look(look * 5.0)
        totals["requests"] += 50
    told = rates.told(495.0)
    assert told == {"window_s": 60.0, "requests": 10.833, "failed": 0.0}


def test_a_name_that_is_new_counts_from_nothing():
    totals = {"a": 4}
    rates = Rates(lambda: dict(totals))
    rates.look(0.0)
    totals["b"] = 6
    assert rates.told(2.0) == {"window_s": 2.0, "a": 0.0, "b": 3.0}


def test_totals_are_of_requests_for_a_model():
    metrics = Metrics()
    metrics.model_name = lambda name: name
    metrics.finished(chat())
    metrics.finished(chat(outcome="broken"))
    metrics.finished(chat(outcome="cancelled"))
    other = chat()
    other.call = None
    metrics.finished(other)
    totals = metrics.totals()
    assert totals["requests"] == 3 and totals["cancelled"] == 1
    assert totals["prompt_tokens"] > 0 and totals["completion_tokens"] > 0

"""The smart order and the ledger under it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt
from ghostllm.routing.prefix import BLOCK, chain
from ghostllm.routing.smart import READY, Choice, Condition, Settings, order

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


def ranked(facts, tokens=1000.0, seed=1, **settings):
    choices = [Choice(Target(name, "m"), tokens, **one) for name, one in facts.items()]
    return order(choices, chance=random.Random(seed), settings=Settings(**settings))


def names(choices):
    return [choice.target.backend for choice in choices]


def prompt(seed, size=40 * BLOCK, tenant=""):
    data = random.Random(seed).randbytes(size)
    return Prompt("m", size, chain(data, "m", tenant))


def choose(ledger, asked, now=0.0, targets=(A, B, C), condition=lambda _: READY, seed=1):
    return ledger.order(targets, asked, condition, now, random.Random(seed))


facts = st.builds(
    dict,
    wait=st.floats(0, 100),
    cached=st.floats(0, 2000),
    rate=st.floats(0, 0.1),
    decoding=st.integers(0, 50),
    condition=st.builds(
        Condition,
        loaded=st.sampled_from((None, True, False)),
        load=st.none() | st.floats(0, 100),
        weight=st.floats(0, 10),
        faults=st.floats(0, 10),
    ),
)


@given(st.lists(facts, min_size=1, max_size=8), st.integers())
def test_every_target_once_scores_rising_and_weight_zero_last(known, seed):
    choices = ranked({f"b{at}": one for at, one in enumerate(known)}, seed=seed)
    assert sorted(names(choices)) == sorted(f"b{at}" for at in range(len(known)))
    for spare in (False, True):
        scores = [choice.score for choice in choices if (choice.condition.weight <= 0) == spare]
        assert all(right >= left - 0.005 for left, right in zip(scores, scores[1:], strict=False))
    spares = [choice.condition.weight <= 0 for choice in choices]
    assert spares == sorted(spares)
    assert ranked({}) == []


def test_each_term_of_the_score():
    idle = dict()
    assert names(ranked({"a": dict(wait=1), "b": idle})) == ["b", "a"]
    assert names(ranked({"a": idle, "b": dict(cached=900)})) == ["b", "a"]
    assert names(ranked({"a": dict(condition=Condition(loaded=False)), "b": dict(wait=5)})) == ["b", "a"]
    assert names(ranked({"a": dict(condition=Condition(loaded=False, load=2)), "b": dict(wait=5)})) == [
        "a",
        "b",
    ]
    assert names(ranked({"a": dict(condition=Condition(weight=0.3)), "b": dict(wait=0.5)})) == ["b", "a"]
    assert names(ranked({"a": dict(condition=Condition(faults=1)), "b": dict(wait=4)})) == ["b", "a"]
    assert names(ranked({"a": dict(decoding=9), "b": dict(decoding=3)}, decode=0.1)) == ["b", "a"]


def test_affinity_yields_to_a_long_queue():
    assert names(ranked({"a": dict(cached=1000, wait=0.7), "b": dict()})) == ["a", "b"]
    assert names(ranked({"a": dict(cached=1000, wait=0.9), "b": dict()})) == ["b", "a"]


def test_equals_are_drawn_and_reasons_are_given():
    firsts = {names(ranked({"a": dict(), "b": dict(wait=0.004)}, seed=seed))[0] for seed in range(30)}
    assert firsts == {"a", "b"}
    first, second = ranked(
        {
            "a": dict(cached=512, condition=Condition(weight=0.5)),
            "b": dict(wait=30, condition=Condition(loaded=False, faults=2.0)),
        }
    )
    assert first.why == ("wait 0.00s", "cached 512 of 1000", "weight 0.5")
    assert second.why == ("wait 30.00s", "cached 0 of 1000", "to be loaded", "faults 2.0")
    assert "tied" in ranked({"a": dict(), "b": dict()})[0].why


def test_a_conversation_returns_to_its_cache():
    ledger = Ledger()
    asked = prompt(1)
    sent = ledger.dispatched(B, asked, 0.0)
    ledger.first_token(sent, 0.03 + sent.uncached * 0.0002)
    ledger.ended(sent)
    assert {names(choose(ledger, asked, 5.0, seed=seed))[0] for seed in range(20)} == {"b"}
    assert {names(choose(ledger, prompt(1, tenant="x"), 5.0, seed=seed))[0] for seed in range(20)} == set(
        "abc"
    )


def test_a_failed_dispatch_leaves_nothing_behind():
    ledger = Ledger()
    sent = ledger.dispatched(B, prompt(1), 0.0)
    ledger.ended(sent, unsent=True)
    ledger.ended(sent, unsent=True)
    assert ledger.index.match(prompt(1).blocks) == {"b": 0}
    assert ledger.backlog("b").in_flight == 0


@given(st.lists(st.integers(2, 5), min_size=1, max_size=40), st.integers())
def test_where_nothing_is_shared_it_is_least_requests(sizes, seed):
    """Equal prompts of which each is new, none answered yet: always to one with the fewest."""
    ledger, chance = Ledger(), random.Random(seed)
    targets = [Target(f"b{at}", "m") for at in range(sizes[0])]
    for number in range(len(sizes)):
        asked = Prompt("m", 30 * BLOCK, [hash((seed, number, block)) for block in range(30)])
        first = ledger.order(targets, asked, lambda _: READY, 0.0, chance)[0].target
        fewest = min(ledger.backlog(target.backend).in_flight for target in targets)
        assert ledger.backlog(first.backend).in_flight == fewest
        ledger.dispatched(first, asked, 0.0)


def test_the_counts_return_to_zero():
    ledger, chance = Ledger(capacity=100), random.Random(3)
    running, now = [], 0.0
    for number in range(10_000):
        now += chance.random() / 10
        asked = prompt(number % 7, 4 * BLOCK)
        target = choose(ledger, asked, now, seed=number)[0].target
        sent = ledger.dispatched(target, asked, now, hidden=chance.random() < 0.2)
        running.append(sent)
        if chance.random() < 0.6:
            ledger.first_token(chance.choice(running), now)
        if len(running) > 20:
            ledger.ended(running.pop(chance.randrange(20)), unsent=chance.random() < 0.3)
    for sent in running:
        ledger.ended(sent)
    for target in (A, B, C):
        backlog = ledger.backlog(target.backend)
        assert (backlog.in_flight, backlog.wait(now)) == (0, 0.0)
        assert len(ledger.index.blocks(target.backend)) <= 100


def test_a_slow_backend_is_learned_and_gets_less():
    ledger = Ledger()
    for number in range(60):
        sent = ledger.dispatched(A, prompt(number), 100.0 * number)
        ledger.first_token(sent, 100.0 * number + 0.03 + sent.uncached * 0.0006)
        ledger.ended(sent)
    assert 0.0005 < ledger.rate(A).seconds < 0.0007
    assert names(choose(ledger, prompt(999), 1e6))[-1] == "a"


def test_a_backend_can_be_dropped_while_it_answers():
    ledger = Ledger()
    sent = ledger.dispatched(A, prompt(1), 0.0)
    ledger.drop("a")
    ledger.first_token(sent, 1.0)
    ledger.ended(sent, unsent=True)
    assert ledger.backlog("a").in_flight == 0
    ledger.measured(prompt(1), 5000)
    assert ledger.ratio("m").value > 4

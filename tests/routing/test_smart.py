"""The smart order and the ledger under it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.backlog import Backlog, PrefillRate, Seat
from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt
from ghostllm.routing.prefix import BLOCK, chain
from ghostllm.routing.smart import READY, Condition, Settings, arrange, score, seconds_of, why

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


def ranked(facts, tokens=1000.0, seed=1, **settings):
    return arranged(facts, tokens, seed, **settings)[0]


def arranged(facts, tokens=1000.0, seed=1, **settings):
    choices = [choice(name, tokens, Settings(**settings), **one) for name, one in facts.items()]
    return choices, arrange(choices, chance=random.Random(seed), settings=Settings(**settings))


def choice(name, tokens, settings, wait=0.0, cached=0.0, rate=0.0002, decoding=0, condition=READY):
    value = score(wait, tokens - cached, rate, decoding, condition, settings)
    seat = Seat(Target(name, "m"), Backlog(), PrefillRate())
    return value, seat, wait, cached, tokens, condition


def names(choices):
    return [one[1].target.backend for one in choices]


def prompt(seed, size=40 * BLOCK, tenant=""):
    data = random.Random(seed).randbytes(size)
    return Prompt("m", size, chain(data, "m", tenant))


def choose(ledger, asked, now=0.0, targets=(A, B, C), seed=1):
    seats = [ledger.seat(target) for target in targets]
    return ledger.order(seats, asked, None, now, random.Random(seed))[0]


def dispatch(ledger, target, asked, now, **how):
    return ledger.dispatched(ledger.seat(target), asked, now, **how)


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
        scores = [seconds_of(one) for one in choices if (one[5].weight <= 0) == spare]
        assert all(right >= left - 0.006 for left, right in zip(scores, scores[1:], strict=False))
    spares = [one[5].weight <= 0 for one in choices]
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
    assert why(first, tied=False) == ["wait 0.00s", "cached 512 of 1000", "weight 0.5"]
    assert why(second, tied=True) == ["wait 30.00s", "cached 0 of 1000", "to be loaded", "faults 2.0", "tied"]
    three = {"a": dict(wait=1), "b": dict(wait=1.004), "c": dict(wait=2)}
    assert [arranged(facts)[1] for facts in (three, {"a": dict()}, {"a": dict(), "b": dict(wait=1)})] == [
        2,
        0,
        0,
    ]


def test_a_conversation_returns_to_its_cache():
    ledger = Ledger()
    asked = prompt(1)
    sent = dispatch(ledger, B, asked, 0.0)
    ledger.first_token(sent, 0.03 + sent.uncached * 0.0002)
    ledger.ended(sent)
    assert {names(choose(ledger, asked, 5.0, seed=seed))[0] for seed in range(20)} == {"b"}
    assert {names(choose(ledger, prompt(1, tenant="x"), 5.0, seed=seed))[0] for seed in range(20)} == set(
        "abc"
    )


def test_a_failed_dispatch_leaves_nothing_behind():
    ledger = Ledger()
    sent = dispatch(ledger, B, prompt(1), 0.0)
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
        first = choose(ledger, asked, 0.0, targets, seed=chance.random())[0][1].target
        fewest = min(ledger.backlog(target.backend).in_flight for target in targets)
        assert ledger.backlog(first.backend).in_flight == fewest
        dispatch(ledger, first, asked, 0.0)


def test_the_counts_return_to_zero():
    ledger, chance = Ledger(capacity=100), random.Random(3)
    running, now = [], 0.0
    for number in range(10_000):
        now += chance.random() / 10
        asked = prompt(number % 7, 4 * BLOCK)
        target = choose(ledger, asked, now, seed=number)[0][1].target
        sent = dispatch(ledger, target, asked, now, hidden=chance.random() < 0.2)
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
        sent = dispatch(ledger, A, prompt(number), 100.0 * number)
        ledger.first_token(sent, 100.0 * number + 0.03 + sent.uncached * 0.0006)
        ledger.ended(sent)
    assert 0.0005 < ledger.rate(A).seconds < 0.0007
    assert names(choose(ledger, prompt(999), 1e6))[-1] == "a"


def test_a_backend_can_be_dropped_while_it_answers():
    ledger = Ledger()
    sent = dispatch(ledger, A, prompt(1), 0.0)
    ledger.drop("a")
    ledger.first_token(sent, 1.0)
    ledger.ended(sent, unsent=True)
    assert ledger.backlog("a").in_flight == 0
    ledger.measured(prompt(1), 5000)
    assert ledger.ratio("m").value > 4

"""The queue before a backend: bounded, fair, never starving, and true in what it says of the wait."""

import random
from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import QueueFull
from ghostllm.routing.admission import Admission, Entry, Outlook, Settings

numbers = count(1)


def entry(key="k", model="m", since=0.0, **more):
    return Entry(number=next(numbers), key=key, model=model, since=since, **more)


def queue(slots=1, **more):
    return Admission(Settings(slots=slots, **({"waiting_model": more.get("waiting", 100)} | more)))


def fill(admission, *entries, now=0.0):
    for one in entries:
        admission.enter(one, now)
    return entries


def drain(admission, now=0.0, step=0.0, running=()):
    """Ends what runs, one after the other, and gives the order in which all began."""
    running, order = list(running), []
    while True:
        begun = admission.next(now)
        order += begun
        running += begun
        if not running:
            return order
        now += step
        admission.release(running.pop(0).number, now)


def test_slots_are_given_in_order_of_arrival_to_one_key():
    admission = queue(slots=2)
    a, b, c, d = fill(admission, *(entry() for _ in range(4)))
    assert admission.next(0.0) == [a, b] and admission.next(0.0) == []
    admission.release(b.number, 1.0)
    assert admission.next(1.0) == [c]
    assert admission.leave(d.number) and not admission.leave(d.number)
    admission.release(a.number, 1.0)
    assert admission.next(1.0) == [] and (admission.running, admission.waiting) == (1, 0)


def test_without_a_limit_nobody_waits():
    admission = queue(slots=0, waiting=0)
    for _ in range(100):
        admission.enter(entry(), 0.0)
        assert len(admission.next(0.0)) == 1


def test_a_flood_of_one_key_does_not_delay_another():
    admission = queue()
    flood = fill(admission, *(entry("flood") for _ in range(50)))
    quiet = fill(admission, *(entry("quiet") for _ in range(3)))
    order = drain(admission)
    assert [order.index(one) for one in quiet] == [1, 3, 5]
    assert len(order) == len(flood) + len(quiet)


def test_weights_share_in_proportion_and_cost_counts():
    admission = queue(waiting=200)
    for _ in range(60):
        fill(admission, entry("heavy", weight=3.0), entry("light", weight=1.0), entry("long", cost=2.0))
    begun = Counter(one.key for one in drain(admission)[:70])
    for key, share in {"heavy": 3.0, "light": 1.0, "long": 0.5}.items():
        assert abs(begun[key] - 70 * share / 4.5) <= 1


def test_who_was_idle_saves_nothing_up_and_who_left_paid_nothing():
    admission = queue(waiting=300)
    running = fill(admission, entry("busy"))
    fill(admission, *(entry("busy") for _ in range(100)))
    for one in fill(admission, *(entry("goer") for _ in range(50))):
        admission.leave(one.number)
    fill(admission, *(entry("goer") for _ in range(50)))
    order = drain(admission, running=())
    assert order[0] is running[0]
    assert abs(Counter(one.key for one in order[:40])["goer"] - 20) <= 1
    late = queue(waiting=300)
    fill(late, *(entry("busy") for _ in range(100)))
    begun = late.next(0.0)
    for _ in range(50):
        late.release(begun.pop().number, 0.0)
        begun = late.next(0.0)
    fill(late, *(entry("late") for _ in range(50)))
    order = drain(late, running=begun)
    assert abs(Counter(one.key for one in order[:40])["late"] - 20) <= 1


def test_the_real_cost_is_settled():
    admission = queue()
    dear, cheap = fill(admission, entry("dear"), entry("cheap"))
    fill(admission, entry("dear"), entry("cheap"), entry("cheap"))
    assert admission.next(0.0) == [dear]
    admission.release(dear.number, 1.0, cost=10.0)
    assert [one.key for one in drain(admission)] == ["cheap", "cheap", "cheap", "dear"]


def test_priority_goes_first_until_somebody_starves():
    admission = queue(starvation=30.0, wait=0.0, waiting=1000)
    low = entry("low", since=0.0)
    fill(admission, low)
    fill(admission, *(entry("high", since=0.0, priority=1) for _ in range(100)))
    order = drain(admission, step=1.0)
    assert 30 <= order.index(low) <= 33


def test_in_an_overload_the_rest_stays_fair():
    admission = queue(starvation=1.0, wait=0.0, waiting=1000)
    fill(admission, *(entry("flood", since=0.0) for _ in range(100)))
    fill(admission, *(entry("quiet", since=50.0) for _ in range(10)))
    assert Counter(one.key for one in drain(admission, now=100.0, step=1.0)[:40])["quiet"] == 10


def test_full_is_an_error_that_says_when():
    admission = queue(slots=2, waiting=2)
    a, _, *_ = fill(admission, entry(), entry(), now=0.0)
    admission.next(0.0)
    fill(admission, entry(), entry())
    with pytest.raises(QueueFull, match="2 requests are waiting") as caught:
        admission.enter(entry(), 6.0)
    assert caught.value.retry_after == 6.0  # as long again as the running ones have taken
    admission.release(a.number, 10.0)
    admission.next(10.0)
    fill(admission, entry(), now=10.0)
    with pytest.raises(QueueFull) as caught:
        admission.enter(entry(), 12.0)
    assert caught.value.retry_after == 1.0  # the other of the first two has been at it for longer than usual
    assert admission.waiting == 2


def test_one_model_cannot_fill_the_whole_queue():
    admission = queue(waiting=10, waiting_model=2)
    fill(admission, entry())
    admission.next(0.0)
    fill(admission, entry(), entry())
    with pytest.raises(QueueFull, match="2 of them for model 'm'"):
        admission.enter(entry(), 0.0)
    fill(admission, entry(model="other"))


def test_waiting_has_an_end():
    admission = queue(wait=60.0)
    fill(admission, entry())
    assert admission.deadline() == 60.0
    admission.next(0.0)
    assert admission.deadline() is None
    late = entry(since=5.0)
    fill(admission, late, now=5.0)
    assert admission.deadline() == 65.0 and admission.expired(64.9) == []
    [(gone, error)] = admission.expired(65.0)
    assert gone is late and error.status == 503 and error.retry_after == 65.0
    assert admission.waiting == 0 and admission.next(65.0) == []


def test_position_and_expected_wait():
    admission = queue(slots=2)
    a, b, c, d, e = fill(admission, *(entry() for _ in range(5)))
    vip = entry("vip", priority=1)
    admission.next(0.0)
    assert admission.outlook(c.number, 0.0) == Outlook(1, None)
    admission.release(a.number, 10.0)
    assert admission.next(10.0) == [c]
    fill(admission, vip, now=10.0)
    assert admission.outlook(vip.number, 14.0) == Outlook(1, 0.0)  # b is past the usual 10 s
    assert admission.outlook(d.number, 14.0) == Outlook(2, 6.0)  # when c is through
    assert admission.outlook(e.number, 14.0) == Outlook(3, 10.0)  # after vip
    assert admission.outlook(b.number, 14.0) is None


def test_a_swapped_model_is_served_in_batches_and_never_under_a_running_request():
    admission = queue(slots=2, batch=4, starvation=0.0)
    for _ in range(10):
        fill(admission, entry("x", model="x"), entry("y", model="y"))
    running, order = [], []
    while begun := admission.next(0.0) or (running and [None]):
        order += [one for one in begun if one]
        running += [one for one in begun if one]
        assert len({one.model for one in running}) == 1
        assert admission.loaded == running[0].model
        admission.release(running.pop(0).number, 0.0)
    models = [one.model for one in order]
    swaps = sum(left != right for left, right in zip(models, models[1:], strict=False))
    assert len(order) == 20 and swaps <= 5


entries = st.builds(
    entry,
    key=st.sampled_from("abc"),
    model=st.sampled_from("xy"),
    cost=st.floats(0, 100),
    weight=st.floats(0, 10),
    priority=st.integers(-2, 2),
)
steps = st.one_of(
    st.tuples(st.just("enter"), entries),
    st.tuples(st.sampled_from(("leave", "release", "expire")), st.integers(0, 50)),
)


@given(
    st.lists(st.tuples(steps, st.floats(0, 20)), max_size=80),
    st.integers(0, 3),
    st.integers(0, 6),
    st.integers(0, 3),
)
def test_bounds_hold_and_nobody_is_lost(actions, slots, waiting, batch):
    settings = Settings(slots=slots, waiting=waiting, waiting_model=waiting, batch=batch, wait=40.0)
    admission, now = Admission(settings), 0.0
    queued, running = {}, {}
    for (action, value), elapsed in actions:
        now += elapsed
        if action == "enter":
            one = entry(value.key, value.model, now, cost=value.cost, weight=value.weight)
            try:
                admission.enter(one, now)
                queued[one.number] = one
            except QueueFull as error:
                assert len(queued) >= waiting and error.retry_after >= 1
        elif action == "leave" and queued:
            number = list(queued)[value % len(queued)]
            assert admission.leave(number)
            del queued[number]
        elif action == "release" and running:
            number = list(running)[value % len(running)]
            admission.release(number, now)
            admission.release(number, now)
            del running[number]
        elif action == "expire":
            for one, _ in admission.expired(now):
                assert now - queued.pop(one.number).since >= 40.0
        for one in admission.next(now):
            running[one.number] = queued.pop(one.number)
        assert (admission.waiting, admission.running) == (len(queued), len(running))
        assert not slots or len(running) <= slots
        assert len(queued) <= waiting or not slots
        if batch:
            assert len({one.model for one in running.values()}) <= 1
        if queued:  # somebody waits: all slots are taken, or a swap waits for the running ones
            assert running and (batch or len(running) == slots)
        outlooks = [admission.outlook(number, now) for number in queued]
        assert sorted(one.position for one in outlooks) == list(range(1, len(queued) + 1))
        assert all(one.seconds is None or one.seconds >= 0 for one in outlooks)
    for number in [*queued]:
        admission.leave(number)
    for number in [*running]:
        admission.release(number, now)
    assert (admission.waiting, admission.running, admission._tags) == (0, 0, {})


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 5))
def test_nobody_waits_past_the_starvation_bound_for_long(seed, slots, batch):
    """A stream of higher priority that never ends: who starves begins within a few services of the bound."""
    chance, admission = random.Random(seed), queue(slots, batch=batch, starvation=20.0, wait=0.0, waiting=500)
    low = entry("low", model="y")
    admission.loaded = "x"
    running, now = [], 0.0
    fill(admission, *(entry("high", model="x", priority=9) for _ in range(slots)))
    running += admission.next(now)
    fill(admission, low, *(entry("high", model="x", since=now, priority=9) for _ in range(5)))
    while low not in running:
        now += 1.0 / slots
        admission.release(running.pop(chance.randrange(len(running))).number, now)
        fill(admission, entry("high", model="x", since=now, priority=9), now=now)
        running += admission.next(now)
        assert now < 20.0 + slots + 2 * batch + 12

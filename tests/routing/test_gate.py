"""Queues with those who wait in them: each is told once, slots are never lost, keys stay fair."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import QueueFull
from ghostllm.routing.admission import Entry, Settings
from ghostllm.routing.gate import Gate

numbers = count(1)


def entry(key="k", model="m", since=0.0, **more):
    return Entry(number=next(numbers), key=key, model=model, since=since, **more)


def gate(name="g", slots=1, **more):
    return Gate(name, Settings(slots=slots, **({"waiting_model": more.get("waiting", 100)} | more)))


class Request:
    """One that waits at some gates, and leaves the others as soon as one of them has a slot."""

    def __init__(self, one, gates, clock):
        self.entry, self.gates, self.clock = one, gates, clock
        self.at, self.told = None, []

    def enter(self, now):
        for at in self.gates:
            if at.enter(self.entry, self, now):
                self._settle(at, now, "granted")
                return self
            if self.at is not None:
                return self
        return self

    def granted(self, at):
        self._settle(at, self.clock(), "granted")

    def expired(self, at, error):
        self.error = error
        self.told.append("expired")
        self._leave(at, self.clock())

    def closed(self, at):
        self.gates.remove(at)
        if not self.gates:
            self.told.append("closed")

    def leave(self, now):
        self._leave(None, now)

    def end(self, now):
        at, self.at = self.at, None
        at.release(self.entry.number, now)

    def _settle(self, at, now, word):
        self.told.append(word)
        self.at = at
        self._leave(at, now)

    def _leave(self, but, now):
        for other in self.gates:
            if other is not but:
                other.leave(self.entry.number, now)


def waiting(at, *entries, now=0.0):
    return [Request(one, [at], lambda: now).enter(now) for one in entries]


def test_who_finds_a_slot_begins_at_once_and_is_not_told_besides():
    at = gate()
    first, second = waiting(at, entry(), entry())
    assert first.at is at and first.told == ["granted"]
    assert second.at is None and second.told == []
    assert (at.running, at.waiting) == (1, 1)


def test_a_slot_that_is_given_back_goes_to_the_next():
    at = gate()
    first, second, third = waiting(at, *(entry() for _ in range(3)))
    first.end(1.0)
    assert second.at is at and third.at is None
    second.end(2.0)
    third.end(3.0)
    assert (at.running, at.waiting) == (0, 0) and at._waiters == {}


def test_releasing_twice_gives_one_slot():
    at = gate()
    first, _, third = waiting(at, *(entry() for _ in range(3)))
    first.end(1.0)
    at.release(first.entry.number, 1.0)
    at.release(10**9, 1.0)
    assert at.running == 1 and third.at is None


def test_who_is_refused_leaves_nothing_behind():
    at = gate(waiting=1)
    first, second = waiting(at, entry(), entry())
    with pytest.raises(QueueFull):
        waiting(at, entry())
    assert (at.running, at.waiting) == (1, 1)
    first.end(1.0)
    second.end(2.0)
    assert at._waiters == {}


def test_who_leaves_may_have_held_others_up():
    """A backend of one model at a time kept its last slot empty for another model."""
    at = gate(slots=3, batch=1, starvation=0.0)
    first, other, second, same = waiting(at, *(entry(model=model) for model in "xyxx"))
    assert first.at is at and second.at is at and at.loaded == "x"
    assert other.at is None and same.at is None and at.running == 2
    other.leave(1.0)
    assert same.at is at and at.loaded == "x"


def test_those_who_waited_too_long_are_told_and_others_go_on():
    at = gate(wait=60.0)
    first, late, patient = waiting(at, entry(), entry(since=0.0), entry(since=30.0))
    at.expire(59.0)
    assert late.told == []
    at.expire(61.0)
    assert late.told == ["expired"] and late.error.status == 503
    assert patient.told == []
    first.end(62.0)
    assert patient.at is at and late.told == ["expired"]


def test_when_it_closes_nobody_waits_there_and_what_runs_may_end():
    at, other = gate(), gate("other")
    first, second = waiting(at, entry(), entry())
    holder = waiting(other, entry())[0]
    both = Request(entry(), [at, other], lambda: 1.0).enter(0.0)
    at.close()
    at.close()
    assert second.told == ["closed"] and both.told == [] and (at.waiting, at.running) == (0, 1)
    first.end(1.0)
    holder.end(1.0)
    assert both.at is other and at.running == 0 and second.told == ["closed"]


def test_one_that_expires_may_let_another_of_the_late_begin_elsewhere():
    """It leaves another queue, and was the one for whom that one kept a slot."""
    now = 0.0
    busy = gate("busy", wait=50.0)
    swaps = gate("swaps", slots=3, batch=1, starvation=0.0, wait=0.0)
    [holds] = waiting(busy, entry(model="x"))
    [running] = waiting(swaps, entry(model="x"))
    late = [Request(entry(model="y"), [busy, swaps], lambda: now).enter(0.0)]
    [second] = waiting(swaps, entry(model="x"))
    late.append(Request(entry(model="x"), [busy, swaps], lambda: now).enter(0.0))
    assert [one.told for one in late] == [[], []] and swaps.running == 2
    now = 60.0
    busy.expire(now)
    assert late[0].told == ["expired"]
    assert late[1].told == ["granted"] and late[1].at is swaps
    assert (busy.waiting, busy.running, swaps.waiting, swaps.running) == (0, 1, 0, 3)
    for one in (holds, running, second, late[1]):
        one.end(now)
    assert (busy.running, swaps.running) == (0, 0)


entries = st.tuples(
    st.sampled_from("abc"), st.sampled_from("xy"), st.integers(-1, 1), st.sets(st.integers(0, 2), min_size=1)
)
steps = st.one_of(
    st.tuples(st.just("enter"), entries),
    st.tuples(st.sampled_from(("leave", "end", "expire")), st.integers(0, 50)),
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(steps, st.floats(0, 20)), max_size=60),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=3, max_size=3),
    st.integers(0, 5),
)
def test_each_begins_at_one_gate_at_the_most_and_leaves_no_trace_at_the_others(actions, kinds, room):
    bounds = [Settings(slots=slots, batch=batch, waiting=room, waiting_model=room) for slots, batch in kinds]
    gates = [Gate(str(at), one) for at, one in enumerate(bounds)]
    now, requests = 0.0, []

    def clock():
        return now

    def check():
        running = Counter(one.at for one in requests if one.at is not None)
        for at, own in zip(gates, bounds, strict=True):
            assert at.running == running[at] <= own.slots
            assert at.waiting == len(at._waiters) <= room
            begun = {one.entry.model for one in requests if one.at is at}
            assert not own.batch or len(begun) <= 1
        for one in requests:
            assert len(one.told) <= 1
            queued = [at for at in gates if at.outlook(one.entry.number, now) is not None]
            assert bool(queued) == (one in pending())

    def pending():
        return [one for one in requests if not one.told and one not in gone]

    gone = []
    for (action, value), elapsed in actions:
        now += elapsed
        if action == "enter":
            key, model, priority, at = value
            one = entry(key, model, now, priority=priority)
            request = Request(one, [gates[index] for index in sorted(at)], clock)
            requests.append(request)
            try:
                request.enter(now)
            except QueueFull:
                request.leave(now)
                gone.append(request)
        elif action == "expire":
            gates[value % 3].expire(now)
            for one in pending():
                assert gates[value % 3] not in one.gates or now - one.entry.since < 60.0
        elif action == "leave" and (some := pending()):
            some[value % len(some)].leave(now)
            gone.append(some[value % len(some)])
        elif action == "end" and (some := [one for one in requests if one.at is not None]):
            some[value % len(some)].end(now)
        check()
    while some := [one for one in requests if one.at is not None]:
        some[0].end(now)
        check()
    assert pending() == []
    assert all((at.running, at.waiting) == (0, 0) for at in gates)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abbbbc"), min_size=30, max_size=120), st.integers(1, 4), st.randoms())
def test_keys_that_keep_asking_share_the_slots_evenly(arrivals, slots, chance):
    """Whoever asks how often: while several keys have requests waiting, none gets ahead by more than the
    slots there are and one.
    """
    at = gate(slots=slots, waiting=1000, starvation=0.0)
    requests = waiting(at, *(entry(key) for key in arrivals))
    before = Counter(one.entry.key for one in requests if one.at)
    begun = Counter()
    while True:
        queued = Counter(one.entry.key for one in requests if not one.told)
        if len(queued) < len(set(arrivals)):
            break
        shares = [begun[key] + before[key] for key in queued]
        assert max(shares) - min(shares) <= slots + 1 or not begun
        told = [one for one in requests if one.at is not None]
        known = {one for one in requests if one.told}
        chance.choice(told).end(1.0)
        begun += Counter(one.entry.key for one in requests if one.told and one not in known)

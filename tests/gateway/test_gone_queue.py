"""Requests that wait at the queue of a backend that is taken away."""

import asyncio

from ghostllm.gateway.turn import Turn
from ghostllm.routing.admission import Entry, Settings
from ghostllm.routing.catalog import Target
from ghostllm.routing.gate import Gate


class Waiting:
    """A turn at queues whose only slots are taken, and what it has been told."""

    def __init__(self, *gates):
        self.told = []
        places = [(gate, Target(gate.name, "m")) for gate in gates]
        entry = Entry(number=2, key="k", model="m", since=0.0)
        self.turn = Turn(entry, places, lambda place, number: self.told.append(place[0]), self.told.append)
        assert self.turn.enter(0.0) is None


def taken(name):
    gate = Gate(name, Settings(slots=1))
    first = Turn(Entry(number=1, key="k", model="m", since=0.0), [(gate, Target(name, "m"))], print, print)
    assert first.enter(0.0)
    return gate


async def later():
    for _ in range(3):
        await asyncio.sleep(0)


def test_the_only_queue_goes():
    async def story():
        gate = taken("a")
        waiting = Waiting(gate)
        gate.close()
        assert not waiting.told, "in a later turn of the loop"
        await later()
        assert waiting.told == [gate] and gate.waiting == 0
        gate.release(2, 1.0)  # which it never held: nothing happens
        gate.release(1, 1.0)
        await later()
        assert waiting.told == [gate] and gate.running == 0

    asyncio.run(story())


def test_it_waits_on_at_the_other_queue():
    async def story():
        gone, other = taken("a"), taken("b")
        waiting = Waiting(gone, other)
        gone.close()
        await later()
        assert not waiting.told and (gone.waiting, other.waiting) == (0, 1)
        other.release(1, 1.0)
        await later()
        assert waiting.told == [other]

    asyncio.run(story())


def test_a_client_that_leaves_between():
    async def story():
        gate = taken("a")
        waiting = Waiting(gate)
        gate.close()
        waiting.turn.cancel()
        await later()
        assert not waiting.told

    asyncio.run(story())

"""One timer for whoever waits, and none while nobody does."""

import asyncio
import time

from ghostllm.gateway.pulse import TICK, Pulse
from ghostllm.message import ANONYMOUS
from tests.gateway.clock import run
from tests.routing.routers import call, router


class Stream:
    """One that is over after so many pulses."""

    def __init__(self, most=1000):
        self.pulses, self.most = [], most

    @property
    def over(self):
        return len(self.pulses) >= self.most

    def pulse(self, now):
        self.pulses.append(now)


class Waits:
    def __init__(self):
        self.told = []

    def granted(self, gate):
        self.told.append("granted")

    def expired(self, gate, error):
        self.told.append("expired")


def timers():
    return [one for one in asyncio.get_running_loop()._scheduled if not one.cancelled()]


def wait(routes, waits, age=0.0):
    now = time.monotonic()
    gate = routes.state("a").gate
    return gate.enter(routes.entry(ANONYMOUS, call(), "m", now - age), waits, now)


def test_streams_are_looked_at_while_they_last():
    async def scenario():
        pulse, short, long = Pulse(router("a")), Stream(2), Stream()
        pulse.add(short)
        pulse.add(long)
        assert len(timers()) == 1, "one timer for all"
        await asyncio.sleep(5.2 * TICK)
        assert len(short.pulses) == 2 and len(long.pulses) == 5
        assert long.pulses == sorted(long.pulses) and abs(long.pulses[0] - time.monotonic()) < 60
        pulse.discard(long)
        await asyncio.sleep(2 * TICK)
        assert len(long.pulses) == 5 and timers() == []
        pulse.discard(long)

    run(scenario)


def test_without_anything_to_look_after_no_timer_runs():
    async def scenario():
        pulse, stream = Pulse(router("a")), Stream(0)
        assert timers() == []
        pulse.add(stream)
        await asyncio.sleep(1.5 * TICK)
        assert stream.pulses == [] and timers() == []
        pulse.add(Stream())
        assert len(timers()) == 1, "it begins again"

    run(scenario)


def test_a_stream_that_comes_in_a_tick_gets_its_own():
    async def scenario():
        pulse, other = Pulse(router("a")), Stream()

        class Brings(Stream):
            def pulse(self, now):
                super().pulse(now)
                pulse.add(other)
                pulse.discard(self)

        pulse.add(Brings())
        await asyncio.sleep(1.5 * TICK)
        assert other.pulses == []
        await asyncio.sleep(TICK)
        assert len(other.pulses) == 1

    run(scenario)


def test_who_waits_too_long_in_a_queue_is_told_and_then_it_is_quiet():
    async def scenario():
        routes = router({"name": "a", "max_inflight": 1}, "b")
        pulse, late, patient = Pulse(routes), Waits(), Waits()
        assert wait(routes, Waits())
        assert not wait(routes, late, age=61.0) and not wait(routes, patient)
        pulse.wake()
        pulse.wake()
        await asyncio.sleep(1.5 * TICK)
        assert late.told == ["expired"] and patient.told == [] and len(timers()) == 1
        routes.state("a").gate.release(1, time.monotonic())
        assert patient.told == ["granted"]
        await asyncio.sleep(1.5 * TICK)
        assert timers() == []

    run(scenario)

"""Rates by GCRA, the generic cell rate algorithm, in its form of a leaky bucket (ITU-T I.371, annex A).

A meter of `limit` a minute lets at most limit x (1 + s / 60) through in any s seconds: a minute's worth at
once, and from then on an even flow. Its whole state is a level and a time. Times are whole microseconds and
levels whole units, PERIOD of them for one token or request, so that one microsecond drains `limit` units:
nothing is rounded, and in whatever order requests come and go the sum is right.

What is reserved and not settled yet does not drain. Only so can the unused part be given back whole: a
reservation that drained would have made room for others already, and its return would make that room twice.
A reservation that is not settled within a minute counts as used, and drains from then on.
Pure: `now` is an argument.
"""

from __future__ import annotations

PERIOD = 60_000_000  # microseconds
SLOT = 4_000_000  # reservations are kept together that were made within so many microseconds
SLOTS = PERIOD // SLOT + 1  # after which they count as used: between one minute and one slot more
DEBT = 60  # periods: who has used more than that beyond what was reserved is not kept waiting for longer
NEVER = 1 << 62


class Steady:
    """Turns seconds of a clock into microseconds that never go back: by less than a period they stand still
    (callers that read the clock at different moments), by more they go on from where they were (the clock
    was set), so that a jump back neither drains nor stops anything.
    """

    __slots__ = ("_at", "_shift")

    def __init__(self) -> None:
        self._at = 0
        self._shift = 0

    def at(self, now: float) -> int:
        ticks = int(now * 1e6) + self._shift
        if ticks >= self._at:
            self._at = ticks
        elif self._at - ticks > PERIOD:
            self._shift += self._at - ticks
        return self._at


def slot_of(now: int) -> int:
    """The number of the slot at whose beginning a reservation of `now` counts as used."""
    return now // SLOT + SLOTS


class Gcra:
    """limit: above 0. full: the level that is not exceeded."""

    __slots__ = ("at", "full", "level", "limit")

    def __init__(self, limit: int, now: int) -> None:
        self.limit = limit
        self.full = limit * PERIOD
        self.level = 0
        self.at = now

    def __repr__(self) -> str:
        return f"<Gcra {self.level / PERIOD:.3f}/{self.limit}>"

    def drain(self, now: int) -> None:
        elapsed = now - self.at
        if elapsed > 0:
            level = self.level - elapsed * self.limit
            self.level = level if level > 0 else 0
            self.at = now

    def take(self, cost: int, now: int) -> bool:
        """False, and nothing is taken, where there is no room for it."""
        elapsed = now - self.at
        if elapsed > 0:
            level = self.level - elapsed * self.limit
            if level < 0:
                level = 0
            self.at = now
        else:
            level = self.level
        taken = level + cost * PERIOD
        if taken > self.full:
            self.level = level
            return False
        self.level = taken
        return True

    def give_back(self, cost: int) -> None:
        """What was taken, and not used after all."""
        self.level = max(0, self.level - cost * PERIOD)

    def wait(self, cost: int, now: int) -> int | None:
        """Microseconds until `cost` fits if nobody else comes; None: it never does."""
        if cost > self.limit:
            return None
        self.drain(now)
        need = self.level + (cost - self.limit) * PERIOD
        return -(-need // self.limit) if need > 0 else 0

    def remaining(self, now: int) -> int:
        """What would fit at once."""
        if now > self.at:
            self.drain(now)
        return (self.full - self.level) // PERIOD if self.level < self.full else 0

    def reset(self, now: int) -> int:
        """Microseconds until all of the limit is there again."""
        if now > self.at:
            self.drain(now)
        return -(-self.level // self.limit)

    def change(self, limit: int, now: int) -> None:
        """Another limit from now on; what was used stays used."""
        self.drain(now)
        self.limit = limit
        self.full = limit * PERIOD


class HeldGcra(Gcra):
    """A meter whose costs are reserved first and known later: `hold`, `settle`."""

    __slots__ = ("_due", "_slots", "held")

    def __init__(self, limit: int, now: int) -> None:
        super().__init__(limit, now)
        self.held = 0
        self._slots: dict[int, int] = {}  # by slot: what is held and counts as used from its beginning on
        self._due = NEVER  # no slot begins earlier

    def __repr__(self) -> str:
        return f"<HeldGcra {self.level / PERIOD:.3f}+{self.held}/{self.limit}>"

    def drain(self, now: int) -> None:
        if now >= self._due:
            self._mature(now)
        elapsed = now - self.at
        if elapsed > 0:
            level = self.level - elapsed * self.limit
            self.level = level if level > 0 else 0
            self.at = now

    def hold(self, cost: int, slot: int, now: int) -> bool:
        """False, and nothing is held, where there is no room for it. slot: `slot_of` the time, to be given
        back with `settle`.
        """
        if now > self.at or now >= self._due:
            self.drain(now)
        held = self.held + cost
        if self.level + held * PERIOD > self.full:
            return False
        self.held = held
        slots = self._slots
        if slot in slots:
            slots[slot] += cost
        else:
            slots[slot] = cost
            if slot * SLOT < self._due:
                self._due = slot * SLOT
        return True

    def settle(self, cost: int, slot: int, used: int, now: int) -> None:
        """What was held as `cost` has turned out to be `used`. More than that is a debt, which the meter
        drains before it lets anything through. Of what counts as used already nothing comes back.
        """
        if now > self.at or now >= self._due:
            self.drain(now)
        slots = self._slots
        if slot in slots:
            left = slots[slot] - cost
            if left > 0:
                slots[slot] = left
            else:
                del slots[slot]
            self.held -= cost
            self.level += used * PERIOD
        elif used > cost:
            self.level += (used - cost) * PERIOD
        if self.level > self.full:
            self.level = min(self.level, DEBT * self.full)

    def wait(self, cost: int, now: int) -> int | None:
        """As of Gcra, if also nothing is settled before."""
        if cost > self.limit:
            return None
        self.drain(now)
        need = self.level + (self.held + cost - self.limit) * PERIOD
        if need <= 0:
            return 0
        at, level, limit = now, self.level, self.limit
        for slot in sorted(self._slots):
            begins = slot * SLOT
            drained = min(level, (begins - at) * limit)
            if need <= drained:
                break
            need -= drained
            level += self._slots[slot] * PERIOD - drained
            at = begins
        return at - now + -(-need // limit)

    def remaining(self, now: int) -> int:
        if now > self.at:
            self.drain(now)
        left = self.full - self.held * PERIOD - self.level
        return left // PERIOD if left > 0 else 0

    def reset(self, now: int) -> int:
        """Microseconds until all of the limit is there again, if what is reserved was all used by now."""
        if now > self.at:
            self.drain(now)
        return -(-(self.level + self.held * PERIOD) // self.limit)

    def _mature(self, now: int) -> None:
        self._due = NEVER
        for slot in sorted(self._slots):
            begins = slot * SLOT
            if begins > now:
                self._due = begins
                return
            elapsed = begins - self.at
            if elapsed > 0:
                self.level = max(0, self.level - elapsed * self.limit)
                self.at = begins
            amount = self._slots.pop(slot)
            self.held -= amount
            self.level += amount * PERIOD

"""The queue before one backend: who waits for a slot, who is next, and how long it takes.

Fair between keys by virtual time (start-time fair queueing, Goyal and others, 1996): a key's tag grows by
cost / weight with every request that begins, the smallest tag is next, and a key that was idle starts at the
present tag, so that it neither saves up nor owes. Tags move when requests begin, never when they come: one
that leaves the queue has cost its key nothing. Over that stand priorities, and over both the starvation
bound: who has waited too long goes first.

A backend that holds one model at a time serves requests for the loaded one in batches; another model begins
when the batch is spent or nobody wants the old one, and only after the running requests have ended.

Pure: `now` is an argument, and the caller wakes who was admitted.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from ghostllm.errors import Overloaded, QueueFull

GAIN = 0.1
"""Weight of the newest value in the moving average of how long a slot is held."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Settings:
    """slots: requests at one time, 0: no limit. waiting, waiting_model: most in the queue, in all and for one
    model. wait: seconds that a request may wait, 0: no limit. starvation: seconds of waiting after which a
    request is next, or next but one batch; 0: never. batch: requests for the loaded model that may begin
    while others wait for another one; 0: models do not have to be swapped.
    """

    slots: int
    waiting: int = 100
    waiting_model: int = 100
    wait: float = 60.0
    starvation: float = 30.0
    batch: int = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Entry:
    """key: whose request it is. cost: in any unit that is the same for all, such as tokens. priority: higher
    goes first.
    """

    number: int
    key: str
    model: str
    since: float
    cost: float = 1.0
    weight: float = 1.0
    priority: int = 0


@dataclass(slots=True, frozen=True)
class Outlook:
    """position: from 1, as things stand. seconds: expected wait; None while no slot was ever given back."""

    position: int
    seconds: float | None


class Admission:
    """`enter`, then `next` until the entry begins, or `leave` or `expired` to take it out; for each that
    began exactly one `release`. Call `next` after every enter, leave and release. loaded: the model in the
    backend's memory, None: unknown.
    """

    def __init__(self, settings: Settings) -> None:
        self.loaded: str | None = None
        self._settings = settings
        self._waiting: dict[int, Entry] = {}  # in order of arrival
        self._running: dict[int, tuple[Entry, float]] = {}
        self._tags: dict[str, float] = {}
        self._present = 0.0  # tag of the request that began last
        self._batch = 0  # begun for the loaded model while others waited for another
        self._unrescued = 0  # begun since the last one that had starved
        self._held: float | None = None

    def __repr__(self) -> str:
        return f"<Admission running={len(self._running)}/{self._settings.slots} waiting={len(self._waiting)}>"

    def retune(self, settings: Settings) -> None:
        """Call `next` after it. Those who run and wait stay, also where there is less room now."""
        self._settings = settings

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def enter(self, entry: Entry, now: float) -> None:
        """Raises QueueFull when it would have to wait and there is no room."""
        settings = self._settings
        same = sum(other.model == entry.model for other in self._waiting.values())
        full = len(self._waiting) >= settings.waiting or same >= settings.waiting_model
        if not any(other.key == entry.key for other in self._waiting.values()):
            self._tags[entry.key] = max(self._tags.get(entry.key, 0.0), self._present)
        self._waiting[entry.number] = entry
        if full and self._pick(now) is not entry:
            after = self._free_times(now)[0]
            self.leave(entry.number)
            raise QueueFull(
                f"{len(self._waiting)} requests are waiting here, {same} of them for model {entry.model!r}",
                retry_after=max(1.0, after),
            )

    def next(self, now: float) -> list[Entry]:
        """Those that begin now, in order."""
        begun = []
        while (entry := self._pick(now)) is not None:
            self._begin(entry, now)
            begun.append(entry)
        return begun

    def leave(self, number: int) -> bool:
        """Its client has gone. False: it was not waiting (any more)."""
        left = self._waiting.pop(number, None)
        self._tidy()
        return left is not None

    def release(self, number: int, now: float, *, cost: float | None = None) -> None:
        """The request is over, however it ended. cost: what it really was, settled with its key."""
        running = self._running.pop(number, None)
        if running is None:
            return
        entry, since = running
        held = now - since
        self._held = held if self._held is None else self._held + GAIN * (held - self._held)
        if cost is not None and entry.key in self._tags:
            self._tags[entry.key] += (cost - entry.cost) / _share(entry)
        self._tidy()

    def expired(self, now: float) -> list[tuple[Entry, Overloaded]]:
        """Takes out those that have waited as long as they may, each with what to tell its client."""
        limit = self._settings.wait
        late = [entry for entry in self._waiting.values() if limit and now - entry.since >= limit]
        if not late:
            return []
        after = max(1.0, self._free_times(now)[0])
        for entry in late:
            self.leave(entry.number)
        return [
            (entry, Overloaded(f"no slot became free within {limit:g} s", retry_after=after))
            for entry in late
        ]

    def deadline(self) -> float | None:
        """When `expired` has something next."""
        first = next(iter(self._waiting.values()), None)
        return first.since + self._settings.wait if first is not None and self._settings.wait else None

    def outlook(self, number: int, now: float) -> Outlook | None:
        """None: it is not waiting. Batches and swaps of models are not foreseen."""
        if number not in self._waiting:
            return None
        position = self._predicted().index(number) + 1
        if self._held is None:
            return Outlook(position, None)
        free = self._free_times(now)
        seconds = 0.0
        for _ in range(position):
            seconds = free[0]
            heapq.heapreplace(free, seconds + self._held)
        return Outlook(position, seconds)

    def _pick(self, now: float) -> Entry | None:
        settings = self._settings
        if not self._waiting or (settings.slots and len(self._running) >= settings.slots):
            return None
        entry = self._starved(now) or self._fairest()
        swap = bool(settings.batch) and self.loaded is not None and entry.model != self.loaded
        return None if swap and self._running else entry

    def _starved(self, now: float) -> Entry | None:
        """Between two of them others get a turn: in an overload, where all starve, the rest stays fair and
        models are not swapped for every request.
        """
        oldest = next(iter(self._waiting.values()))
        bound = self._settings.starvation
        if not bound or now - oldest.since < bound or self._unrescued < max(1, self._settings.batch):
            return None
        return oldest

    def _fairest(self) -> Entry:
        first = min(self._waiting.values(), key=self._rank)
        if not self._settings.batch or self.loaded is None:
            return first
        stay = self._batch < self._settings.batch
        preferred = [
            entry
            for entry in self._waiting.values()
            if entry.priority == first.priority and (entry.model == self.loaded) == stay
        ]
        return min(preferred, key=self._rank, default=first)

    def _rank(self, entry: Entry) -> tuple[int, float]:
        """Among equals the one that came first: `min` keeps the order of arrival."""
        return -entry.priority, self._tags[entry.key]

    def _begin(self, entry: Entry, now: float) -> None:
        starved = self._starved(now) is entry
        del self._waiting[entry.number]
        self._running[entry.number] = entry, now
        self._present = max(self._present, self._tags[entry.key])
        self._tags[entry.key] = max(self._tags[entry.key], 0.0) + entry.cost / _share(entry)
        self._unrescued = 0 if starved else self._unrescued + 1
        if entry.model != self.loaded:
            self.loaded, self._batch = entry.model, 0
        others = any(other.model != entry.model for other in self._waiting.values())
        self._batch = self._batch + 1 if others else 0
        self._tidy()

    def _free_times(self, now: float) -> list[float]:
        """Heap of the seconds until each slot is free. Before the first release: as long again as the running
        ones have already taken.
        """
        ages = [now - since for _, since in self._running.values()]
        held = self._held
        free = [age if held is None else max(0.0, held - age) for age in ages]
        # Slots that are empty although somebody waits are kept so until the running requests have ended.
        idle = max(free, default=0.0) if self._waiting else 0.0
        free += [idle] * max(0 if free else 1, self._settings.slots - len(free))
        heapq.heapify(free)
        return free

    def _predicted(self) -> list[int]:
        tags = dict(self._tags)
        starts: list[tuple[int, float, int, int]] = []
        for entry in sorted(self._waiting.values(), key=lambda entry: -entry.priority):
            starts.append((-entry.priority, tags[entry.key], len(starts), entry.number))
            tags[entry.key] += entry.cost / _share(entry)
        return [number for *_, number in sorted(starts)]

    def _tidy(self) -> None:
        """Tags live while anyone waits or runs: the end of a busy period forgives. Tags of the past say
        nothing either.
        """
        if not self._waiting and not self._running:
            self._tags.clear()
            self._present = 0.0
        elif len(self._tags) > 64 + 2 * (len(self._waiting) + len(self._running)):
            needed = {entry.key for entry in self._waiting.values()}
            self._tags = {key: tag for key, tag in self._tags.items() if tag > self._present or key in needed}


def _share(entry: Entry) -> float:
    return max(entry.weight, 1e-9)

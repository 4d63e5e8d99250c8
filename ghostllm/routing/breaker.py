"""The breaker of one backend: who fails again and again is left alone for a while, then tried by one request.

    CLOSED --last straw, told to wait--> OPEN --admitted when due--> HALF_OPEN --success--> CLOSED
                                          ^--------failure, abandoned-------'

Pure: `now` is an argument. Every admitted request carries a ticket and settles it exactly once. What was
admitted under an earlier state says nothing about this one: such stragglers change nothing.

A backend that opens again soon after it closed stays open for twice as long each time, up to a cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from ghostllm.config.traffic import Breaker as Settings
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamError, UpstreamTimeout


class State(Enum):
    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()  # one probe is under way


class Event(Enum):
    ADMITTED = auto()  # a request while open: the probe
    SUCCESS = auto()
    FAILURE = auto()
    LAST_STRAW = auto()  # a failure that makes too many
    TOLD_TO_WAIT = auto()  # a failure with Retry-After
    ABANDONED = auto()  # cancelled, or the request's own fault: no word on the backend


class Verdict(Enum):
    """What the end of one request says about the backend."""

    SUCCESS = auto()
    FAILURE = auto()
    ABANDONED = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CLOSED, Event.ADMITTED): State.CLOSED,
    (State.CLOSED, Event.SUCCESS): State.CLOSED,
    (State.CLOSED, Event.FAILURE): State.CLOSED,
    (State.CLOSED, Event.LAST_STRAW): State.OPEN,
    (State.CLOSED, Event.TOLD_TO_WAIT): State.OPEN,
    (State.CLOSED, Event.ABANDONED): State.CLOSED,
    (State.OPEN, Event.ADMITTED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.ADMITTED): State.HALF_OPEN,  # by force only
    (State.HALF_OPEN, Event.SUCCESS): State.CLOSED,
    (State.HALF_OPEN, Event.FAILURE): State.OPEN,
    (State.HALF_OPEN, Event.LAST_STRAW): State.OPEN,
    (State.HALF_OPEN, Event.TOLD_TO_WAIT): State.OPEN,
    (State.HALF_OPEN, Event.ABANDONED): State.OPEN,
}
"""Only stragglers end while open, and they are not heard: no other pair occurs."""


DEFAULTS = Settings()


@dataclass(slots=True, frozen=True)
class Ticket:
    """era: how often the state had changed when the request was admitted. probe: its outcome decides."""

    era: int
    probe: bool


class Breaker:
    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self.state = State.CLOSED
        self.spotless = True  # nothing has ever failed here
        self.until = 0.0  # while open: when a probe is due
        self.closed_at: float | None = None  # when it last closed again; a slow start counts from here
        self._settings = settings
        self._era = 0
        self._ordinary = Ticket(0, False)  # of all that are admitted while it is closed
        self._row = 0  # failures without a success between them
        self._openings = 0
        self._failed = _Decaying(settings.memory)
        self._ended = _Decaying(settings.memory)

    def __repr__(self) -> str:
        return f"<Breaker {self.state.name.lower()} row={self._row} until={self.until:.1f}>"

    def retune(self, settings: Settings) -> None:
        """Goes by other settings from now on; what was seen counts."""
        self._settings = settings
        self._failed.retune(settings.memory)
        self._ended.retune(settings.memory)

    def allows(self, now: float) -> bool:
        """Whether a request may be planned here; changes nothing."""
        return self.state is State.CLOSED or (self.state is State.OPEN and now >= self.until)

    def admit(self, now: float, *, force: bool = False) -> Ticket | None:
        """Called when a request is really sent. None: not now. force: this is the last target there is."""
        if self.state is State.CLOSED:
            return self._ordinary
        if not force and not self.allows(now):
            return None
        self._step(Event.ADMITTED)
        return Ticket(self._era, True)

    def settle(
        self, ticket: Ticket, verdict: Verdict, now: float, *, retry_after: float | None = None
    ) -> None:
        """The request has ended. retry_after: seconds, with a failure."""
        if verdict is Verdict.SUCCESS:
            self.succeeded(ticket, now)
        elif ticket.era != self._era:
            return
        elif verdict is Verdict.ABANDONED:
            self._abandoned(now)
        else:
            self._failure(now, retry_after)

    def succeeded(self, ticket: Ticket, now: float) -> None:
        """`settle` of an answer that came whole."""
        if ticket.era != self._era:
            return
        self._row = 0
        ended = self._ended
        if now - ended.at_time < ended.brief:  # as `add` would, which every answer would have to call
            ended.value += 1
        else:
            ended.add(1, now)
        if ticket.probe:
            self._failed.clear()
            self._ended.clear()
            self.closed_at = now
            self._step(Event.SUCCESS)

    def faults(self, now: float) -> float:
        """Recent failures, decayed, times their share: one slip among many successes weighs next to nothing,
        failing without pause weighs in full.
        """
        failed = self._failed.at(now)
        return failed * failed / self._ended.at(now) if failed else 0.0

    def _failure(self, now: float, retry_after: float | None) -> None:
        self._row += 1
        self.spotless = False
        self._failed.add(1, now)
        self._ended.add(1, now)
        event = Event.FAILURE
        if retry_after is not None and retry_after > 0:
            event = Event.TOLD_TO_WAIT
        elif self._too_many(now):
            event = Event.LAST_STRAW
        if TRANSITIONS[self.state, event] is State.OPEN:
            self._open(now, retry_after)
        self._step(event)

    def _abandoned(self, now: float) -> None:
        if self.state is State.HALF_OPEN:
            self.until = now  # the next request is the probe instead
        self._step(Event.ABANDONED)

    def _too_many(self, now: float) -> bool:
        ended = self._ended.at(now)
        settings = self._settings
        return self._row >= settings.failures or (
            ended >= settings.volume and self._failed.at(now) >= settings.share * ended
        )

    def _open(self, now: float, retry_after: float | None) -> None:
        settings = self._settings
        asked = min(retry_after or 0.0, settings.retry_after_max)
        if self.state is State.CLOSED:
            if asked > 0:  # a rate limit kept to the second is no flapping: nothing grows
                self.until = now + asked
                return
            if self.closed_at is None or now - self.closed_at >= settings.calm:
                self._openings = 0
        pause = min(settings.period * 2.0 ** min(self._openings, 32), settings.period_max)
        self._openings += 1
        self.until = now + max(pause, asked)

    def _step(self, event: Event) -> None:
        state = TRANSITIONS[self.state, event]
        if state is not self.state:
            self.state = state
            self._era += 1
            self._ordinary = Ticket(self._era, False)


def judge(error: GhostError | None, *, cancelled: bool = False) -> Verdict:
    """The end of an attempt. None: the answer came whole. Resets, timeouts, broken, stalled and empty streams
    and any answer that another backend might have given better (5xx, 429, a refused key, an unknown model)
    are failures. A client that left and a request at fault are not.
    """
    if cancelled:
        return Verdict.ABANDONED
    if error is None:
        return Verdict.SUCCESS
    # The total limit fires on a backend that answers: silence has limits of its own.
    if isinstance(error, UpstreamTimeout) and error.limit == "total":
        return Verdict.ABANDONED
    if isinstance(error, UpstreamAnswered):
        status = error.upstream_status
        refused = error.retryable or status in (401, 403, 429) or status >= 500
        return Verdict.FAILURE if refused else Verdict.ABANDONED
    return Verdict.FAILURE if isinstance(error, UpstreamError) else Verdict.ABANDONED


class _Decaying:
    """A count that halves every `half_life` seconds. brief: seconds in which next to nothing fades."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self.brief = half_life / 100
        self.value = 0.0
        self.at_time = 0.0

    def retune(self, half_life: float) -> None:
        self._half_life = half_life
        self.brief = half_life / 100

    def add(self, amount: float, now: float) -> None:
        if now - self.at_time < self.brief:
            self.value += amount
        else:
            self.value = self.at(now) + amount
            self.at_time = now

    def at(self, now: float) -> float:
        if not self.value:
            return 0.0
        return self.value * math.exp2(-max(0.0, now - self.at_time) / self._half_life)

    def clear(self) -> None:
        self.value = 0.0

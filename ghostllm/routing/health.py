"""Whether one backend is there, by active probes and by what connecting to it showed; and how gently it is
loaded again after it was away. Pure: `now` is an argument.

The breaker judges answers to requests; this judges presence. UNKNOWN is a backend that nobody has asked yet:
it may be used where nothing better is known.
"""

from __future__ import annotations

from enum import Enum, auto

from ghostllm.config.traffic import Health as Settings


class State(Enum):
    UNKNOWN = auto()
    UP = auto()
    DOWN = auto()


class Event(Enum):
    PASSED = auto()  # a probe passed, but not yet often enough to return
    FAILED = auto()  # a probe failed, but not yet often enough to leave
    ROSE = auto()  # passed as often in a row as it takes
    FELL = auto()  # failed as often in a row as it takes
    RESTARTED = auto()  # the same address, but another process


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.UNKNOWN, Event.PASSED): State.UP,  # at the start one look is enough
    (State.UNKNOWN, Event.ROSE): State.UP,
    (State.UNKNOWN, Event.FAILED): State.UNKNOWN,
    (State.UNKNOWN, Event.FELL): State.DOWN,
    (State.UNKNOWN, Event.RESTARTED): State.UP,
    (State.UP, Event.PASSED): State.UP,
    (State.UP, Event.ROSE): State.UP,
    (State.UP, Event.FAILED): State.UP,
    (State.UP, Event.FELL): State.DOWN,
    (State.UP, Event.RESTARTED): State.UP,
    (State.DOWN, Event.PASSED): State.DOWN,
    (State.DOWN, Event.ROSE): State.UP,
    (State.DOWN, Event.FAILED): State.DOWN,
    (State.DOWN, Event.FELL): State.DOWN,
    (State.DOWN, Event.RESTARTED): State.DOWN,  # what crashes again and again has to last first
}


DEFAULTS = Settings()


class Health:
    """returned: when it last came back, None while it never was away. steady: it never was, as far as is
    known.
    """

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self.state = State.UNKNOWN
        self.returned: float | None = None
        self.up = False
        self.steady = True
        self._settings = settings
        self._row = 0  # positive: probes passed in a row; negative: failed
        self._started: float | None = None

    def __repr__(self) -> str:
        return f"<Health {self.state.name.lower()} row={self._row:+d}>"

    def retune(self, settings: Settings) -> None:
        self._settings = settings

    def probed(self, passed: bool, now: float, *, started: float | None = None) -> bool:
        """started: when the backend's process says that it began (process_start_time_seconds).

        True: what it had cached is lost, so its prefix index must be forgotten.
        """
        self._row = max(0, self._row) + 1 if passed else min(0, self._row) - 1
        if not passed:
            self._step(Event.FELL if -self._row >= self._settings.fall else Event.FAILED, now)
            return False
        lost = started is not None and self._started not in (None, started)
        self._started = self._started if started is None else started
        if lost:
            self._row = 1  # what its predecessor passed is not its own
            self.returned = now
            self.steady = False
            self._step(Event.RESTARTED, now)
        return self._step(Event.ROSE if self._row >= self._settings.rise else Event.PASSED, now) or lost

    def refused(self, now: float) -> None:
        """A connection was refused: nothing listens, so there is no need to ask as often again."""
        self._row = -self._settings.fall
        self._step(Event.FELL, now)

    def answered(self, now: float) -> bool:
        """A request was answered: better evidence than any probe. True: as for `probed`."""
        self._row = max(self._row, self._settings.rise)
        return self._step(Event.ROSE, now)

    def warmth(self, now: float) -> float:
        """Factor of its weight: rises evenly from first_weight to 1 after a return."""
        return slow_start(self.returned, now, self._settings)

    def _step(self, event: Event, now: float) -> bool:
        """True: it came back."""
        before, self.state = self.state, TRANSITIONS[self.state, event]
        self.up = self.state is State.UP
        if self.state is State.DOWN:
            self.steady = False
        if before is State.DOWN and self.state is State.UP:
            self.returned = now
            return True
        return False


def slow_start(returned: float | None, now: float, settings: Settings = DEFAULTS) -> float:
    """1 if it never was away. A cold cache and a cold loader cannot take a full share at once, and the
    emptiest backend would get every request. returned: also Breaker.closed_at.
    """
    if returned is None or not settings.slow_start:
        return 1.0
    share = min(1.0, max(0.0, (now - returned) / settings.slow_start))
    return settings.first_weight + (1.0 - settings.first_weight) * share

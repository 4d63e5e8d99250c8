"""Sharing a model's requests between variants: A/B by weight, a canary that goes back by itself, a shadow.

    RUNNING --enough good answers--> RUNNING (next step) --last step passed--> PROMOTED
       '------worse than before-----> ROLLED_BACK

Pure: `now` is an argument, and chance is a hash of the key, so that a caller stays where it was put.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from ghostllm.config.traffic import CanaryConfig as Settings
from ghostllm.routing.sticky import even, pull


@dataclass(slots=True, frozen=True)
class Arm:
    """A variant and its share of the callers. name: unique within a split."""

    name: str
    weight: float


def assign(split: str, arms: Sequence[Arm], key: str) -> Arm:
    """The arm of a caller. key: API key, conversation, or a fresh number for each request.

    Changing one weight moves callers only to or from that arm. Splits of different names draw
    independently.
    """
    if not any(arm.weight > 0 for arm in arms):
        raise ValueError(f"split {split!r} has no arm with a weight")
    return max(arms, key=lambda arm: pull(f"{split}\0{key}", arm.name, arm.weight))


def mirrored(shadow: str, share: float, key: str, *, running: int = 0, limit: int = 1) -> bool:
    """Whether a copy of this request also goes to the shadow, whose answer nobody waits for. running: copies
    under way; at the limit there are none further, so that a slow shadow cannot pile up work.
    """
    return running < limit and even("shadow", shadow, key) < share


class State(Enum):
    RUNNING = auto()
    PROMOTED = auto()
    ROLLED_BACK = auto()


class Event(Enum):
    PASSED = auto()  # a step, with further ones to come
    PASSED_LAST = auto()
    WORSE = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.RUNNING, Event.PASSED): State.RUNNING,
    (State.RUNNING, Event.PASSED_LAST): State.PROMOTED,
    (State.RUNNING, Event.WORSE): State.ROLLED_BACK,
}
"""The other two are ends: a human starts a new canary."""


CERTAIN = 2.0
"""Standard errors that a difference between the variants must exceed to count."""

DEFAULTS = Settings()


@dataclass(slots=True)
class Tally:
    """What one variant did in the present step. times: of logarithms of seconds to first token, whose few
    huge values would otherwise decide.
    """

    answers: int = 0
    failures: int = 0
    times: int = 0
    mean: float = 0.0
    squares: float = field(default=0.0, repr=False)

    def add(self, failed: bool, seconds: float | None) -> None:
        self.answers += 1
        self.failures += failed
        if seconds is not None and not failed:
            value = math.log(max(seconds, 1e-6))
            self.times += 1
            before = value - self.mean  # Welford: one pass, no cancellation
            self.mean += before / self.times
            self.squares += before * (value - self.mean)

    @property
    def error_rate(self) -> float:
        return self.failures / self.answers if self.answers else 0.0

    @property
    def variance(self) -> float:
        return self.squares / (self.times - 1) if self.times > 1 else 0.0


class Canary:
    """why: what ended it, for people; "" while it runs."""

    def __init__(self, name: str, settings: Settings = DEFAULTS, *, now: float = 0.0) -> None:
        if not settings.steps or list(settings.steps) != sorted(settings.steps):
            raise ValueError("the steps of a canary must rise")
        self.name = name
        self.state = State.RUNNING
        self.why = ""
        self.step = 0
        self._settings = settings
        self._since = now
        self._new, self._old = Tally(), Tally()

    def __repr__(self) -> str:
        return f"<Canary {self.name} {self.state.name.lower()} share={self.share} {self._new} {self._old}>"

    @property
    def share(self) -> float:
        """Of the callers that get the new variant."""
        if self.state is State.RUNNING:
            return self._settings.steps[self.step]
        return 1.0 if self.state is State.PROMOTED else 0.0

    def chosen(self, key: str) -> bool:
        """Whether this caller gets the new variant. Who got it in one step gets it in all later ones."""
        return even("canary", self.name, key) < self.share

    def ended(self, new: bool, failed: bool, now: float, seconds: float | None = None) -> None:
        """An answer of the new or of the old variant. Cancelled requests and faults of the request itself are
        not reported here. seconds: to first token, None if there was none.
        """
        if self.state is not State.RUNNING:
            return
        (self._new if new else self._old).add(failed, seconds)
        if (reason := self._worse()) is not None:
            self.why = reason
            self.state = TRANSITIONS[self.state, Event.WORSE]
        elif self._new.answers >= self._settings.answers and now - self._since >= self._settings.seconds:
            last = self.step == len(self._settings.steps) - 1
            self.state = TRANSITIONS[self.state, Event.PASSED_LAST if last else Event.PASSED]
            self.step += not last
            self._since = now
            self._new, self._old = Tally(), Tally()

    def _worse(self) -> str | None:
        new, old, settings = self._new, self._old, self._settings
        if new.answers >= settings.few:
            # With no answers of the old variant to compare with, its rate is taken as 0.
            allowed = old.error_rate + settings.errors
            spread = math.sqrt(_chance(old.error_rate, old.answers) + _chance(new.error_rate, new.answers))
            if new.error_rate > allowed + CERTAIN * spread:
                return f"{new.error_rate:.1%} of its answers failed, against {old.error_rate:.1%}"
        if min(new.times, old.times) >= settings.few:
            spread = math.sqrt(new.variance / new.times + old.variance / old.times)
            if new.mean - old.mean > math.log(settings.slower) + CERTAIN * spread:
                return f"first token after {math.exp(new.mean):.2f} s, against {math.exp(old.mean):.2f} s"
        return None


def _chance(rate: float, count: int) -> float:
    """Variance of a rate seen in `count` answers."""
    return rate * (1.0 - rate) / count if count else 0.0

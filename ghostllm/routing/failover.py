"""After a failed attempt: which target next, and after how long. Pure: the caller hands in clock and chance.

The other targets come first and at once, those that may take a request now before those in whose queue it
has to wait. Only then a target is tried again, after a pause that doubles and is jittered, or as long as it
asked for itself (Retry-After), up to a cap; those that are resting or absent come last, but before one where
nothing listens. A target whose refusal would not change (a wrong key, an unknown model, a time limit spent)
is not tried again, and a fault of the request is nobody else's. Every further attempt is paid for from its
backend's retry budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from ghostllm.config.traffic import Routing
from ghostllm.errors import (
    CannotContinue,
    GhostError,
    QueueFull,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamRefused,
    UpstreamResting,
)
from ghostllm.routing.catalog import Target

Step = tuple[Target, float]
"""The next target, and the seconds to wait first."""

UNTRIED = (CannotContinue, QueueFull, UpstreamResting, UnsupportedParameter, UnsupportedValue)
"""Nothing was sent: no attempt that counts against the bound. What one target is incapable of, another may be
able to do.
"""


class Ways(Protocol):
    """Where further attempts may go. Implemented by Router."""

    def able(self, target: Target, now: float) -> bool:
        """At once, as far as its presence, its breaker and its queue are concerned."""

    def waits(self, target: Target, now: float) -> bool:
        """Whether all that it lacks is a free slot in its queue."""

    def pay(self, target: Target, now: float) -> bool:
        """Takes a retry out of its backend's budget; False: there is none left."""


class Failover:
    """The attempts of one request. `targets`: at least one, in the order of choice."""

    __slots__ = (
        "_chance", "_errors", "_failed", "_refused", "_rounds", "_routing", "_untried", "_ways", "current",
    )  # fmt: skip

    def __init__(self, targets: Sequence[Target], routing: Routing, chance: Random, ways: Ways) -> None:
        self._untried = list(targets)
        self._failed: list[tuple[Target, GhostError]] = []  # those that may be tried once more
        self._errors: list[GhostError] = []
        self._refused: list[Target] = []
        self._routing = routing
        self._chance = chance
        self._ways = ways
        self._rounds = 0
        self.current = self._untried[0]

    @property
    def last(self) -> bool:
        """No other target is left that has not been tried."""
        return not self._untried

    def trying(self, target: Target) -> None:
        """An attempt goes there."""
        self.current = target
        if target in self._untried:
            self._untried.remove(target)

    def after(self, error: GhostError, now: float, *, resuming: bool = False) -> Step | None:
        """The current target failed with `error`. resuming: it was asked to go on with a stream, so that no
        error is the client's fault. None: it is over, and `verdict` is the client's.
        """
        self._errors.append(error)
        if not (error.retryable or resuming or isinstance(error, UNTRIED)):
            return None
        if error.repeatable:
            self._failed.append((self.current, error))
        if isinstance(error, UpstreamRefused) and self.current not in self._refused:
            self._refused.append(self.current)  # nobody was there: the first knock costs no attempt
        tries = sum(not isinstance(failed, UNTRIED) for failed in self._errors) - len(self._refused)
        if tries >= self._routing.attempts:
            return None
        for way in (self._ways.able, self._ways.waits):
            for target in self._untried:
                if way(target, now) and self._ways.pay(target, now):
                    return target, 0.0
        again = None if isinstance(error, UpstreamRefused) else self._again(now)
        return again or self._unlikely(now) or self._again(now)

    def verdict(self) -> GhostError:
        """What to tell the client: the last word, but if all refused for load, the refusal with the shortest
        wait.
        """
        told = [error for error in self._errors if not isinstance(error, (CannotContinue, UpstreamResting))]
        last = told[-1] if told else self._errors[-1]
        if not last.retryable:
            return last
        waits = [error.retry_after for error in self._errors if error.retry_after is not None]
        if last.status in (429, 503) and waits:
            last.retry_after = min(waits)
        return last

    def _again(self, now: float) -> Step | None:
        if not self._failed:
            return None
        asked, at = min((error.retry_after or 0.0, index) for index, (_, error) in enumerate(self._failed))
        if asked > self._routing.retry_after_max or not self._ways.pay(self._failed[at][0], now):
            return None
        target, _ = self._failed.pop(at)
        pause = min(self._routing.backoff * 2**self._rounds, self._routing.backoff_max)
        self._rounds += 1
        return target, max(asked, pause * (0.5 + self._chance.random() / 2))

    def _unlikely(self, now: float) -> Step | None:
        """One that is resting or absent: better than nothing."""
        for target in self._untried:
            if self._ways.pay(target, now):
                return target, 0.0
        return None

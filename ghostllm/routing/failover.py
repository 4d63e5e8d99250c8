"""After a failed attempt: which target next, and after how long. Pure: no clock, chance is handed in.

The other targets come first and at once. Only when every one has failed is a target tried again, after a
pause that doubles and is jittered, or as long as it asked for itself (Retry-After), up to a cap. A target
whose refusal would not change (a wrong key, an unknown model, a time limit spent) is not tried again, and a
fault of the request is nobody else's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ghostllm.config.schema import Routing
from ghostllm.errors import GhostError, UnsupportedParameter, UnsupportedValue
from ghostllm.routing.catalog import Target

Step = tuple[Target, float]
"""The next target, and the seconds to wait first."""


class Failover:
    """The attempts of one request. `targets`: at least one, in the order of choice."""

    __slots__ = ("_chance", "_errors", "_failed", "_rounds", "_routing", "_waiting", "current")

    def __init__(self, targets: Sequence[Target], routing: Routing, chance: random.Random) -> None:
        self._waiting = list(targets)
        self._failed: list[tuple[Target, GhostError]] = []  # those that may be tried once more
        self._errors: list[GhostError] = []
        self._routing = routing
        self._chance = chance
        self._rounds = 0
        self.current = self._waiting.pop(0)

    def after(self, error: GhostError) -> Step | None:
        """The current target failed with `error`. None: it is over, and `verdict` is the client's."""
        self._errors.append(error)
        # What one backend is incapable of, another may be able to do.
        incapable = isinstance(error, (UnsupportedParameter, UnsupportedValue))
        if not error.retryable and not incapable:
            return None
        if error.repeatable:
            self._failed.append((self.current, error))
        if sum(failed.retryable for failed in self._errors) >= self._routing.attempts:
            return None
        if self._waiting:
            self.current = self._waiting.pop(0)
            return self.current, 0.0
        return self._again()

    def verdict(self) -> GhostError:
        """What to tell the client: the last word, but if all refused for load, the refusal with the shortest
        wait.
        """
        last = self._errors[-1]
        if not last.retryable:
            return last
        waits = [error.retry_after for error in self._errors if error.retry_after is not None]
        if last.status in (429, 503) and waits:
            last.retry_after = min(waits)
        return last

    def _again(self) -> Step | None:
        if not self._failed:
            return None
        asked, at = min((error.retry_after or 0.0, index) for index, (_, error) in enumerate(self._failed))
        if asked > self._routing.retry_after_max:
            return None
        self.current, _ = self._failed.pop(at)
        pause = min(self._routing.backoff * 2**self._rounds, self._routing.backoff_max)
        self._rounds += 1
        return self.current, max(asked, pause * (0.5 + self._chance.random() / 2))

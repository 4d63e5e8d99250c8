"""How many retries a backend is sent: retries must not double an outage.

A token bucket for each backend. First attempts fill it by a share each, time fills it slowly, a retry takes
one token and gives it back when it succeeds: failing over to a backend that answers costs nothing, while in
an outage of all the retries run dry. (Finagle's and Linkerd's budget, with gRPC's reward for success.)
Pure: `now` is an argument.
"""

from __future__ import annotations

from ghostllm.config.traffic import RetryBudget as Settings

DEFAULTS = Settings()


class RetryBudget:
    """tokens: retries that could be sent at once. In any span of time the retries that failed are at most
    burst + share x first attempts + per_second x seconds.
    """

    def __init__(self, settings: Settings = DEFAULTS, now: float = 0.0) -> None:
        self.tokens = self.burst = settings.burst
        self._settings = settings
        self._at = now

    def __repr__(self) -> str:
        return f"<RetryBudget {self.tokens:.1f}/{self._settings.burst:g}>"

    def retune(self, settings: Settings) -> None:
        self.burst = settings.burst
        self._settings = settings
        self._add(0)

    def first(self, now: float) -> None:
        """A first attempt goes to this backend. It changes nothing while there are `burst` tokens."""
        self._fill(now)
        self._add(self._settings.share)

    def take(self, now: float) -> bool:
        """Whether a retry may go to this backend; if so it is paid for."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def refund(self) -> None:
        """A retry that was paid for has brought content, or was cancelled before it could fail."""
        self._add(1)

    def wait(self, now: float) -> float | None:
        """Seconds until a retry is allowed if nothing else comes; None: time alone does not bring it."""
        self._fill(now)
        if self.tokens >= 1:
            return 0.0
        return (1 - self.tokens) / self._settings.per_second if self._settings.per_second else None

    def _fill(self, now: float) -> None:
        elapsed, self._at = max(0.0, now - self._at), max(now, self._at)
        self._add(elapsed * self._settings.per_second)

    def _add(self, tokens: float) -> None:
        self.tokens = min(self._settings.burst, self.tokens + tokens)

"""What one subject uses now, against its limits."""

from __future__ import annotations

from typing import NamedTuple

from ghostllm.config.money import RateLimits
from ghostllm.policy.gcra import Gcra, HeldGcra
from ghostllm.policy.subjects import Subject


class Shortage(NamedTuple):
    """A limit that has no room. wait: microseconds until it has; None: nobody knows. never: it will not."""

    subject: Subject
    limit: str
    most: int
    left: int
    wait: int | None = None
    never: bool = False


class Account:
    """Times are ticks of gcra.Steady. Asked first (`fits`) and changed by who has asked all its subjects."""

    __slots__ = ("in_flight", "limits", "requests", "subject", "tokens")

    def __init__(self, subject: Subject, limits: RateLimits, now: int) -> None:
        self.subject = subject
        self.in_flight = 0
        self.requests: Gcra | None = None
        self.tokens: HeldGcra | None = None
        self.limits = limits
        self.adopt(limits, now)

    def __repr__(self) -> str:
        return f"<Account {self.subject} {self.requests!r} {self.tokens!r} in_flight={self.in_flight}>"

    def adopt(self, limits: RateLimits, now: int) -> None:
        """Other limits, after a reload: what was used stays used."""
        self.limits = limits
        if not limits.requests_per_minute:
            self.requests = None
        elif self.requests is None:
            self.requests = Gcra(limits.requests_per_minute, now)
        else:
            self.requests.change(limits.requests_per_minute, now)
        if not limits.tokens_per_minute:
            self.tokens = None
        elif self.tokens is None:
            self.tokens = HeldGcra(limits.tokens_per_minute, now)
        else:
            self.tokens.change(limits.tokens_per_minute, now)

    def fits(self, tokens: int, now: int) -> bool:
        requests = self.requests
        if requests is not None and not requests.fits(1, now):
            return False
        meter = self.tokens
        if meter is not None and not meter.fits(tokens, now):
            return False
        most = self.limits.concurrent
        return most == 0 or self.in_flight < most

    def shortages(self, tokens: int, now: int) -> list[Shortage]:
        """Why it does not fit."""
        short: list[Shortage] = []
        requests, meter, most = self.requests, self.tokens, self.limits.concurrent
        if requests is not None and (wait := requests.wait(1, now)):
            short.append(Shortage(self.subject, "requests", requests.limit, 0, wait))
        if meter is not None:
            wait = meter.wait(tokens, now)
            if wait is None or wait > 0:
                left = meter.remaining(now)
                short.append(Shortage(self.subject, "tokens", meter.limit, left, wait, wait is None))
        if most and self.in_flight >= most:
            short.append(Shortage(self.subject, "concurrent", most, 0))
        return short

    def idle(self, now: int) -> bool:
        """Whether forgetting it changes nothing."""
        if self.in_flight:
            return False
        if self.requests is not None and self.requests.reset(now):
            return False
        return self.tokens is None or not self.tokens.reset(now)

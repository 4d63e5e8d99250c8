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
    """Times are ticks of gcra.Steady. What it has admitted is taken back if another subject has no room."""

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

    def admit(self, tokens: int, slot: int, now: int) -> bool:
        """One more request, with so many tokens held. False: there is no room, and nothing has changed."""
        most = self.limits.concurrent
        if most and self.in_flight >= most:
            return False
        requests, meter = self.requests, self.tokens
        if requests is not None and not requests.take(1, now):
            return False
        if meter is not None and not meter.hold(tokens, slot, now):
            if requests is not None:
                requests.give_back(1)
            return False
        self.in_flight += 1
        return True

    def take_back(self, tokens: int, slot: int, now: int) -> None:
        """Of what has just been admitted."""
        self.in_flight -= 1
        if self.requests is not None:
            self.requests.give_back(1)
        if self.tokens is not None:
            self.tokens.settle(tokens, slot, 0, now)

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

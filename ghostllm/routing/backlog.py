"""The work that waits on one backend: prefill seconds of what was sent there and has no first token yet.

Counted by the gateway itself, so exact for its own traffic and without lag. A queue length scraped once a
second sends whole bursts to the same backend; it serves only to correct for what other clients do.

Every first token brings the estimate back to the truth (resync): errors of the prefill rate do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

STALE = 3.0
"""Seconds after which a scraped queue length says nothing any more."""

GAIN = 0.1
"""Weight of the newest value in the moving averages."""


@dataclass(slots=True)
class _Pending:
    work: float
    since: float
    hidden: bool


class Backlog:
    """dispatched, then exactly one of first_token and left, for each request id; further calls do nothing.

    in_flight: requests not yet ended. decoding: those of them that are past their first token.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Pending] = {}  # in order of dispatch
        self._decoding: set[int] = set()
        self._sum = 0.0
        self._produced = float("-inf")
        self._mean = 0.0
        self._scraped: tuple[int, float] = (0, float("-inf"))

    def __repr__(self) -> str:
        return f"<Backlog waiting={len(self._waiting)} decoding={self.decoding} work={self._sum:.3f}s>"

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def decoding(self) -> int:
        return len(self._decoding)

    def dispatched(self, request: int, work: float, now: float, *, hidden: bool = False) -> bool:
        """work: estimated seconds until its first token, were it alone. hidden: its first token will not be
        seen (the answer is not a stream). True: it found the backend empty, so its time to first token
        measures the prefill rate.
        """
        alone = not self.in_flight
        self._waiting[request] = _Pending(work, now, hidden)
        self._sum += work
        self._mean += (work - self._mean) * (GAIN if self._mean else 1)
        return alone

    def first_token(self, request: int, now: float) -> None:
        """By id: first tokens need not come in the order of dispatch."""
        if self._remove(request):
            self._decoding.add(request)
            self._produced = max(self._produced, now)

    def left(self, request: int) -> None:
        """Answered to the end, cancelled, failed or timed out. No first token of it counts from here on."""
        self._remove(request)
        self._decoding.discard(request)

    def scraped(self, waiting: int, now: float) -> None:
        """What the backend itself reports as its queue."""
        self._scraped = waiting, now

    def wait(self, now: float) -> float:
        """Seconds of work ahead of a request that would be sent now."""
        if not self._waiting and not self._scraped[0]:
            return 0.0
        self._expire(now)
        waiting, at = self._scraped
        others = max(0, waiting - len(self._waiting)) * self._mean if now - at <= STALE else 0.0
        if not self._waiting:
            return others
        head = next(iter(self._waiting.values()))
        received = max(0.0, now - max(self._produced, head.since))
        return max(0.0, self._sum - min(head.work, received)) + others

    def _expire(self, now: float) -> None:
        """A hidden first token is taken to have come once the head has waited twice its estimate."""
        while self._waiting:
            request, head = next(iter(self._waiting.items()))
            begun = max(self._produced, head.since)
            if not head.hidden or now < begun + 2 * head.work:
                return
            self.first_token(request, begun + head.work)

    def _remove(self, request: int) -> bool:
        pending = self._waiting.pop(request, None)
        if pending is None:
            return False
        self._sum = self._sum - pending.work if self._waiting else 0.0  # no drift of floats across idle times
        return True


class PrefillRate:
    """What a backend needs per uncached token, measured on requests that had it to themselves.

    seconds: per token. overhead: seconds per request whatever its length.
    """

    LEAST = 256  # uncached tokens below which the overhead drowns the figure

    def __init__(self, seconds: float = 0.0002, overhead: float = 0.03) -> None:
        self.seconds = seconds
        self.overhead = overhead

    def __repr__(self) -> str:
        return f"<PrefillRate {self.seconds * 1000:.3f} ms/token>"

    def work(self, uncached: float) -> float:
        return self.overhead + self.seconds * uncached

    def observed(self, uncached: float, elapsed: float) -> None:
        """elapsed: seconds to first token of a lone, streamed request."""
        if uncached >= self.LEAST and elapsed > self.overhead:
            self.seconds += GAIN * ((elapsed - self.overhead) / uncached - self.seconds)


class BytesPerToken:
    """How many bytes of rendered prompt make a token, learned for each model from the usage it reports."""

    def __init__(self, value: float = 4.0) -> None:
        self.value = value

    def observed(self, size: int, tokens: int) -> None:
        """size: bytes of the rendered prompt. tokens: `usage.prompt_tokens`, cached ones included."""
        if size and tokens > 0:
            # Images and audio have tokens without text: a ratio outside of what text can have is not learned.
            self.value += GAIN * (min(16.0, max(0.5, size / tokens)) - self.value)

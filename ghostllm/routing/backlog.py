"""The work that waits on one backend: prefill seconds of what was sent there and has no first token yet.

Counted by the gateway itself, so exact for its own traffic and without lag. A queue length scraped once a
second sends whole bursts to the same backend; it serves only to correct for what other clients do.

Every first token brings the estimate back to the truth (resync): errors of the prefill rate do not add up.
"""

from __future__ import annotations

from ghostllm.routing.catalog import Target

STALE = 3.0
"""Seconds after which a scraped queue length says nothing any more."""

GAIN = 0.1
"""Weight of the newest value in the moving averages."""


Pending = tuple[float, float, bool]
"""Of a request without its first token: work, since when, and whether that token will not be seen."""


class Backlog:
    """dispatched, then exactly one of first_token and left, for each request id; further calls do nothing.

    in_flight: requests not yet ended. decoding: those of them that are past their first token. pending: those
    before it, in order of dispatch; work: seconds of theirs, as estimated. others: how many the backend last
    said that it has in its queue, ours included. While there are neither, `wait` is 0.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self._decoding: set[int] = set()
        self.work = 0.0
        self._produced = float("-inf")
        self._mean = 0.0
        self.others = 0
        self._scraped = float("-inf")

    def __repr__(self) -> str:
        return f"<Backlog waiting={len(self.pending)} decoding={self.decoding} work={self.work:.3f}s>"

    @property
    def in_flight(self) -> int:
        return len(self.pending) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self.pending)

    @property
    def decoding(self) -> int:
        return len(self._decoding)

    def dispatched(self, request: int, work: float, now: float, hidden: bool = False) -> bool:
        """work: estimated seconds until its first token, were it alone. hidden: its first token will not be
        seen (the answer is not a stream). True: it found the backend empty, so its time to first token
        measures the prefill rate.
        """
        waiting = self.pending
        alone = not waiting and not self._decoding
        waiting[request] = work, now, hidden
        self.work += work
        mean = self._mean
        self._mean = mean + (work - mean) * GAIN if mean else work
        return alone

    def first_token(self, request: int, now: float) -> None:
        """By id: first tokens need not come in the order of dispatch."""
        if request in self.pending:
            self.left(request, now)
            self._decoding.add(request)

    def left(self, request: int, answered: float | None = None) -> None:
        """Answered to the end, cancelled, failed or timed out. No first token of it counts from here on.
        answered: when, if it was answered and its first token has not been told.
        """
        pending = self.pending.pop(request, None)
        if pending is None:
            self._decoding.discard(request)
            return
        self.work = self.work - pending[0] if self.pending else 0.0  # no drift of floats across idle times
        if answered is not None and answered > self._produced:
            self._produced = answered

    def scraped(self, waiting: int, now: float) -> None:
        """What the backend itself reports as its queue."""
        self.others = waiting
        self._scraped = now

    def wait(self, now: float) -> float:
        """Seconds of work ahead of a request that would be sent now."""
        pending = self.pending
        if not pending and not self.others:
            return 0.0
        self._expire(now)
        others = 0.0
        if self.others and now - self._scraped <= STALE:
            others = max(0, self.others - len(pending)) * self._mean
        if not pending:
            return others
        work, since, _ = next(iter(pending.values()))
        received = now - (self._produced if self._produced > since else since)
        if received > 0.0:
            return max(0.0, self.work - min(work, received)) + others
        return self.work + others

    def _expire(self, now: float) -> None:
        """A hidden first token is taken to have come once the head has waited twice its estimate."""
        while self.pending:
            request, (work, since, hidden) = next(iter(self.pending.items()))
            begun = max(self._produced, since)
            if not hidden or now < begun + 2 * work:
                return
            self.first_token(request, begun + work)


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


class Seat:
    """A target with what is measured of it: looked up once, then kept by who asks about it often. A backend
    that is dropped makes it worthless.
    """

    __slots__ = ("backlog", "rate", "target")

    def __init__(self, target: Target, backlog: Backlog, rate: PrefillRate) -> None:
        self.target = target
        self.backlog = backlog
        self.rate = rate

    def __repr__(self) -> str:
        return f"<Seat {self.target.backend} {self.backlog!r} {self.rate!r}>"

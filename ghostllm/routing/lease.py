"""One attempt's hold on a backend: its slot, its ticket at the breaker, its entry in the ledger."""

from __future__ import annotations

from ghostllm.errors import GhostError, UpstreamConnectError
from ghostllm.message import Usage
from ghostllm.routing import health
from ghostllm.routing.breaker import Ticket, Verdict, judge
from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt, Sent
from ghostllm.routing.state import BackendState
from ghostllm.routing.upstream import Upstream


class Lease:
    """Ended exactly once, however the attempt ends. retry: it was paid for from the backend's budget. number:
    of its slot, 0 where there is no queue. loading: the model was not in the backend's memory.
    """

    __slots__ = (
        "_ledger", "_metered", "_over", "_prompt", "_sent", "loading", "number", "retry", "started", "state",
        "target", "ticket", "upstream",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, state: BackendState, target: Target, ticket: Ticket, now: float
    ) -> None:
        self.upstream = upstream
        self.state = state
        self.target = target
        self.ticket = ticket
        self.started = now
        self.number = 0
        self.retry = False
        self.loading = False
        self._metered = False
        self._ledger: Ledger | None = None
        self._sent: Sent | None = None
        self._prompt: Prompt | None = None
        self._over = False
        upstream.in_flight += 1

    def __repr__(self) -> str:
        return f"<Lease of {self.target.backend} {'over' if self._over else 'held'}>"

    def dispatched(self, ledger: Ledger, prompt: Prompt, now: float, *, hidden: bool) -> None:
        """The backend is about to get the prompt; see `Ledger.dispatched`."""
        self._ledger = ledger
        self._prompt = prompt
        self._sent = ledger.dispatched(self.target, prompt, now, hidden=hidden)

    def metered(self) -> None:
        """Its time to first token is to be told to the backend's meter."""
        self._metered = True

    def first_token(self, now: float) -> None:
        if self._sent is not None and self._ledger is not None:
            if self.loading:
                self._sent.alone = False  # the time that loading took says nothing of the prefill's
            self._ledger.first_token(self._sent, now)
        if self._metered:
            self.state.meter.observed(now - self.started, now)
        if self.loading:
            self.loading = False
            before = self.state.loading
            seconds = now - self.started
            self.state.loading = seconds if before is None else before + 0.3 * (seconds - before)

    def end(
        self,
        error: GhostError | None,
        now: float,
        *,
        cancelled: bool = False,
        usage: Usage | None = None,
    ) -> None:
        """error: what ended it; None: it answered in full, or the client left (cancelled). usage: what the
        backend said, of a full answer.
        """
        if self._over:
            return
        self._over = True
        state = self.state
        self.upstream.in_flight -= 1
        if error is None and not cancelled:
            verdict = Verdict.SUCCESS
            if state.health.state is not health.State.UP and state.health.answered(now):
                self._forget_cache()
        else:
            verdict = judge(error, cancelled=cancelled)
        if verdict is Verdict.FAILURE and self._metered:
            state.meter.failed(now - self.started, now)
        state.breaker.settle(
            self.ticket, verdict, now, retry_after=None if error is None else error.retry_after
        )
        if self.retry and (verdict is Verdict.SUCCESS or cancelled):
            state.budget.refund()
        if self._sent is not None and self._ledger is not None:
            self._ledger.ended(self._sent, unsent=isinstance(error, UpstreamConnectError))
            if usage is not None and usage.prompt and not usage.estimated and self._prompt is not None:
                self._ledger.measured(self._prompt, usage.prompt)
        if self.number and state.gate is not None:
            state.gate.release(self.number, now)

    def _forget_cache(self) -> None:
        if self._ledger is not None:
            self._ledger.index.forget(self.target.backend)

"""One attempt's hold on a backend: its slot, its ticket at the breaker, its entry in the ledger."""

from __future__ import annotations

from ghostllm.errors import GhostError, UpstreamConnectError
from ghostllm.message import Usage
from ghostllm.routing.breaker import Ticket, Verdict, judge
from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt, Sent
from ghostllm.routing.state import BackendState
from ghostllm.routing.upstream import Upstream


class Lease:
    """Ended exactly once, however the attempt ends. retry: it was paid for from the backend's budget. number:
    of its slot, 0 where there is no queue. awaited: somebody wants to know of its first token. loading: the
    model was not in the backend's memory. sent: where the backend's work is counted, its entry there. prompt:
    where something may be learned from its length.
    """

    number = 0
    retry = False
    loading = False
    _over = False
    awaited = False
    _metered = False
    ledger: Ledger | None = None
    sent: Sent | None = None
    prompt: Prompt | None = None

    def __init__(
        self, upstream: Upstream, state: BackendState, target: Target, ticket: Ticket, now: float
    ) -> None:
        self.upstream = upstream
        self.state = state
        self.target = target
        self.ticket = ticket
        self.started = now
        upstream.in_flight += 1

    def __repr__(self) -> str:
        return f"<Lease of {self.target.backend} {'over' if self._over else 'held'}>"

    def metered(self) -> None:
        """Its time to first token is to be told to the backend's meter."""
        self._metered = self.awaited = True

    def first_token(self, now: float) -> None:
        if self.sent is not None and self.ledger is not None:
            if self.loading:
                self.sent.alone = False  # the time that loading took says nothing of the prefill's
            self.ledger.first_token(self.sent, now)
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
        answered = None
        if error is None and not cancelled:
            answered = now
            state.breaker.succeeded(self.ticket, now)
            if not state.health.up and state.health.answered(now):
                self._forget_cache()
            if self.retry:
                state.budget.refund()
        else:
            self._unanswered(error, now, cancelled)
        ledger, sent = self.ledger, self.sent
        if ledger is not None and sent is not None:
            ledger.ended(sent, answered=answered, unsent=isinstance(error, UpstreamConnectError))
            prompt = self.prompt
            if prompt is not None and usage is not None and usage.prompt and not usage.estimated:
                ledger.measured(prompt, usage.prompt)
        if self.number and state.gate is not None:
            state.gate.release(self.number, now)

    def _unanswered(self, error: GhostError | None, now: float, cancelled: bool) -> None:
        state = self.state
        verdict = judge(error, cancelled=cancelled)
        if verdict is Verdict.FAILURE and self._metered:
            state.meter.failed(now - self.started, now)
        state.breaker.settle(
            self.ticket, verdict, now, retry_after=None if error is None else error.retry_after
        )
        if self.retry and cancelled:
            state.budget.refund()

    def _forget_cache(self) -> None:
        if self.ledger is not None:
            self.ledger.index.forget(self.target.backend)

"""What a client is told who has used up what it may use."""

from __future__ import annotations

from ghostllm.errors import GhostError
from ghostllm.policy.subjects import Subject

NO_RETRY = b"x-should-retry: false\r\n"
"""The header line by which the SDKs of OpenAI and Anthropic know that trying again would not help."""


class RateLimited(GhostError):
    """limit: "requests", "tokens" or "concurrent". most: what it is set to. retry_after: when this very
    request would be admitted, if nobody else comes; None where nobody knows, and where it never would be.
    lines: of the answer's head.
    """

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        subject: Subject,
        limit: str,
        most: int,
        retry_after: float | None = None,
        lines: bytes = b"",
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.subject = subject
        self.limit = limit
        self.most = most
        self.lines = lines


class BudgetExceeded(GhostError):
    """period: "day" or "month". spent, held, most: millionths of the currency: what has been spent, what is
    reserved for requests in flight, and the budget. retry_after: when the period ends.
    """

    status = 429
    code = "insufficient_quota"

    def __init__(
        self,
        message: str,
        *,
        subject: Subject,
        period: str,
        spent: int,
        held: int,
        most: int,
        retry_after: float,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.subject = subject
        self.period = period
        self.spent = spent
        self.held = held
        self.most = most
        self.lines = NO_RETRY

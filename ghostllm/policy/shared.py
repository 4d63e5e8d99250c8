"""What the books need of the other nodes, where there are several: each asks here before it admits a request
that has been admitted by its own books.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ghostllm.policy.budgets import Share
from ghostllm.policy.limits import Claim


class SharedRates(Protocol):
    """One admitted request. lines: of the answer's head, `x-ratelimit-*` of the subject that has least left
    on all nodes.
    """

    @property
    def lines(self) -> bytes: ...

    def settle(self, used: int) -> None:
        """used: tokens. Once; does not wait."""


class SharedMoney(Protocol):
    """One admitted request."""

    def settle(self, cost: int) -> None:
        """cost: millionths of the currency. Once; does not wait."""


class SharedBooks(Protocol):
    """None: the others cannot be asked, and each node goes by its own books. Raises SharedStateAway where
    nothing is served without them.
    """

    async def rates(self, claims: Sequence[Claim], tokens: int) -> SharedRates | None:
        """Raises RateLimited."""

    async def money(self, shares: Sequence[Share], estimate: int, now: float) -> SharedMoney | None:
        """now: seconds since 1970. Raises BudgetExceeded."""

    def owe(self, shares: Sequence[Share], cost: int, now: float) -> None:
        """What was spent while they could not be asked: they are told as soon as they can."""

"""What a request costs, in whole millionths of the currency: sums of them are exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ghostllm.config.money import Price
from ghostllm.message import Usage

MICRO = 1_000_000  # of a unit of currency; and the tokens that a price is for
MOST_COST = 10**13  # ten million units: what a backend reports may be nonsense, and must not end all sums


def micros(amount: float) -> int:
    """An amount of the configuration, in millionths."""
    return round(amount * MICRO)


def shown(amount: int) -> str:
    """Millionths as a decimal number: `12.50`, `0.000004`."""
    units, rest = divmod(abs(amount), MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{units}.{digits}"


class Rates(NamedTuple):
    """Millionths of the currency for a million tokens."""

    input: int
    output: int
    cached: int
    cache_write: int

    @classmethod
    def of(cls, price: Price) -> Rates:
        plain = micros(price.input)
        return cls(
            plain,
            micros(price.output),
            plain if price.cached is None else micros(price.cached),
            plain if price.cache_write is None else micros(price.cache_write),
        )

    def cost(self, usage: Usage) -> int | None:
        """Rounded to the nearest millionth. None: nobody said how many tokens it took."""
        if usage.prompt is None and usage.completion is None:
            return None
        cached, written = max(0, usage.cached or 0), max(0, usage.cache_write or 0)
        plain = max(0, (usage.prompt or 0) - cached - written)
        total = (
            plain * self.input
            + max(0, usage.completion or 0) * self.output
            + cached * self.cached
            + written * self.cache_write
        )
        return min(MOST_COST, (total + MICRO // 2) // MICRO)

    def estimate(self, prompt: int, completion: int) -> int:
        """What it may come to, rounded up: nothing of the prompt is taken to be cached."""
        dearest = max(self.input, self.cache_write)
        return min(MOST_COST, -(-(prompt * dearest + completion * self.output) // MICRO))


class Prices:
    """models: of each that has a price. A model without one costs nothing, and its cost is None."""

    def __init__(self, models: Mapping[str, Price]) -> None:
        self._rates = {name: Rates.of(price) for name, price in models.items()}

    def __repr__(self) -> str:
        return f"<Prices of {len(self._rates)}>"

    def cost(self, model: str, usage: Usage) -> int | None:
        """model: the one that answered. None: it has no price, or nobody said how many tokens it took."""
        rates = self._rates.get(model)
        return None if rates is None else rates.cost(usage)

    def estimate(self, model: str, prompt: int, completion: int) -> int:
        """Tokens of the prompt, and the most that the answer may have."""
        rates = self._rates.get(model)
        return 0 if rates is None else rates.estimate(prompt, completion)

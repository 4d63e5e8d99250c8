"""What a request costs, in whole millionths of the currency: sums of them are exact."""

from __future__ import annotations

from collections.abc import Mapping

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


class Rates:
    """Millionths of the currency for a million tokens."""

    __slots__ = ("cache_write", "cached", "dearest", "input", "output")

    def __init__(self, price: Price) -> None:
        self.input = micros(price.input)
        self.output = micros(price.output)
        self.cached = self.input if price.cached is None else micros(price.cached)
        self.cache_write = self.input if price.cache_write is None else micros(price.cache_write)
        self.dearest = max(self.input, self.cache_write)

    def __repr__(self) -> str:
        return f"<Rates {self.input} {self.output} {self.cached} {self.cache_write}>"

    def cost(self, usage: Usage) -> int | None:
        """Rounded to the nearest millionth. None: nobody said how many tokens it took."""
        prompt, completion = usage.prompt, usage.completion
        if prompt is None and completion is None:
            return None
        plain, total = prompt or 0, MICRO // 2
        if usage.cached or usage.cache_write:
            cached, written = max(0, usage.cached or 0), max(0, usage.cache_write or 0)
            plain -= cached + written
            total += cached * self.cached + written * self.cache_write
        if plain > 0:
            total += plain * self.input
        if completion is not None and completion > 0:
            total += completion * self.output
        cost = total // MICRO
        return cost if cost < MOST_COST else MOST_COST

    def estimate(self, prompt: int, completion: int) -> int:
        """What it may come to, rounded up: nothing of the prompt is taken to be cached."""
        cost = -(-(prompt * self.dearest + completion * self.output) // MICRO)
        return cost if cost < MOST_COST else MOST_COST


class Prices:
    """models: of each that has a price. A model without one costs nothing, and its cost is None."""

    def __init__(self, models: Mapping[str, Price]) -> None:
        self._rates = {name: Rates(price) for name, price in models.items()}

    def __repr__(self) -> str:
        return f"<Prices of {len(self._rates)}>"

    def of(self, model: str) -> Rates | None:
        return self._rates.get(model)

    def cost(self, model: str, usage: Usage) -> int | None:
        """model: the one that answered. None: it has no price, or nobody said how many tokens it took."""
        rates = self._rates.get(model)
        return None if rates is None else rates.cost(usage)

"""What a value must satisfy beyond its type: markers in a field's `Annotated[...]`, next to its meaning.

The loader checks them and `ghostllm schema` prints them, so a limit is written once, where the field is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True, frozen=True)
class Range:
    """Bounds of a number, both inclusive. None means no bound on that side."""

    low: float | None = None
    high: float | None = None

    def fault(self, value: float) -> str | None:
        if self.low is not None and value < self.low:
            return f"must be at least {self.low:g}"
        if self.high is not None and value > self.high:
            return f"must be at most {self.high:g}"
        return None


@dataclass(slots=True, frozen=True)
class Pattern:
    """A string that must match `regex` wholly (syntax of Python and ECMA 262); `says` is that in words."""

    regex: str
    says: str

    def fault(self, value: str) -> str | None:
        return None if re.fullmatch(self.regex, value) else f"must be {self.says}"


@dataclass(slots=True, frozen=True)
class Count:
    """The least number of elements of a list."""

    low: int

    def fault(self, size: int) -> str | None:
        return f"needs at least {self.low} element{'s' if self.low != 1 else ''}" if size < self.low else None


@dataclass(slots=True, frozen=True)
class Form:
    """A string with a syntax of its own, checked by `ghostllm.config.forms`; "file" exists or is empty."""

    name: Literal["url", "listen", "origin", "file", "network", "reach"]


@dataclass(slots=True, frozen=True)
class SecretText:
    """A plain string that, like a Secret, may be `env:NAME` or `file:PATH` and is not to be shown."""


@dataclass(slots=True, frozen=True)
class Hidden:
    """No secret by itself, but better not shown: what it stands for could be guessed from it."""

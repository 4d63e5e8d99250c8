"""The words and types that several sections of the schema share."""

from __future__ import annotations

import hmac
from typing import Annotated, Literal

from ghostllm.config.constraints import Pattern, Range

Kind = Literal[
    "ollama", "openai", "anthropic", "vllm", "llamacpp", "transformers", "lmstudio", "gguf", "auto"
]  # fmt: skip
Balance = Literal["smart", "failover", "round_robin", "weighted", "least_requests", "latency", "sticky"]

Seconds = Annotated[float, Range(0)]
Size = Annotated[int, Range(1)]
Number = Annotated[int, Range(0)]
Weight = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Name = Annotated[str, Pattern("[!-~]+", "a name of printable ASCII characters without spaces")]
ModelName = Annotated[str, Pattern(r"[^\s\x00-\x1f\x7f]+", "a name without spaces and control characters")]


class Secret:
    """A value that is used and never shown: repr, str and format give its origin or stars.

    origin: where it was read (`env:NAME`, `file:PATH`, or "" for a literal), which may be shown.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "") -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.origin or '***'})"

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "replace"), other._value.encode("utf-8", "replace")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

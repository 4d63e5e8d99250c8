"""What a dialect offers for translation. Apart from what translates, which is loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ghostllm.message import Call, Usage

if TYPE_CHECKING:
    from ghostllm.api.translation import Neutral, Writer

Mint = Callable[[str], str]
"""Makes a new id that begins with its argument."""


class Dialect(Protocol):
    """What a front door offers, so that a backend of any other dialect can serve its calls."""

    def neutral(self, call: Call) -> Neutral:
        """The call in the neutral form. Raises RequestError, UnsupportedParameter, UnsupportedValue naming
        the member.
        """

    def writer(self, call: Call, created: int, mint: Mint) -> Writer:
        """Writes the answer to one chat or completions call. created: seconds since 1970."""

    def write_embeddings(self, call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
        """The whole answer to an embeddings call."""

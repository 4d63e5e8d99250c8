"""Ids that the gateway makes up for answers, calls and items: unguessable, and never met twice."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

BYTES = 12  # of each id
DRAWN = 64  # ids at a time: to ask the system for so many costs what it costs for one


def _draw() -> Iterator[str]:
    while True:
        digits = secrets.token_hex(BYTES * DRAWN)
        for at in range(0, len(digits), 2 * BYTES):
            yield digits[at : at + 2 * BYTES]


_drawn = _draw()


def mint(prefix: str) -> str:
    """A new id that begins with `prefix`. On the event loop's thread only."""
    return prefix + next(_drawn)

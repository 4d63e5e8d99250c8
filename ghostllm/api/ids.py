"""Ids that the gateway makes up for answers, calls and items: unguessable, and never met twice."""

from __future__ import annotations

import secrets


def mint(prefix: str) -> str:
    """A new id that begins with `prefix`."""
    return prefix + secrets.token_hex(12)

"""Keys that cannot change while the gateway runs."""

from __future__ import annotations

import dataclasses
from typing import Any

from ghostllm.config.schema import Config
from ghostllm.config.shown import Change, changes

RESTART: list[tuple[str, ...]] = [
    ("state", "file"), ("state", "key_secret"), ("admin", "listen"), ("cache", "backend"), ("redis",),
]  # fmt: skip
"""Their paths."""


def pinned(old: Config, new: Config) -> tuple[Config, list[Change]]:
    """`new` with the values of `old` where they cannot change, and the changes that were asked for there."""
    whole = new
    for path in RESTART:
        new = _with(old, new, path)
    return new, changes(new, whole)


def _with(old: Any, new: Any, path: tuple[str, ...]) -> Any:
    name, *rest = path
    value, there = getattr(old, name), getattr(new, name)
    if rest:
        value = _with(value, there, tuple(rest))
    return new if value == there else dataclasses.replace(new, **{name: value})

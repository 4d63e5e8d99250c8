"""Backends named by pattern in targets: * stands for any text, ? for any character, all else for itself."""

from __future__ import annotations

from fnmatch import fnmatchcase


def is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def backend_matches(name: str, pattern: str) -> bool:
    """Brackets are plain text: names of backends may hold them."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))

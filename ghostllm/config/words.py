"""Values written as plain words, in variables and flags: what they mean depends on the type wanted."""

from __future__ import annotations

import tomllib
from typing import Any

from ghostllm.config.tree import Raw, TooDeep, located

_BOOLEANS = {
    "true": True,
    "false": False,
    "1": True,
    "0": False,
    "yes": True,
    "no": False,
    "on": True,
    "off": False,
}


def meant(text: Raw, place: str) -> Any:
    """The text as a TOML value, else as it is."""
    try:
        data = tomllib.loads(f"v = {text}")
        return located(data["v"], {}, place) if len(data) == 1 else str(text)
    except (tomllib.TOMLDecodeError, RecursionError, TooDeep):
        return str(text)


def items(text: Raw, place: str, *, tables: bool) -> Any:
    """A list out of a variable or flag: TOML's `[...]`, or words between commas."""
    stripped = text.strip()
    if tables or (stripped.startswith("[") and isinstance(meant(Raw(stripped), place), list)):
        return meant(Raw(stripped), place)
    return [word.strip() for word in stripped.split(",") if word.strip()]


def worded(kind: Any, text: Raw) -> Any:
    """What a plain word means where `kind` is wanted; text stays text, but for quotes around it."""
    value = meant(Raw(text.strip()), "")
    if kind is str:
        return value if text.strip()[:1] in ("'", '"') and isinstance(value, str) else str(text)
    if kind is bool and text.strip().lower() in _BOOLEANS:
        return _BOOLEANS[text.strip().lower()]
    return value

"""Times as Ollama writes them."""

from __future__ import annotations

from time import gmtime

LAST_SECOND = 253_402_300_799  # the year 9999 ends; RFC 3339 has four digits for it


def stamp(seconds: int) -> str:
    """RFC 3339. A time that no calendar holds is 1970."""
    second = seconds if 0 <= seconds <= LAST_SECOND else 0
    return "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*gmtime(second)[:6])

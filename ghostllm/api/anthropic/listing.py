"""The list of models in Anthropic's shape, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from time import gmtime
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import RequestError

Entry = tuple[str, int | None, str]
"""Id, when the model was made in seconds since 1970 if that is known, owner. As the other doors have them."""

PAGE, PAGE_LIMIT = 20, 1000
"""Entries of a page if nothing is asked, and at most."""

_LAST_SECOND = 253_402_300_799  # the year 9999 ends; RFC 3339 has four digits for it


def render_models(
    models: Iterable[Entry], limit: str | None, after_id: str | None, before_id: str | None
) -> bytes:
    """`{"data", "has_more", "first_id", "last_id"}`. The page after or before an id that is not there (a
    model has gone since) is an error, so that nobody takes the list to be at its end.
    """
    entries = list(models)
    size = _size(limit)
    if after_id and before_id:
        raise RequestError("after_id and before_id exclude each other", param="before_id")
    if before_id:
        rest = entries[: _place(entries, before_id, "before_id")]
        page = rest[-size:]
    else:
        rest = entries[_place(entries, after_id, "after_id") + 1 :] if after_id else entries
        page = rest[:size]
    shown = [_model(name, created) for name, created, _ in page]
    ends = (page[0][0], page[-1][0]) if page else (None, None)
    more = len(rest) > len(page)
    return jsonx.dumps({"data": shown, "has_more": more, "first_id": ends[0], "last_id": ends[1]})


def render_model(name: str, created: int | None) -> bytes:
    return jsonx.dumps(_model(name, created))


def _model(name: str, created: int | None) -> dict[str, Any]:
    """An unknown time is 1970, as Anthropic has it; a time that no calendar holds is unknown."""
    second = created if created is not None and 0 <= created <= _LAST_SECOND else 0
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*gmtime(second)[:6]),
        "lifecycle": "active",
    }


def _size(limit: str | None) -> int:
    if limit is None or limit == "":
        return PAGE
    size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 9 else 0
    if not 1 <= size <= PAGE_LIMIT:
        raise RequestError(
            f"limit must be an integer from 1 to {PAGE_LIMIT}, not {limit[:20]!r}", param="limit"
        )
    return size


def _place(entries: list[Entry], name: str, param: str) -> int:
    for place, entry in enumerate(entries):
        if entry[0] == name:
            return place
    raise RequestError(f"{param} names no model of the list: {name[:200]!r}", param=param)

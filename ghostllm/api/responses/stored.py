"""What may be asked of a stored response: the items that go into the store, and the answers about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import RequestError

PAGE, PAGE_LIMIT = 20, 100
"""Items of a page if nothing is asked, and at most."""

ORDERS = ("asc", "desc")


def input_items(
    fields: Mapping[str, Any], known: Mapping[str, dict[str, Any]], mint: Callable[[str], str]
) -> list[dict[str, Any]]:
    """The input of a request that has been read, as the items to store with its response: each with an id.

    known: by id, the stored items that the input refers to. A reference to any other item is to one of the
    turns before, and adds nothing.
    """
    value = fields.get("input")
    if value is None:
        return []
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    stored = []
    for item in items:
        if item.get("type") != "item_reference":
            stored.append(_item(item, mint))
        elif item["id"] in known:
            stored.append(known[item["id"]])
    return stored


def conversation(input_items: Sequence[dict[str, Any]], response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items that a response adds to its conversation: what was said, then what was answered."""
    return [*input_items, *response["output"]]


def references(fields: Mapping[str, Any]) -> list[str]:
    """Ids of the stored items that the input of a request means by `item_reference`."""
    items = fields.get("input")
    if not isinstance(items, list):
        return []
    return [
        item["id"]
        for item in items
        if isinstance(item, dict) and item.get("type") == "item_reference" and isinstance(item.get("id"), str)
    ]


def render_deleted(identity: str) -> bytes:
    return jsonx.dumps({"id": identity, "object": "response", "deleted": True})


def render_input_items(
    items: Sequence[Mapping[str, Any]],
    *,
    limit: str | None = None,
    after: str | None = None,
    order: str | None = None,
) -> bytes:
    """A page of the items, the newest first unless order is "asc". limit, after, order: the values of the
    query, None where it has none.

    Raises RequestError naming the one that is wrong.
    """
    if order and order not in ORDERS:
        raise RequestError(f"order must be asc or desc, not {order[:20]!r}", param="order")
    size = _size(limit)
    rows = list(items) if order == "asc" else list(items)[::-1]
    rest = rows[_place(rows, after) + 1 :] if after else rows
    page = rest[:size]
    ends = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    more = len(rest) > len(page)
    return jsonx.dumps(
        {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": more}
    )


def _item(item: Mapping[str, Any], mint: Callable[[str], str]) -> dict[str, Any]:
    """Messages are stored in their full form: clients read lists of items by `type`."""
    kind = item.get("type") or "message"
    full = {**item, "type": kind}
    if kind == "message":
        content = item.get("content")
        if isinstance(content, str):
            part = {"type": "output_text", "text": content, "annotations": []}
            if item.get("role") != "assistant":
                part = {"type": "input_text", "text": content}
            full["content"] = [part]
        full.setdefault("status", "completed")
    if not isinstance(full.get("id"), str):
        full["id"] = mint("msg_" if kind == "message" else "item_")
    return full


def _size(limit: str | None) -> int:
    if not limit:
        return PAGE
    size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 9 else 0
    if not 1 <= size <= PAGE_LIMIT:
        raise RequestError(
            f"limit must be an integer from 1 to {PAGE_LIMIT}, not {limit[:20]!r}", param="limit"
        )
    return size


def _place(rows: Sequence[Mapping[str, Any]], identity: str) -> int:
    for place, item in enumerate(rows):
        if item["id"] == identity:
            return place
    raise RequestError(f"after names no item of the list: {identity[:200]!r}", param="after")

"""What a question to the admin API asks for, and how it is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from ghostllm import jsonx
from ghostllm.errors import RequestError
from ghostllm.gateway.operate import JSON
from ghostllm.message import Exchange
from ghostllm.ports import Responder

USUAL_ROWS, MOST_ROWS = 50, 1000
LONGEST_NAME = 200


def filters(query: str, known: Sequence[str]) -> dict[str, str]:
    """Of each filter the last value. An unknown one is refused: its sender would take all for a selection."""
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise RequestError("the query has too many fields") from None
    for name in given:
        if name not in known:
            raise RequestError(
                f"no filter {name[:LONGEST_NAME]!r}; there are: {', '.join(known)}",
                param=name[:LONGEST_NAME],
            )
    return {name: values[-1] for name, values in given.items()}


def rows_of(given: Mapping[str, str]) -> int:
    """How many rows are asked for. Raises RequestError."""
    limit = given.get("limit", str(USUAL_ROWS))
    if not re.fullmatch("[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= MOST_ROWS:
        raise RequestError(f"limit is a number from 1 to {MOST_ROWS}", param="limit")
    return int(limit)


def answer(exchange: Exchange, responder: Responder, value: dict[str, Any]) -> None:
    exchange.outcome = "ok"
    responder.respond(200, JSON, jsonx.dumps(value))

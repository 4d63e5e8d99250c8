"""What the dialects' modules of kept answers share: the marks for what is new each time that one is given,
and the reading of streams that are there as a whole.
"""

from __future__ import annotations

import secrets
from typing import Any

from ghostllm import jsonx
from ghostllm.api.openai import events

_SECRET = secrets.token_hex(16)  # no model can know it, so no answer has a text like these

IDENTITY = f"ghostllm:{_SECRET}:id"
"""Stands where the id of the answer goes."""

CREATED = f"ghostllm:{_SECRET}:created"
"""Stands where its time goes."""


class Unclear(ValueError):
    """An answer that has no end, or that can be read in more than one way: it is not kept."""


def values(stream: bytes) -> tuple[list[Any], bool]:
    """What the events of a stream carry, up to OpenAI's `[DONE]`, and whether that has come. Raises
    ValueError for what is no JSON, UpstreamProtocolError for what is no event.

    Once there is a whole answer, its events can be parsed all at once.
    """
    payloads: list[bytes] = []
    over = False
    plain = b"\r" not in stream
    for event in stream.split(b"\n\n")[:-1] if plain else events.split(stream):
        at = event.find(b"data: ")
        if plain and (at == 0 or (at > 0 and event[at - 1] == NEWLINE)) and event.find(b"\n", at) < 0:
            payload = event[at + 6 :]
        else:
            found = events.data_of(event)
            if found is None:
                continue
            payload = found
        if payload.strip() == events.DONE:
            over = True
            break
        payloads.append(payload)
    return jsonx.loads(b"[%b]" % b",".join(payloads)), over


NEWLINE = 0x0A

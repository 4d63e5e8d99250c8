"""How many tokens a request has, without an answer: by the backend's own count where it has one, else by an
estimate that is marked as one.
"""

from __future__ import annotations

import time
from typing import Protocol

from ghostllm import jsonx
from ghostllm.api.doors import FrontDoor
from ghostllm.errors import (
    GhostError,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamAnswered,
    UpstreamProtocolError,
)
from ghostllm.gateway.generate import Generator, read_call
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange
from ghostllm.ports import Responder, Work

ESTIMATED = ((b"x-ghostllm-estimated", b"true"),)


class CountingDoor(FrontDoor, Protocol):
    """A door that counts: `read_call("count_tokens", …)` gives a call of that operation."""

    def render_count(self, tokens: int) -> bytes: ...


def begin(
    generator: Generator, snapshot: Snapshot, door: CountingDoor, exchange: Exchange, responder: Responder
) -> Work:
    """Raises GhostError for the client."""
    exchange.call = read_call(snapshot, door, "count_tokens", exchange.request)
    return generator.once_booked(
        snapshot, exchange, responder, lambda: _begin(generator, snapshot, door, exchange, responder)
    )


def _begin(
    generator: Generator, snapshot: Snapshot, door: CountingDoor, exchange: Exchange, responder: Responder
) -> Work:
    counting = Counting(generator, snapshot, door, exchange, responder)
    counting.door = door
    counting.start()
    return counting


def _cannot_count(error: GhostError) -> bool:
    """The backend does not count at all, or its version does not yet: no failure that a client should see."""
    if isinstance(error, UpstreamAnswered):
        return error.upstream_status in (404, 405, 501)
    return isinstance(error, (UnsupportedParameter, UnsupportedValue, UpstreamProtocolError))


class Counting(Generation):
    door: CountingDoor

    def _deliver(self, body: bytes) -> None:
        try:
            counted = jsonx.loads(body)["input_tokens"]
        except (jsonx.DecodeError, KeyError, TypeError):
            counted = None
        if type(counted) is not int:
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} answered without a count")
        self._succeed(time.monotonic())
        self._responder.respond(200, self.door.WHOLE_HEADERS, self.door.render_count(counted))

    def _give_up(self, error: GhostError) -> None:
        if not _cannot_count(error):
            super()._give_up(error)
            return
        from ghostllm.api.canonical import Conversation  # here: see api.openai.door
        from ghostllm.api.estimate_prompt import estimate_tokens

        asked = self.door.neutral(self._call)
        assert isinstance(asked, Conversation)
        self._exchange.outcome = "ok"
        self._finish("", time.monotonic())
        count = self.door.render_count(estimate_tokens(asked))
        self._responder.respond(200, self.door.WHOLE_HEADERS + ESTIMATED, count)

"""OpenAI's Responses: generations that know the turns before, and the responses that are kept."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

from ghostllm.api.ids import mint
from ghostllm.api.responses import door, stored
from ghostllm.api.responses.door import ResponsesCall
from ghostllm.errors import MethodNotAllowed, NotFound, RequestError, UnsupportedParameter
from ghostllm.gateway.counting import Counting
from ghostllm.gateway.generate import Generator, read_call
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange
from ghostllm.ports import Responder, Work
from ghostllm.state.responses import ResponseStore

PATH = "/v1/responses/"

KEPT = ("completed", "incomplete")
"""Only what the next turn can build on: a failed response may end inside a tool call."""


class Responses:
    """Handles the routes of the API. store: what is remembered."""

    def __init__(self, generator: Generator, store: ResponseStore) -> None:
        self._generator = generator
        self._store = store

    def create(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
        """Raises GhostError for the client."""
        exchange.call = read_call(snapshot, door, "responses", exchange.request)
        return self._generator.once_booked(
            snapshot, exchange, responder, lambda: self._create(snapshot, exchange, responder)
        )

    def _create(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
        generation = ResponsesGeneration(self._generator, snapshot, door, exchange, responder)
        generation.store = self._store
        generation.start()
        return generation

    def count(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
        exchange.call = read_call(snapshot, door, "input_tokens", exchange.request)
        return self._generator.once_booked(
            snapshot, exchange, responder, lambda: self._count(snapshot, exchange, responder)
        )

    def _count(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
        generation = ResponsesCounting(self._generator, snapshot, door, exchange, responder)
        generation.door = door
        generation.store = self._store
        generation.start()
        return generation

    def get(self, exchange: Exchange, responder: Responder) -> Work:
        """`/{id}` and `/{id}/input_items`."""
        identity, part = _parts(exchange)
        if part not in ("", "input_items"):
            raise _elsewhere(exchange)
        query = {name: values[-1] for name, values in parse_qs(exchange.request.query).items()}
        if query.get("stream") == "true":
            raise UnsupportedParameter("a stored response is not streamed again", param="stream")
        return responder.run(self._get(exchange, responder, identity, query if part else None))

    def delete(self, exchange: Exchange, responder: Responder) -> Work:
        identity, part = _parts(exchange)
        if part:
            raise _elsewhere(exchange)
        return responder.run(self._delete(exchange, responder, identity))

    def post(self, exchange: Exchange, responder: Responder) -> Work:
        """`/{id}/cancel`."""
        identity, part = _parts(exchange)
        if part == "":
            raise MethodNotAllowed(f"{PATH}{{id}} takes DELETE, GET, not POST", allow="DELETE, GET")
        if part != "cancel":
            raise _elsewhere(exchange)
        return responder.run(self._cancel(exchange, identity))

    async def _get(
        self, exchange: Exchange, responder: Responder, identity: str, page: dict[str, str] | None
    ) -> None:
        found = await self._store.get(identity, exchange.identity.key)
        if page is None:
            body = found.body
        else:
            asked = {name: page.get(name) for name in ("limit", "after", "order")}
            body = stored.render_input_items(found.input_items(), **asked)
        _answer(exchange, responder, body)

    async def _delete(self, exchange: Exchange, responder: Responder, identity: str) -> None:
        await self._store.delete(identity, exchange.identity.key)
        _answer(exchange, responder, stored.render_deleted(identity))

    async def _cancel(self, exchange: Exchange, identity: str) -> None:
        await self._store.get(identity, exchange.identity.key)
        raise RequestError("only responses created with background=true can be cancelled: none is here")


def _parts(exchange: Exchange) -> tuple[str, str]:
    identity, _, part = exchange.request.path.removeprefix(PATH).partition("/")
    return identity, part


def _elsewhere(exchange: Exchange) -> NotFound:
    return NotFound(f"no such path: {exchange.request.path[:200]}")


def _answer(exchange: Exchange, responder: Responder, body: bytes) -> None:
    exchange.outcome = "ok"
    responder.respond(200, door.WHOLE_HEADERS, body)


async def _recall(call: ResponsesCall, store: ResponseStore, key: str) -> None:
    """What was said before. Raises RequestError for an id that is not known to this key."""
    if call.previous_response_id is not None:
        call.previous = await store.history(call.previous_response_id, key)
    if ids := stored.references(call.fields):
        call.references = await store.items(ids, key)


def _refers(call: ResponsesCall) -> bool:
    return call.previous_response_id is not None or bool(stored.references(call.fields))


class ResponsesGeneration(Generation):
    store: ResponseStore

    def start(self) -> None:
        call = self._call
        assert isinstance(call, ResponsesCall)
        if _refers(call):
            self._wait(self._after(_recall(call, self.store, self._key)))
        else:
            super().start()

    @property
    def _key(self) -> str:
        return self._exchange.identity.key

    async def _after(self, recalled: Coroutine[Any, Any, None]) -> None:
        await recalled
        self._waiting = None
        Generation.start(self)

    def _succeed(self, now: float) -> None:
        self._remember()
        super()._succeed(now)

    def _give(self, out: bytes) -> None:
        self._remember()  # it has an id of its own, which the next turn may name
        super()._give(out)

    def _remember(self) -> None:
        call = self._call
        assert isinstance(call, ResponsesCall)
        if call.store and call.response is not None and call.response["status"] in KEPT:
            items = stored.input_items(call.fields, call.references, mint)
            self.store.put(call.response, items, self._key)


class ResponsesCounting(Counting):
    __slots__ = ("store",)

    store: ResponseStore

    def start(self) -> None:
        call = self._call
        assert isinstance(call, ResponsesCall)
        if _refers(call):
            key = self._exchange.identity.key
            self._wait(self._after(_recall(call, self.store, key)))
        else:
            super().start()

    async def _after(self, recalled: Coroutine[Any, Any, None]) -> None:
        await recalled
        self._waiting = None
        Generation.start(self)

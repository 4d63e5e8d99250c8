"""Responses that clients may come back to: by `previous_response_id`, by GET and DELETE.

Every response belongs to the key that made it, and is not there for any other. The latest ones are in memory
as well, so that the next turn of a conversation costs no read.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import NotFound, RequestError
from ghostllm.state.database import Database
from ghostllm.state.schema import Component

COMPONENT = Component(
    "responses",
    (
        """
        CREATE TABLE response (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL,
            made REAL NOT NULL,
            previous TEXT,
            size INTEGER NOT NULL,
            body BLOB NOT NULL,
            input BLOB NOT NULL
        );
        CREATE INDEX response_extent ON response (number, size, made);
        CREATE TABLE response_item (
            id TEXT NOT NULL,
            response INTEGER NOT NULL REFERENCES response (number),
            PRIMARY KEY (id, response)
        ) WITHOUT ROWID;
        CREATE INDEX response_item_response ON response_item (response);
        CREATE TRIGGER response_gone AFTER DELETE ON response BEGIN
            DELETE FROM response_item WHERE response = OLD.number;
        END;
        """,
    ),
)

PURGE_PUTS = 512  # between two looks at what is too old or too much, and
PURGE_SHARE = 16  # the part of the bytes that may be put between them
PURGE_ROWS = 1000  # at a time, so that no other write waits long
MEMORY_BYTES = 64 * 1024 * 1024  # at most, where there is no file
CHAIN_LINKS = 1000
CHAIN_BYTES = 32 * 1024 * 1024
REFERENCES = 1000

_PUT = "INSERT INTO response (id, key, made, previous, size, body, input) VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_ITEMS = """
    INSERT OR IGNORE INTO response_item
    SELECT value, number FROM response, json_each(?) WHERE response.id = ?
"""
_GET = "SELECT made, previous, body, input FROM response WHERE id = ? AND key = ? AND made >= ?"
_DELETE = "DELETE FROM response WHERE id = ? AND key = ?"
_ITEMS = """
    SELECT DISTINCT response.id FROM json_each(?) AS asked
    JOIN response_item ON response_item.id = asked.value JOIN response ON number = response
    WHERE response.key = ? AND made >= ?
"""
_PURGE = """
    DELETE FROM response WHERE number IN (
        SELECT number FROM (
            SELECT number, made, sum(size) OVER newest AS total, row_number() OVER newest AS place
            FROM response WINDOW newest AS (ORDER BY number DESC)
        ) WHERE made < ? OR total > ? OR place > ? ORDER BY number LIMIT ?
    )
"""
_CHAIN = """
    WITH RECURSIVE link (depth, number, previous) AS (
        SELECT 1, number, previous FROM response WHERE id = :id AND key = :key AND made >= :since
        UNION ALL
        SELECT depth + 1, response.number, response.previous FROM link JOIN response ON id = link.previous
        WHERE key = :key AND made >= :since AND depth < :links
    )
    SELECT id, link.previous, body, input FROM link JOIN response USING (number) WHERE
    (SELECT sum(length(body) + length(input)) FROM link JOIN response USING (number)) <= :bytes
    ORDER BY depth
"""


@dataclass(slots=True, frozen=True)
class Stored:
    """body: the response, as JSON. input: its own input items, as a JSON array."""

    id: str
    key: str
    made: float
    previous: str | None
    body: bytes
    input: bytes

    @property
    def size(self) -> int:
        return len(self.body) + len(self.input)

    def response(self) -> dict[str, Any]:
        response: dict[str, Any] = jsonx.loads(self.body)
        return response

    def input_items(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = jsonx.loads(self.input)
        return items


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """retention: seconds that a response is kept. rows, bytes: how much is kept, of which the oldest goes
    first. recent, recent_bytes: how much is in memory, too.
    """

    retention: float = 30 * 86_400
    rows: int = 100_000
    bytes: int = 4 * 1024 * 1024 * 1024
    recent: int = 256
    recent_bytes: int = 32 * 1024 * 1024


class ResponseStore:
    """clock: seconds since 1970."""

    def __init__(
        self, database: Database, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._limits = limits or Limits()
        self._clock = clock
        self._bytes = self._limits.bytes if database.persistent else min(self._limits.bytes, MEMORY_BYTES)
        self._recent: OrderedDict[str, Stored] = OrderedDict()
        self._recent_bytes = 0
        self._puts = self._put_bytes = 0  # since the last purge

    def __repr__(self) -> str:
        return f"<ResponseStore recent={len(self._recent)} of {self._recent_bytes} B, {self._database!r}>"

    def retain(self, seconds: float) -> None:
        """Keeps them so long from now on, those that are there as well."""
        self._limits = replace(self._limits, retention=seconds)

    def put(self, response: dict[str, Any], input_items: Sequence[dict[str, Any]], key: str) -> None:
        """input_items: those of the request itself, each with an id."""
        identity, made = response["id"], self._clock()
        previous = response.get("previous_response_id")
        body, said = jsonx.dumps(response), jsonx.dumps(list(input_items))
        stored = Stored(identity, key, made, previous, body, said)
        self._remember(stored)
        self._database.write(_PUT, (identity, key, made, previous, stored.size, body, said))
        ids = [item["id"] for item in (*input_items, *response["output"]) if "id" in item]
        self._database.write(_PUT_ITEMS, (jsonx.dumps(ids).decode(), identity))
        self._puts += 1
        self._put_bytes += stored.size
        if self._puts >= PURGE_PUTS or self._put_bytes * PURGE_SHARE > self._bytes:
            self.purge()

    def purge(self) -> None:
        """Deletes some of what is too old, or too much. For a timer, too: puts alone do not age."""
        self._puts = self._put_bytes = 0
        self._database.write(_PURGE, (self._since(), self._bytes, self._limits.rows, PURGE_ROWS))

    async def get(self, identity: str, key: str) -> Stored:
        """Raises NotFound, as for a response of another key."""
        known = self._known(identity, key)
        if known is not None:
            return known
        rows = await self._database.read(_GET, (identity, key, self._since()))
        if not rows:
            raise NotFound(f"Response with id {identity[:200]!r} not found.")
        made, previous, body, said = rows[0]
        return Stored(identity, key, made, previous, body, said)

    async def delete(self, identity: str, key: str) -> None:
        """Raises NotFound."""
        await self.get(identity, key)
        self._forget(identity)
        self._database.write(_DELETE, (identity, key))

    async def history(self, identity: str, key: str) -> list[dict[str, Any]]:
        """The items of the conversation that ended with this response, oldest first.

        Raises RequestError for a response that is not there, or whose beginnings are not, and for a
        conversation that is too long to be put together.
        """
        chain: list[tuple[bytes, bytes]] = []  # body and input, newest first
        place: str | None = identity
        while place is not None and (known := self._known(place, key)) is not None:
            chain.append((known.body, known.input))
            place = known.previous
            if len(chain) > CHAIN_LINKS:
                raise _too_long()
        if place is not None:
            place = await self._read_chain(place, key, chain)
        if place is not None:
            raise PreviousResponseNotFound(place)
        if len(chain) > CHAIN_LINKS or sum(len(body) + len(said) for body, said in chain) > CHAIN_BYTES:
            raise _too_long()
        items: list[dict[str, Any]] = []
        for body, said in reversed(chain):
            items.extend(jsonx.loads(said))
            items.extend(jsonx.loads(body)["output"])
        return items

    async def items(self, ids: Iterable[str], key: str) -> dict[str, dict[str, Any]]:
        """By id, those of the items that are stored: what `item_reference` means. Raises RequestError for
        more than anybody refers to.
        """
        wanted = set(ids)
        if len(wanted) > REFERENCES:
            raise RequestError(f"input has more than {REFERENCES} item references", param="input")
        if not wanted:
            return {}
        asked = jsonx.dumps(sorted(wanted)).decode()
        rows = await self._database.read(_ITEMS, (asked, key, self._since()))
        found: dict[str, dict[str, Any]] = {}
        for (identity,) in rows:
            stored = await self.get(identity, key)
            for item in (*stored.input_items(), *stored.response()["output"]):
                if item.get("id") in wanted:
                    found[item["id"]] = item
        return found

    async def _read_chain(self, place: str, key: str, chain: list[tuple[bytes, bytes]]) -> str | None:
        """Adds the links from `place` on; the one that is missing, None when the chain has its beginning."""
        asked = {
            "id": place,
            "key": key,
            "since": self._since(),
            "links": CHAIN_LINKS + 1,
            "bytes": CHAIN_BYTES,
        }
        rows = await self._database.read(_CHAIN, asked)
        if not rows:
            await self._found(place, key)
            raise _too_long()
        missing: str | None = place
        for _, previous, body, said in rows:
            chain.append((body, said))
            missing = previous
        return missing if len(chain) <= CHAIN_LINKS else None

    async def _found(self, identity: str, key: str) -> None:
        try:
            await self.get(identity, key)
        except NotFound:
            raise PreviousResponseNotFound(identity) from None

    # --- memory

    def _since(self) -> float:
        return self._clock() - self._limits.retention

    def _known(self, identity: str, key: str) -> Stored | None:
        stored = self._recent.get(identity)
        if stored is None or stored.key != key or stored.made < self._since():
            return None
        self._recent.move_to_end(identity)
        return stored

    def _remember(self, stored: Stored) -> None:
        self._forget(stored.id)
        self._recent[stored.id] = stored
        self._recent_bytes += stored.size
        limits = self._limits
        while len(self._recent) > limits.recent or self._recent_bytes > limits.recent_bytes:
            _, old = self._recent.popitem(last=False)
            self._recent_bytes -= old.size

    def _forget(self, identity: str) -> None:
        stored = self._recent.pop(identity, None)
        if stored is not None:
            self._recent_bytes -= stored.size


class PreviousResponseNotFound(RequestError):
    """The response that a request builds on is not there."""

    code = "previous_response_not_found"

    def __init__(self, identity: str) -> None:
        super().__init__(
            f"Previous response with id {identity[:200]!r} not found.", param="previous_response_id"
        )


def _too_long() -> RequestError:
    return RequestError(
        f"the conversation is longer than {CHAIN_LINKS} responses or {CHAIN_BYTES} bytes",
        param="previous_response_id",
    )

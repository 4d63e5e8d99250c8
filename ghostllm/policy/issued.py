"""Keys made at run time: made, rotated, revoked. Memory is changed first, so that a change holds from the
next request on; the state file follows.

A key is given out once, by `create` or `rotate`, and is nowhere after that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from ghostllm.errors import NotFound, RequestError
from ghostllm.policy.keyhash import KeyHash, make_key
from ghostllm.policy.keys import NEVER, Held, MadeKeys
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook, may_manage
from ghostllm.policy.sealed import NAME
from ghostllm.state.keys import KeyRecord, KeyTable, KeyTerms

MOST_KEYS = 100_000
USE_SECONDS = 60.0
"""A use is written down if the last one written is older than this."""
KEPT_SECONDS = 90 * 86_400.0
"""Keys that are revoked or expired are shown for this long."""
RESERVED = frozenset(("anonymous",))


class KeyExists(RequestError):
    status = 409
    code = "key_exists"


class IssuedKeys:
    """made: the keys that open the door; for the KeyRings, which share it. keyless: whether nobody could be
    known otherwise. told: called with each record that was made or changed here, for other nodes. clock:
    seconds since 1970.
    """

    def __init__(
        self, table: KeyTable, hasher: KeyHash, book: RoleBook, clock: Callable[[], float] = time.time
    ) -> None:
        self.made = MadeKeys()
        self.keyless = False
        self.told: Callable[[KeyRecord], None] = lambda record: None
        self.reserved: Collection[str] = RESERVED
        self._held = self.made.held
        self._table = table
        self._hasher = hasher
        self._mark = hasher.mark
        self._book = book
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        self._ids: dict[bytes, str] = {}  # by digest: no key has two records

    def __repr__(self) -> str:
        return f"<IssuedKeys {len(self._held)} of {len(self._records)} open>"

    async def load(self, *, purge: bool = True) -> int:
        """Takes what the state file has, for the start. How many living keys were hashed under another secret
        than this gateway's, and so open nothing. purge: forget those that ended long ago; False where another
        node may still have one that does not know of its end. Raises GhostError.
        """
        now = self._clock()
        if purge:
            self._table.purge(now - KEPT_SECONDS)
        for record in await self._table.records():
            self.apply(record)
        return sum(record.mark != self._mark and record.alive(now) for record in self._records.values())

    def records(self) -> list[KeyRecord]:
        """All of them, the oldest first, with their latest use."""
        return [self._with_use(record) for record in sorted(self._records.values(), key=_made)]

    def record(self, identity: str) -> KeyRecord | None:
        return self._records.get(identity)

    def shared(self) -> list[KeyRecord]:
        """What other nodes with the same secret can know as well."""
        return [record for record in self._records.values() if record.mark == self._mark]

    def reserve(self, names: Collection[str]) -> None:
        """names: those of the configuration, which no key made here may have."""
        self.reserved = RESERVED | set(names)

    def set_roles(self, book: RoleBook) -> None:
        """What roles mean has changed."""
        self._book = book
        for record in self._records.values():
            held = self._held.get(record.digest)
            if held is not None:
                held.identity = self._identity(record)

    # --- changes

    def create(
        self, name: str, terms: KeyTerms | None = None, *, expires: float | None = None
    ) -> tuple[KeyRecord, str]:
        """A new key under a new name, and what is known of it. Raises RequestError."""
        terms = terms or KeyTerms()
        if not NAME.fullmatch(name):
            raise RequestError(
                "a key's name is 1 to 100 letters, digits and . _ @ -, and does not begin with key_",
                param="name",
            )
        if name in self.reserved or self._living(name):
            raise KeyExists(f"there is a key called {name!r} already", param="name")
        for role in terms.roles:
            if role not in self._book:
                known = ", ".join(self._book.names)
                raise RequestError(f"no role is called {role[:200]!r}; there are: {known}", param="roles")
        if self.keyless and not self.made.ever and not may_manage(self._book.grants(terms.roles)):
            raise RequestError(
                "from the first key on, a key is asked for: it has to be one that may manage (role admin), "
                "or nobody could make a second",
                param="roles",
            )
        return self._make(name, terms, expires)

    def rotate(
        self, name: str, overlap: float = 0.0, *, expires: float | None = None
    ) -> tuple[KeyRecord, str]:
        """A new key under a name that has one. The present one works for `overlap` more seconds. expires: of
        the new one; None: as the present one. Raises RequestError.
        """
        living = self._living(name)
        if not living:
            raise NotFound(f"no key is called {name[:200]!r}, or it has been revoked")
        if overlap < 0:
            raise RequestError("overlap is a number of seconds, 0 or more", param="overlap")
        end = self._clock() + overlap
        newest = max(reversed(living), key=lambda record: record.made)  # of equals the last
        made = self._make(name, newest.terms, newest.expires if expires is None else expires)
        for record in living:
            if record.expires is None or record.expires > end:
                self._change(replace(record, expires=end))
        return made

    def revoke(self, which: str) -> list[KeyRecord]:
        """Ends the key of an id, or all those of a name, at once. Raises NotFound."""
        one = self._records.get(which)
        found = self._living(which) or ([one] if one is not None else [])
        if not found:
            raise NotFound(f"no key has the id or the name {which[:200]!r}, or it has been revoked")
        now = self._clock()
        revoked = [
            record if record.revoked is not None else replace(self._with_use(record), revoked=now)
            for record in found
        ]
        for record in revoked:
            self._change(record)
        return revoked

    def hear(self, heard: KeyRecord) -> KeyRecord:
        """Takes what another node knows of a key, into the state file too, and gives what is known now.

        Keys only ever end, and never begin again: of two ends the earlier one is the newer. So it does not
        matter in which order records are heard, or how often. Raises ValueError for what cannot be true.
        """
        known = self._records.get(heard.id)
        if known is None:
            if heard.digest in self._ids:
                raise ValueError(f"its digest is that of {self._ids[heard.digest]}")
            if len(self._records) >= MOST_KEYS:
                raise ValueError(f"there are {MOST_KEYS} keys, and can be no more")
            record = heard
        else:
            record = replace(
                known,
                expires=_earlier(known.expires, heard.expires),
                revoked=_earlier(known.revoked, heard.revoked),
            )
            if replace(heard, expires=record.expires, revoked=record.revoked, used=record.used) != record:
                raise ValueError("another key has this id")
        if record == known:
            return known
        self.apply(record)
        self._table.put(self._with_use(record))
        return record

    def apply(self, record: KeyRecord) -> None:
        """Takes a record as it stands, from the state file for one. A revocation stays one."""
        known = self._records.get(record.id)
        if known is not None and known.revoked is not None and record.revoked is None:
            return
        self._records[record.id] = record
        self._ids[record.digest] = record.id
        self.made.ever = True
        if record.revoked is not None or record.mark != self._mark:
            self._held.pop(record.digest, None)
            return
        held = self._held.get(record.digest)
        if held is None:
            self._held[record.digest] = Held(record.digest, self._identity(record), _end(record), record.used)
        else:
            held.expires = _end(record)

    # --- what is written later

    def note_uses(self) -> None:
        """Writes down when keys were last used. For a timer, and for the end."""
        uses = []
        for record in list(self._records.values()):
            current = self._with_use(record)
            if current.used is not None and current.used - (record.used or 0.0) >= USE_SECONDS:
                self._records[record.id] = current
                uses.append((record.id, current.used))
        self._table.note_used(uses)

    async def saved(self) -> bool:
        """Waits until all changes are in the state file; False if something could not be written."""
        return await self._table.saved()

    # --- the inside

    def _make(self, name: str, terms: KeyTerms, expires: float | None) -> tuple[KeyRecord, str]:
        now = self._clock()
        if expires is not None and expires <= now:
            raise RequestError("expires is in the past", param="expires")
        if len(self._records) >= MOST_KEYS:
            raise RequestError(f"there are {MOST_KEYS} keys, and can be no more")
        key = make_key()
        record = KeyRecord(
            id=f"key_{secrets.token_hex(8)}",
            name=name,
            digest=self._hasher.of_key(key.encode()),
            mark=self._mark,
            terms=terms,
            made=now,
            expires=expires,
        )
        self._change(record)
        return record, key

    def _change(self, record: KeyRecord) -> None:
        self.apply(record)
        self._table.put(record)
        self.told(record)

    def _living(self, name: str) -> list[KeyRecord]:
        """The keys of a name that open the door, the oldest first."""
        now = self._clock()
        return [record for record in self._records.values() if record.name == name and record.alive(now)]

    def _with_use(self, record: KeyRecord) -> KeyRecord:
        held = self._held.get(record.digest)
        if held is None or held.used is None or held.used == record.used:
            return record
        return replace(record, used=held.used)

    def _identity(self, record: KeyRecord) -> Principal:
        terms = record.terms
        grants = self._book.grants(terms.roles, terms.models)
        return Principal(
            record.name, terms.models, may_manage(grants), terms.weight, terms.priority,
            roles=terms.roles, grants=grants, team=terms.team, limits=terms.limits, id=record.id,
        )  # fmt: skip


def _end(record: KeyRecord) -> float:
    return NEVER if record.expires is None else record.expires


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _made(record: KeyRecord) -> float:
    return record.made

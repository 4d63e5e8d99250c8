"""Where keys are handed out and taken back: ports.Keys over those made at run time and those of the
configuration. Nobody gives away more than they have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, get_args

from ghostllm.api.members import Members
from ghostllm.app.access import Access
from ghostllm.config.identity import moment
from ghostllm.config.kinds import ModelName, Name
from ghostllm.config.schema import KeyConfig
from ghostllm.errors import Forbidden, NotFound, RequestError
from ghostllm.message import Identity
from ghostllm.observe.log import Logger
from ghostllm.policy.issued import KEPT_SECONDS
from ghostllm.policy.principal import Principal
from ghostllm.state.database import Database
from ghostllm.state.keys import KeyRecord, KeyTerms

OVERLAP = 3600.0
"""Seconds for which a key that is rotated goes on, where nobody says."""

CREATE = ("name", "roles", "team", "models", "limits", "weight", "priority", "expires")
ROTATE = ("overlap", "expires")


class KeyDesk:
    """Implements ports.Keys."""

    def __init__(self, access: Access, database: Database, log: Logger) -> None:
        self._access = access
        self._database = database
        self._log = log

    def __repr__(self) -> str:
        return f"<KeyDesk of {self._access!r}>"

    def keys(self) -> list[dict[str, Any]]:
        now = time.time()
        configured = [_configured(key, now) for key in self._access.config.keys]
        records = self._access.issued.records()
        return configured + [_made(record, now) for record in records if not record.ended(now - KEPT_SECONDS)]

    async def create(self, by: Identity, wanted: Mapping[str, Any]) -> dict[str, Any]:
        given = _members(wanted, CREATE)
        name, terms = given.required_text("name"), _terms(given)
        self._no_more_than(by, terms)
        self._named(terms)
        record, key = self._access.issued.create(name, terms, expires=_expires(given))
        self._log.info("key made", name=name, id=record.id, roles=list(terms.roles), by=by.key)
        return await self._handed_out(record, key)

    async def rotate(self, by: Identity, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        given = _members(wanted, ROTATE)
        self._not_configured(name)
        now = time.time()
        for record in self._access.issued.records():
            if record.name == name and record.alive(now):
                self._no_more_than(by, record.terms)
        overlap = given.number("overlap")
        record, key = self._access.issued.rotate(
            name, OVERLAP if overlap is None else float(overlap), expires=_expires(given)
        )
        self._log.info("key rotated", name=name, id=record.id, by=by.key)
        return await self._handed_out(record, key)

    async def revoke(self, by: Identity, which: str) -> list[dict[str, Any]]:
        self._not_configured(which)
        revoked = self._access.issued.revoke(which)
        for record in revoked:
            self._log.info("key revoked", name=record.name, id=record.id, by=by.key)
        ends, now = await self._ends_up(), time.time()
        return [{**_made(record, now), **ends} for record in revoked]

    # --- the inside

    async def _handed_out(self, record: KeyRecord, key: str) -> dict[str, Any]:
        return {"key": key, **_made(record, time.time()), **await self._ends_up()}

    async def _ends_up(self) -> dict[str, Any]:
        """kept: whether it is there after a restart. shared: whether the gateways of one redis know of it:
        "yes", "later", as redis is away, "no", as they share no secret; None: there is no redis.
        """
        kept = await self._access.issued.saved() and self._database.persistent
        shared = "no" if self._access.config.redis.url else None
        if self._access.told is not None:
            shared = "yes" if await self._access.told() else "later"
        return {"kept": kept, "shared": shared}

    def _no_more_than(self, by: Identity, terms: KeyTerms) -> None:
        grants = self._access.book.grants(terms.roles, terms.models)
        if not isinstance(by, Principal) or not by.grants.covers(grants):
            raise Forbidden(
                f"key {by.key!r} cannot give away more than it has: "
                f"roles {', '.join(terms.roles)}, models {', '.join(terms.models) or 'all'}"
            )

    def _named(self, terms: KeyTerms) -> None:
        """Limits that there are not would be none, and a team that there is not would have none. Raises
        RequestError.
        """
        config = self._access.config
        limits, teams = [one.name for one in config.limits], [one.name for one in config.teams]
        if terms.limits and terms.limits not in limits:
            raise RequestError(
                f"limits is one of: {', '.join(limits) or 'none is configured'}", param="limits"
            )
        if terms.team and teams and terms.team not in teams:
            raise RequestError(f"team is one of: {', '.join(teams)}", param="team")

    def _not_configured(self, name: str) -> None:
        if any(key.name == name for key in self._access.config.keys):
            raise NotFound(f"key {name!r} is one of the configuration: it is changed there")


def _members(wanted: Mapping[str, Any], known: tuple[str, ...]) -> Members:
    for name in wanted:
        if name not in known:
            raise RequestError(f"no member {name[:200]!r}; there are: {', '.join(known)}", param=name[:200])
    return Members(wanted)


def _terms(given: Members) -> KeyTerms:
    roles = given.texts("roles") if given.has("roles") else ("user",)
    if not roles:
        raise RequestError("roles needs at least one role", param="roles")
    weight = given.number("weight")
    if weight is not None and not 0.01 <= weight < float("inf"):
        raise RequestError("weight is a number from 0.01 on", param="weight")
    for model in given.texts("models"):
        _fitting(ModelName, model, "models")
    for member in ("team", "limits"):
        if text := given.text(member):
            _fitting(Name, text, member)
    return KeyTerms(
        roles=roles,
        team=given.text("team") or "",
        models=given.texts("models"),
        limits=given.text("limits") or "",
        weight=1.0 if weight is None else float(weight),
        priority=given.integer("priority") or 0,
    )


def _fitting(kind: Any, text: str, member: str) -> None:
    """As the configuration has it. Raises RequestError."""
    if fault := get_args(kind)[1].fault(text):
        raise RequestError(f"{member}: {fault}", param=member)


def _expires(given: Members) -> float | None:
    """Seconds since 1970, of a number of them or of a time such as 2027-01-31T18:00:00Z."""
    value = given.values.get("expires")
    if not isinstance(value, str):
        return given.number("expires")
    try:
        return moment(value)
    except (ValueError, OverflowError):
        raise RequestError(
            "expires is a time such as 2027-01-31 or 2027-01-31T18:00:00Z, or seconds since 1970",
            param="expires",
        ) from None


def _made(record: KeyRecord, now: float) -> dict[str, Any]:
    return {**record.shown(now), "source": "made"}


def _configured(key: KeyConfig, now: float) -> dict[str, Any]:
    ends = moment(key.expires) if key.expires else None
    return {
        "id": None,
        "name": key.name,
        "state": "active" if ends is None or now < ends else "expired",
        "roles": list(key.roles) or ["admin" if key.manage else "user"],
        "team": key.team,
        "models": list(key.models),
        "limits": "",
        "created": None,
        "expires": ends,
        "revoked": None,
        "last_used": None,
        "source": "configuration",
    }

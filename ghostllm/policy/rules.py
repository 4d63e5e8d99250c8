"""What a configuration says of how much who may use: found once for each client and model."""

from __future__ import annotations

from ghostllm.config.money import Budget, RateLimits
from ghostllm.config.schema import Config
from ghostllm.errors import Forbidden
from ghostllm.message import Identity
from ghostllm.policy.budgets import Share
from ghostllm.policy.limits import Claim
from ghostllm.policy.prices import Prices, Rates
from ghostllm.policy.subjects import Subject

REMEMBERED = 4096
"""Pairs of client and model: keys may be made at run time, and clients with tokens are many."""

_Sides = tuple[RateLimits, Budget]


class Standing:
    """What holds for one client that asks for one model. limits: of its key, team and model, those that have
    any. shares: whose money it spends, where anything costs money; budgeted: some of them has a budget.
    rates: what the model costs; None: nothing. least: the smallest limit of tokens a minute, the addresses'
    among them; 0: none. free: nothing holds for it.
    """

    __slots__ = ("budgeted", "free", "least", "limits", "rates", "shares")

    def __init__(
        self,
        limits: tuple[Claim, ...],
        shares: tuple[Share, ...],
        rates: Rates | None,
        address: RateLimits | None,
    ) -> None:
        self.limits = limits
        self.rates = rates
        self.shares = shares
        self.budgeted = any(share[1] is not None for share in shares)
        self.free = not limits and not shares and address is None
        every = [claim[1] for claim in limits]
        if address is not None:
            every.append(address)
        self.least = min([one.tokens_per_minute for one in every if one.tokens_per_minute], default=0)

    def __repr__(self) -> str:
        return f"<Standing {len(self.limits)} limits, {len(self.shares)} budgets>"


class Rules:
    """address: the limits of each address; None: there are none. limited: something is limited or costs
    money.
    """

    def __init__(self, config: Config) -> None:
        self.address = config.address_limits if config.address_limits.any else None
        self.answer_tokens = config.usage.answer_tokens
        self.prices = Prices({model.name: model.price for model in config.models if model.price.any})
        self._priced = any(model.price.any for model in config.models)
        self._keys = {key.name: (key.limits, key.budget) for key in config.keys}
        self._teams = {team.name: (team.limits, team.budget) for team in config.teams}
        self._named = {one.name: (one.limits, one.budget) for one in config.limits}
        self._models = {model.name: (model.limits, model.budget) for model in config.models}
        self._known: dict[tuple[str, str, str, str], Standing] = {}
        sections = (self._keys, self._teams, self._named, self._models)
        limits = any(sides[0].any for section in sections for sides in section.values())
        # Names of limits are those of tokens and of keys made at run time: one that is not there is an error.
        self.limited = limits or self._priced or self.address is not None or bool(self._named)

    def __repr__(self) -> str:
        return f"<Rules {self.prices!r} {len(self._known)} known>"

    def of(self, identity: Identity, model: str) -> Standing:
        """model: as the configuration names it. Raises Forbidden for a client whose limits nobody knows."""
        asked = model if model in self._models else ""  # others have no rules, and are many
        who = identity.key, identity.team, identity.limits, asked
        standing = self._known.get(who)
        if standing is None:
            standing = self._find(identity, asked)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[who] = standing
        return standing

    def _find(self, identity: Identity, model: str) -> Standing:
        own: _Sides | None
        if identity.limits:
            own = self._named.get(identity.limits)
            if own is None:
                raise Forbidden(
                    f"key {identity.key[:100]!r} has the limits {identity.limits[:100]!r}, and no [[limits]] "
                    "of that name are configured here"
                )
        else:
            own = self._keys.get(identity.key)
        sides: list[tuple[Subject, _Sides | None]] = [(Subject("key", identity.key), own)]
        if identity.team:
            sides.append((Subject("team", identity.team), self._teams.get(identity.team)))
        if model:
            sides.append((Subject("model", model), self._models.get(model)))
        limits = tuple((subject, side[0]) for subject, side in sides if side is not None and side[0].any)
        shares: tuple[Share, ...] = ()
        if self._priced:
            shares = tuple(
                (subject, side[1] if side is not None and side[1].any else None) for subject, side in sides
            )
        return Standing(limits, shares, self.prices.of(model), self.address)

"""Clients that need no key: only where the configuration says so, by the address they come from."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ghostllm.config.identity import Anonymous
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook, may_manage

REMEMBERED = 4096
"""Addresses whose rule is remembered: reading one costs more than all the rest."""


class AnonymousRules:
    """The first rule that has the client's network decides."""

    def __init__(self, rules: Sequence[Anonymous], book: RoleBook) -> None:
        self._rules = [
            (ip_network(network), _principal(rule, book)) for rule in rules for network in rule.networks
        ]
        self._placeholders = {
            rule.name: frozenset(one.encode() for one in rule.placeholders) for rule in rules
        }
        self._known: dict[str, Principal | None] = {}

    def __repr__(self) -> str:
        return f"<AnonymousRules {len(self._rules)} networks>"

    def identify(self, peer: str, key: bytes = b"") -> Principal | None:
        """Who a client at the address `peer` is without a key; None: nobody. key: what it sent for one."""
        if peer in self._known:
            found = self._known[peer]
        else:
            found = self._find(peer)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[peer] = found
        if found is None or (key and key not in self._placeholders[found.key]):
            return None
        return found

    def _find(self, peer: str) -> Principal | None:
        address = _address(peer)
        if address is None:
            return None
        for network, principal in self._rules:
            if address in network:
                return principal
        return None


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address that came through an IPv6 socket is one: a rule for ::/0 is not meant for it."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _principal(rule: Anonymous, book: RoleBook) -> Principal:
    grants = book.grants(rule.roles, rule.models)
    return Principal(
        rule.name, tuple(rule.models), may_manage(grants),
        roles=tuple(rule.roles), grants=grants, team=rule.team, limits=rule.limits, source="anonymous",
    )  # fmt: skip

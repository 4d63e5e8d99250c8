"""Who asks a gateway that has no keys. It listens on its own machine only, unless it was told otherwise.

The machine's owner may all. Whoever comes from another machine may use the models, no more; nor may a page of
the Internet that has its own name point to this machine, to get around the browser's rules (DNS rebinding):
the name by which it asks gives it away.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

from ghostllm.config.identity import Role
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook

_BOOK = RoleBook([Role(name="stranger", allow=("metrics",))])
OWNER = Principal(manage=True, roles=("admin",), grants=_BOOK.grants(("admin",)), source="anonymous")
STRANGER = Principal(grants=_BOOK.grants(("user", "stranger")), source="anonymous")
"""Without a role that anybody gave it."""

REMEMBERED = 4096
"""Pairs of address and Host of which it is remembered whether both are this machine's."""

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::[0-9]{0,5})?")


def somebody(headers: dict[bytes, bytes], peer: str) -> Principal:
    """peer: the client's address."""
    return OWNER if _is_here(peer, headers.get(b"host", b"")) else STRANGER


@lru_cache(REMEMBERED)
def _is_here(peer: str, host: bytes) -> bool:
    return _is_loopback(peer) and names_loopback(host)


def names_loopback(host: bytes) -> bool:
    """Whether a Host field names this machine in a way that no name server has a say in."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).decode()
    return name.lower() == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False

"""SRV records, by dnspython: the system's resolver cannot ask for them. The extra `dns`."""

from __future__ import annotations

from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.resolver

SECONDS = 5.0
"""Longest time that a lookup may take, further servers included."""

Record = tuple[int, int, int, str]
"""priority, weight, port, target"""


async def lookup(
    host: str, *, nameservers: Sequence[str] = (), port: int = 53
) -> tuple[list[Record], float | None]:
    """The SRV records of `host` and the seconds that they hold. None where the name has no such record.

    nameservers: addresses to ask instead of those of the system. Raises OSError.
    """
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            resolver.nameservers = list(nameservers)
            resolver.port = port
        answer = await resolver.resolve(host, "SRV", lifetime=SECONDS, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        raise OSError(None, "there is no such name") from None
    except dns.exception.Timeout:
        raise OSError(None, "no DNS server answers") from None
    except dns.exception.DNSException as error:
        raise OSError(None, f"the lookup failed: {type(error).__name__}") from None
    if answer.rrset is None:
        return [], None
    records = [(item.priority, item.weight, item.port, item.target.to_text()) for item in answer.rrset]
    return records, float(answer.rrset.ttl)

"""What the system knows of hosts: the addresses of a name, whether a port is open, and whether an address is
this process's own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

from ghostllm.net.address import Origin, split_listen

_WILDCARDS = ("", "0.0.0.0", "::")


async def addresses(host: str) -> list[str]:
    """IPv4 and IPv6 addresses of a name, sorted, each once; none where the name exists and has none. Raises
    OSError.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == getattr(socket, "EAI_NODATA", None):
            return []
        raise OSError(error.errno, error.strerror or "the lookup failed") from None
    except UnicodeError:  # a label of more than 63 characters
        raise OSError(None, "it is no host name") from None
    hosts = {str(item[4][0]) for item in found}
    return sorted(host for host in hosts if "%" not in host)  # a scope has no place in a URL


async def is_open(host: str, port: int, seconds: float) -> bool:
    """Whether a TCP connection is accepted within that time."""
    try:
        async with asyncio.timeout(seconds):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except OSError:  # TimeoutError is one
        return False
    transport.abort()
    return True


def leads_here(origin: Origin, bound: Iterable[str]) -> bool:
    """Whether a connection to `origin` would reach one of the listening addresses `bound`. Names other than
    this machine's own are not looked up.
    """
    hosts = _hosts(origin.host)
    for address in bound:
        listening, port = split_listen(address)
        if port != origin.port:
            continue
        if listening in _WILDCARDS:
            if any(_is_local(host) for host in hosts if listening != "0.0.0.0" or ":" not in host):
                return True
        elif listening in hosts:
            return True
    return False


def _hosts(name: str) -> set[str]:
    """The addresses that a URL's host stands for, as far as that is known without asking."""
    name = name.lower().rstrip(".")
    if name in ("localhost", socket.gethostname().lower()):
        return {"127.0.0.1", "::1"}
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return set()
    if address.is_unspecified:  # connecting to it is connecting to oneself
        return {"127.0.0.1"} if address.version == 4 else {"::1"}
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return {str(mapped or address)}


def _is_local(host: str) -> bool:
    """Whether it is an address of one of this machine's interfaces: only those can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True

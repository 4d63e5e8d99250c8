"""Whom a request came from, as the proxies before us tell it: X-Forwarded-For, and Forwarded of RFC 7239.

Each proxy adds the address that it saw at the right end, so only as much of the field is true as trusted
proxies have written: it is read from the right. What stands further left anybody may have sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

COMMAS = 16
"""Commas inside the quoted strings of one element: beyond, it is no sound one."""

_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9_A-Za-z.-]+)?")
_VALUE = r'(?:[!#$%&\'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")'
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(f"({_NAME})=({_VALUE})")
_ELEMENT = re.compile(rf"{_NAME}={_VALUE}(?:[ \t]*;[ \t]*{_NAME}={_VALUE})*")
_ESCAPE = re.compile(r"\\(.)")


def plain_address(text: str) -> str | None:
    """An address as logs and limits know it: without brackets, port and zone, IPv4 inside IPv6 unfolded. None
    for anything that is no address, such as `unknown`.
    """
    match = _PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def x_forwarded_for(value: str) -> Iterator[str | None]:
    """The addresses of the field, the last one first; None for what is none."""
    for element in reversed(value.split(",")):
        yield plain_address(element.strip(" \t"))


def forwarded(value: str) -> Iterator[str | None]:
    """The same of Forwarded. An element may hold commas in its quoted strings, and whatever stands left of it
    is not ours to take for sound: the shortest sound element at the right end is the last one.
    """
    end = len(value)
    while end >= 0:
        start = _last_element(value, end)
        if start is None:
            yield None
            return
        yield _address_in(value[start:end].strip(" \t"))
        end = start - 1


def _last_element(value: str, end: int) -> int | None:
    """Where the element begins that ends at `end`."""
    at = end
    for _ in range(COMMAS + 1):
        at = value.rfind(",", 0, at)
        if _ELEMENT.fullmatch(value[at + 1 : end].strip(" \t")) is not None:
            return at + 1
        if at < 0:
            break
    return None


def _address_in(element: str) -> str | None:
    nodes = [value for name, value in _PAIR.findall(element) if name.lower() == "for"]
    if len(nodes) != 1:
        return None
    node: str = nodes[0]
    if node[0] == '"':
        node = _ESCAPE.sub(r"\1", node[1:-1])
    return plain_address(node)

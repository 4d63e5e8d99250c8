"""Strings with a syntax of their own: backend URLs, listen addresses, CORS origins, file names.

Each check returns what is wrong, or None. A fault never quotes a URL: it may hold a credential.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORT = re.compile(r"[0-9]{1,5}")


def url_fault(text: str) -> str | None:
    """`http[s]://host[:port][/base]`, without credentials, query and fragment."""
    fault, _ = _web_address(text)
    return fault


def origin_fault(text: str) -> str | None:
    """`*`, `null`, or scheme://host[:port] as browsers serialise an origin; schemes of apps are allowed."""
    if text in ("*", "null"):
        return None
    if re.fullmatch(r"(?!https?:)[a-z][a-z0-9+.-]*://[^\s/?#@,]+", text):
        return None
    fault, parts = _web_address(text)
    if fault:
        return fault
    if parts is not None and parts.path:
        return "an origin has no path and no final slash: scheme://host or scheme://host:port"
    return None


def _web_address(text: str) -> tuple[str | None, SplitResult | None]:
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return (
            "must be plain ASCII without spaces and backslashes; write other characters as %XX or xn--",
            None,
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL: the host or the port is malformed", None
    if parts.scheme not in ("http", "https") or "//" not in text:
        return "must start with http:// or https://", None
    if "@" in parts.netloc:
        return "must not hold credentials: they would be logged; use api_key or headers", None
    if parts.query or parts.fragment or text[-1] in "?#":
        return "must have no query (?) and no fragment (#)", None
    if port == 0 or parts.netloc.endswith(":"):
        return "needs a port from 1 to 65535 after the colon", None
    if (fault := _host_fault(parts.hostname or "", bracketed=parts.netloc.startswith("["))) is not None:
        return fault, None
    return None, parts


def split_listen(text: str) -> tuple[str, str] | None:
    """Host (without brackets; empty means every interface) and port of a listen address, or None."""
    match = re.fullmatch(r"(\[[^\[\]\s]*\]|[^:\[\]\s]*):([0-9]{1,5})", text, re.ASCII)
    return (match[1].strip("[]"), match[2]) if match else None


def listen_fault(text: str) -> str | None:
    """`host:port`, `[v6]:port` or `:port` (every interface); port 0 lets the system choose."""
    pair = split_listen(text)
    if pair is None:
        return f"{_shown(text)} must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"
    host, port = pair
    if int(port) > 65535:
        return f"{_shown(text)} has a port above 65535"
    fault = _host_fault(host, bracketed=text.startswith("[")) if text[0] != ":" else None
    return f"{_shown(text)}: {fault}" if fault else None


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach a (well-formed) listen address."""
    pair = split_listen(text)
    if pair is None:
        return False
    if pair[0].lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(pair[0]).is_loopback
    except ValueError:
        return False


def file_fault(text: str) -> str | None:
    if "\0" in text:
        return "is not a file name"
    if not text or os.path.isfile(text):
        return None
    return "is a folder, not a file" if os.path.isdir(text) else f"no such file: {_shown(text)}"


def network_fault(text: str) -> str | None:
    """A network in CIDR form, host bits zero."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return f"{_shown(text)} must be a network such as 192.168.1.0/24: {error}"
    return None


def reach_fault(text: str) -> str | None:
    """A network in CIDR form, a host's name, or `*.name` for all below it."""
    if "/" in text or ":" in text or re.fullmatch(r"[0-9.]+", text):
        return network_fault(text)
    name = text.removeprefix("*.")
    if _HOST.fullmatch(name) and "*" not in name:
        return None
    return f"{_shown(text)} must be a network such as 10.1.0.0/16, a host, or *.name for all below it"


def _host_fault(host: str, *, bracketed: bool) -> str | None:
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return "the address in brackets is not an IPv6 address"
        return None
    if not host:
        return "has no host"
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return "the host looks like an IPv4 address and is none"
        return None
    return None if _HOST.fullmatch(host) else "the host is not a name or address"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")


FAULTS: dict[str, Callable[[str], str | None]] = {
    "url": url_fault,
    "listen": listen_fault,
    "origin": origin_fault,
    "file": file_fault,
    "network": network_fault,
    "reach": reach_fault,
}

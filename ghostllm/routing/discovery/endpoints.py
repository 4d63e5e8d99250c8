"""What a Kubernetes API says of a service's endpoints: EndpointSlices, and the events of a watch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ghostllm.routing.discovery.source import plain_address


class Gone(Exception):
    """The API no longer knows what has changed since the version that was asked about (410)."""


class WatchFailed(Exception):
    """The API ended a watch with an error, or said something that is none of its words."""


@dataclass(slots=True)
class Slices:
    """The slices of one service. port: name or number of the port; empty: the first. version: up to which the
    API's history is known, as it was said.
    """

    port: str
    version: str = ""
    _slices: dict[str, Any] = field(default_factory=dict)

    def listed(self, answer: Any) -> None:
        """The answer to a list: all there is. Raises WatchFailed."""
        items = _member(answer, "items")
        if not isinstance(answer, dict) or not isinstance(items, list | None):
            raise WatchFailed("the Kubernetes API gave a list that is none")
        self.version = _version(answer)
        self._slices = {_name(item): item for item in items or () if isinstance(item, dict)}

    def event(self, event: Any) -> bool:
        """One event of a watch. True: the endpoints may be others. Raises Gone, WatchFailed."""
        kind, thing = _member(event, "type"), _member(event, "object")
        if kind == "ERROR":
            if _member(thing, "code") == 410:
                raise Gone
            raise WatchFailed(str(_member(thing, "message") or "the watch ended with an error"))
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(thing, dict):
            raise WatchFailed("the watch gave an event that is none")
        self.version = _version(thing) or self.version
        if kind == "BOOKMARK":
            return False
        if kind == "DELETED":
            self._slices.pop(_name(thing), None)
        else:
            self._slices[_name(thing)] = thing
        return True

    def places(self) -> list[tuple[str, int]]:
        """Addresses and ports of the ready endpoints, sorted. A pod that has an address of each family is one
        endpoint, by its IPv4 address; an endpoint may stand in two slices while it moves.
        """
        by_pod: dict[tuple[str, int], tuple[str, int]] = {}
        for item in sorted(self._slices.values(), key=lambda item: str(_member(item, "addressType"))):
            port = port_of(_member(item, "ports"), self.port)
            for endpoint in _list(_member(item, "endpoints")) if port else ():
                addresses = _list(_member(endpoint, "addresses")) if is_ready(endpoint) else []
                host = plain_address(addresses[0]) if addresses else None
                if host is not None and port is not None:
                    pod = str(_member(_member(endpoint, "targetRef"), "uid") or host)
                    by_pod.setdefault((pod, port), (host, port))
        return sorted(set(by_pod.values()))


def is_ready(endpoint: Any) -> bool:
    """Not said counts as ready (the API's own rule); one that is ending is left alone though it may serve."""
    conditions = _member(endpoint, "conditions")
    return _member(conditions, "ready") is not False and _member(conditions, "terminating") is not True


def port_of(ports: Any, wanted: str) -> int | None:
    """The port of a slice that is meant. A number that the slice does not list is taken as it is."""
    listed = [port for port in _list(ports) if _member(port, "protocol") in (None, "TCP")]
    for port in listed:
        number = _member(port, "port")
        if type(number) is int and 0 < number < 65536:
            if wanted in ("", _member(port, "name"), str(number)):
                return number
    return int(wanted) if wanted.isascii() and wanted.isdigit() and 0 < int(wanted) < 65536 else None


def reason_of(status: int, body: Any) -> str:
    """What an answer other than 200 says."""
    said = _member(body, "message")
    return f"the Kubernetes API answers {status}" + (f": {said}" if isinstance(said, str) else "")


def _version(thing: Any) -> str:
    return str(_member(_member(thing, "metadata"), "resourceVersion") or "")


def _name(thing: Any) -> str:
    return str(_member(_member(thing, "metadata"), "name"))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

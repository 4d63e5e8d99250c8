"""What the sources of backends have in common."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from ghostllm.config.finding import DnsSource, KubernetesSource
from ghostllm.config.kinds import Kind
from ghostllm.config.schema import BackendConfig

Found = Callable[[str, Sequence[BackendConfig]], None]
"""Takes a source's name and the complete list of what it knows now."""

Report = Callable[[str, str | None], None]
"""Takes a source's name and what is wrong with it, or None when it works again."""

RETRY = 10.0
"""Seconds between two looks while the first has not succeeded, where later ones are not asked for."""


class Source(Protocol):
    """Finds backends for as long as it runs, which is until it is cancelled."""

    name: str

    async def run(self, found: Found) -> None:
        """Calls `found` whenever the list changes. What goes wrong is reported; what was known last stays."""


class Server(Protocol):
    """An LLM server that was looked at. usable: without a key, and no GhostLLM."""

    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def label(self) -> str: ...
    @property
    def usable(self) -> bool: ...


Identify = Callable[[str], Awaitable[Server | None]]
"""Looks at a URL without sending a key; None where no LLM server answers."""


class Condition:
    """Tells whether a source works, once for each change."""

    def __init__(self, source: str, report: Report) -> None:
        self.reason: str | None = None
        self._source = source
        self._report = report

    def __repr__(self) -> str:
        return f"<Condition of {self._source}: {self.reason or 'works'}>"

    def fails(self, reason: str) -> None:
        self._set(reason)

    def works(self) -> None:
        self._set(None)

    def _set(self, reason: str | None) -> None:
        if reason != self.reason:
            self.reason = reason
            self._report(self._source, reason)


async def pause(interval: float, *, known: bool) -> None:
    """Waits for the next look. interval: 0 = there is none once something is known."""
    if not interval and known:
        await asyncio.Event().wait()
    await asyncio.sleep(interval or RETRY)


def backend_at(
    source: DnsSource | KubernetesSource, host: str, port: int, weight: float = 1.0
) -> BackendConfig:
    """The backend at one address of a source. host: an address without brackets, or a name. weight: its part
    in what the source's are given.
    """
    shown = f"[{host}]" if ":" in host else host
    return BackendConfig(
        name=f"{source.name}-{host}-{port}",
        kind=source.kind,
        url=f"{'https' if source.tls else 'http'}://{shown}:{port}",
        api_key=source.api_key,
        weight=source.weight * weight,
        max_inflight=source.max_inflight,
    )


def plain_address(text: object) -> str | None:
    """An IP address in its usual spelling; None for anything else, and for one with a scope."""
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def once_each(configs: Iterable[BackendConfig]) -> list[BackendConfig]:
    """The first of each name."""
    by_name: dict[str, BackendConfig] = {}
    for config in configs:
        by_name.setdefault(config.name, config)
    return list(by_name.values())

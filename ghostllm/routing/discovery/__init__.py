"""Finding backends, and noticing that they come and go.

A *source* knows of some backends and gives its whole list again whenever that changes: a watched `file`, the
addresses behind a name (`dns`), the endpoints of a Kubernetes service (`kubernetes`), the servers of a
network (`network`), those of this machine (`local`). What the lists come to is the business of `fleet`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ghostllm.config.schema import Config
from ghostllm.routing.discovery.local import NAME as LOCAL
from ghostllm.routing.discovery.local import NOTHING, LocalSource
from ghostllm.routing.discovery.source import Found, Identify, Report, Server, Source

__all__ = ["NOTHING", "Means", "Server", "Source", "build", "keep_running"]

RESTART = 5.0
"""Seconds after which a source that broke down begins anew."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Means:
    """What sources need and cannot have of their own. ports: those that LLM servers use. own: whether a URL
    is this gateway's. seen: told of each server that looking around found. report: of sources that fail.
    """

    identify: Identify
    find_local: Callable[[], Awaitable[Sequence[Server]]]
    ports: Sequence[int]
    own: Callable[[str], bool]
    environ: Mapping[str, str]
    seen: Callable[[Server], None]
    report: Report


def build(config: Config, means: Means) -> list[Source]:
    """The sources that are asked for. What none needs is not imported."""
    asked = config.discovery
    sources: list[Source] = []
    if asked.file:
        from ghostllm.routing.discovery.file import FileSource

        sources.append(FileSource(asked.file, means.environ, asked.interval, means.report))
    if asked.dns:
        from ghostllm.routing.discovery.dns import DnsWatch

        sources += [DnsWatch(source, asked.interval, means.report) for source in asked.dns]
    if asked.kubernetes:
        from ghostllm.routing.discovery.kubernetes import Cluster, KubernetesWatch

        cluster = Cluster.around(means.environ)
        sources += [KubernetesWatch(source, cluster, means.report) for source in asked.kubernetes]
    if asked.network:
        from ghostllm.routing.discovery.network import NetworkSource

        sources.append(NetworkSource(asked, means.identify, means.ports, means.own, means.seen))
    if asked.local and not config.backends and not sources:
        sources.append(LocalSource(means.find_local, asked.interval, means.seen, means.report))
    return sources


def sections(config: Config) -> dict[str, object]:
    """Of each source that `build` makes, by its name, the settings that it is made from: it is another source
    where they differ.
    """
    asked = config.discovery
    found: dict[str, object] = {}
    if asked.file:
        found["file"] = asked.file, asked.interval
    for dns in asked.dns:
        found[f"dns {dns.name}"] = dns, asked.interval
    for service in asked.kubernetes:
        found[f"kubernetes {service.name}"] = service
    if asked.network:
        found["network"] = asked.network, asked.ports, asked.addresses, asked.interval, asked.timeout
    if asked.local and not config.backends and not found:
        found[LOCAL] = asked.interval
    return found


async def keep_running(source: Source, found: Found, report: Report) -> None:
    """Runs `source` until cancelled. A mistake in its code, or bytes that nobody thought of, must not end
    discovery for good.
    """
    while True:
        try:
            await source.run(found)
        except Exception as error:
            report(source.name, f"{type(error).__name__}: {error}")
            await asyncio.sleep(RESTART)

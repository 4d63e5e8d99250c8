"""The backends of a running gateway, from the first look to the last request: made, found, asked for their
models, closed. Part of the composition root: it joins backends, routing and what finds them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ghostllm import backends
from ghostllm.config.schema import BackendConfig, Config
from ghostllm.errors import UpstreamError
from ghostllm.net.address import parse_origin
from ghostllm.net.fetch import fetch
from ghostllm.net.lookup import leads_here
from ghostllm.net.tls import client_context
from ghostllm.observe.log import Logger
from ghostllm.ports import ModelInfo, Translator
from ghostllm.routing import discovery
from ghostllm.routing.catalog import Catalog, build
from ghostllm.routing.fleet import CONFIGURED, Fleet
from ghostllm.routing.inventory import Inventory
from ghostllm.routing.upstream import Upstream

if TYPE_CHECKING:
    from ghostllm.backends.gguf import GgufRunner

Own = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine as a task that somebody holds, and cancels at the end."""


class FleetLife:
    """catalog: of the backends there are now. answered: called when a backend that had not listed its models
    does so. changed: called when others are there than before, after the
    catalog has been rebuilt and in the same turn of the loop.
    """

    def __init__(self, config: Config, log: Logger, own: Own, changed: Callable[[], None]) -> None:
        self.catalog = Catalog({})
        self.answered: Callable[[str], None] = lambda name: None
        self._config = config
        self._log = log
        self._own = own
        self._changed = changed
        self._runners: dict[Upstream, GgufRunner] = {}
        self._new: list[Upstream] = []  # not asked for their models yet
        self._fleet = Fleet(self._make, self._close, self._added, self._removed, self._refused)
        self.inventory = Inventory(self._fleet.upstreams, self._rebuild, self._answers)
        self._fleet.apply(CONFIGURED, config.backends)
        self._rebuild(self.inventory.known)

    def __repr__(self) -> str:
        return f"<FleetLife {self._fleet!r}>"

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """By name: always the same mapping, of changing content."""
        return self._fleet.upstreams

    def start(self, bound: Sequence[str]) -> None:
        """Begins everything that may take its time while requests are already being answered. bound: the
        addresses that the gateway listens on.
        """
        changed = self._fleet.refuse(lambda url: leads_here(parse_origin(url), bound))
        sources = discovery.build(
            self._config,
            discovery.Means(
                identify=functools.partial(backends.identify, self._look),
                find_local=functools.partial(backends.find_local, self._look),
                ports=backends.PORTS,
                own=lambda url: leads_here(parse_origin(url), bound),
                environ=os.environ,
                seen=self._seen,
                report=self._source_changed,
            ),
        )
        for source in sources:
            self._own(discovery.keep_running(source, self.found, self._source_changed))
        if changed or self._new or not sources:
            self._settle()
        if self._config.routing.refresh:
            self._own(self.inventory.run(self._config.routing.refresh))

    def found(self, source: str, configs: Sequence[BackendConfig]) -> None:
        """The whole list of what `source` knows now."""
        if self._fleet.apply(source, configs):
            self._settle()

    async def close(self) -> None:
        """Once the tasks given to `own` have ended."""
        await self.inventory.close()
        await self._fleet.close()

    # --- making and ending one

    def _make(self, config: BackendConfig) -> Upstream:
        """Raises OSError (SSLError too) for a tls_ca that cannot be used."""
        tls = None
        if config.url.startswith("https:"):
            tls = client_context(verify=config.tls_verify, ca_file=config.tls_ca)
        limit = self._config.server.limits.event_bytes
        translator = backends.translator(config, limit)
        if config.kind != "gguf":
            learn = functools.partial(self._learn, config) if config.kind == "auto" else None
            return Upstream(config, backends.base_url(config), translator, tls=tls, learn=learn)
        from ghostllm.backends.gguf import GgufRunner  # here: who runs no model file pays nothing for it

        runner = GgufRunner(config, functools.partial(self._child_says, config.name))
        upstream = Upstream(config, "", translator, tls=None, wake=runner.ensure)
        self._runners[upstream] = runner
        return upstream

    async def _close(self, upstream: Upstream) -> None:
        await upstream.close()
        if (runner := self._runners.pop(upstream, None)) is not None:
            await runner.stop()

    async def _learn(self, config: BackendConfig) -> tuple[Translator, str] | None:
        found = await backends.identify(self._look, config.url)
        if found is None:
            return None
        self._log.info("identified", backend=config.name, kind=found.kind, label=found.label)
        known = dataclasses.replace(config, kind=found.kind)
        return backends.translator(known, self._config.server.limits.event_bytes), backends.base_url(known)

    async def _look(self, url: str, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
        answer = await fetch(url, path, seconds=self._config.discovery.timeout)
        return answer.status, answer.headers, answer.body

    async def _wake(self, name: str, runner: GgufRunner) -> None:
        try:
            await runner.ensure()
        except UpstreamError as error:
            self._answers(name, error)

    # --- coming and going

    def _settle(self) -> None:
        """After a change of the fleet."""
        self.inventory.prune()
        self._rebuild(self.inventory.known)
        self._changed()
        new, self._new = self._new, []
        self._own(self._welcome(new))

    async def _welcome(self, upstreams: Sequence[Upstream]) -> None:
        """Asks new backends for their models, and loads those that are to be loaded at once."""
        for upstream in upstreams:
            runner = self._runners.get(upstream)
            if runner is not None and runner.config.start == "start":
                self._own(self._wake(upstream.name, runner))
        await self.inventory.ask(upstreams)
        self._log.info("serving", models=sorted(self.catalog.models))

    def _rebuild(self, known: Mapping[str, Sequence[ModelInfo]]) -> None:
        self.catalog = build(self._config, self._fleet.backends, known)

    def _added(self, upstream: Upstream) -> None:
        self._new.append(upstream)
        if (runner := self._runners.get(upstream)) is not None:
            self.inventory.known[upstream.name] = [ModelInfo(runner.model)]
        if upstream.config not in self._config.backends:
            self._log.info("backend added", backend=upstream.name, url=upstream.config.url)

    # --- the log

    def _removed(self, name: str) -> None:
        self._log.info("backend removed", backend=name)

    def _refused(self, name: str, reason: str) -> None:
        self._log.error("backend refused", backend=name, reason=reason)

    def _seen(self, server: discovery.Server) -> None:
        self._log.info("found", kind=server.kind, url=server.url, label=server.label)

    def _source_changed(self, source: str, reason: str | None) -> None:
        if reason == discovery.NOTHING:
            self._log.warning(reason, hint="start one, or name one: --backend URL")
        elif reason is not None:
            self._log.warning("discovery fails", source=source, reason=reason)
        else:
            self._log.info("discovery works again", source=source)

    def _answers(self, name: str, error: UpstreamError | None) -> None:
        if error is None:
            self.answered(name)
            self._log.info("backend answers", backend=name)
        else:
            self._log.warning("backend does not answer", backend=name, reason=error.message)

    def _child_says(self, name: str, level: str, line: str) -> None:
        self._log.child(level, name, line)

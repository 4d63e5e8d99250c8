"""The backends of a running gateway, from the first look to the last request: made, found, asked for their
models, closed. Part of the composition root: it joins backends, routing and what finds them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ghostllm import backends
from ghostllm.app.sources import Own, Sources
from ghostllm.config.schema import BackendConfig, Config
from ghostllm.config.shown import Change
from ghostllm.errors import ConfigError, UpstreamError
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
        self._made: dict[str, Upstream] = {}  # for a configuration that is about to hold
        self._bound: Sequence[str] = ()
        self._trusted: dict[str, bytes] = {}  # what the certificate files of the backends held
        self._told: list[str] | None = None  # the models, as last logged
        self._asking: asyncio.Task[None] | None = None  # for models, again and again
        self._fleet = Fleet(self._make, self._close, self._added, self._removed, self._refused)
        self._sources = self._make_sources()
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
        self._bound = bound
        changed = self._fleet.refuse(self._is_own)
        self._sources.follow(self._config)
        if changed or self._new or not self._sources:
            self._settle()
        self._ask_again()

    def outside(self, new: Config) -> list[Change]:
        """What has changed for backends that are as they were: the content of their certificate files."""
        return [
            Change(f"backends.{one.name}.tls_ca", "changed", one.tls_ca, f"{one.tls_ca} (another content)")
            for one in self._outdated(new)
        ]

    def prepare(self, old: Config, new: Config, undo: ExitStack) -> Callable[[Sequence[str]], None]:
        """Makes the backends that are new in `new`. Raises ConfigError for those that cannot be made.

        What it returns is called with the addresses that the gateway listens on then: backends that are as
        they were keep all they have, the others are replaced or go, and so it is with the sources.
        """
        made, anew = self._make_new(new, undo)

        def commit(bound: Sequence[str]) -> None:
            self._config, self._made, self._bound = new, made, bound
            self._sources.follow(new)
            self._fleet.apply(CONFIGURED, new.backends)
            self._fleet.refuse(self._is_own)
            self._fleet.renew(anew)
            self._made = {}
            self._settle()
            if new.routing.refresh != old.routing.refresh:
                self._ask_again()

        return commit

    def found(self, source: str, configs: Sequence[BackendConfig]) -> None:
        """The whole list of what `source` knows now."""
        if self._fleet.apply(source, configs):
            self._settle()

    async def close(self) -> None:
        """Once the tasks given to `own` have ended."""
        await self.inventory.close()
        await self._fleet.close()

    def _make_sources(self) -> Sources:
        means = discovery.Means(
            identify=functools.partial(backends.identify, self._look),
            find_local=functools.partial(backends.find_local, self._look),
            ports=backends.PORTS,
            own=self._is_own,
            environ=os.environ,
            seen=self._seen,
            report=self._source_changed,
        )
        return Sources(means, self._own, self.found, self._fleet.drop)

    # --- making and ending one

    def _is(self, config: BackendConfig) -> bool:
        """Whether there is this backend, as it is to be."""
        upstream = self._fleet.upstreams.get(config.name)
        return upstream is not None and upstream.config == config

    def _outdated(self, new: Config) -> list[BackendConfig]:
        return [
            one
            for one in new.backends
            if one.tls_ca and self._is(one) and _content(one.tls_ca) != self._trusted.get(one.name)
        ]

    def _make_new(self, new: Config, undo: ExitStack) -> tuple[dict[str, Upstream], dict[str, Upstream]]:
        """The backends that are not there as they are to be, and those that are and have to be made again."""
        limit = new.server.limits.event_bytes
        wanted = [config for config in new.backends if not self._is(config)]
        outdated = self._outdated(new)
        again = [
            config
            for config in self._fleet.backends
            if config in outdated
            or (limit != self._config.server.limits.event_bytes and config.kind != "gguf")
        ]
        made: dict[str, Upstream] = {}
        problems: list[str] = []
        for config in (*again, *wanted):
            try:
                upstream = made[config.name] = self._build(config, limit)
            except (OSError, ValueError) as error:
                problems.append(f"backends.{config.name}: cannot be used: {error}")
            else:
                undo.callback(self._runners.pop, upstream, None)
        if problems:
            raise ConfigError(problems)
        names = {config.name for config in again} - {config.name for config in wanted}
        return made, {name: made[name] for name in names}

    def _make(self, config: BackendConfig) -> Upstream:
        """As `_build`, or the one that has been made for this."""
        upstream = self._made.pop(config.name, None)
        if upstream is not None and upstream.config == config:
            return upstream
        return self._build(config, self._config.server.limits.event_bytes)

    def _build(self, config: BackendConfig, limit: int) -> Upstream:
        """limit: bytes of an event. Raises OSError (SSLError too) for a tls_ca that cannot be used."""
        tls = None
        if config.url.startswith("https:"):
            tls = client_context(verify=config.tls_verify, ca_file=config.tls_ca)
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
        models = sorted(self.catalog.models)
        if new or models != self._told:
            self._own(self._welcome(new))

    def _is_own(self, url: str) -> bool:
        """Whether that is an address of this gateway."""
        return leads_here(parse_origin(url), self._bound)

    def _ask_again(self) -> None:
        """Asks the backends for their models as often as is configured."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        if self._config.routing.refresh:
            self._asking = self._own(self.inventory.run(self._config.routing.refresh))

    async def _welcome(self, upstreams: Sequence[Upstream]) -> None:
        """Asks new backends for their models, and loads those that are to be loaded at once."""
        for upstream in upstreams:
            runner = self._runners.get(upstream)
            if runner is not None and runner.config.start == "start":
                self._own(self._wake(upstream.name, runner))
        await self.inventory.ask(upstreams)
        models = sorted(self.catalog.models)
        if models != self._told:
            self._told = models
            self._log.info("serving", models=models)

    def _rebuild(self, known: Mapping[str, Sequence[ModelInfo]]) -> None:
        self.catalog = build(self._config, self._fleet.backends, known)

    def _added(self, upstream: Upstream) -> None:
        self._new.append(upstream)
        if upstream.config.tls_ca:
            self._trusted[upstream.name] = _content(upstream.config.tls_ca)
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


def _content(path: str) -> bytes:
    """By which a file of another content is told; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return b""

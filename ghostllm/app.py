"""The composition root: a configuration becomes a running gateway. The only module that knows every layer."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ghostllm
from ghostllm import backends, observe
from ghostllm.config.schema import BackendConfig, Config
from ghostllm.errors import UpstreamError
from ghostllm.gateway.gateway import Gateway
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.net import loop
from ghostllm.net.fetch import fetch
from ghostllm.net.server import Server
from ghostllm.net.tls import client_context
from ghostllm.policy.keys import KeyRing
from ghostllm.ports import ModelInfo, Translator
from ghostllm.routing.catalog import Catalog, build
from ghostllm.routing.inventory import Inventory
from ghostllm.routing.upstream import Upstream
from ghostllm.state import responses
from ghostllm.state.database import Database
from ghostllm.state.responses import ResponseStore
from ghostllm.state.schema import StateError

if TYPE_CHECKING:
    from ghostllm.backends.gguf import GgufRunner

GC_THRESHOLD = 20_000


def serve(config: Config) -> int:
    """Runs until SIGTERM or SIGINT; the process's exit status."""
    # What has been loaded stays: the collector need not look at it again and again. A request leaves no rings
    # behind, so it may also look less often than after every 700 objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    return loop.run(App(config).run())


class App:
    """One gateway process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = observe.build(config.log)
        self._log = self._seen.log
        self._runners: dict[str, GgufRunner] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()
        self._catalog = Catalog({})

    async def run(self) -> int:
        self._seen.start(asyncio.get_running_loop())
        try:
            return await self._run()
        finally:
            self._seen.stop()

    async def _run(self) -> int:
        self._handle_signals()
        self._upstreams = {backend.name: self._upstream(backend) for backend in self._config.backends}
        self._inventory = Inventory(self._upstreams, self._rebuild, self._backend_changed)
        self._rebuild({})
        try:
            database = Database(
                self._config.state.file or None, [responses.COMPONENT], failed=self._unwritten
            )
        except StateError as error:
            self._log.error("cannot start", reason=str(error))
            return 1
        store = ResponseStore(database, responses.Limits(retention=self._config.state.responses))
        gateway = Gateway(self._snapshot(), self._seen.observer, self._seen.metrics.render, store)
        gateway.ready = lambda: any(self._serves(model.targets) for model in self._catalog.models.values())
        server = Server(gateway, self._config.server, self._crashed)
        self._observe(server)
        try:
            bound = await server.start()
        except OSError as error:
            self._log.error("cannot start", reason=str(error.strerror or error))
            return 1
        for address in bound:
            self._log.info("listening", address=address, version=ghostllm.__version__, loop=loop.NAME)
        self._own(self._start_backends(gateway))
        await self._stop.wait()
        gateway.draining = True
        self._log.info("draining", connections=server.connections, limit_s=self._config.server.timeouts.drain)
        await server.close(self._config.server.timeouts.drain)
        await self._close_backends()
        database.close()
        self._log.info("stopped")
        return 0

    # --- backends

    def _upstream(self, config: BackendConfig) -> Upstream:
        """Raises OSError, SSLError for a tls_ca that cannot be used."""
        tls = None
        if config.url.startswith("https:"):
            tls = client_context(verify=config.tls_verify, ca_file=config.tls_ca)
        limit = self._config.server.limits.event_bytes
        translator = backends.translator(config, limit)
        if config.kind != "gguf":
            learn = functools.partial(self._learn, config) if config.kind == "auto" else None
            return Upstream(config, backends.base_url(config), translator, tls=tls, learn=learn)
        from ghostllm.backends.gguf import GgufRunner  # here: who runs no model file pays nothing for it

        runner = GgufRunner(config, self._child_log(config.name))
        self._runners[config.name] = runner
        return Upstream(config, "", translator, tls=None, wake=runner.ensure)

    async def _learn(self, config: BackendConfig) -> tuple[Translator, str] | None:
        found = await backends.identify(self._look, config.url)
        if found is None:
            return None
        self._log.info("identified", backend=config.name, kind=found.kind, label=found.label)
        known = dataclasses.replace(config, kind=found.kind)
        return backends.translator(known, self._config.server.limits.event_bytes), backends.base_url(known)

    async def _start_backends(self, gateway: Gateway) -> None:
        """Everything that may take its time while requests are already being answered."""
        if not self._config.backends and self._config.discovery.local:
            await self._discover(gateway)
        for name, runner in self._runners.items():
            self._inventory.known[name] = [ModelInfo(runner.model)]
            if runner.config.start == "start":
                self._own(self._wake(name, runner))
        self._rebuild(self._inventory.known)
        await self._inventory.refresh()
        self._log.info("serving", models=sorted(self._catalog.models))
        if self._config.routing.refresh:
            await self._inventory.run(self._config.routing.refresh)

    async def _discover(self, gateway: Gateway) -> None:
        """Looks for servers on this machine until some are found."""
        while True:
            found = await backends.find_local(self._look)
            if found:
                break
            self._log.warning(
                "no LLM server found on this machine", hint="start one, or name one: --backend URL"
            )
            await asyncio.sleep(max(1.0, self._config.routing.refresh))
        for server in found:
            self._log.info("found", kind=server.kind, url=server.url, label=server.label)
        configs = [
            BackendConfig(
                name=f"{server.kind}-{server.url.rpartition(':')[2]}", kind=server.kind, url=server.url
            )
            for server in found
        ]
        self._config = dataclasses.replace(self._config, backends=tuple(configs))
        self._upstreams.update({config.name: self._upstream(config) for config in configs})
        gateway.snapshot = self._snapshot()

    async def _look(self, url: str, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
        answer = await fetch(url, path, seconds=self._config.discovery.timeout)
        return answer.status, answer.headers, answer.body

    async def _wake(self, name: str, runner: GgufRunner) -> None:
        try:
            await runner.ensure()
        except UpstreamError as error:
            self._backend_changed(name, error)

    async def _close_backends(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inventory.close()
        for upstream in self._upstreams.values():
            await upstream.close()
        for runner in self._runners.values():
            await runner.stop()

    # --- what the gateway asks of us

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            self._config,
            self._upstreams,
            KeyRing(self._config.keys),
            catalog=lambda: self._catalog,
            refresh=self._inventory.refresh_soon,
            body_bytes=self._config.server.limits.body_bytes,
            answer_bytes=self._config.server.limits.answer_bytes,
        )

    def _rebuild(self, known: Mapping[str, Sequence[ModelInfo]]) -> None:
        self._catalog = build(self._config, known)

    def _serves(self, targets: Sequence[Any]) -> bool:
        return any(self._inventory.reachable.get(target.backend, True) for target in targets)

    def _observe(self, server: Server) -> None:
        """Gauges that are read when somebody asks for the metrics."""
        self._seen.metrics.model_name = self._model_name
        gauge = self._seen.metrics.gauge
        gauge("ghostllm_connections", "Open client connections.", lambda: [({}, server.connections)])
        gauge("ghostllm_tasks", "Tasks of the event loop.", lambda: [({}, len(asyncio.all_tasks()))])
        gauge(
            "ghostllm_upstream_connections",
            "Connections to backends, by state, and calls waiting for one.",
            lambda: [
                ({"backend": name, "state": state}, getattr(upstream.pool, state))
                for name, upstream in self._upstreams.items()
                for state in ("idle", "active", "waiting")
            ],
        )
        gauge(
            "ghostllm_backend_up",
            "Whether the backend's model list answered last time.",
            lambda: [({"backend": name}, int(up)) for name, up in self._inventory.reachable.items()],
        )

    def _model_name(self, name: str) -> str | None:
        """The name by which a model is counted, whatever alias it was called by; None for an invention."""
        model = self._catalog.find(name)
        return model.name if model is not None else None

    # --- housekeeping

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(f"{task.get_name()} ended", error)

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        if sys.platform == "win32":
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._stop.set)
        running.add_signal_handler(
            signal.SIGHUP,
            lambda: self._log.warning("SIGHUP ignored: a changed configuration needs a restart"),
        )

    def _backend_changed(self, name: str, error: UpstreamError | None) -> None:
        if error is None:
            self._log.info("backend answers", backend=name)
        else:
            self._log.warning("backend does not answer", backend=name, reason=error.message)

    def _unwritten(self, reason: str, records: int) -> None:
        """Called from the state's own thread, too: the log takes records from any."""
        self._log.error("state not written" if records else "state not read", reason=reason, records=records)

    def _child_log(self, name: str) -> Any:
        return lambda level, line: self._log.child(level, name, line)

    def _crashed(self, what: str, error: BaseException) -> None:
        self._log.exception(what, error)

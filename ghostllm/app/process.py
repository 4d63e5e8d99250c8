"""One gateway process, from its configuration to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import ghostllm
from ghostllm import observe
from ghostllm.admin import audit as admin_audit
from ghostllm.admin import cache as admin_cache
from ghostllm.admin import config as admin_config
from ghostllm.admin import keys as admin_keys
from ghostllm.admin import routes as admin
from ghostllm.admin import usage as admin_usage
from ghostllm.admin.openapi import route as openapi
from ghostllm.app import money, parts
from ghostllm.app.access import Access
from ghostllm.app.audit import Auditor
from ghostllm.app.fleet_life import FleetLife
from ghostllm.app.gauges import add_routing_gauges
from ghostllm.app.key_desk import KeyDesk
from ghostllm.app.no_answers import NoAnswers
from ghostllm.app.operations import Operator
from ghostllm.app.reload import Reloader
from ghostllm.app.standing import Standing
from ghostllm.app.state_log import StateLog
from ghostllm.app.watch import FileWatch
from ghostllm.config.inputs import Inputs, Source
from ghostllm.config.mask import Mask, secrets_of
from ghostllm.config.schema import Config
from ghostllm.errors import ConfigError, GhostError
from ghostllm.gateway.gateway import Gateway, Parts
from ghostllm.gateway.generate import Generator
from ghostllm.gateway.pictures import Pictures, pictures
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.net import loop
from ghostllm.net.server import Server
from ghostllm.observe.rates import Rates
from ghostllm.policy.roles import group_of
from ghostllm.routing.prober import Prober
from ghostllm.routing.router import Router
from ghostllm.state import audit, configurations, keys, ledger, responses
from ghostllm.state.audit import AuditTrail
from ghostllm.state.configurations import ConfigurationStore
from ghostllm.state.database import Database
from ghostllm.state.responses import ResponseStore
from ghostllm.state.schema import StateError

if TYPE_CHECKING:
    from ghostllm.app.answer_life import AnswerLife
    from ghostllm.app.cluster_life import ClusterLife
    from ghostllm.cache.answers import Answers

GC_THRESHOLD = 20_000
SIDES = (parts.own_side, parts.admin_side)
"""What the servers listen on, and by which limits."""


def serve(config: Config, inputs: Inputs, source: Source) -> int:
    """Runs until SIGTERM or SIGINT; the process's exit status. inputs, source: what the configuration was
    made of, and is made of again when it is reloaded.
    """
    # What has been loaded stays: the collector need not look at it again and again. A request leaves no rings
    # behind, so it may also look less often than after every 700 objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    return loop.run(App(config, inputs, source).run())


class App:
    """One gateway process. started: set once it listens, with gateway and servers there. stop: set by whoever
    wants it to end.
    """

    gateway: Gateway
    servers: list[Server]

    def __init__(self, config: Config, inputs: Inputs, source: Source) -> None:
        self._config = config
        self._inputs = inputs
        self._source = source
        self._reloader: Reloader | None = None
        self._seen = observe.build(config.log, keep=config.routing.explain)
        self._log = self._seen.log
        self._access = Access(config, self._log)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.stop = asyncio.Event()
        self.started = asyncio.Event()
        self._cluster: ClusterLife | None = None
        self._kept: AnswerLife | NoAnswers = NoAnswers()
        self._answers: Answers | None = None

    async def run(self) -> int:
        self._seen.start(asyncio.get_running_loop())
        try:
            return await self._run()
        except Exception as error:  # told here, where secrets are masked, and not by the interpreter
            self._crashed("the gateway ended", error)
            return 1
        finally:
            self._seen.stop()

    async def _run(self) -> int:
        self._handle_signals()
        self._fleet = FleetLife(self._config, self._log, self._own, self._fleet_changed)
        self._pictures = pictures(self._config.outbound, self._config.server.limits.body_bytes)
        chance = random.Random()
        routing = self._config.routing
        self._router = Router(routing, self._fleet.upstreams, chance, time.monotonic())
        try:
            database = Database(
                self._config.state.file or None,
                [
                    responses.COMPONENT,
                    ledger.COMPONENT,
                    configurations.COMPONENT,
                    audit.COMPONENT,
                    keys.COMPONENT,
                ],
                failed=StateLog(self._log),
            )
            books = money.build(self._config, database, self._log)
            await books.load()
            await self._access.open(database)
            self._remember(books)
        except (StateError, ConfigError, GhostError) as error:
            self._log.error("cannot start", reason=str(error))
            return 1
        generator = Generator(self._router, books.accounts)
        operator = Operator(self._fleet, generator, self._log)
        self._fleet.answered = operator.answered
        prober = operator.prober = Prober(self._fleet.upstreams, routing.health, operator.probed, chance)
        store = ResponseStore(database, responses.Limits(retention=self._config.state.responses))
        trail = AuditTrail(database, self._config.state.audit)
        auditor = Auditor(self._log, trail)
        reloader = await self._make_reloader(database)
        gateway = self.gateway = Gateway(
            self._snapshot(),
            Parts(
                generator=generator,
                observer=self._seen.observer,
                metrics=self._seen.metrics.render,
                store=store,
                group_of=group_of,
                routes=[
                    *admin.routes(operator, self._seen.recorder),
                    *admin_keys.routes(KeyDesk(self._access, database, self._log)),
                    *admin_usage.routes(books.accounts, books.ledger, self._config.usage.currency),
                    *admin_cache.routes(self._kept),
                    openapi.route(lambda: gateway.routes.all),
                    *admin_config.routes(reloader),
                    *admin_audit.routes(trail),
                ],
                audit=auditor.exchange,
            ),
        )
        gateway.ready = lambda: any(
            self._serves(model.targets) for model in self._fleet.catalog.models.values()
        )
        servers = self.servers = self._servers(gateway)
        self._observe(servers)
        add_routing_gauges(self._seen.metrics, self._fleet.upstreams, generator)
        money.add_money_gauges(self._seen.metrics, books, database, self._config.usage.currency)
        rates = Rates(self._seen.metrics.totals)
        operator.standing = Standing(
            fleet=self._fleet,
            router=self._router,
            gateway=gateway,
            server=servers[0],
            seen=self._seen,
            rates=rates,
        )
        watch = FileWatch(
            self._inputs, lambda: reloader.reload_if_new("the file has changed"), self._log, self._own
        )
        reloader.parts += [
            parts.simple(self._hold),
            parts.simple(lambda old, new: books.adopt(new)),
            parts.observability(self._seen),
            *(parts.serving(one, side, self._log) for one, side in zip(servers, SIDES, strict=False)),
            parts.routing(generator, prober),
            parts.images(self._take_pictures),
            parts.simple(lambda old, new: trail.retain(new.state.audit)),
            parts.access(self._access),
            parts.fleet(self._fleet, servers[0]),
            parts.responses(store),
            parts.simple(lambda old, new: self._kept.adopt(new)),
            parts.simple(watch.follow),
        ]
        reloader.outside.append(self._fleet.outside)
        reloader.noted = lambda how, error, changed: auditor.note(
            "config reload", who=how, error=error, changed=changed
        )
        try:
            bound = await self._listen(servers)
        except OSError as error:
            self._log.error("cannot start", reason=str(error.strerror or error))
            return 1
        operator.standing.listening = bound
        self._fleet.start(bound)
        self._own(prober.run())
        self._own(books.keep_order())
        self._own(rates.run())
        self._own(self._access.run())
        self._reloader = reloader
        watch.follow(None, self._config)
        if self._cluster is not None:
            self._cluster.start(self._own)
        self.started.set()
        await self.stop.wait()
        self._reloader = None
        gateway.draining = True
        drain = self._config.server.timeouts.drain
        open_now = sum(server.connections for server in servers)
        self._log.info("draining", connections=open_now, limit_s=drain)
        watch.stop()
        await reloader.close()
        await asyncio.gather(*(server.close(drain) for server in servers))
        await self._close()
        self._access.close()
        database.close()
        self._log.info("stopped")
        return 0

    def _servers(self, gateway: Gateway) -> list[Server]:
        """One for everybody, and one for the admin API where that has addresses of its own."""
        servers = [Server(gateway, self._config.server, self._crashed)]
        if self._config.admin.listen:
            servers.append(Server(gateway.part_admin(), parts.admin_side(self._config), self._crashed))
        return servers

    async def _listen(self, servers: Sequence[Server]) -> list[str]:
        """The addresses that they listen on. Raises OSError, and then none of them listens."""
        bound: list[str] = []
        for server, event in zip(servers, ("listening", "listening for admin"), strict=False):
            try:
                addresses = await server.start()
            except OSError:
                for other in servers:
                    await other.close(1)
                raise
            for address in addresses:
                self._log.info(event, address=address, version=ghostllm.__version__, loop=loop.NAME)
            bound += addresses
        return bound

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._fleet.close()
        if self._cluster is not None:
            await self._cluster.close()

    def _remember(self, books: money.Money) -> None:
        """What is asked for only, imports included. Raises ConfigError for an extra that is missing."""
        if self._config.redis.url:
            from ghostllm.app.cluster_life import ClusterLife

            self._cluster = ClusterLife(self._config.redis, self._log)
            self._cluster.add_gauges(self._seen.metrics)
            self._cluster.share_breakers(self._fleet.upstreams, self._router)
            books.accounts.shared = self._cluster.share(books.calendar, books.accounts.budgets)
        if self._config.cache.backend != "off":
            from ghostllm.app.answer_life import AnswerLife

            life = AnswerLife(self._config, self._log, self._cluster, lambda: self._fleet.catalog)
            life.add_gauges(self._seen.metrics)
            self._kept, self._answers = life, life.answers

    async def _make_reloader(self, database: Database) -> Reloader:
        store = ConfigurationStore(database)
        with contextlib.suppress(GhostError):  # the log has it
            await store.load()
        reloader = Reloader(self._inputs, self._source, self._config, store, self._log)
        self._seen.metrics.counter(
            "ghostllm_config_reloads",
            "Attempts to apply another configuration, by how they ended.",
            lambda: [({"outcome": outcome}, times) for outcome, times in reloader.ended.items()],
        )
        return reloader

    def _hold(self, old: Config, new: Config) -> None:
        self._config = new

    # --- what the gateway asks of us

    def _snapshot(self) -> Snapshot:
        found = (upstream.config for upstream in self._fleet.upstreams.values())
        mask = self._log.mask = Mask(secrets_of([self._config, *found]))
        return Snapshot(
            self._config,
            self._fleet.upstreams,
            self._access.authenticator,
            catalog=lambda: self._fleet.catalog,
            refresh=self._fleet.inventory.refresh_soon,
            body_bytes=self._config.server.limits.body_bytes,
            answer_bytes=self._config.server.limits.answer_bytes,
            json_depth=self._config.server.limits.json_depth,
            coalesces=any(model.coalesce for model in self._config.models),
            pictures=self._pictures,
            mask=mask,
            answers=self._answers,
        )

    def _take_pictures(self, made: Pictures | None) -> None:
        self._pictures = made

    def _fleet_changed(self) -> None:
        self.gateway.snapshot = self._snapshot()
        self._router.prune()

    def _serves(self, targets: Sequence[Any]) -> bool:
        return any(self._fleet.inventory.reachable.get(target.backend, True) for target in targets)

    def _observe(self, servers: Sequence[Server]) -> None:
        """Gauges that are read when somebody asks for the metrics."""
        self._seen.metrics.model_name = self._model_name
        gauge = self._seen.metrics.gauge
        gauge(
            "ghostllm_connections",
            "Open client connections.",
            lambda: [({}, sum(server.connections for server in servers))],
        )
        gauge("ghostllm_tasks", "Tasks of the event loop.", lambda: [({}, len(asyncio.all_tasks()))])
        gauge(
            "ghostllm_upstream_connections",
            "Connections to backends, by state, and calls waiting for one.",
            lambda: [
                ({"backend": name, "state": state}, getattr(upstream.pool, state))
                for name, upstream in self._fleet.upstreams.items()
                for state in ("idle", "active", "waiting")
            ],
        )
        gauge(
            "ghostllm_backend_up",
            "Whether the backend's model list answered last time.",
            lambda: [({"backend": name}, int(up)) for name, up in self._fleet.inventory.reachable.items()],
        )

    def _model_name(self, name: str) -> str | None:
        """The name by which a model is counted, whatever alias it was called by; None for an invention."""
        model = self._fleet.catalog.find(name)
        return model.name if model is not None else None

    # --- housekeeping

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(f"{task.get_name()} ended", error)

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        if sys.platform == "win32":
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self.stop.set)
        running.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        if self._reloader is not None:
            self._reloader.ask("SIGHUP")
        else:
            self._log.warning("SIGHUP ignored: the gateway is starting or ending")

    def _crashed(self, what: str, error: BaseException) -> None:
        self._log.exception(what, error)

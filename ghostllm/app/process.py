"""One gateway process, from its configuration to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
import threading
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
from ghostllm.api import translators
from ghostllm.app import money, parts
from ghostllm.app.access import Access, shares_keys
from ghostllm.app.audit import Auditor
from ghostllm.app.fleet_life import FleetLife
from ghostllm.app.gauges import add_gauges, add_routing_gauges
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

GC_THRESHOLDS = 10_000, 50
"""Objects made and not yet gone, after which the collector looks at them: for a millisecond or two, and after
so many looks at all since the start.
"""

STATE = [
    responses.COMPONENT, ledger.COMPONENT, configurations.COMPONENT, audit.COMPONENT, keys.COMPONENT,
]  # fmt: skip
"""What the state file has."""

LATER = 1.0
"""Seconds after the start: then what it left out is loaded, on a thread of its own."""

SIDES = (parts.own_side, parts.admin_side)
"""What the servers listen on, and by which limits."""


def serve(config: Config, inputs: Inputs, source: Source) -> int:
    """Runs until SIGTERM or SIGINT; the process's exit status. inputs, source: what the configuration was
    made of, and is made of again when it is reloaded.
    """
    # What has been loaded stays: the collector need not look at it again and again, not even once. A request
    # leaves no rings behind, so it may also look less often than after every 700 objects.
    gc.freeze()
    gc.enable()
    gc.set_threshold(*GC_THRESHOLDS)
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
        try:
            await self._open()
        except (StateError, ConfigError, GhostError) as error:
            self._log.error("cannot start", reason=str(error))
            return 1
        self._build()
        try:
            bound = await self._listen()
        except OSError as error:
            self._log.error("cannot start", reason=str(error.strerror or error))
            return 1
        self._start(bound)
        await self.stop.wait()
        await self._end()
        return 0

    # --- from the configuration to a gateway that listens

    async def _open(self) -> None:
        """What there is to be known before the first request. Raises StateError, ConfigError, GhostError."""
        config = self._config
        self._fleet = FleetLife(config, self._log, self._own, self._fleet_changed)
        self._pictures = pictures(config.outbound, config.server.limits.body_bytes)
        self._router = Router(config.routing, self._fleet.upstreams, random.Random(), time.monotonic())
        self._database = Database(config.state.file or None, STATE, failed=StateLog(self._log))
        if self._database.unkept:
            self._log.error(
                "state only read: what is added is gone at the end",
                file=config.state.file,
                reason=self._database.unkept,
            )
        self._books = money.build(config, self._database, self._log)
        await self._books.load()
        await self._access.open(self._database)
        self._remember()
        self._responses = ResponseStore(self._database, responses.Limits(retention=config.state.responses))
        self._trail = AuditTrail(self._database, config.state.audit)
        self._reloader = await self._make_reloader()

    def _remember(self) -> None:
        """What is asked for only, imports included. Raises ConfigError for an extra that is missing."""
        config, books = self._config, self._books
        if config.redis.url:
            from ghostllm.app.cluster_life import ClusterLife

            self._cluster = ClusterLife(config.redis, self._log)
            self._cluster.add_gauges(self._seen.metrics)
            self._cluster.share_breakers(self._fleet.upstreams, self._router)
            books.accounts.shared = self._cluster.share(books.calendar, books.accounts.budgets)
            if shares_keys(config):
                self._access.told = self._cluster.share_keys(self._access.issued, self._access.hasher).told
        if config.cache.backend != "off":
            from ghostllm.app.answer_life import AnswerLife

            life = AnswerLife(config, self._log, self._cluster, lambda: self._fleet.catalog)
            life.add_gauges(self._seen.metrics)
            self._kept, self._answers = life, life.answers

    def _build(self) -> None:
        config, metrics = self._config, self._seen.metrics
        generator = Generator(self._router, self._books.accounts)
        operator = self._operator = Operator(self._fleet, generator, self._log)
        self._fleet.answered = operator.answered
        self._prober = operator.prober = Prober(
            self._fleet.upstreams, config.routing.health, operator.probed, self._router.chance
        )
        auditor = Auditor(self._log, self._trail)
        self.gateway = self._make_gateway(generator, auditor)
        self.servers = self._servers(self.gateway)
        self._rates = Rates(metrics.totals)
        self._standing = operator.standing = Standing(
            fleet=self._fleet,
            router=self._router,
            gateway=self.gateway,
            server=self.servers[0],
            seen=self._seen,
            rates=self._rates,
        )
        metrics.model_name = self._model_name
        add_gauges(metrics, self.servers, self._fleet)
        add_routing_gauges(metrics, self._fleet.upstreams, generator)
        money.add_money_gauges(metrics, self._books, self._database, config.usage.currency)
        self._follow(generator, auditor)

    def _make_gateway(self, generator: Generator, auditor: Auditor) -> Gateway:
        books = self._books
        gateway = Gateway(
            self._snapshot(),
            Parts(
                generator=generator,
                observer=self._seen.observer,
                metrics=self._seen.metrics.render,
                store=self._responses,
                group_of=group_of,
                routes=[
                    *admin.routes(self._operator, self._seen.recorder),
                    *admin_keys.routes(KeyDesk(self._access, self._database, self._log)),
                    *admin_usage.routes(books.accounts, books.ledger, self._config.usage.currency),
                    *admin_cache.routes(self._kept),
                    *admin_config.routes(self._reloader),
                    *admin_audit.routes(self._trail),
                    openapi.route(lambda: gateway.routes.all),
                ],
                audit=auditor.exchange,
            ),
        )
        gateway.ready = lambda: any(
            self._serves(model.targets) for model in self._fleet.catalog.models.values()
        )
        return gateway

    def _follow(self, generator: Generator, auditor: Auditor) -> None:
        """What follows the configuration when it is read again, in the order in which it does."""
        reloader, books, trail = self._reloader, self._books, self._trail
        self._watch = FileWatch(
            self._inputs, lambda: reloader.reload_if_new("the file has changed"), self._log, self._own
        )
        reloader.parts += [
            parts.simple(self._hold),
            parts.simple(lambda old, new: books.adopt(new)),
            parts.observability(self._seen),
            *(parts.serving(one, side, self._log) for one, side in zip(self.servers, SIDES, strict=False)),
            parts.routing(generator, self._prober),
            parts.images(self._take_pictures),
            parts.simple(lambda old, new: trail.retain(new.state.audit)),
            parts.access(self._access),
            parts.fleet(self._fleet, self.servers[0]),
            parts.responses(self._responses),
            parts.simple(lambda old, new: self._kept.adopt(new)),
            parts.simple(self._watch.follow),
        ]
        reloader.outside.append(self._fleet.outside)
        reloader.noted = lambda how, error, changed: auditor.note(
            "config reload", who=how, error=error, changed=changed
        )

    def _start(self, bound: Sequence[str]) -> None:
        """What goes on beside the requests. bound: the addresses that it listens on."""
        self._standing.listening = bound
        self._fleet.start(bound)
        for work in (self._prober.run(), self._books.keep_order(), self._rates.run(), self._access.run()):
            self._own(work)
        if self._cluster is not None:
            self._cluster.start(self._own)
        self._watch.follow(None, self._config)
        asyncio.get_running_loop().call_later(
            LATER, threading.Thread(target=translators.load, daemon=True).start
        )
        self.started.set()

    async def _end(self) -> None:
        self.gateway.draining = True
        drain = self._config.server.timeouts.drain
        open_now = sum(server.connections for server in self.servers)
        self._log.info("draining", connections=open_now, limit_s=drain)
        self._watch.stop()
        await self._reloader.close()
        await asyncio.gather(*(server.close(drain) for server in self.servers))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._fleet.close()
        if self._cluster is not None:
            await self._cluster.close()
        self._access.close()
        self._database.close()
        self._log.info("stopped")

    def _servers(self, gateway: Gateway) -> list[Server]:
        """One for everybody, and one for the admin API where that has addresses of its own."""
        servers = [Server(gateway, self._config.server, self._crashed)]
        if self._config.admin.listen:
            servers.append(Server(gateway.part_admin(), parts.admin_side(self._config), self._crashed))
        return servers

    async def _listen(self) -> list[str]:
        """The addresses that they listen on. Raises OSError, and then none of them listens."""
        bound: list[str] = []
        for server, event in zip(self.servers, ("listening", "listening for admin"), strict=False):
            try:
                addresses = await server.start()
            except OSError:
                for other in self.servers:
                    await other.close(1)
                raise
            for address in addresses:
                self._log.info(event, address=address, version=ghostllm.__version__, loop=loop.NAME)
            bound += addresses
        return bound

    async def _make_reloader(self) -> Reloader:
        store = ConfigurationStore(self._database)
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
        if self.started.is_set() and not self.stop.is_set():
            self._reloader.ask("SIGHUP")
        else:
            self._log.warning("SIGHUP ignored: the gateway is starting or ending")

    def _crashed(self, what: str, error: BaseException) -> None:
        self._log.exception(what, error)

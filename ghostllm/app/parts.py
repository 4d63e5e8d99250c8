"""The parts of a running gateway that follow its configuration, as `reload` describes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ghostllm.app.access import Access
from ghostllm.app.fleet_life import FleetLife
from ghostllm.app.reload import Commit, Part
from ghostllm.config.schema import Config
from ghostllm.config.schema import Server as ServerConfig
from ghostllm.errors import ConfigError
from ghostllm.gateway.generate import Generator
from ghostllm.gateway.pictures import Pictures, pictures
from ghostllm.net.server import Server
from ghostllm.observe import Observability
from ghostllm.observe.log import Logger
from ghostllm.routing.prober import Prober
from ghostllm.state.responses import ResponseStore


def simple(follow: Callable[[Config, Config], None]) -> Part:
    """A part that can refuse nothing. follow: takes the old configuration and the new one."""

    def part(old: Config, new: Config, undo: ExitStack) -> Commit:
        return lambda: follow(old, new)

    return part


def observability(seen: Observability) -> Part:
    """Level, format, access log, and how many requests are remembered."""

    def follow(old: Config, new: Config) -> None:
        if new.log != old.log or new.routing.explain != old.routing.explain:
            seen.retune(new.log, new.routing.explain)

    return simple(follow)


def own_side(config: Config) -> ServerConfig:
    return config.server


def admin_side(config: Config) -> ServerConfig:
    """The admin API's own addresses, with the limits of the others."""
    return replace(config.server, listen=config.admin.listen)


def serving(server: Server, side: Callable[[Config], ServerConfig], log: Logger) -> Part:
    """Listening addresses, limits and time limits towards clients. side: what the server goes by."""

    def part(old: Config, new: Config, undo: ExitStack) -> Commit:
        if side(new) == side(old):
            return nothing
        try:
            switch = server.prepare(side(new), undo)
        except OSError as error:
            raise ConfigError([f"server.listen: {error.strerror or error}"]) from None

        def commit() -> Coroutine[Any, Any, None]:
            before = set(server.bound)
            rest = switch()
            for address in set(server.bound) - before:
                log.info("listening", address=address)
            for address in before - set(server.bound):
                log.info("no longer listening", address=address)
            return rest

        return commit

    return part


def access(access: Access) -> Part:
    """Keys, roles, issuers, clients known by their address. To commit before `fleet`."""

    def part(old: Config, new: Config, undo: ExitStack) -> Commit:
        commit = access.prepare(new)

        def done() -> None:
            commit()

        return done

    return part


def routing(generator: Generator, prober: Prober) -> Part:
    """How targets are chosen, and the queues before models. To commit before `fleet`."""

    def follow(old: Config, new: Config) -> None:
        slots = {model.name: model.max_inflight for model in new.models if model.max_inflight}
        generator.router.retune(new.routing, slots, time.monotonic())
        generator.retune({model.name: model.split for model in new.models})
        prober.retune(new.routing.health)

    return simple(follow)


def images(take: Callable[[Pictures | None], None]) -> Part:
    """What fetches images by URL. To commit before `fleet`."""

    def part(old: Config, new: Config, undo: ExitStack) -> Commit:
        if new.outbound == old.outbound and new.server.limits == old.server.limits:
            return nothing
        try:
            made = pictures(new.outbound, new.server.limits.body_bytes)
        except OSError as error:
            raise ConfigError([f"outbound.tls_ca: {error.strerror or error}"]) from None
        return lambda: take(made)

    return part


def fleet(life: FleetLife, server: Server) -> Part:
    """Backends, models and sources. To commit after `serving`, whose addresses no backend may have; it ends
    by swapping the gateway's snapshot.
    """

    def part(old: Config, new: Config, undo: ExitStack) -> Commit:
        commit = life.prepare(old, new, undo)
        return lambda: commit(server.bound)

    return part


def responses(store: ResponseStore) -> Part:
    return simple(lambda old, new: store.retain(new.state.responses))


def nothing() -> Coroutine[Any, Any, None] | None:
    """The commit of a part that has nothing to do."""
    return None

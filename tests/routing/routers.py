"""Routers over backends that are never called."""

from __future__ import annotations

import random

from ghostllm import backends, jsonx
from ghostllm.api.openai import door
from ghostllm.config.schema import BackendConfig, ModelConfig
from ghostllm.config.traffic import Routing, TargetConfig
from ghostllm.message import ANONYMOUS
from ghostllm.routing.breaker import State, Verdict
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.router import Router
from ghostllm.routing.upstream import Upstream


async def never():
    raise AssertionError("nothing is sent")


def upstream(name, **config):
    """wake keeps it from opening anything."""
    made = BackendConfig(name=name, kind="openai", url="http://127.0.0.1:1", **config)
    return Upstream(made, made.url, backends.translator(made, 1 << 20), tls=None, wake=never)


def router(*configs, seed=1, **routing):
    """configs: names of backends, or their configurations."""
    fleet = [upstream(one) if isinstance(one, str) else upstream(**one) for one in configs]
    return Router(Routing(**routing), {one.name: one for one in fleet}, random.Random(seed), 0.0)


def model(balance, *targets, name="m", **config):
    """targets: names of backends or Targets; config: of its [[models]] entry."""
    made = tuple(Target(one, name) if isinstance(one, str) else one for one in targets)
    listed = tuple(TargetConfig(backend=one.backend) for one in made)
    own = ModelConfig(name=name, targets=listed, **config) if config else None
    return Model(name, made, balance, own)


def call(text="hello", **fields):
    fields = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    return door.read_call("chat", jsonx.dumps(fields))


def plan(routes, of, asked=None, now=0.0, identity=ANONYMOUS, headers=None):
    return routes.plan(of, asked or call(), identity, headers or {}, now)


def names(made):
    return [target.backend for target in made.targets]


def break_open(state, now, *, retry_after=None):
    """As many failures in a row as it takes."""
    while state.breaker.state is not State.OPEN:
        ticket = state.breaker.admit(now, force=True)
        state.breaker.settle(ticket, Verdict.FAILURE, now, retry_after=retry_after)

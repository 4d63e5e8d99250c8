"""Everything a request needs to know of the configuration, in one object that never changes.

A reload makes another snapshot and swaps it in by one assignment; a request keeps the one it began with. Only
the catalog inside is looked up anew, because the backends' own model lists change without a reload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from ghostllm.config.mask import Mask
from ghostllm.config.resolve import resolved_timeouts
from ghostllm.config.schema import Config
from ghostllm.gateway.pictures import Pictures
from ghostllm.net.client import TimeLimits
from ghostllm.ports import AnswerCache, Authenticator
from ghostllm.routing.catalog import MOST_NAMES, Catalog, Model
from ghostllm.routing.upstream import Upstream


@dataclass(slots=True, frozen=True)
class Snapshot:
    """catalog: gives the newest one. refresh: asks the backends for their models, for a name that nobody
    knows. body_bytes, answer_bytes, json_depth: the limits of the configuration that every call is held to.
    coalesces: some model's identical requests share a call. pictures: fetches images by URL, None: they are
    passed on. mask: takes the secrets of the configuration out of errors. answers: those given again; None:
    none are.
    """

    config: Config
    upstreams: Mapping[str, Upstream]
    authenticator: Authenticator
    catalog: Callable[[], Catalog]
    refresh: Callable[[], Awaitable[None]]
    body_bytes: int
    answer_bytes: int
    coalesces: bool = False
    pictures: Pictures | None = None
    mask: Mask = field(default_factory=Mask)
    json_depth: int = 128
    answers: AnswerCache | None = None
    _kinds: dict[str, tuple[Model, tuple[str, ...]]] = field(default_factory=dict)
    _limits: dict[tuple[str, str, bool, bool, bool], TimeLimits] = field(default_factory=dict)

    def rescues(self, model: Model) -> bool:
        """Whether its streams go on elsewhere when they break."""
        own = model.config.rescue if model.config is not None else None
        return self.config.routing.rescue if own is None else own

    def uncached(self) -> Snapshot:
        """The same, for calls that are neither answered from the cache nor kept there."""
        return self if self.answers is None else replace(self, answers=None)

    def kinds(self, model: Model) -> tuple[str, ...]:
        """What is behind a model: of each target the kind of backend and what it calls the model there, each
        once, sorted.
        """
        name = model.asked or model.name
        known = self._kinds.get(name)
        if known is not None and known[0] is model:
            return known[1]
        upstreams = self.upstreams
        found = {
            f"{upstreams[target.backend].config.kind} {target.model}"
            for target in model.targets
            if target.backend in upstreams
        }
        kinds = tuple(sorted(found))
        if len(self._kinds) >= MOST_NAMES:
            self._kinds.clear()
        self._kinds[name] = model, kinds
        return kinds

    def limits(
        self, upstream: Upstream, model: Model, *, stream: bool, last: bool, loading: bool
    ) -> TimeLimits:
        """The time limits of one attempt. last: there is no other target. loading: the model has to be loaded
        first.

        The head of an answer that is not streamed comes when all of it has been computed, so neither the head
        nor the first-token limit is for it: `total` bounds it. Nor is there a reason to leave a slow target
        for nobody: the last one may take as long as a whole answer.
        """
        key = (upstream.name, model.name, stream, last, loading)
        limits = self._limits.get(key)
        if limits is None:
            at = resolved_timeouts(self.config, upstream.config, model.config)
            if stream:
                first_token = _longer(at.first_token, at.total) if last else at.first_token
                load = at.load if loading else 0.0
                limits = TimeLimits(
                    at.connect,
                    at.head and at.head + load,
                    first_token and first_token + load,
                    at.idle,
                    at.stream_total,
                )
            else:
                limits = TimeLimits(at.connect, 0.0, 0.0, at.idle, at.total)
            if len(self._limits) < 10_000:
                self._limits[key] = limits
        return limits


def _longer(one: float, other: float) -> float:
    """Of two limits; 0 is none."""
    return max(one, other) if one and other else 0.0

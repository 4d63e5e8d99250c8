"""The models that are served, and the targets behind each. A catalog is built whole and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ghostllm.config.patterns import backend_matches, is_pattern
from ghostllm.config.schema import BackendConfig, Config, ModelConfig
from ghostllm.message import Identity, Parameters
from ghostllm.ports import ModelInfo


@dataclass(slots=True, frozen=True)
class Target:
    """One backend and its own name for the model. context: tokens; None: nobody said. capabilities: what it
    can do there (ports.ModelInfo); empty: nobody said.
    """

    backend: str
    model: str
    weight: float = 1.0
    context: int | None = None
    capabilities: frozenset[str] = frozenset()


@dataclass(slots=True, frozen=True)
class Model:
    """A model by the name that clients use. config: its [[models]] entry, if it has one; info: what a backend
    said. asked: of a name with a wildcard, the one that it stands for in this request. picky: of some target
    it is known what it cannot do, or how much it can take.
    """

    name: str
    targets: tuple[Target, ...]
    balance: str
    config: ModelConfig | None = None
    info: ModelInfo | None = None
    parameters: Parameters | None = None
    asked: str = ""
    picky: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        picky = any(target.context is not None or target.capabilities for target in self.targets)
        object.__setattr__(self, "picky", picky)

    def open_to(self, identity: Identity, group: str) -> bool:
        """Whether a key may use it for what a group of routes means."""
        return identity.may(group, self.asked or self.name)

    def called(self, name: str) -> Model | None:
        """Of a name with a wildcard, the model for one of the names it stands for; None: not for this."""
        before, star, after = self.name.partition("*")
        if not star or len(name) <= len(before) + len(after):
            return None
        if not (name.startswith(before) and name.endswith(after)):
            return None
        middle = name[len(before) : len(name) - len(after)]
        targets = tuple(
            replace(target, model=name if target.model == self.name else target.model.replace("*", middle))
            for target in self.targets
        )
        return replace(self, targets=targets, asked=name)


MOST_NAMES = 1024
"""Names looked up by wildcard that are remembered: clients choose them."""


@dataclass(slots=True, frozen=True)
class Catalog:
    """models: by name. aliases: further names, each of one model. wildcards: models whose names have one,
    the most exact first.
    """

    models: Mapping[str, Model]
    aliases: Mapping[str, str] = field(default_factory=dict)
    wildcards: Sequence[Model] = ()
    _called: dict[str, Model] = field(default_factory=dict, repr=False, compare=False)
    _named: dict[str, Model] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._named.update(self.models)
        self._named.update({alias: self.models[name] for alias, name in self.aliases.items()})

    def find(self, name: str) -> Model | None:
        """By name or alias; `x` and `x:latest` mean the same, as Ollama has it. Then by wildcard."""
        model = self._named.get(name)
        if model is not None:
            return model
        for candidate in (f"{name}:latest", name.removesuffix(":latest")):
            model = self._named.get(candidate)
            if model is not None:
                return model
        return self._by_wildcard(name) if self.wildcards else None

    def visible(self, identity: Identity) -> list[Model]:
        """Those that a key may see, by names that can be asked for."""
        return [
            model
            for name, model in self.models.items()
            if "*" not in name and model.open_to(identity, "models")
        ]

    def _by_wildcard(self, name: str) -> Model | None:
        known = self._called.get(name)
        if known is None:
            for model in self.wildcards:
                known = model.called(name)
                if known is not None:
                    if len(self._called) >= MOST_NAMES:
                        self._called.clear()
                    self._called[name] = known
                    break
        return known


def build(
    config: Config, backends: Sequence[BackendConfig], inventories: Mapping[str, Sequence[ModelInfo]]
) -> Catalog:
    """The catalog of a configuration and the backends there are now, given what each said it has (the last it
    said, if it is silent now).

    With [[models]] configured exactly those are served; without, every backend's own, same names pooled.
    """
    weights = {backend.name: backend.weight for backend in backends}
    known = {(name, info.id): info for name in weights for info in inventories.get(name, ())}
    if config.models:
        models = {
            model.name: _configured(model, config.routing.balance, weights, known) for model in config.models
        }
        aliases = {alias: model.name for model in config.models for alias in model.aliases}
        wildcards = [model for model in models.values() if "*" in model.name]
        wildcards.sort(key=lambda model: -len(model.name))
        return Catalog(models, aliases, wildcards)
    pools: dict[str, list[Target]] = {}
    for (backend, name), info in known.items():
        target = Target(backend, name, weights[backend], info.context, info.capabilities)
        pools.setdefault(name, []).append(target)
    return Catalog(
        {
            name: Model(name, tuple(pool), config.routing.balance, info=known[pool[0].backend, name])
            for name, pool in pools.items()
        }
    )


Known = Mapping[tuple[str, str], ModelInfo]
"""What the backends said of their models, by backend and name."""


def _configured(model: ModelConfig, balance: str, weights: Mapping[str, float], known: Known) -> Model:
    """weights: of the backends there are, by name."""
    targets = tuple(_targets(model, weights, known))
    infos = (known.get((target.backend, target.model)) for target in targets)
    info = next((info for info in infos if info is not None), None)
    parameters = Parameters(model.defaults, model.forced) if model.defaults or model.forced else None
    return Model(model.name, targets, model.balance or balance, model, info, parameters)


def _targets(model: ModelConfig, weights: Mapping[str, float], known: Known) -> list[Target]:
    """In order of preference, each once; those whose backend is not there (yet) are left out. Where a pattern
    stands for many backends, each one's own weight counts as well.
    """
    found: dict[tuple[str, str], Target] = {}
    for wanted in model.targets:
        name = wanted.model or model.name
        if is_pattern(wanted.backend):
            places = [
                (backend, wanted.weight * weight)
                for backend, weight in weights.items()
                if backend_matches(backend, wanted.backend)
            ]
        else:
            places = [(wanted.backend, wanted.weight)] if wanted.backend in weights else []
        for backend, weight in places:
            info = known.get((backend, name)) or NOBODY_SAID
            context = wanted.context or info.context or model.context
            capabilities = info.capabilities or frozenset(model.capabilities)
            found.setdefault((backend, name), Target(backend, name, weight, context, capabilities))
    return list(found.values())


NOBODY_SAID = ModelInfo("")

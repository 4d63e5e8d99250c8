"""The models that are served, and the targets behind each. A catalog is built whole and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ghostllm.config.schema import Config, ModelConfig
from ghostllm.message import Identity, Parameters
from ghostllm.ports import ModelInfo


@dataclass(slots=True, frozen=True)
class Target:
    """One backend and its own name for the model."""

    backend: str
    model: str
    weight: float = 1.0


@dataclass(slots=True, frozen=True)
class Model:
    """A model by the name that clients use. config: its [[models]] entry, if it has one; info: what a backend
    said.
    """

    name: str
    targets: tuple[Target, ...]
    balance: str
    config: ModelConfig | None = None
    info: ModelInfo | None = None
    parameters: Parameters | None = None


@dataclass(slots=True, frozen=True)
class Catalog:
    """models: by name. aliases: further names, each of one model."""

    models: Mapping[str, Model]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Model | None:
        """By name or alias; `x` and `x:latest` mean the same, as Ollama has it."""
        for candidate in (name, f"{name}:latest", name.removesuffix(":latest")):
            model = self.models.get(self.aliases.get(candidate, candidate))
            if model is not None:
                return model
        return None

    def visible(self, identity: Identity) -> list[Model]:
        return [model for model in self.models.values() if allowed(identity, model.name)]


def allowed(identity: Identity, model: str) -> bool:
    return not identity.models or any(fnmatchcase(model, pattern) for pattern in identity.models)


def build(config: Config, inventories: Mapping[str, Sequence[ModelInfo]]) -> Catalog:
    """The catalog of a configuration, given what each backend said it has (the last it said, if it is silent
    now).

    With [[models]] configured exactly those are served; without, every backend's own, same names pooled.
    """
    if config.models:
        known = {info.id: info for models in inventories.values() for info in models}
        models = {model.name: _configured(model, config.routing.balance, known) for model in config.models}
        return Catalog(models, {alias: model.name for model in config.models for alias in model.aliases})
    weights = {backend.name: backend.weight for backend in config.backends}
    pools: dict[str, list[tuple[Target, ModelInfo]]] = {}
    for backend, weight in weights.items():
        for info in inventories.get(backend, ()):
            pools.setdefault(info.id, []).append((Target(backend, info.id, weight), info))
    return Catalog(
        {
            name: Model(
                name,
                tuple(target for target, _ in pool),
                config.routing.balance,
                info=pool[0][1],
            )
            for name, pool in pools.items()
        }
    )


def _configured(model: ModelConfig, balance: str, known: Mapping[str, ModelInfo]) -> Model:
    targets = tuple(
        Target(target.backend, target.model or model.name, target.weight) for target in model.targets
    )
    info = next((known[target.model] for target in targets if target.model in known), None)
    parameters = Parameters(model.defaults, model.forced) if model.defaults or model.forced else None
    return Model(model.name, targets, model.balance or balance, model, info, parameters)

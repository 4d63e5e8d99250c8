"""What types cannot say: names that must be unique, references, keys that need or exclude each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from ghostllm.config import identity_check, money_check
from ghostllm.config.build import Builder
from ghostllm.config.finding import Discovery, DnsSource, KubernetesSource
from ghostllm.config.forms import is_loopback
from ghostllm.config.identity import Anonymous, JwtIssuer
from ghostllm.config.patterns import backend_matches, is_pattern
from ghostllm.config.schema import BackendConfig, Config, KeyConfig, ModelConfig, State
from ghostllm.config.sources import suggestion

_GGUF_ONLY = ("path", "context", "parallel", "threads", "gpu_layers", "start", "load_timeout")
_REMOTE_ONLY = ("url", "api_key", "headers", "tls_verify", "tls_ca")
_LEAST_SECRET = 32  # bytes


def check(config: Config, builder: Builder) -> None:
    """Notes what is wrong with `config`, which `builder` has built, among the builder's problems."""
    _unique(config.backends, builder)
    _unique(config.keys, builder)
    for backend in config.backends:
        _backend(backend, builder)
    _discovery(config.discovery, builder)
    _models(config, builder)
    _keys(config.keys, builder)
    _money(config, builder)
    for section, name, fault in identity_check.faults(
        config.roles, config.jwt, config.anonymous, {key.name: key for key in config.keys}
    ):
        builder.note_at(section, name, fault)
    _cache(config, builder)
    _state(config.state, builder)
    _server(config, builder)


def _state(state: State, builder: Builder) -> None:
    secret = state.key_secret
    if secret is not None and (size := len(secret.reveal().encode())) < _LEAST_SECRET:
        builder.note_at(state, "key_secret", f"is too short: {size} bytes, and {_LEAST_SECRET} are needed")


def _unique(
    sections: Iterable[BackendConfig | KeyConfig | DnsSource | KubernetesSource], builder: Builder
) -> None:
    seen: set[str] = set()
    for section in sections:
        if section.name in seen:
            builder.note_at(section, "name", f'"{section.name}" is the name of another one already')
        seen.add(section.name)


def _backend(backend: BackendConfig, builder: Builder) -> None:
    given = builder.spots[id(backend)].table
    strange: tuple[str, ...]
    if backend.kind == "gguf":
        needed, strange, why = "path", _REMOTE_ONLY, 'has no meaning for kind "gguf"'
        missing = 'missing: kind "gguf" needs the model file'
    else:
        needed, strange, why = "url", _GGUF_ONLY, 'has a meaning for kind "gguf" only'
        missing = f'missing: kind "{backend.kind}" needs the server\'s address'
    if not getattr(backend, needed):
        builder.note_at(backend, needed, missing)
    for key in strange:
        if key in given:
            builder.note_at(backend, key, why)


def _discovery(discovery: Discovery, builder: Builder) -> None:
    sources: list[DnsSource | KubernetesSource] = [*discovery.dns, *discovery.kubernetes]
    _unique(sources, builder)
    for source in sources:
        if source.kind == "gguf":
            builder.note_at(source, "kind", '"gguf" is a file of this machine, no server to be found')
    for source in discovery.dns:
        if source.record == "address" and source.port == 0:
            builder.note_at(source, "port", "must be at least 1")


def _models(config: Config, builder: Builder) -> None:
    backends = [backend.name for backend in config.backends]
    sought = seeks_backends(config.discovery)
    taken: dict[str, str] = {}
    for model in config.models:
        for key, name in [("name", model.name), *(("aliases", alias) for alias in model.aliases)]:
            if name in taken:
                builder.note_at(model, key, f'"{name}" is a name or alias of model "{taken[name]}" already')
            taken.setdefault(name, model.name)
        for target in model.targets:
            if fault := _stranger(target.backend, backends, sought=sought):
                builder.note_at(target, "backend", fault)
            if "*" in target.model and "*" not in model.name:
                builder.note_at(target, "model", 'a "*" stands for that of the model\'s name, which has none')
        if model.name.count("*") > 1:
            builder.note_at(model, "name", 'may hold one "*" at the most')
        for key in ("defaults", "forced"):
            for fixed in {"model", "stream"} & set(getattr(model, key)):
                builder.note_at(model, key, f'"{fixed}" cannot be set here: it is the client\'s to say')
    for model in config.models:
        _relations(model, taken, builder)


def _relations(model: ModelConfig, names: Mapping[str, str], builder: Builder) -> None:
    """The other models that this one names. names: of all models, aliases among them -> model."""
    split = model.split
    relations: list[tuple[object, str, str]] = [
        (model.fallback, "context", model.fallback.context),
        (model.fallback, "content", model.fallback.content),
        (model.fallback, "unavailable", model.fallback.unavailable),
        (split.canary, "model", split.canary.model),
        (split.shadow, "model", split.shadow.model),
        *((arm, "model", arm.model) for arm in split.arms),
    ]
    patterns = [name for name in names if "*" in name]
    for section, key, name in relations:
        if not name or name in names or any(fnmatchcase(name, pattern) for pattern in patterns):
            if name and names.get(name) == model.name and section not in split.arms:
                builder.note_at(section, key, "is this model itself")
            continue
        builder.note_at(section, key, f'no model is called "{name}"{suggestion(name, list(names))}')
    if split.canary.model and list(split.canary.steps) != sorted(split.canary.steps):
        builder.note_at(split.canary, "steps", "must rise")
    if split.canary.model and not split.canary.steps:
        builder.note_at(split.canary, "steps", "needs at least one share")
    if split.arms and not any(arm.weight > 0 for arm in split.arms):
        builder.note_at(split, "arms", "needs a weight above 0")
    if split.arms and split.canary.model:
        builder.note_at(split, "arms", "cannot be set beside a canary: one of them decides")


def _stranger(name: str, backends: list[str], *, sought: bool) -> str | None:
    """What is wrong with a target's backend. sought: it may yet be found."""
    if sought or name in backends:
        return None
    if not is_pattern(name):
        return f'no backend is called "{name}"{suggestion(name, backends)}'
    if any(backend_matches(backend, name) for backend in backends):
        return None
    return f'no backend\'s name matches "{name}"'


def seeks_backends(discovery: Discovery) -> bool:
    """Whether sources are configured that may find backends nobody has named."""
    return bool(discovery.file or discovery.network or discovery.dns or discovery.kubernetes)


def _keys(keys: Iterable[KeyConfig], builder: Builder) -> None:
    known: dict[str, str] = {}
    for key in keys:
        given = builder.spots[id(key)].table
        if ("key" in given) == ("hash" in given):
            told = "both are set" if "key" in given else "neither is set"
            builder.note_at(key, "key", f"exactly one of key and hash is needed; {told}")
            continue
        digest = key.hash.removeprefix("sha256:").lower()
        if key.key is not None:
            digest = hashlib.sha256(key.key.reveal().encode()).hexdigest()
        if digest and digest in known:
            builder.note_at(
                key, "hash" if key.hash else "key", f'is the same key as that of "{known[digest]}"'
            )
        known.setdefault(digest, key.name)
        if key.manage and key.roles:
            builder.note_at(
                key, "manage", 'has no meaning beside roles: "admin" is the role that it stands for'
            )


def _money(config: Config, builder: Builder) -> None:
    prices = [model.price for model in config.models]
    members: list[money_check.Member] = [*config.keys, *config.jwt, *config.anonymous]
    spenders: list[money_check.Spender] = [*config.keys, *config.models]
    for fault in money_check.faults(config.teams, config.limits, members, prices, spenders):
        builder.note_at(*fault)
    limits = [one.name for one in config.limits]
    clients: list[JwtIssuer | Anonymous] = [*config.jwt, *config.anonymous]
    for section in clients:
        if section.limits and section.limits not in limits:
            told = f'no limits are called "{section.limits}"{suggestion(section.limits, limits)}'
            builder.note_at(section, "limits", told)
    zone_fault = money_check.zone_fault(config.usage)
    if zone_fault is not None:
        builder.note_at(config.usage, "timezone", zone_fault)


def _cache(config: Config, builder: Builder) -> None:
    cache = config.cache
    if cache.backend == "redis" and not config.redis.url and ("redis", "url") not in builder.failed:
        builder.note_at(cache, "backend", '"redis" needs the server\'s address: set redis.url')
    if cache.backend != "off" and cache.answer_bytes > cache.bytes:
        builder.note_at(cache, "answer_bytes", f"no such answer has room in cache.bytes = {cache.bytes}")


def _server(config: Config, builder: Builder) -> None:
    server, cors = config.server, config.server.cors
    if len(set(server.listen)) < len(server.listen):
        builder.note_at(server, "listen", "the same address stands twice")
    if server.proxy_protocol and not server.trusted_proxies:
        builder.note_at(
            server, "proxy_protocol", "needs trusted_proxies: nobody else may say who a client is"
        )
    admin = [address for address in config.admin.listen if not address.endswith(":0")]
    if len(set(admin)) < len(admin) or set(admin) & set(server.listen):
        builder.note_at(config.admin, "listen", "the same address stands twice, or in server.listen as well")
    if cors.credentials and "*" in cors.origins:
        builder.note_at(cors, "credentials", 'needs exact origins: browsers refuse it with "*"')
    if {("keys",), ("jwt",), ("anonymous",)} & {path[:1] for path in builder.failed}:
        return  # a key with a mistake is not the same as no key
    if server.insecure:
        return
    for section in (server, config.admin):
        if exposed := [address for address in open_addresses(config) if address in section.listen]:
            builder.note_at(
                section,
                "listen",
                f"{', '.join(exposed)} can be reached from other machines, and no key is set, so that anyone "
                "could use it: set [[keys]] (or --key), listen on 127.0.0.1, or say --insecure "
                "(server.insecure = true)",
            )


def open_addresses(config: Config) -> list[str]:
    """Listen addresses that other machines can reach, if no key protects them, and no other way to know a
    client.
    """
    if config.keys or config.jwt or config.anonymous:
        return []
    listen = (*config.server.listen, *config.admin.listen)
    return [address for address in listen if not is_loopback(address)]

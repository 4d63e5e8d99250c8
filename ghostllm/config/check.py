"""What types cannot say: names that must be unique, references, keys that need or exclude each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ghostllm.config.build import Builder
from ghostllm.config.forms import is_loopback
from ghostllm.config.schema import BackendConfig, Config, KeyConfig
from ghostllm.config.sources import suggestion

_GGUF_ONLY = ("path", "context", "parallel", "threads", "gpu_layers", "start", "load_timeout")
_REMOTE_ONLY = ("url", "api_key", "headers", "tls_verify", "tls_ca")


def check(config: Config, builder: Builder) -> None:
    """Notes what is wrong with `config`, which `builder` has built, among the builder's problems."""
    _unique(config.backends, builder)
    _unique(config.keys, builder)
    for backend in config.backends:
        _backend(backend, builder)
    _models(config, builder)
    _keys(config.keys, builder)
    _server(config, builder)


def _unique(sections: Iterable[BackendConfig | KeyConfig], builder: Builder) -> None:
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


def _models(config: Config, builder: Builder) -> None:
    backends = [backend.name for backend in config.backends]
    taken: dict[str, str] = {}
    for model in config.models:
        for key, name in [("name", model.name), *(("aliases", alias) for alias in model.aliases)]:
            if name in taken:
                builder.note_at(model, key, f'"{name}" is a name or alias of model "{taken[name]}" already')
            taken.setdefault(name, model.name)
        for target in model.targets:
            if target.backend not in backends:
                hint = suggestion(target.backend, backends)
                builder.note_at(target, "backend", f'no backend is called "{target.backend}"{hint}')
        for key in ("defaults", "forced"):
            for fixed in {"model", "stream"} & set(getattr(model, key)):
                builder.note_at(model, key, f'"{fixed}" cannot be set here: it is the client\'s to say')


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


def _server(config: Config, builder: Builder) -> None:
    server, cors = config.server, config.server.cors
    if len(set(server.listen)) < len(server.listen):
        builder.note_at(server, "listen", "the same address stands twice")
    if cors.credentials and "*" in cors.origins:
        builder.note_at(cors, "credentials", 'needs exact origins: browsers refuse it with "*"')
    if ("keys",) in {path[:1] for path in builder.failed}:
        return  # a key with a mistake is not the same as no key
    if open_addresses(config) and not server.insecure:
        listed = ", ".join(open_addresses(config))
        builder.note_at(
            server,
            "listen",
            f"{listed} can be reached from other machines, and no key is set, so that anyone could use it: "
            "set [[keys]] (or --key), listen on 127.0.0.1, or say --insecure (server.insecure = true)",
        )


def open_addresses(config: Config) -> list[str]:
    """Listen addresses that other machines can reach, if no key protects them."""
    return [] if config.keys else [address for address in config.server.listen if not is_loopback(address)]

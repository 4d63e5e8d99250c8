"""What `ghostllm check` says about a sound configuration: enough to recognise it, and never a secret."""

from __future__ import annotations

from ghostllm.config.check import open_addresses
from ghostllm.config.finding import Discovery
from ghostllm.config.schema import BackendConfig, Config, ModelConfig


def summary(config: Config, path: str | None) -> list[str]:
    """Lines of text. path: the file it came from, if any."""
    lines = [f"configuration: sound ({path or 'no file'})", f"listen: {', '.join(config.server.listen)}"]
    if exposed := open_addresses(config):
        lines.append(f"warning: anyone who can reach {', '.join(exposed)} may use it: no key is set")
    sought = _sought(config.discovery)
    if config.backends:
        lines.append(f"backends: {len(config.backends)}")
        lines += [f"  {_backend(backend)}" for backend in config.backends]
    elif not sought:
        lines.append(f"backends: {'those found on this machine' if config.discovery.local else 'none'}")
    lines += [f"backends found by: {source}" for source in sought]
    lines.append(f"models: {len(config.models) or 'all that the backends have'}")
    lines += [f"  {_model(model)}" for model in config.models]
    names = ", ".join(key.name for key in config.keys)
    lines.append(f"keys: {len(config.keys)} ({names})" if names else "keys: none, no key is asked for")
    return lines


def _sought(discovery: Discovery) -> list[str]:
    """The sources of further backends."""
    found = [f"file {discovery.file}"] if discovery.file else []
    found += [f"network {network}" for network in discovery.network]
    found += [f"DNS, {source.host} ({source.record})" for source in discovery.dns]
    return found + [f"Kubernetes, service {source.service}" for source in discovery.kubernetes]


def _backend(backend: BackendConfig) -> str:
    where = backend.path if backend.kind == "gguf" else backend.url
    return f"{backend.name}: {backend.kind} {where}" + (" (with key)" if backend.api_key else "")


def _model(model: ModelConfig) -> str:
    targets = ", ".join(f"{target.backend}/{target.model or model.name}" for target in model.targets)
    also = f" (also {', '.join(model.aliases)})" if model.aliases else ""
    return f"{model.name}{also}: {targets}"

"""The models and their state in Ollama's shapes: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`, `/`.

What an Ollama server says of a model is shown as it said it, under the name that clients use here; for models
of other servers the same members are made of what is known, since clients take them to be there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api.ollama.times import stamp
from ghostllm.errors import UpstreamProtocolError
from ghostllm.ports import ModelInfo

Entry = tuple[str, ModelInfo | None]
"""The name that clients use, and what a backend said of the model."""

ROOT = b"Ollama is running"
"""The answer to `GET /`, by which clients know a server of Ollama's API; no line end."""

ROOT_HEADERS = ((b"content-type", b"text/plain; charset=utf-8"),)

VERSION = "0.17.4"
"""The release of Ollama whose API the door speaks. Clients compare it with the least they need (VS Code's is
0.6.4), so our own version would tell them the wrong thing.
"""

FOREVER = "9999-12-31T23:59:59Z"
"""`expires_at` of a model that stays in memory."""

UNKNOWN_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time, which Ollama's command line shows as "Never"."""

_CAPABILITIES = {
    "chat": "completion",
    "completions": "completion",
    "embeddings": "embedding",
    "tools": "tools",
    "vision": "vision",
}

_ARCHITECTURE = "unknown"
"""Stands in `model_info` for the family of a model that another server has: clients look for the context's
length under this prefix.
"""


def render_version(version: str = VERSION) -> bytes:
    return jsonx.dumps({"version": version})


def render_tags(entries: Iterable[Entry]) -> bytes:
    """The answer to `/api/tags`."""
    return jsonx.dumps({"models": [_tag(name, info) for name, info in entries]})


def render_show(name: str, info: ModelInfo | None) -> bytes:
    """The answer to `/api/show` for a model of another server. That of an Ollama server passes as it is."""
    context = info.context if info else None
    about: dict[str, Any] = {"general.architecture": _ARCHITECTURE, "general.basename": name}
    if context is not None:
        about[f"{_ARCHITECTURE}.context_length"] = context
    shown = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(),
        "model_info": about,
        "capabilities": _capabilities(info),
        "modified_at": _modified(info),
    }
    return jsonx.dumps(shown)


def render_ps(entries: Iterable[tuple[str, ModelInfo | None, Mapping[str, Any] | None]]) -> bytes:
    """The answer to `/api/ps`. entries: the models that are ready to answer: name, what is known, and of an
    Ollama server's the entry that its own `/api/ps` has.
    """
    return jsonx.dumps({"models": [_loaded(*entry) for entry in entries]})


def read_entries(body: bytes, source: str) -> dict[str, dict[str, Any]]:
    """The entries of an Ollama server's `/api/tags` or `/api/ps`, by the server's names. source: how errors
    name it. Raises UpstreamProtocolError.
    """
    try:
        value = jsonx.loads(body)
    except jsonx.DecodeError as error:
        raise UpstreamProtocolError(f"{source} listed its models as no JSON: {error}") from None
    models = value.get("models", 0) if isinstance(value, dict) else 0
    if models is None:  # older servers without a model
        models = []
    if not isinstance(models, list) or not all(map(_is_entry, models)):
        raise UpstreamProtocolError(f"{source} sent a list of models that is none of Ollama's")
    return {entry.get("model") or entry["name"]: entry for entry in models}


def _is_entry(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("model") or item.get("name"), str)


def _tag(name: str, info: ModelInfo | None) -> dict[str, Any]:
    if info is not None and info.details is not None:
        return {"name": name, "model": name, **_without_names(info.details)}
    return {
        "name": name,
        "model": name,
        "modified_at": _modified(info),
        "size": 0,
        "digest": _digest(name),
        "details": _details(),
        "capabilities": _capabilities(info),
    }


def _loaded(name: str, info: ModelInfo | None, own: Mapping[str, Any] | None) -> dict[str, Any]:
    if own is not None:
        return {"name": name, "model": name, **_without_names(own)}
    entry: dict[str, Any] = {
        "name": name,
        "model": name,
        "size": 0,
        "digest": _digest(name),
        "details": _details(),
        "expires_at": FOREVER,
        "size_vram": 0,
    }
    if info is not None and info.context is not None:
        entry["context_length"] = info.context
    return entry


def _without_names(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("name", "model")}


def _details() -> dict[str, Any]:
    """Nothing is known of the file, or there is none."""
    return {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    }


def _capabilities(info: ModelInfo | None) -> list[str]:
    """Of a model of which nobody said anything, that it writes text."""
    known = (
        sorted({_CAPABILITIES[word] for word in info.capabilities if word in _CAPABILITIES}) if info else []
    )
    return known or ["completion"]


def _modified(info: ModelInfo | None) -> str:
    return UNKNOWN_TIME if info is None or info.created is None else stamp(info.created)


def _digest(name: str) -> str:
    """Ollama's command line shows the first twelve characters of it and fails without them. The same name
    has the same one.
    """
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()

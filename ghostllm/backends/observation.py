"""Where each kind of server can be looked at beside the traffic, and what its pages say of its load.

Sources: the servers' own code and documentation at vLLM 0.32, SGLang 0.5, llama.cpp b11434, Ollama 0.33,
LM Studio 0.3, TGI 3; older versions have other names for the same, which are read too. The readers take any
bytes: what they do not understand they do not know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.message import Pairs
from ghostllm.ports import Looks, Observed, Page

HEADERS: Pairs = ((b"accept", b"*/*"), (b"accept-encoding", b"identity"), (b"user-agent", b"ghostllm"))
"""Of a look without a key."""

NOTHING = Observed()

LARGEST = 10**12
"""No count or capacity is above it; it would be a mistake or a lie."""

METRICS_READ: Mapping[bytes, str] = {
    b"vllm:num_requests_running": "running",
    b"vllm:num_requests_waiting": "waiting",
    b"vllm:kv_cache_usage_perc": "kv_usage",
    b"vllm:gpu_cache_usage_perc": "kv_usage",  # until 0.9
    b"vllm:cache_config_info": "cache_config",
    b"vllm:engine_sleep_state": "sleep_state",
    b"sglang:num_running_reqs": "running",
    b"sglang:num_queue_reqs": "waiting",
    b"sglang:token_usage": "kv_usage",
    b"sglang:max_total_num_tokens": "cache_tokens",
    b"llamacpp:requests_processing": "running",
    b"llamacpp:requests_deferred": "waiting",
    b"llamacpp:kv_cache_usage_ratio": "kv_usage",  # until 2025
    b"tgi_batch_current_size": "running",
    b"tgi_queue_size": "waiting",
    b"process_start_time_seconds": "started",
}
"""The name of each metric that is read, and what it says."""

# It begins with the line end, for which alone the page is searched: half a megabyte takes about 1 ms.
_SAMPLE = re.compile(b"\n(" + b"|".join(map(re.escape, METRICS_READ)) + rb")([{ \t][^\n]*)")

# The workers of one tensor-parallel group all count the same requests; SGLang's counts by priority are part
# of the count without one.
_REPEATED = re.compile(rb'[{,](?:(?:tp|pp|moe_ep)_rank="[1-9]|priority="[^"])')

_LABEL = re.compile(rb'([a-z_]+)="([^"\\\n]*)"')


def read_metrics(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """Prometheus' text of vLLM, SGLang, llama.cpp or TGI. Of several engines in one server the requests are
    added up, of the shares the largest counts.
    """
    totals: dict[str, float] = {}
    awake: bool | None = None
    for name, rest in _SAMPLE.findall(b"\n" + body):
        labels, _, after = rest.rpartition(b"}")
        meaning, value = METRICS_READ[name], _number(after.split(None, 1)[:1])
        if value is None or _REPEATED.search(labels):
            continue
        if meaning == "cache_config":
            capacity = _vllm_capacity(dict(_LABEL.findall(labels)))
            if capacity is not None:
                totals["cache_tokens"] = max(totals.get("cache_tokens", 0), capacity)
        elif meaning == "sleep_state":
            if b'sleep_state="awake"' in labels:
                awake = bool(value) or awake is True
        elif meaning in ("running", "waiting"):
            totals[meaning] = totals.get(meaning, 0) + value
        elif meaning == "kv_usage":
            totals[meaning] = max(totals.get(meaning, 0), min(1.0, value if value <= 1 else value / 100))
        else:
            totals[meaning] = max(totals.get(meaning, 0), value)
    # llama.cpp says in a header field when it began; by which clock is not said.
    started = totals.get("started", _number([headers.get(b"process-start-time-unix", b"")]))
    return Observed(
        running=_count(totals.get("running")),
        waiting=_count(totals.get("waiting")),
        kv_usage=totals.get("kv_usage"),
        cache_tokens=_count(totals.get("cache_tokens")),
        started=started,
        sleeping=None if awake is None else not awake,
    )


def _vllm_capacity(labels: Mapping[bytes, bytes]) -> int | None:
    """Tokens. Newer versions say it outright, of one engine; the blocks are those of all engines, in each
    engine's line. Too large is the smaller mistake.
    """
    if labels.get(b"enable_prefix_caching", b"").lower() == b"false":
        return 0
    said = _count(_number([labels.get(b"kv_cache_size_tokens", b"")]))
    blocks = _count(_number([labels.get(b"num_gpu_blocks", b"")]))
    size = _count(_number([labels.get(b"block_size", b"")]))
    counted = blocks * size if blocks and size else 0
    return min(max(said or 0, counted), LARGEST) or None


def _number(words: Iterable[bytes]) -> float | None:
    """The first word, where it is a number that a gauge can have."""
    try:
        value = float(next(iter(words)))
    except (StopIteration, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and value <= LARGEST else None


def read_ollama(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """`/api/ps`: `{"models": [{"name", "model", …}]}`, those in memory."""
    found = _json(body)
    if not isinstance(found, dict) or "models" not in found:
        return NOTHING
    names = (item.get("model") or item.get("name") for item in _objects(found["models"]))
    return Observed(loaded=_names(names))


def read_lmstudio(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """`/api/v0/models`: `{"data": [{"id", "state": "loaded" | "not-loaded", …}]}`."""
    models = [item for item in _objects(_member(body, "data")) if isinstance(item.get("state"), str)]
    if not models:
        return NOTHING
    return Observed(loaded=_names(item.get("id") for item in models if item["state"] == "loaded"))


def read_llamacpp_models(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """`/models` of a llama.cpp server that holds several models: `{"data": [{"id", "status": {"value"}}]}`.
    One that holds a single model says no status.
    """
    models = [item for item in _objects(_member(body, "data")) if isinstance(item.get("status"), dict)]
    if not models:
        return NOTHING
    return Observed(
        loaded=_names(item.get("id") for item in models if item["status"].get("value") == "loaded")
    )


def read_props(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """`/props` of llama.cpp."""
    slots, sleeping = _member(body, "total_slots"), _member(body, "is_sleeping")
    return Observed(
        slots=slots if type(slots) is int and 0 < slots <= LARGEST else None,
        sleeping=sleeping if isinstance(sleeping, bool) else None,
    )


def read_slots(headers: Mapping[bytes, bytes], body: bytes) -> Observed:
    """`/slots` of llama.cpp: `[{"id", "is_processing", …}]`; older ones say `state`, 1 while processing."""
    slots = [item for item in _objects(_json(body)) if "is_processing" in item or "state" in item]
    if not slots:
        return NOTHING
    running = sum(item.get("is_processing", item.get("state")) in (True, 1) for item in slots)
    return Observed(running=running, slots=len(slots))


def _json(body: bytes) -> Any:
    try:
        return jsonx.loads(body)
    except jsonx.DecodeError:
        return None


def _member(body: bytes, name: str) -> Any:
    found = _json(body)
    return found.get(name) if isinstance(found, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _names(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str) and value)


METRICS = Page("/metrics", read_metrics)

VLLM_LOOKS: Looks = Looks("/health", (METRICS,))

LLAMACPP_LOOKS: Looks = Looks(
    "/health",
    (
        Page("/props", read_props),
        Page("/models", read_llamacpp_models),
        METRICS,
        Page("/slots", read_slots, spare=True),
    ),
)
"""Of these only `/slots` counts as a task by which a server that sleeps when idle is woken, or kept from
sleeping.
"""

OLLAMA_LOOKS: Looks = Looks("/api/version", (Page("/api/ps", read_ollama),))
LMSTUDIO_LOOKS: Looks = Looks("/v1/models", (Page("/api/v0/models", read_lmstudio),))
TRANSFORMERS_LOOKS: Looks = Looks("/health")

OWN_LOOKS: Looks = Looks("/v1/models", (METRICS,))
"""Of a server of another kind (SGLang, TGI, …) on a network of one's own. `/health` is not asked: at LiteLLM
every model would have to answer.
"""

NO_LOOKS: Looks = Looks()
"""Of a server that counts what it is asked, or charges for it."""

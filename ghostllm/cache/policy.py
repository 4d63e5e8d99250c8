"""Which requests may be answered from memory, and which answers may be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ghostllm.message import Call, Exchange, Parameters

State = Literal["hit", "miss", "bypass"]

OPERATIONS = ("chat", "completions", "embeddings")

ENDLESS = 2.0**31  # seconds; RFC 9111 section 1.2.2 for numbers too large


@dataclass(slots=True, frozen=True)
class Control:
    """The request's `cache-control`. no_store: neither looked up nor kept. no_cache: not looked up, but kept.
    max_age: seconds; nothing older will do. only_if_cached: from memory or not at all.
    """

    no_store: bool = False
    no_cache: bool = False
    max_age: float = ENDLESS
    only_if_cached: bool = False


NOTHING_SAID = Control()

_LONGEST = 256  # bytes of a field that is remembered: clients choose it


def read_control(headers: Mapping[bytes, bytes]) -> Control:
    """What is not known is passed over; an age that is no number is 0 (RFC 9111 section 4.2.1)."""
    value = headers.get(b"cache-control")
    if value is None:
        return NOTHING_SAID
    return _read(value) if len(value) <= _LONGEST else _read.__wrapped__(value)


@lru_cache(maxsize=256)
def _read(value: bytes) -> Control:
    given: dict[str, str] = {}
    for part in value.decode("latin-1").lower().split(","):
        name, _, argument = part.strip().partition("=")
        given.setdefault(name.strip(), argument.strip().strip('"'))
    age = ENDLESS
    if "max-age" in given:
        digits = given["max-age"]
        age = min(ENDLESS, float(digits)) if digits.isascii() and digits.isdigit() else 0.0
    return Control("no-store" in given, "no-cache" in given or age == 0, age, "only-if-cached" in given)


# --- requests


def is_cacheable(call: Call, parameters: Parameters | None, requests: str) -> bool:
    """requests: "deterministic", "all" or "off"."""
    if requests == "off" or call.operation not in OPERATIONS or _has_effects(call):
        return False
    return requests == "all" or is_deterministic(call, parameters)


def is_deterministic(call: Call, parameters: Parameters | None) -> bool:
    """Embeddings, temperature 0, or a seed: from the client, or as the configuration has it."""
    if call.operation == "embeddings":
        return True
    said: Any = call.fields.get("options") if call.door == "ollama" else call.fields
    said = said if isinstance(said, dict) else {}
    if _is_number(temperature := _given("temperature", said, parameters)) and temperature == 0:
        return True
    return _is_number(_given("seed", said, parameters))


def _given(name: str, said: Mapping[str, Any], parameters: Parameters | None) -> Any:
    if parameters is None:
        return said.get(name)
    if name in parameters.forced:
        return parameters.forced[name]
    value = said.get(name)
    return parameters.defaults.get(name) if value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TELLING = frozenset(("store", "audio", "modalities", "web_search_options", "mcp_servers", "tools"))
"""Without these members a request of OpenAI's dialect has no effects; most have none of them."""


def _has_effects(call: Call) -> bool:
    """Whether something happens besides the answer, or it depends on more than the request: then giving the
    answer again is not the same as asking again.
    """
    fields = call.fields
    if call.door == "openai" and _TELLING.isdisjoint(fields):
        return False
    if call.door == "ollama":
        content = "input" if call.form == "embed" else "messages" if call.form == "chat" else "prompt"
        return not fields.get(content) or _is_no_time(fields.get("keep_alive"))  # loads or unloads the model
    if call.door == "responses":
        return bool(fields.get("previous_response_id")) or _refers(fields.get("input"))
    if call.door == "openai" and (fields.get("store") or _speaks(fields)):
        return True
    return bool(fields.get("web_search_options") or fields.get("mcp_servers")) or _looks_outside(fields)


def _is_no_time(value: Any) -> bool:
    """`keep_alive` of zero, as a number or in words of Go's."""
    if isinstance(value, str):
        return not any(character in "123456789" for character in value)
    return _is_number(value) and value == 0


def _refers(items: Any) -> bool:
    """To items that are kept for a time, and may be gone."""
    return isinstance(items, list) and any(
        isinstance(item, dict) and item.get("type") == "item_reference" for item in items
    )


def _speaks(fields: Mapping[str, Any]) -> bool:
    """Sound in pieces is not put together here, and it has an id that expires."""
    modalities = fields.get("modalities")
    return bool(fields.get("audio")) or (isinstance(modalities, list) and "audio" in modalities)


def _looks_outside(fields: Mapping[str, Any]) -> bool:
    """Whether a tool is the provider's own: a search gives something else tomorrow."""
    tools = fields.get("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and tool.get("type") not in (None, "function", "custom") for tool in tools
    )


# --- answers


def is_keepable(exchange: Exchange) -> bool:
    """Whether the answer that the exchange's client was given is one model's own, and all of it. What it says
    of its end, `api.recording` looks at.
    """
    attempts = exchange.attempts
    return (
        exchange.outcome == "ok"
        and exchange.error is None
        and not exchange.usage.partial
        and not exchange.rescued
        and bool(attempts)
        and attempts[-1].outcome == "ok"
        and all(attempt.purpose != "fallback" for attempt in attempts)
    )

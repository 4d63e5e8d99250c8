"""Token counts as Anthropic's dialect reports them."""

from __future__ import annotations

from typing import Any

from ghostllm.message import Usage


def take_usage(usage: Usage, tokens: dict[str, int], member: Any) -> None:
    """Copies the figures of a `usage` member. They are cumulative, so later ones replace earlier ones; zeros
    count.

    tokens: all input figures so far, as Anthropic counts them: `input_tokens` without what the cache gave and
    took, which OpenAI's prompt count includes.
    """
    if not isinstance(member, dict):
        return
    for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        if (count := _count(member.get(name))) is not None:
            tokens[name] = count
    if tokens:
        usage.prompt = sum(tokens.values())
    usage.cached = tokens.get("cache_read_input_tokens")
    usage.cache_write = tokens.get("cache_creation_input_tokens")
    if (count := _count(member.get("output_tokens"))) is not None:
        usage.completion = count
    details = member.get("output_tokens_details")
    if isinstance(details, dict) and (count := _count(details.get("thinking_tokens"))) is not None:
        usage.reasoning = count


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

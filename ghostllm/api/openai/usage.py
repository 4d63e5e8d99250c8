"""Token counts as OpenAI's dialect reports them."""

from __future__ import annotations

from typing import Any

from ghostllm.message import Usage


def take_usage(usage: Usage, member: dict[str, Any]) -> None:
    """Copies the figures that `member` has. Counts are cumulative, so later ones replace earlier ones; zeros
    count.
    """
    _take(usage, "prompt", member.get("prompt_tokens"))
    _take(usage, "completion", member.get("completion_tokens"))
    details = member.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached = details.get("cached_tokens")
    _take(usage, "cache_write", details.get("cache_write_tokens"))
    _take(
        usage, "cached", member.get("prompt_cache_hit_tokens") if cached is None else cached
    )  # DeepSeek's name
    details = member.get("completion_tokens_details")
    if isinstance(details, dict):
        _take(usage, "reasoning", details.get("reasoning_tokens"))


def _take(usage: Usage, name: str, count: Any) -> None:
    if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
        setattr(usage, name, count)

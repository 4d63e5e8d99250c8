"""Token counts as OpenAI's dialect reports them."""

from __future__ import annotations

from typing import Any

from ghostllm.message import Usage


def take_usage(usage: Usage, member: dict[str, Any]) -> None:
    """Copies the figures that `member` has. Counts are cumulative, so later ones replace earlier ones; zeros
    count.
    """
    prompt, completion = member.get("prompt_tokens"), member.get("completion_tokens")
    if type(prompt) is int and prompt >= 0:
        usage.prompt = prompt
    if type(completion) is int and completion >= 0:
        usage.completion = completion
    if len(member) == 3 and "total_tokens" in member:  # as most servers have it: that is all
        return
    details = member.get("prompt_tokens_details")
    cached = None
    if isinstance(details, dict):
        cached = details.get("cached_tokens")
        _take(usage, "cache_write", details.get("cache_write_tokens"))
    if cached is None:
        cached = member.get("prompt_cache_hit_tokens")  # DeepSeek's name
    if cached is not None:
        _take(usage, "cached", cached)
    details = member.get("completion_tokens_details")
    if isinstance(details, dict):
        _take(usage, "reasoning", details.get("reasoning_tokens"))


def _take(usage: Usage, name: str, count: Any) -> None:
    if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
        setattr(usage, name, count)

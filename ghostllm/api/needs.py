"""What a call needs a model to be able to do, in the words of `ports.ModelInfo.capabilities`."""

from __future__ import annotations

import re
from typing import Any

from ghostllm.message import Call

IMAGE_TYPES = frozenset(("image_url", "input_image", "image"))
"""Of content parts: OpenAI chat, OpenAI Responses, Anthropic."""

_OPERATIONS = {
    "chat": frozenset(("chat",)),
    "completions": frozenset(("completions",)),
    "embeddings": frozenset(("embeddings",)),
}
_NOTHING: frozenset[str] = frozenset()
_NAMED = re.compile(rb'"(?:input_)?image')


def needs(call: Call) -> frozenset[str]:
    """Tools count where the client offers some, vision where it sends an image; what a model may or may not
    do with a wish (thinking, say) is no need.
    """
    needed = _OPERATIONS.get(call.operation, _NOTHING)
    if call.fields.get("tools"):
        needed |= {"tools"}
    if _NAMED.search(call.body) and _shows_images(call.fields):  # the search is quick, and settles most calls
        needed |= {"vision"}
    return needed


def _shows_images(fields: dict[str, Any]) -> bool:
    """Looked for without recursion: a client may nest as deep as JSON goes."""
    if fields.get("images"):  # Ollama's generate
        return True
    left = [fields.get("messages"), fields.get("input")]
    while left:
        parts = left.pop()
        if not isinstance(parts, list):
            continue
        for part in parts:  # messages, items of Responses or parts of their contents
            if not isinstance(part, dict):
                continue
            kind = part.get("type")
            if part.get("images") or (isinstance(kind, str) and kind in IMAGE_TYPES):
                return True
            left += part.get("content"), part.get("output")  # the latter: a tool's result in Responses
    return False

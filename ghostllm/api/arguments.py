"""The arguments of a tool call: text in OpenAI's dialect, an object in Anthropic's and Ollama's."""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.api.calls import check_depth
from ghostllm.errors import RequestError

DEPTH = 128
"""Of arrays and objects in them. The text passed the limit on the body's own depth as a single string."""


def read_arguments(text: str, param: str) -> dict[str, Any]:
    """The object that the text is, empty where it says nothing. Raises RequestError naming `param`."""
    try:
        arguments = jsonx.loads(text) if text.strip() else {}
    except jsonx.DecodeError as error:
        raise RequestError(f"{param} is not JSON: {error}", param=param) from None
    if not isinstance(arguments, dict):
        raise RequestError(f"{param} must be a JSON object", param=param)
    check_depth(text.encode(), arguments, DEPTH, what=param)
    return arguments

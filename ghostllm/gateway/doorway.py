"""Which door a client stands at, where the path alone does not say."""

from __future__ import annotations

from ghostllm.message import Request


def door_of(request: Request) -> str:
    """The name of the dialect in which this client expects to be told of an error, or of the models there
    are: by the path where it belongs to one, else by the header that every Anthropic client sends.
    """
    path = request.path
    if path.startswith("/api/"):
        return "ollama"
    if path.startswith("/v1/messages") or b"anthropic-version" in request.headers:
        return "anthropic"
    return "openai"

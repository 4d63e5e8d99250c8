"""Which door a client stands at, where the path alone does not say."""

from __future__ import annotations

from ghostllm.message import Request

ANTHROPIC_FIELDS = frozenset((b"anthropic-version", b"x-api-key"))


def door_of(request: Request) -> str:
    """The name of the dialect in which this client expects to be told of an error, or of the models there
    are: by the path where it belongs to one, else by a header that Anthropic's clients send.
    """
    path = request.path
    if path.startswith("/api/"):
        return "ollama"
    if path.startswith("/v1/messages") or not ANTHROPIC_FIELDS.isdisjoint(request.headers):
        return "anthropic"
    return "openai"

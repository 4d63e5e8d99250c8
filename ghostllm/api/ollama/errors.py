"""Errors as clients of Ollama's API expect them: one text, before an answer and inside it."""

from __future__ import annotations

from ghostllm import jsonx
from ghostllm.api.retry_headers import retry_headers
from ghostllm.errors import GhostError
from ghostllm.message import Pairs


def status(error: GhostError) -> int:
    return error.status


def render_error(error: GhostError) -> bytes:
    """`{"error": "text"}`. The text is a string in any case: ollama-python raises on nothing else.

    Of a missing model Ollama says "model 'x' not found", and there are clients that look for the words.
    """
    message = error.message
    if error.code == "model_not_found" and "not found" not in message:
        message = f"model not found: {message}"
    return jsonx.dumps({"error": message})


def error_line(error: GhostError) -> bytes:
    """The end of a stream that has begun: no line with `done` follows."""
    return render_error(error) + b"\n"


def error_headers(error: GhostError) -> Pairs:
    return retry_headers(error, status(error))

"""OpenAI completions and embeddings requests to the neutral form.

Prompts and inputs given as token ids are refused: without the model's tokenizer they cannot be turned into
the text that a backend of another dialect takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.api.canonical import Continuation, Embeddings
from ghostllm.api.members import Members
from ghostllm.api.openai.request_reader import extensions, read_sampling
from ghostllm.errors import RequestError, UnsupportedValue

CONTINUATION = frozenset((
    "model", "prompt", "suffix", "echo", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "stop", "max_tokens", "logit_bias",
    "logprobs", "n",
))  # fmt: skip

EMBEDDINGS = frozenset(("model", "input", "dimensions", "encoding_format"))


def read_continuation(fields: Mapping[str, Any]) -> Continuation:
    """Raises RequestError, UnsupportedValue with the name of the member that is wrong."""
    body = Members(fields)
    prompts = _texts(body, "prompt")
    if len(prompts) != 1:
        raise UnsupportedValue("only one prompt a request is served here", param="prompt")
    options = body.object("stream_options")
    stream = bool(body.boolean("stream"))
    top_logprobs = body.integer("logprobs")
    return Continuation(
        model=body.required_text("model"),
        prompt=prompts[0],
        suffix=body.text("suffix") or "",
        echo=bool(body.boolean("echo")),
        sampling=read_sampling(body, logprobs=top_logprobs is not None, top_logprobs=top_logprobs),
        stream=stream,
        wants_usage=not stream or bool(options and options.boolean("include_usage")),
        extensions=extensions(fields, CONTINUATION),
    )


def read_embeddings(fields: Mapping[str, Any]) -> Embeddings:
    """Raises RequestError, UnsupportedValue with the name of the member that is wrong."""
    body = Members(fields)
    encoding = body.text("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise UnsupportedValue(f"unknown encoding_format {encoding!r}", param="encoding_format")
    dimensions = body.integer("dimensions")
    if dimensions is not None and dimensions < 1:
        raise RequestError("dimensions must be at least 1", param="dimensions")
    return Embeddings(
        model=body.required_text("model"),
        inputs=_texts(body, "input"),
        dimensions=dimensions,
        base64=encoding == "base64",
        extensions=extensions(fields, EMBEDDINGS),
    )


def _texts(body: Members, key: str) -> tuple[str, ...]:
    """A text or texts, none of them empty: what a backend makes of an empty one is anybody's guess."""
    value = body.raw(key)
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise UnsupportedValue(f"{key} as token ids is not served here: send text", param=key)
    texts = body.texts(key)
    if not texts or not all(texts):
        raise RequestError(f"{key} must not be empty", param=key)
    return texts

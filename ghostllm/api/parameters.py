"""A model's configured parameters, applied to a call in the neutral form.

The configuration names them as OpenAI does, whatever the client speaks: `max_completion_tokens` is
Anthropic's `max_tokens` and Ollama's `num_predict`. So they are read as the members of an OpenAI request that
says nothing else, and what they come to is laid under (defaults) or over (forced) what the client said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ghostllm.api.canonical import Conversation, Embeddings
from ghostllm.api.openai import request_reader, text_reader
from ghostllm.api.translation import Neutral
from ghostllm.message import Parameters

SAID = ("model", "messages", "prompt", "inputs", "stream", "wants_usage", "sampling", "extensions")
"""What a client always says itself, and what is merged member by member."""


def with_parameters(asked: Neutral, parameters: Parameters) -> Neutral:
    """Raises RequestError, UnsupportedValue for a parameter that OpenAI's API would refuse."""
    for members, forced in ((parameters.defaults, False), (parameters.forced, True)):
        if members:
            asked = _laid(asked, _read(asked, members), forced)
    return asked


def _read(asked: Neutral, members: Mapping[str, Any]) -> Neutral:
    if isinstance(asked, Conversation):
        said = {"model": asked.model, "messages": [{"role": "user", "content": ""}]}
        return request_reader.read_request({**said, **members})
    if isinstance(asked, Embeddings):
        return text_reader.read_embeddings({"model": asked.model, "input": ".", **members})
    return text_reader.read_continuation({"model": asked.model, "prompt": ".", **members})


def _laid(asked: Neutral, wanted: Any, forced: bool) -> Any:
    changes = _changes(asked, wanted, forced)
    first, second = (asked, wanted) if forced else (wanted, asked)
    changes["extensions"] = {**first.extensions, **second.extensions}
    if not isinstance(asked, Embeddings):
        sampling = replace(asked.sampling, **_changes(asked.sampling, wanted.sampling, forced))
        changes["sampling"] = sampling
    return replace(asked, **changes)


def _changes(asked: Any, wanted: Any, forced: bool) -> dict[str, Any]:
    """The members of `wanted` that say something, and that `asked` leaves open unless they are forced."""
    return {
        field.name: getattr(wanted, field.name)
        for field in fields(asked)
        if field.name not in SAID
        and not _is_open(getattr(wanted, field.name))
        and (forced or _is_open(getattr(asked, field.name)))
    }


def _is_open(value: Any) -> bool:
    return value is None or value is False or value in ((), {}, "")

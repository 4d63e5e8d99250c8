"""Responses requests to the neutral form.

After the reference of `POST /responses` (openai 3.54). `truncation` "auto" is accepted and never needed: a
conversation that is too long is an error here, as it is with "disabled". `max_tool_calls` counts calls of
hosted tools, of which there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from ghostllm.api.canonical import Conversation, Message, ResponseFormat, Sampling, Text
from ghostllm.api.members import Members
from ghostllm.api.openai.request_reader import extensions, read_sampling
from ghostllm.api.responses import tools
from ghostllm.api.responses.items import read_items
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

NEUTRAL = frozenset((
    "model", "input", "instructions", "previous_response_id", "store", "stream", "stream_options",
    "background", "include", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
    "reasoning", "text", "tools", "tool_choice", "temperature", "top_p", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "stop", "logit_bias",
    "top_logprobs", "truncation",
))  # fmt: skip
"""Members with a place in the neutral form or in the response; all others become extensions."""

REFUSED: Mapping[str, str] = {
    "background": "answers are given at once: leave it out",
    "background_options": "answers are given at once: leave it out",
    "conversation": "no conversations are stored here: use previous_response_id",
    "prompt": "no prompt templates are stored here: send instructions and input",
    "context_management": "nothing is compacted here: shorten the input",
    "moderation": "nothing is moderated here: leave it out",
    "image": "images go as they are: leave it out",
    "access_programs": "there are none here: leave it out",
    "messages": "the name here is input",
    "max_tokens": "the name here is max_output_tokens",
    "max_completion_tokens": "the name here is max_output_tokens",
    "response_format": "the name here is text.format",
    "reasoning_effort": "the name here is reasoning.effort",
    "logprobs": 'the name here is include: ["message.output_text.logprobs"]',
    "n": "a request has one response",
}
"""Members that cannot be acted on, and what to do instead. false and [] ask for nothing, and pass."""

TRUNCATIONS = ("auto", "disabled")
INCLUDE_LOGPROBS = "message.output_text.logprobs"


def check(fields: Mapping[str, Any]) -> None:
    """Raises RequestError, UnsupportedParameter, UnsupportedValue for what no backend could do."""
    for name, advice in REFUSED.items():
        if fields.get(name):
            raise UnsupportedParameter(f"{name} is not supported: {advice}", param=name)
    body = Members(fields)
    truncation = body.text("truncation")
    if truncation is not None and truncation not in TRUNCATIONS:
        raise UnsupportedValue(f"truncation must be auto or disabled, not {truncation!r}", param="truncation")
    tools.check_types(body)


def read_request(
    fields: Mapping[str, Any],
    previous: Sequence[Mapping[str, Any]] = (),
    references: Mapping[str, Any] | None = None,
) -> Conversation:
    """previous: the items of the turns before, oldest first. references: by id, stored items that the input
    may refer to.

    Raises RequestError, UnsupportedParameter, UnsupportedValue with the path of the member that is wrong.
    """
    check(fields)
    body = Members(fields)
    items = [*_rows(previous, "previous_response_id"), *_input(body)]
    said = {item["id"] for item in previous if isinstance(item.get("id"), str)}
    messages = read_items(items, references or {}, said)
    if instructions := body.text("instructions"):
        messages.insert(0, Message("system", (Text(instructions),)))
    holders = [body, *(item for item in items if item.values.get("type") == "additional_tools")]
    thinking, metadata = body.object("reasoning"), body.object("metadata")
    shape = body.object("text")
    extra = extensions(fields, NEUTRAL)
    if shape is not None and (verbosity := shape.text("verbosity")):
        extra["verbosity"] = verbosity
    return Conversation(
        model=body.required_text("model"),
        messages=tuple(messages),
        tools=tools.read_tools(holders),
        tool_choice=tools.read_choice(body),
        parallel_tool_calls=body.boolean("parallel_tool_calls"),
        response_format=_format(shape.object("format")) if shape else None,
        sampling=_sampling(body),
        reasoning_effort=thinking.text("effort") if thinking else None,
        stream=bool(body.boolean("stream")),
        metadata=_labels(metadata) if metadata else {},
        extensions={name: value for name, value in extra.items() if name not in REFUSED},
    )


def shows_logprobs(body: Members) -> bool:
    return INCLUDE_LOGPROBS in body.texts("include")


def _rows(items: Sequence[Any], path: str) -> list[Members]:
    return [Members(item, f"{path}[{index}]") for index, item in enumerate(items)]


def _input(body: Members) -> list[Members]:
    value = body.values.get("input")
    if value is None:
        return []
    if isinstance(value, str):
        return [Members({"type": "message", "role": "user", "content": value}, "input")]
    if not isinstance(value, list):
        raise body.wrong("input", "a string or an array of items")
    return list(body.objects("input"))


def _sampling(body: Members) -> Sampling:
    limit, top = body.integer("max_output_tokens"), body.integer("top_logprobs")
    if limit is not None and limit < 1:
        raise RequestError("max_output_tokens must be a positive integer", param="max_output_tokens")
    wanted = shows_logprobs(body)
    sampling = read_sampling(body, logprobs=wanted, top_logprobs=top if wanted else None)
    return replace(sampling, max_tokens=limit)


def _labels(metadata: Members) -> dict[str, str]:
    for name in metadata.values:
        metadata.required_text(name)
    return dict(metadata.values)


def _format(member: Members | None) -> ResponseFormat | None:
    if member is None:
        return None
    kind = member.required_text("type")
    if kind in ("text", "json_object"):
        return ResponseFormat(cast(Literal["text", "json_object"], kind))
    if kind != "json_schema":
        raise UnsupportedValue(
            f"text.format.type must be text, json_object or json_schema, not {kind!r}",
            param="text.format.type",
        )
    schema = Members(member.raw("schema"), member.param("schema"))
    return ResponseFormat(
        "json_schema",
        member.text("name") or "",
        schema.values,
        member.boolean("strict"),
        member.text("description") or "",
    )

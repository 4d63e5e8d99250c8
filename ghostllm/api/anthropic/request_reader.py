"""Anthropic's requests to the neutral form. The way back is in `request_writer`, answers are in
`answer_writer`.

After the reference of `POST /v1/messages` (anthropic 2.12). Members that ask for nothing a model could do
differently (`cache_control`, `service_tier`, `container`…) and beta members are passed over, never refused:
clients send them to every server, and have no other way to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.api.anthropic.message_reader import own_signature as own_signature
from ghostllm.api.anthropic.message_reader import read_messages, read_system
from ghostllm.api.canonical import Conversation, FunctionTool, Message, ResponseFormat, Sampling, ToolChoice
from ghostllm.api.members import Members
from ghostllm.errors import RequestError, UnsupportedValue

EFFORTS = ("low", "medium", "high", "xhigh", "max")
CHOICES = ("auto", "any", "tool", "none")
THINKING = ("enabled", "disabled", "adaptive", "between_tools")


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """The members of a messages or count_tokens request; the latter has no max_tokens.

    Raises RequestError or UnsupportedValue with the path of the member that is wrong.
    """
    body = Members(fields)
    messages = read_messages(body)
    if not messages:
        raise RequestError("messages must have at least one message with content", param="messages")
    if system := read_system(body):
        messages.insert(0, Message("system", system))
    config = body.object("output_config") or Members({}, "output_config")
    effort, budget = _thinking(body.object("thinking"), _effort(config))
    choice = body.object("tool_choice")
    return Conversation(
        model=body.required_text("model"),
        messages=tuple(messages),
        tools=tuple(_tool(member) for member in body.objects("tools")),
        tool_choice=_tool_choice(choice) if choice else None,
        parallel_tool_calls=False if choice and choice.boolean("disable_parallel_tool_use") else None,
        response_format=_format(config.object("format") or body.object("output_format")),
        sampling=_sampling(body),
        reasoning_effort=effort,
        reasoning_budget=budget,
        stream=bool(body.boolean("stream")),
        metadata=_metadata(body.object("metadata")),
    )


def _sampling(body: Members) -> Sampling:
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.integer("top_k"),
        stop=body.texts("stop_sequences"),
        max_tokens=_positive(body, "max_tokens"),
    )


def _positive(member: Members, key: str) -> int | None:
    value = member.integer(key)
    if value is not None and value < 1:
        param = member.param(key)
        raise RequestError(f"{param} must be a positive integer, not {value}", param=param)
    return value


def _metadata(member: Members | None) -> dict[str, str]:
    user = member.text("user_id") if member else None
    return {"user_id": user} if user else {}


# --- thinking and the form of the answer


def _effort(config: Members) -> str | None:
    effort = config.text("effort")
    if effort is not None and effort not in EFFORTS:
        raise _unknown(config, "effort", effort, EFFORTS)
    return effort


def _thinking(member: Members | None, effort: str | None) -> tuple[str | None, int | None]:
    """Effort and budget. Adaptive thinking is what a model does that is told no budget."""
    if member is None:
        return effort, None
    kind = member.required_text("type")
    if kind not in THINKING:
        raise _unknown(member, "type", kind, THINKING)
    if kind == "disabled":
        return "none", None
    if kind != "enabled":
        return effort, None
    member.raw("budget_tokens")
    return effort, _positive(member, "budget_tokens")


def _format(member: Members | None) -> ResponseFormat | None:
    """Not `strict`: OpenAI means by it that every property is required, which Anthropic does not ask of a
    schema. Local servers constrain the answer either way.
    """
    if member is None:
        return None
    kind = member.required_text("type")
    if kind != "json_schema":
        raise _unknown(member, "type", kind, ("json_schema",))
    schema = Members(member.raw("schema"), member.param("schema"))
    return ResponseFormat("json_schema", schema=schema.values)


# --- tools


def _tool(member: Members) -> FunctionTool:
    """Tools of any other type run at Anthropic, or have schemas that only its own models know."""
    kind = member.text("type")
    if kind not in (None, "custom"):
        raise UnsupportedValue(
            f"{member.param('type')}: {kind!r} is a tool of Anthropic's and not served here; "
            'known is "custom", with an input_schema',
            param=member.param("type"),
        )
    schema = member.object("input_schema")
    return FunctionTool(
        member.required_text("name"),
        member.text("description") or "",
        schema.values if schema else None,
        member.boolean("strict"),
    )


def _tool_choice(member: Members) -> ToolChoice:
    kind = member.required_text("type")
    if kind == "auto":
        return ToolChoice("auto")
    if kind == "none":
        return ToolChoice("none")
    if kind == "any":
        return ToolChoice("required")
    if kind == "tool":
        return ToolChoice("required", (member.required_text("name"),))
    raise _unknown(member, "type", kind, CHOICES)


def _unknown(member: Members, key: str, value: str, known: tuple[str, ...]) -> UnsupportedValue:
    param = member.param(key)
    return UnsupportedValue(f"unknown {param} {value!r}; known are {', '.join(known)}", param=param)

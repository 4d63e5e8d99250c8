"""The neutral form to OpenAI's requests: for backends of that dialect, whatever door the client came through.

Nothing that changes the answer is dropped silently: what the server cannot do is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.api import forced_call
from ghostllm.api.canonical import (
    Continuation,
    Conversation,
    CustomTool,
    Embeddings,
    FunctionTool,
    ResponseFormat,
    Sampling,
    Tool,
)
from ghostllm.api.openai.message_writer import write_messages
from ghostllm.api.openai.traits import LOSSLESS, Traits
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "n")

IGNORED: Mapping[str, str] = {
    "keep_alive": "how long Ollama keeps a model in memory",
    "truncate": "what Ollama does with a prompt that is too long; here it is an error",
    "shift": "what Ollama does with an answer that is too long; here it ends",
    "num_ctx": "the server was started with its context",
    "num_batch": "how the server computes",
    "num_gpu": "how the server computes",
    "main_gpu": "how the server computes",
    "num_thread": "how the server computes",
    "use_mmap": "how the server loads",
    "num_keep": "what to keep of a prompt that is cut; none is",
}
"""Members of other dialects that change nothing here, and why."""

BUDGETS = ((1, "none"), (4096, "low"), (16384, "medium"))
"""Up to which budget of thinking, in tokens, an effort stands for it (exclusive); above, it is high."""


def write_request(conversation: Conversation, traits: Traits = LOSSLESS) -> dict[str, Any]:
    """The body of a chat completion request. Extensions go back under their own names.

    Raises UnsupportedParameter, UnsupportedValue, RequestError with the member that the server cannot do.
    """
    messages, tools, choice, shape = _tooling(conversation, traits)
    sampling = conversation.sampling
    body: dict[str, Any] = {"model": conversation.model, "messages": write_messages(messages, traits)}
    optional: dict[str, Any] = {
        "tools": [_write_tool(tool) for tool in tools] or None,
        "tool_choice": choice,
        "parallel_tool_calls": None if conversation.tools and not tools else conversation.parallel_tool_calls,
        "response_format": shape,
        "metadata": (dict(conversation.metadata) or None) if traits.labels else None,
        traits.token_limit: sampling.max_tokens,
        **_write_sampling(sampling, traits),
        "logprobs": sampling.logprobs or None,
        "top_logprobs": sampling.top_logprobs,
        **_write_stream(conversation),
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    merge(body, _write_thinking(conversation, traits))
    merge(body, _extensions(conversation.extensions))
    return body


def write_continuation(continuation: Continuation, traits: Traits = LOSSLESS) -> dict[str, Any]:
    """The body of a completions request. Raises UnsupportedParameter with the member."""
    sampling = continuation.sampling
    body: dict[str, Any] = {"model": continuation.model, "prompt": continuation.prompt}
    optional: dict[str, Any] = {
        "suffix": continuation.suffix or None,
        "echo": continuation.echo or None,
        "max_tokens": sampling.max_tokens,
        **_write_sampling(sampling, traits),
        "logprobs": (sampling.top_logprobs or 0) if sampling.logprobs else None,
        **_write_stream(continuation),
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    body.update(_extensions(continuation.extensions))
    return body


def write_embeddings(embeddings: Embeddings) -> dict[str, Any]:
    """The body of an embeddings request. One text goes alone: not every server takes a list."""
    inputs = embeddings.inputs
    body: dict[str, Any] = {
        "model": embeddings.model,
        "input": inputs[0] if len(inputs) == 1 else list(inputs),
    }
    if embeddings.dimensions is not None:
        body["dimensions"] = embeddings.dimensions
    if embeddings.base64:
        body["encoding_format"] = "base64"
    body.update(_extensions(embeddings.extensions))
    return body


def forced_names(conversation: Conversation, traits: Traits) -> tuple[str, ...]:
    """The functions of which the constrained output calls one; empty where nothing is constrained so."""
    if not _is_forced(conversation, traits):
        return ()
    return tuple(tool.name for tool in forced_call.callable_tools(conversation, traits.label))


# --- parameters


def _write_sampling(sampling: Sampling, traits: Traits) -> dict[str, Any]:
    written: dict[str, Any] = {name: getattr(sampling, name) for name in SAMPLING}
    written["stop"] = list(sampling.stop) or None
    written["logit_bias"] = dict(sampling.logit_bias) or None
    for name in ("top_k", "min_p", "repetition_penalty"):
        value = getattr(sampling, name)
        if value is None:
            continue
        if name not in traits.extras:
            raise UnsupportedParameter(f"{traits.label} has no {name}", param=name)
        written[traits.extras[name]] = value
    return written


def _write_stream(asked: Conversation | Continuation) -> dict[str, Any]:
    if not asked.stream:
        return {}
    options = {"include_usage": True} if asked.wants_usage else None
    return {"stream": True, "stream_options": options}


def _write_thinking(conversation: Conversation, traits: Traits) -> dict[str, Any]:
    effort, budget = conversation.reasoning_effort, conversation.reasoning_budget
    written: dict[str, Any] = {}
    if budget is not None:
        if traits.budget and budget > 0:
            written[traits.budget] = budget
        elif effort is None:
            effort = next((name for limit, name in BUDGETS if budget < limit), "high")
    if effort is None:
        return written
    if not traits.efforts:
        return {**written, "reasoning_effort": effort}
    if effort not in traits.efforts:
        raise UnsupportedValue(
            f"reasoning_effort must be one of {', '.join(traits.efforts)}, not {effort!r}",
            param="reasoning_effort",
        )
    return {**written, **traits.efforts[effort]}


def _extensions(extensions: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extensions.items() if name not in IGNORED}


def merge(body: dict[str, Any], members: Mapping[str, Any]) -> None:
    """Sets members; of two objects under one name (chat_template_kwargs), both stay."""
    for name, value in members.items():
        known = body.get(name)
        body[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value


# --- tools


def _is_forced(conversation: Conversation, traits: Traits) -> bool:
    choice = conversation.tool_choice
    return traits.forced_by_format and choice is not None and choice.mode == "required"


def _tooling(conversation: Conversation, traits: Traits) -> tuple[Any, tuple[Tool, ...], Any, Any]:
    """Messages, tools, tool_choice and response_format; the last three make one thing of a forced call."""
    choice, tools = conversation.tool_choice, conversation.tools
    shape = _write_response_format(conversation.response_format)
    if _is_forced(conversation, traits):
        functions = forced_call.callable_tools(conversation, traits.label)
        schema = {"name": "call", "strict": True, "schema": forced_call.schema(functions)}
        messages = forced_call.told(conversation.messages, functions)
        return messages, (), None, {"type": "json_schema", "json_schema": schema}
    if not traits.custom_tools:
        for index, tool in enumerate(tools):
            if not isinstance(tool, FunctionTool):
                raise UnsupportedValue(
                    f"{traits.label} has function tools only", param=f"tools[{index}].type"
                )
    written = _write_tool_choice(conversation)
    if choice is not None and choice.names and not _knows(choice.mode, len(choice.names), traits):
        _find_all(choice.names, tools)
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        written = choice.mode
    if choice is not None and choice.mode == "none" and not traits.tool_choice:
        tools, written = (), None
    return conversation.messages, tools, written, shape


def _knows(mode: str, names: int, traits: Traits) -> bool:
    return traits.named_choice if mode == "required" and names == 1 else traits.allowed_tools


def _find_all(names: tuple[str, ...], tools: tuple[Tool, ...]) -> None:
    known = {tool.name for tool in tools}
    for name in names:
        if name not in known:
            raise RequestError(
                f"tool_choice names {name!r}, which is not among the tools", param="tool_choice"
            )


def _write_tool(tool: Tool) -> dict[str, Any]:
    member: dict[str, Any] = {"name": tool.name}
    if tool.description:
        member["description"] = tool.description
    if isinstance(tool, CustomTool):
        if tool.format is not None:
            member["format"] = tool.format
        return {"type": "custom", "custom": member}
    if tool.parameters is not None:
        member["parameters"] = tool.parameters
    if tool.strict is not None:
        member["strict"] = tool.strict
    return {"type": "function", "function": member}


def _write_tool_choice(conversation: Conversation) -> Any:
    choice = conversation.tool_choice
    if choice is None:
        return None
    if not choice.names:
        return choice.mode
    custom = {tool.name for tool in conversation.tools if isinstance(tool, CustomTool)}
    tools: list[dict[str, Any]] = [
        {"type": kind, kind: {"name": name}}
        for name in choice.names
        for kind in ("custom" if name in custom else "function",)
    ]
    if choice.mode == "required" and len(tools) == 1:
        return tools[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}


def _write_response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    inner = {
        "name": wanted.name or "answer",
        "description": wanted.description or None,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }
    return {
        "type": "json_schema",
        "json_schema": {name: value for name, value in inner.items() if value is not None},
    }

"""The neutral form to OpenAI chat requests: for backends of that dialect, whatever door the client came
through.
"""

from __future__ import annotations

from typing import Any

from ghostllm.api.canonical import (
    Audio,
    Conversation,
    CustomTool,
    File,
    Image,
    Message,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)


def write_request(conversation: Conversation) -> dict[str, Any]:
    """The body of a chat completion request. Extensions go back under their own names."""
    sampling = conversation.sampling
    body: dict[str, Any] = {
        "model": conversation.model,
        "messages": [member for message in conversation.messages for member in _write_message(message)],
    }
    optional: dict[str, Any] = {
        "tools": [_write_tool(tool) for tool in conversation.tools] or None,
        "tool_choice": _write_tool_choice(conversation),
        "parallel_tool_calls": conversation.parallel_tool_calls,
        "response_format": _write_response_format(conversation.response_format),
        "reasoning_effort": conversation.reasoning_effort,
        "metadata": dict(conversation.metadata) or None,
        "max_completion_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "logit_bias": dict(sampling.logit_bias) or None,
        "logprobs": sampling.logprobs or None,
        "stream": conversation.stream or None,
        "stream_options": {"include_usage": True}
        if conversation.stream and conversation.wants_usage
        else None,
    }
    for name in (
        "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "seed", "top_logprobs", "n",
    ):  # fmt: skip
        optional[name] = getattr(sampling, name)
    body.update((name, value) for name, value in optional.items() if value is not None)
    body.update(conversation.extensions)
    return body


def _write_message(message: Message) -> list[dict[str, Any]]:
    """Tool results become a message each, since OpenAI's tool messages answer one call."""
    if message.role == "tool":
        return [_write_result(part) for part in message.parts if isinstance(part, ToolResult)]
    member: dict[str, Any] = {"role": message.role}
    if message.name:
        member["name"] = message.name
    content = [part for part in message.parts if isinstance(part, Text | Image | Audio | File)]
    reasoning = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    refusals = "".join(part.text for part in message.parts if isinstance(part, Refusal))
    calls = [_write_call(part) for part in message.parts if isinstance(part, ToolCall)]
    member["content"] = _write_content(content) if content or message.role != "assistant" else None
    if reasoning:
        member["reasoning_content"] = reasoning
    if refusals:
        member["refusal"] = refusals
    if calls:
        member["tool_calls"] = calls
    return [member]


def _write_content(parts: list[Text | Image | Audio | File]) -> Any:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_write_part(part) for part in parts]


def _write_part(part: Text | Image | Audio | File) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        image = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
        return {"type": "image_url", "image_url": {**image, "detail": part.detail} if part.detail else image}
    if isinstance(part, Audio):
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
    file = {"file_data": part.data, "file_id": part.file_id, "filename": part.filename}
    return {"type": "file", "file": {name: value for name, value in file.items() if value}}


def _write_result(result: ToolResult) -> dict[str, Any]:
    """OpenAI has no mark for a failed tool, so the words say it."""
    parts: list[Text | Image | Audio | File] = list(result.parts)
    if result.error:
        parts.insert(0, Text("Error:"))
    member = {"role": "tool", "tool_call_id": result.id, "content": _write_content(parts)}
    return {**member, "name": result.name} if result.name else member


def _write_call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


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

"""OpenAI chat requests to the neutral form. The way back is in `request_writer`, answers are in
`answer_writer`.

After the reference of `POST /chat/completions` (openai 3.54). `functions` and `function_call`, deprecated
since 2023, are refused by name: what they do, `tools` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from ghostllm.api.canonical import (
    Audio,
    Conversation,
    CustomTool,
    File,
    FunctionTool,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ghostllm.api.members import Members
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

ROLES = ("system", "developer", "user", "assistant", "tool")

NEUTRAL = frozenset((
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
    "stream", "stream_options", "metadata", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "seed", "stop", "max_tokens", "max_completion_tokens",
    "logit_bias", "logprobs", "top_logprobs", "n",
))  # fmt: skip
"""Members with a place in the neutral form; all others become extensions."""


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """Raises RequestError, UnsupportedValue or UnsupportedParameter with the path of the member that is
    wrong.
    """
    body = Members(fields)
    for name in ("functions", "function_call"):
        if body.has(name):
            raise UnsupportedParameter(f"{name} is deprecated and not translated: use tools", param=name)
    messages = tuple(_message(member) for member in body.objects("messages"))
    if not messages:
        raise RequestError("messages must hold at least one message", param="messages")
    options = body.object("stream_options")
    return Conversation(
        model=body.required_text("model"),
        messages=messages,
        tools=tuple(_tool(member) for member in body.objects("tools")),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.boolean("parallel_tool_calls"),
        response_format=_response_format(body.object("response_format")),
        sampling=read_sampling(
            body, logprobs=bool(body.boolean("logprobs")), top_logprobs=body.integer("top_logprobs")
        ),
        reasoning_effort=body.text("reasoning_effort"),
        stream=bool(body.boolean("stream")),
        wants_usage=not body.boolean("stream") or bool(options and options.boolean("include_usage")),
        metadata=dict(metadata.values) if (metadata := body.object("metadata")) else {},
        extensions=extensions(fields, NEUTRAL),
    )


def extensions(fields: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in known and value is not None}


def read_sampling(body: Members, *, logprobs: bool, top_logprobs: int | None) -> Sampling:
    bias = body.object("logit_bias")
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.integer("top_k"),
        min_p=body.number("min_p"),
        presence_penalty=body.number("presence_penalty"),
        frequency_penalty=body.number("frequency_penalty"),
        repetition_penalty=body.number("repetition_penalty"),
        seed=body.integer("seed"),
        stop=body.texts("stop"),
        max_tokens=_max_tokens(body),
        logit_bias={token: bias.number(token) or 0 for token in bias.values} if bias else {},
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        n=body.integer("n"),
    )


def _max_tokens(body: Members) -> int | None:
    """max_completion_tokens is today's name of max_tokens, and rules where both are given."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.integer(name)
        if value is not None:
            if value < 0:
                raise RequestError(f"{name} must not be negative", param=name)
            return value
    return None


def _message(member: Members) -> Message:
    role = member.required_text("role")
    if role not in ROLES:
        raise UnsupportedValue(
            f"unknown role {role!r}; known are {', '.join(ROLES)}", param=member.param("role")
        )
    name = member.text("name") or ""
    if role == "tool":
        content = _content(member)
        if not all(isinstance(part, Text | Image) for part in content):
            raise UnsupportedValue("a tool result is text or images", param=member.param("content"))
        result = ToolResult(
            member.required_text("tool_call_id"), cast("tuple[Text | Image, ...]", content), name
        )
        return Message("tool", (result,))
    parts: list[Part] = []
    if role == "assistant":
        parts.extend(_reasoning(member))
    if member.has("content"):
        parts.extend(_content(member))
    elif role != "assistant":
        member.raw("content")
    if role == "assistant":
        if refusal := member.text("refusal"):
            parts.append(Refusal(refusal))
        parts.extend(_tool_call(call) for call in member.objects("tool_calls"))
        if member.has("function_call"):
            raise UnsupportedValue(
                "function_call is deprecated and not translated: use tool_calls",
                param=member.param("function_call"),
            )
        if member.has("audio"):
            raise UnsupportedValue("audio of an earlier answer is not kept here", param=member.param("audio"))
    return Message(cast(Role, role), tuple(parts), name)


def _reasoning(member: Members) -> list[Part]:
    """The field has three names in the field: vLLM, llama.cpp and DeepSeek, Ollama."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        if text := member.text(name):
            return [Reasoning(text)]
    return []


def _content(member: Members) -> tuple[Part, ...]:
    content = member.raw("content")
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise member.wrong("content", "a string or an array of parts")
    return tuple(_part(part) for part in member.objects("content"))


def _part(member: Members) -> Part:
    kind = member.required_text("type")
    if kind == "text":
        return Text(member.required_text("text"))
    if kind == "image_url":
        return _image(member)
    if kind == "refusal":
        return Refusal(member.required_text("refusal"))
    if kind == "input_audio":
        audio = _required(member, "input_audio")
        return Audio(audio.required_text("data"), audio.required_text("format"))
    if kind == "file":
        file = _required(member, "file")
        names = ("file_data", "file_id", "filename")
        data, file_id, filename = (file.text(name) or "" for name in names)
        return File(data=data, file_id=file_id, filename=filename)
    raise UnsupportedValue(f"unknown content part {kind!r}", param=member.param("type"))


def _required(member: Members, key: str) -> Members:
    return Members(member.raw(key), member.param(key))


def _image(member: Members) -> Image:
    """A data URL is taken apart; `image_url` as a bare string is how older clients send it."""
    if isinstance(member.raw("image_url"), str):
        url, detail = member.required_text("image_url"), ""
    else:
        inner = _required(member, "image_url")
        url, detail = inner.required_text("url"), inner.text("detail") or ""
    if not url.startswith("data:"):
        return Image(url=url, detail=detail)
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.rpartition(";")
    if not comma or encoding != "base64":
        raise RequestError("a data URL of an image must be base64", param=member.param("image_url"))
    return Image(data=data, media_type=media_type.lower(), detail=detail)


def _tool_call(member: Members) -> ToolCall:
    identity = member.required_text("id")
    if member.text("type") == "custom":
        custom = _required(member, "custom")
        return ToolCall(identity, custom.required_text("name"), custom.required_text("input"), custom=True)
    function = _required(member, "function")
    return ToolCall(identity, function.required_text("name"), function.text("arguments") or "")


def _tool(member: Members) -> Tool:
    kind = member.required_text("type")
    if kind == "custom":
        custom = _required(member, "custom")
        shape = custom.object("format")
        return CustomTool(
            custom.required_text("name"), custom.text("description") or "", shape.values if shape else None
        )
    if kind != "function":
        raise UnsupportedValue(f"unknown tool type {kind!r}", param=member.param("type"))
    function = _required(member, "function")
    parameters = function.object("parameters")
    return FunctionTool(
        function.required_text("name"),
        function.text("description") or "",
        parameters.values if parameters else None,
        function.boolean("strict"),
    )


def _tool_choice(body: Members) -> ToolChoice | None:
    choice = body.values.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise UnsupportedValue(f"unknown tool_choice {choice!r}", param="tool_choice")
        return ToolChoice(cast(Literal["none", "auto", "required"], choice))
    member = Members(choice, "tool_choice")
    kind = member.required_text("type")
    if kind in ("function", "custom"):
        return ToolChoice("required", (_required(member, kind).required_text("name"),))
    if kind != "allowed_tools":
        raise UnsupportedValue(f"unknown tool_choice type {kind!r}", param="tool_choice.type")
    allowed = _required(member, "allowed_tools")
    mode = allowed.required_text("mode")
    if mode not in ("auto", "required"):
        raise UnsupportedValue(f"unknown mode {mode!r}", param=allowed.param("mode"))
    names = tuple(
        _required(tool, tool.required_text("type")).required_text("name") for tool in allowed.objects("tools")
    )
    if not names:
        raise RequestError("allowed_tools names no tool", param=allowed.param("tools"))
    return ToolChoice(cast(Literal["auto", "required"], mode), names)


def _response_format(member: Members | None) -> ResponseFormat | None:
    if member is None:
        return None
    kind = member.required_text("type")
    if kind in ("text", "json_object"):
        return ResponseFormat(cast(Literal["text", "json_object"], kind))
    if kind != "json_schema":
        raise UnsupportedValue(f"unknown response format {kind!r}", param=member.param("type"))
    inner = _required(member, "json_schema")
    schema = inner.object("schema")
    return ResponseFormat(
        "json_schema",
        inner.text("name") or "",
        schema.values if schema else None,
        inner.boolean("strict"),
        inner.text("description") or "",
    )

"""A tool call that must be made (`tool_choice` required or named), where a backend cannot be told so.

The tools are described in the system message instead of the request, the output is constrained to `{"name",
"arguments"}` of one of them, and the reader of the answer turns that object into the call. It arrives in one
piece, since only the whole is known to be valid.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import Conversation, FunctionTool, Message, Text
from ghostllm.api.json_schema import inline
from ghostllm.errors import RequestError, UnsupportedValue

PROMPT = (
    "Answer with exactly one function call and nothing else: a JSON object with the members "
    '"name" (the name of the function) and "arguments" (an object that fits its parameters). '
    "The functions, one a line:\n"
)


class NoCall(ValueError):
    """The constrained output is no call. The message is what came, to be put after "sent"."""


def callable_tools(conversation: Conversation, server: str) -> list[FunctionTool]:
    """The functions that may be called under the conversation's tool_choice; none of them when it is "none".

    server: in whose name other kinds of tools are refused. Raises UnsupportedValue, RequestError with the
    member at fault.
    """
    choice = conversation.tool_choice
    if choice is not None and choice.mode == "none":
        return []
    functions = []
    for index, tool in enumerate(conversation.tools):
        if not isinstance(tool, FunctionTool):
            raise UnsupportedValue(f"{server} has function tools only", param=f"tools[{index}].type")
        functions.append(tool)
    if choice is None:
        return functions
    known = {tool.name for tool in functions}
    for name in choice.names:
        if name not in known:
            raise RequestError(
                f"tool_choice names {name!r}, which is not among the tools", param="tool_choice"
            )
    if choice.mode == "required" and not functions:
        raise RequestError("tool_choice needs tools to choose from", param="tool_choice")
    return [tool for tool in functions if not choice.names or tool.name in choice.names]


def told(messages: tuple[Message, ...], tools: Sequence[FunctionTool]) -> tuple[Message, ...]:
    """The instruction ends the leading system message: templates expect at most one, in front."""
    instruction = PROMPT + "\n".join(_description(tool) for tool in tools)
    first = messages[0]
    if first.role in ("system", "developer"):
        return (Message("system", (*first.parts, Text(instruction)), first.name), *messages[1:])
    return (Message("system", (Text(instruction),)), *messages)


def schema(tools: Sequence[FunctionTool]) -> dict[str, Any]:
    """JSON Schema of a call of one of `tools`. Raises RequestError, UnsupportedValue for a broken one."""
    alternatives = []
    for tool in tools:
        arguments = inline(tool.parameters or {}, f"the parameters of {tool.name}")
        alternatives.append({
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": [tool.name]},
                "arguments": {"type": "object", **arguments},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        })  # fmt: skip
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def read(text: str, forced: Collection[str], *, cut: bool) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the call that the constrained output is. Raises NoCall.

    cut: the output ended at the token limit; then half a call is None: it is shown as it is, and the finish
    reason says that it was cut.
    """
    try:
        value = jsonx.loads(text)
    except jsonx.DecodeError:
        if cut:
            return None
        raise NoCall("no tool call, though one was required") from None
    name = value.get("name") if isinstance(value, dict) else None
    arguments = value.get("arguments") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in forced or not isinstance(arguments, dict):
        raise NoCall("no call of one of the tools of which one was required")
    return name, arguments


def _description(tool: FunctionTool) -> str:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}
    return jsonx.dumps(described).decode()

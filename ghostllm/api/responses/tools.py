"""The tools of a Responses request: flat where chat nests them, and grouped in namespaces.

Only tools that the client runs itself are served. A function of a namespace goes to the model under one name
for both, and its calls are told apart again by `split_names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

from ghostllm.api.canonical import CustomTool, FunctionTool, Tool, ToolChoice
from ghostllm.api.members import Members
from ghostllm.errors import RequestError, UnsupportedValue

SERVED = ("function", "custom", "namespace")
MODES = ("none", "auto", "required")


def flat_name(namespace: str, name: str) -> str:
    """Namespaces of Codex end in the separator, as its tools of MCP servers always have been named."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def split_names(holders: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Flat name -> (namespace, name) of the tools in namespaces. holders: the request and items that have
    been read before.
    """
    names: dict[str, tuple[str, str]] = {}
    for holder in holders:
        for tool in holder.get("tools") or ():
            if tool.get("type") == "namespace":
                space = tool["name"]
                inner = (each["name"] for each in tool.get("tools") or ())
                names.update((flat_name(space, name), (space, name)) for name in inner)
    return names


def check_types(body: Members) -> None:
    """Raises UnsupportedValue for a hosted tool, naming `tools[i].type`: nobody here would run it."""
    for tool in body.objects("tools"):
        _served(tool, SERVED)


def read_tools(holders: list[Members]) -> tuple[Tool, ...]:
    """The members `tools` of the request and of its `additional_tools` items."""
    tools: dict[str, Tool] = {}
    for holder in holders:
        for tool, member in _all(holder):
            if tool.name in tools:
                raise RequestError(f"two tools are named {tool.name!r}", param=member.param("name"))
            tools[tool.name] = tool
    return tuple(tools.values())


def read_choice(body: Members) -> ToolChoice | None:
    choice = body.values.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in MODES:
            raise UnsupportedValue(
                f"unknown tool_choice {choice!r}; known are {', '.join(MODES)}", param="tool_choice"
            )
        return ToolChoice(cast(Literal["none", "auto", "required"], choice))
    member = Members(choice, "tool_choice")
    kind = member.required_text("type")
    if kind != "allowed_tools":
        return ToolChoice("required", (_chosen(member),))
    mode = member.required_text("mode")
    if mode not in ("auto", "required"):
        raise UnsupportedValue(
            f"tool_choice.mode must be auto or required, not {mode!r}", param="tool_choice.mode"
        )
    names = tuple(_chosen(tool) for tool in member.objects("tools"))
    if not names:
        raise RequestError("tool_choice.tools names no tool", param="tool_choice.tools")
    return ToolChoice(cast(Literal["auto", "required"], mode), names)


def _chosen(member: Members) -> str:
    _served(member, ("function", "custom"))
    return flat_name(member.text("namespace") or "", member.required_text("name"))


def _all(holder: Members) -> Iterator[tuple[Tool, Members]]:
    for member in holder.objects("tools"):
        if _served(member, SERVED) != "namespace":
            yield _tool(member), member
            continue
        space = member.required_text("name")
        for inner in member.objects("tools"):
            _served(inner, ("function", "custom"))
            yield _tool(inner, space), inner


def _tool(member: Members, namespace: str = "") -> Tool:
    name = flat_name(namespace, member.required_text("name"))
    description = member.text("description") or ""
    if member.text("type") == "custom":
        shape = member.object("format")
        return CustomTool(name, description, _format(shape) if shape else None)
    parameters = member.object("parameters")
    return FunctionTool(
        name, description, parameters.values if parameters else None, member.boolean("strict")
    )


def _format(member: Members) -> Mapping[str, Any]:
    """Chat, whose form is the neutral one, nests a grammar once more."""
    kind = member.required_text("type")
    if kind == "text":
        return {"type": "text"}
    if kind != "grammar":
        raise UnsupportedValue(
            f"{member.param('type')} must be text or grammar, not {kind!r}", param=member.param("type")
        )
    grammar = {name: member.required_text(name) for name in ("definition", "syntax")}
    return {"type": "grammar", "grammar": grammar}


def _served(member: Members, known: tuple[str, ...]) -> str:
    kind = member.required_text("type")
    if kind not in known:
        raise UnsupportedValue(
            f"{member.param('type')}: tools of type {kind!r} are not served here; known are "
            f"{', '.join(known)}",
            param=member.param("type"),
        )
    return kind

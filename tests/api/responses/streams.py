"""Streams of the Responses dialect, read strictly: every event in its place, and what they come to."""

from __future__ import annotations

import itertools

from ghostllm import jsonx
from ghostllm.api.canonical import Reasoning, Refusal, Text, ToolCall
from ghostllm.api.responses import door
from ghostllm.api.responses.items import SEALED, SIGNED

TERMINAL = ("response.completed", "response.incomplete", "response.failed")
PARTS = {
    "output_text": ("response.output_text", "text", "content_part", "content_index", "content"),
    "refusal": ("response.refusal", "refusal", "content_part", "content_index", "content"),
    "reasoning_text": ("response.reasoning_text", "text", "content_part", "content_index", "content"),
    "summary_text": (
        "response.reasoning_summary_text", "text", "reasoning_summary_part", "summary_index", "summary",
    ),
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}  # fmt: skip


def ids():
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def call_of(**fields):
    return door.read_call("responses", jsonx.dumps({"model": "m", "input": "hi", **fields}))


def events_of(stream):
    """(type, data) of each event; every event has a name, which is its type."""
    *blocks, rest = stream.split(b"\n\n")
    assert rest == b""
    events = []
    for block in blocks:
        name, data = block.split(b"\n")
        assert name.startswith(b"event: ") and data.startswith(b"data: ")
        value = jsonx.loads(data[6:])
        assert value["type"] == name[7:].decode()
        events.append((value["type"], value))
    return events


def response_of(stream):
    """The final response. Its output has to be what the events before said."""
    events = events_of(stream)
    assert [value["sequence_number"] for _, value in events] == list(range(len(events)))
    (first, created), (second, progress), *middle, (last, end) = events
    assert (first, second) == ("response.created", "response.in_progress") and last in TERMINAL
    assert created["response"] == progress["response"]
    final = end["response"]
    assert created["response"] == {
        **final, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None,
        "error": None,
    }  # fmt: skip
    assert last == f"response.{final['status']}"
    rest, output = middle, []
    while rest:
        item, rest = _item(rest, len(output))
        output.append(item)
    assert output == final["output"]
    return final


def _item(events, index):
    name, value = events[0]
    assert name == "response.output_item.added" and value["output_index"] == index, name
    item = value["item"]
    end = next(at for at, (name, _) in enumerate(events) if name == "response.output_item.done")
    inside, (_, done) = events[1:end], events[end]
    assert done["output_index"] == index
    assert all(
        value["item_id"] == item["id"] and value["output_index"] == index for _, value in inside
    ) and all(set(value) >= {"sequence_number"} for _, value in inside)
    if item["type"] in ("function_call", "custom_tool_call"):
        item[PARTS[item["type"]][1]] = _said(inside, *PARTS[item["type"]][:2], None, None)
    else:
        while inside:
            part, inside = _part(inside, item)
    for name in ("status", "encrypted_content"):
        if name in done["item"]:
            item[name] = done["item"][name]
    assert item == done["item"] and item.get("status") != "in_progress"
    return item, events[end + 1 :]


def _part(events, item):
    part = events[0][1]["part"]
    stem, member, outer, place, holder = PARTS[part["type"]]
    end = next(at for at, (name, _) in enumerate(events) if name == f"response.{outer}.done")
    index = len(item[holder])
    assert events[0][0] == f"response.{outer}.added" and part[member] == ""
    assert all(value[place] == index for _, value in events[: end + 1])
    part[member] = _said(events[1:end], stem, member, part, part["type"])
    assert events[end][1]["part"] == part
    item[holder].append(part)
    return part, events[end + 1 :]


def _said(events, stem, member, part, kind):
    *deltas, (name, done) = events
    assert name == f"{stem}.done" and {name for name, _ in deltas} <= {f"{stem}.delta"}
    if kind == "output_text":
        part["logprobs"] = [token for _, value in deltas for token in value["logprobs"]]
        assert done["logprobs"] == part["logprobs"]
    text = "".join(value["delta"] for _, value in deltas)
    assert done[member] == text and all(value["delta"] for _, value in deltas)
    return text


def parts_of(output):
    """What the items of an output say, as neutral parts."""
    parts = []
    for item in output:
        if item["type"] == "message":
            parts.extend(
                Text(part["text"]) if part["type"] == "output_text" else Refusal(part["refusal"])
                for part in item["content"]
            )
        elif item["type"] == "reasoning":
            said = "".join(part["text"] for part in item.get("content") or item["summary"])
            sealed = item.get("encrypted_content", "")
            signature = sealed.removeprefix(SIGNED) if sealed.startswith(SIGNED) else ""
            redacted = sealed.removeprefix(SEALED) if sealed.startswith(SEALED) else ""
            parts.append(Reasoning(said, signature, redacted))
        else:
            custom = item["type"] == "custom_tool_call"
            said = item["input" if custom else "arguments"]
            parts.append(ToolCall(item["call_id"], item["name"], said, custom))
    return tuple(parts)

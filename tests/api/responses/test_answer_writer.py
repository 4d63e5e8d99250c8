"""Answers of the Responses dialect, streamed and whole: what a strict reader makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ghostllm import errors, jsonx
from ghostllm.api.canonical import (
    Finish,
    Fold,
    Message,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Start,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.responses import door, stored
from ghostllm.api.responses.response_body import usage_object
from ghostllm.message import Usage
from tests.api.anthropic.streams import answers
from tests.api.responses.streams import call_of, events_of, ids, parts_of, response_of

STOP, CUT = Finish("stop"), Finish("length")
USAGE = UsageEvent(Usage(3, 4))
EVENT = TypeAdapter(ResponseStreamEvent)


def streamed(*events, call=None):
    writer = door.writer(call or call_of(), 1700, ids())
    return b"".join(map(writer.event, events)) + writer.end()


def final(*events, **fields):
    return response_of(streamed(*events, call=call_of(**fields)))


def output(*events, **fields):
    return final(*events, STOP, **fields)["output"]


def names(stream):
    return [name.removeprefix("response.") for name, _ in events_of(stream)]


def test_a_stream_of_text_byte_for_byte():
    writer = door.writer(call_of(), 1700, ids())
    begin = writer.event(Start())
    assert begin.startswith(
        b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":'
        b'{"id":"resp_1","object":"response","created_at":1700,"status":"in_progress",'
    )
    stream = b"".join(map(writer.event, (TextDelta("Grüße "), TextDelta('"🙂"\n'), STOP)))
    assert stream.decode() == (
        'event: response.output_item.added\ndata: {"type":"response.output_item.added","sequence_number":2,'
        '"output_index":0,"item":{"id":"msg_2","type":"message","status":"in_progress","role":"assistant",'
        '"content":[]}}\n\n'
        'event: response.content_part.added\ndata: {"type":"response.content_part.added",'
        '"sequence_number":3,"item_id":"msg_2","output_index":0,"content_index":0,'
        '"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}\n\n'
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_2",'
        '"output_index":0,"content_index":0,"logprobs":[],"sequence_number":4,"delta":"Grüße "}\n\n'
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_2",'
        '"output_index":0,"content_index":0,"logprobs":[],"sequence_number":5,"delta":"\\"🙂\\"\\n"}\n\n'
        'event: response.output_text.done\ndata: {"type":"response.output_text.done","sequence_number":6,'
        '"item_id":"msg_2","output_index":0,"content_index":0,"text":"Grüße \\"🙂\\"\\n","logprobs":[]}\n\n'
        'event: response.content_part.done\ndata: {"type":"response.content_part.done","sequence_number":7,'
        '"item_id":"msg_2","output_index":0,"content_index":0,"part":{"type":"output_text",'
        '"text":"Grüße \\"🙂\\"\\n","annotations":[],"logprobs":[]}}\n\n'
        'event: response.output_item.done\ndata: {"type":"response.output_item.done","sequence_number":8,'
        '"output_index":0,"item":{"id":"msg_2","type":"message","status":"completed","role":"assistant",'
        '"content":[{"type":"output_text","text":"Grüße \\"🙂\\"\\n","annotations":[],"logprobs":[]}]}}\n\n'
    )
    assert names(writer.end()) == ["completed"]


def test_a_function_call():
    stream = streamed(ToolCallDelta(0, '{"a":', "call_a", "f"), ToolCallDelta(0, "1}"), Finish("tool_calls"))
    assert names(stream)[2:] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    [item] = response_of(stream)["output"]
    assert item == {
        "id": "fc_2", "type": "function_call", "call_id": "call_a", "name": "f", "arguments": '{"a":1}',
        "status": "completed",
    }  # fmt: skip


def test_a_custom_call():
    stream = streamed(ToolCallDelta(0, "*** Begin", "call_a", "patch", True), Finish("tool_calls"))
    assert names(stream)[3:5] == ["custom_tool_call_input.delta", "custom_tool_call_input.done"]
    [item] = response_of(stream)["output"]
    assert item == {
        "id": "ctc_2", "type": "custom_tool_call", "call_id": "call_a", "name": "patch", "input": "*** Begin",
    }  # fmt: skip


@pytest.mark.parametrize("pieces", [[], [""], [" "]])
def test_a_call_without_arguments_has_an_empty_object(pieces):
    events = [ToolCallDelta(0, "", "call_a", "f"), *(ToolCallDelta(0, piece) for piece in pieces)]
    [item] = output(*events)
    assert jsonx.loads(item["arguments"]) == {}


def test_calls_that_interleave_follow_one_another():
    call_a, call_b = output(
        ToolCallDelta(0, '{"a"', "call_a", "f"),
        ToolCallDelta(1, '{"b":', "call_b", "g"),
        ToolCallDelta(0, ":1}"),
        ToolCallDelta(1, "2}"),
    )
    assert (call_a["arguments"], call_b["arguments"]) == ('{"a":1}', '{"b":2}')


def test_nothing_overtakes_a_call_whose_name_is_not_known_yet():
    items = output(
        TextDelta("a"), ToolCallDelta(0, ""), TextDelta("b"), ToolCallDelta(1, "", "y", "g"),
        ToolCallDelta(0, "{}", "x", "f"), TextDelta("c"),
    )  # fmt: skip
    assert parts_of(items) == (
        Text("a"), ToolCall("x", "f", "{}"), Text("b"), ToolCall("y", "g", "{}"), Text("c"),
    )  # fmt: skip


def test_text_between_two_calls_ends_before_the_second_has_a_name():
    items = output(
        ToolCallDelta(0, "{", "x", "f"), TextDelta("a"), ToolCallDelta(1, ""), ToolCallDelta(0, "}"),
        TextDelta("b"), ToolCallDelta(1, "{}", "y", "g"),
    )  # fmt: skip
    assert parts_of(items) == (
        ToolCall("x", "f", "{}"), Text("a"), ToolCall("y", "g", "{}"), Text("b"),
    )  # fmt: skip


def test_fragments_go_out_as_they_come():
    writer = door.writer(call_of(), 1700, ids())
    for event in (Start(), TextDelta("a"), TextDelta("b"), ToolCallDelta(0, '{"a', "x", "f")):
        assert writer.event(event)
    assert writer.event(ToolCallDelta(0, '":1}')) and writer.event(ToolCallDelta(1, "{", "y", "g"))


def test_a_function_of_a_namespace_gets_its_two_names_back():
    tools = [
        {"type": "namespace", "name": "crm", "description": "", "tools": [{"type": "function", "name": "f"}]},
        {"type": "function", "name": "f"},
    ]
    one, other = output(ToolCallDelta(0, "{}", "a", "crm__f"), ToolCallDelta(1, "{}", "b", "f"), tools=tools)
    assert (one["namespace"], one["name"]) == ("crm", "f")
    assert "namespace" not in other and other["name"] == "f"


def test_thinking_is_an_item_of_its_own():
    thinking, answer = output(ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("Hi"))
    assert thinking == {
        "id": "rs_2", "type": "reasoning", "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }  # fmt: skip
    assert answer["type"] == "message"


@pytest.mark.parametrize("asked", [{"summary": "auto"}, {"generate_summary": "detailed", "effort": "low"}])
def test_thinking_is_a_summary_for_who_asks_for_one(asked):
    stream = streamed(ReasoningDelta("hm"), STOP, call=call_of(reasoning=asked))
    assert names(stream)[2:] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    [item] = response_of(stream)["output"]
    assert item == {"id": "rs_2", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}


def test_a_refusal_is_a_part_of_the_message():
    [item] = output(TextDelta("I "), RefusalDelta("will not"), TextDelta("!"))
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal", "output_text"]


def test_signed_and_sealed_thinking_stay_apart():
    kept = (Reasoning("a", "sig1"), Reasoning("b", "sig2"), Reasoning("", "", "sealed"), Reasoning("c"))
    events = [ReasoningDelta(part.text, part.signature, part.redacted) for part in kept]
    assert parts_of(output(*events)) == kept


def test_logprobs_are_shown_to_who_asks_for_them():
    low = TokenLogprob("H", -0.5, (72,), (TokenLogprob("J", -1.5, (74,)),))
    events = TextDelta("H", (low,)), TextDelta("", (TokenLogprob("", -1.0, (240,)),)), TextDelta("i")
    [item] = output(*events, include=["message.output_text.logprobs"])
    assert item["content"][0]["logprobs"] == [
        {
            "token": "H", "bytes": [72], "logprob": -0.5,
            "top_logprobs": [{"token": "J", "bytes": [74], "logprob": -1.5}],
        },
        {"token": "", "bytes": [240], "logprob": -1.0, "top_logprobs": []},
    ]  # fmt: skip
    [item] = output(*events)
    assert item["content"][0]["logprobs"] == []


# --- ends


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("pause", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_a_response_ends(reason, status, details):
    response = final(TextDelta("Hi"), Finish(reason), USAGE)
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][0]["status"] == status


def test_only_what_was_open_when_the_answer_was_cut_is_incomplete():
    first, second = final(TextDelta("Hi"), ToolCallDelta(0, '{"a', "a", "f"), CUT)["output"]
    assert (first["status"], second["status"], second["arguments"]) == ("completed", "incomplete", '{"a')


def test_nobody_said_that_it_is_over():
    assert final(TextDelta("Hi"))["status"] == "incomplete"


def test_details_of_usage_are_never_left_out():
    assert final(TextDelta("Hi"), STOP, USAGE)["usage"] == {
        "input_tokens": 3, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 7,
    }  # fmt: skip
    assert usage_object(Usage(9, 5, 4, 3, 2)) == {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14,
    }  # fmt: skip
    assert usage_object(Usage(prompt=3)) is None and final(STOP)["usage"] is None


def test_an_answer_of_nothing_is_a_response_all_the_same():
    for events in ((STOP,), (Start(), TextDelta(""), ReasoningDelta(""), RefusalDelta(""), STOP)):
        response = final(*events)
        assert response["output"] == [] and response["status"] == "completed"


# --- failures

CUT_OFF = errors.UpstreamCut("the answer ended early")


def broken(*events, error=CUT_OFF):
    call = call_of()
    writer = door.writer(call, 1700, ids())
    stream = b"".join(map(writer.event, events)) + writer.error(error)
    assert writer.error(error) == b""
    return stream, call


def test_an_error_before_the_response_is_the_flat_event():
    stream, call = broken(error=errors.RequestError("no", param="input"))
    assert events_of(stream) == [
        ("error", {
            "type": "error", "sequence_number": 0, "code": "server_error", "message": "no", "param": "input",
        }),
    ]  # fmt: skip
    assert call.response is None


def test_a_response_that_has_begun_fails():
    stream, call = broken(Start(), ReasoningDelta("hm"), TextDelta("Hi"), USAGE)
    response = response_of(stream)
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "the answer ended early"}
    assert [item.get("status") for item in response["output"]] == [None, "incomplete"]
    assert response["usage"]["total_tokens"] == 7 and call.response == response


@pytest.mark.parametrize("custom", [False, True])
def test_a_call_is_never_done_when_the_answer_fails(custom):
    stream, _ = broken(ToolCallDelta(0, '{"command": "rm"}', "a", "shell", custom))
    assert not [name for name in names(stream) if name.endswith("done")]
    [item] = events_of(stream)[-1][1]["response"]["output"]
    assert item["input" if custom else "arguments"] == '{"command": "rm"}'
    assert item.get("status") == (None if custom else "incomplete")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Overloaded("busy"), "server_is_overloaded"),
        (errors.ContextLengthExceeded("long"), "context_length_exceeded"),
        (errors.UpstreamTimeout("slow", limit="idle"), "server_error"),
        (
            errors.UpstreamAnswered("later", upstream_status=429, status=429, code=None, retryable=True),
            "rate_limit_exceeded",
        ),
    ],
)
def test_codes_of_failures_are_those_that_clients_know(error, code):
    stream, _ = broken(Start(), error=error)
    assert response_of(stream)["error"]["code"] == code


# --- the response object


def test_a_response_echoes_its_request():
    asked = {
        "instructions": "be brief", "max_output_tokens": 9, "metadata": {"a": "b"}, "top_p": 0.5,
        "parallel_tool_calls": False, "previous_response_id": "resp_0", "temperature": 0.0, "user": "u",
        "reasoning": {"effort": "low"}, "store": False, "tool_choice": "none", "truncation": "auto",
        "text": {"verbosity": "low"}, "tools": [{"type": "function", "name": "f"}], "service_tier": "flex",
        "safety_identifier": "s", "prompt_cache_key": "k", "top_logprobs": 2,
    }  # fmt: skip
    response = final(STOP, **asked)
    expected = {
        **asked,
        "reasoning": {"effort": "low", "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }
    assert {name: response[name] for name in asked} == expected


def test_a_response_is_what_the_sdk_declares():
    for fields in ({}, {"text": {"format": {"type": "json_object"}}, "tool_choice": "required"}):
        stream = streamed(
            ReasoningDelta("hm"), TextDelta("Hi"), RefusalDelta("no"), ToolCallDelta(0, "{}", "a", "f"),
            ToolCallDelta(1, "x", "b", "g", True), STOP, USAGE, call=call_of(**fields),
        )  # fmt: skip
        Response.model_validate(response_of(stream))
        for _, value in events_of(stream):
            EVENT.validate_python(value)
    stream, _ = broken(Start(), TextDelta("Hi"), error=errors.Overloaded("busy"))
    for _, value in events_of(stream)[:-1]:  # its type knows fewer error codes than its clients
        EVENT.validate_python(value)
    EVENT.validate_python(events_of(broken()[0])[0][1])


# --- properties


def sound(parts):
    """Functions without arguments are called with an empty object."""
    return [
        replace(part, arguments=part.arguments.strip() or "{}") if isinstance(part, ToolCall) else part
        for part in parts
    ]


def shape(item):
    """Without what differs: ids, the state of a cut call that waited for another, and its end."""
    shown = {name: value for name, value in item.items() if name not in ("id", "status")}
    if "arguments" in shown:
        shown["arguments"] = shown["arguments"].strip() or "{}"
    return shown


@given(answers(), st.sampled_from([{}, {"reasoning": {"summary": "auto"}}]))
def test_any_answer_is_the_same_streamed_whole_and_folded(events, fields):
    call, again = call_of(**fields), call_of(**fields)
    response = response_of(streamed(*events, call=call))
    answer = Fold(events).answer()
    assert call.response == response
    assert sound(parts_of(response["output"])) == sound(answer.parts)
    whole = jsonx.loads(door.writer(again, 1700, ids()).whole(answer))
    assert again.response == whole
    assert [shape(item) for item in whole["output"]] == [shape(item) for item in response["output"]]
    assert {**whole, "output": [], "id": ""} == {**response, "output": [], "id": ""}
    Response.model_validate(response)


@given(answers(), st.integers(0, 20))
def test_any_answer_may_fail_anywhere(events, at):
    call = call_of()
    writer = door.writer(call, 1700, ids())
    stream = b"".join(map(writer.event, [e for e in events[:at] if not isinstance(e, Finish)]))
    told = events_of(stream + writer.error(CUT_OFF))
    assert [value["sequence_number"] for _, value in told] == list(range(len(told)))
    assert told[-1][0] == ("response.failed" if at else "error")
    assert not at or told[-1][1]["response"] == call.response


@given(answers())
def test_the_output_is_read_as_what_was_said(events):
    """A conversation survives: by the client's own hand, and from the store."""
    response = response_of(streamed(*events))
    results = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "ok"}
        for item in response["output"]
        if item["type"] in ("function_call", "custom_tool_call")
    ]
    said = {"type": "message", "role": "user", "content": "and then?"}
    first = call_of()
    by_hand = call_of(
        input=[*stored.input_items(first.fields, {}, ids()), *response["output"], *results, said]
    )
    by_store = call_of(input=[*results, said], previous_response_id=response["id"])
    kept = stored.input_items(first.fields, {}, ids())
    by_store.previous = stored.conversation(kept, response)
    one, other = door.neutral(by_hand), door.neutral(by_store)
    assert one.messages == other.messages
    answer = Fold(events).answer()
    expected = answer.parts
    user, *rest = one.messages
    assert user == Message("user", (Text("hi"),))
    assert rest[-1] == Message("user", (Text("and then?"),))
    if expected:
        assert rest[0].role == "assistant"
        assert sound(rest[0].parts) == sound(expected)
    if results:
        assert rest[1].role == "tool" and len(rest[1].parts) == len(results)

"""OpenAI answers, read back with the types of the real SDK."""

from __future__ import annotations

import base64
import struct

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ghostllm import jsonx
from ghostllm.api.canonical import (
    Finish,
    Fold,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.openai.answer_writer import ChatWriter, CompletionWriter, embeddings_body
from ghostllm.message import Usage

TOKENS = (TokenLogprob("Hi", -0.25, (72, 105), (TokenLogprob("Hi", -0.25), TokenLogprob("Ho", -2.0))),)


def chat(*, usage=True):
    return ChatWriter("chatcmpl-1", "m", 1700000000, usage=usage)


def streamed(writer, *events):
    """The JSON of every event of a stream but its terminator."""
    stream = b"".join(map(writer.event, events)) + writer.end()
    *lines, done, rest = stream.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert all(line.startswith(b"data: {") for line in lines)
    return [jsonx.loads(line[6:]) for line in lines]


def chunks(writer, *events):
    """What the SDK makes of a stream."""
    return [ChatCompletionChunk.model_validate(value, strict=True) for value in streamed(writer, *events)]


def test_a_stream_of_text():
    role, one, two, last, counts = chunks(
        chat(),
        Start(),
        TextDelta("Grüße "),
        TextDelta('"🙂"\n'),
        Finish("stop"),
        UsageEvent(Usage(3, 0, cached=2, reasoning=0)),
    )
    assert role.choices[0].delta.role == "assistant" and role.choices[0].delta.content == ""
    assert one.choices[0].delta.content + two.choices[0].delta.content == 'Grüße "🙂"\n'
    assert one.choices[0].finish_reason is None and last.choices[0].finish_reason == "stop"
    assert counts.choices == []
    assert (counts.usage.prompt_tokens, counts.usage.completion_tokens, counts.usage.total_tokens) == (
        3,
        0,
        3,
    )
    assert counts.usage.prompt_tokens_details.cached_tokens == 2
    assert counts.usage.completion_tokens_details.reasoning_tokens == 0
    assert {chunk.id for chunk in (role, one, last, counts)} == {"chatcmpl-1"}
    assert {chunk.model for chunk in (role, one, last, counts)} == {"m"}


def test_usage_is_withheld_from_a_client_that_did_not_ask():
    stream = chunks(chat(usage=False), Start(), TextDelta("x"), Finish("stop"), UsageEvent(Usage(3, 4)))
    assert [chunk.usage for chunk in stream] == [None] * 3


def test_usage_that_nobody_reported_is_not_invented():
    stream = chunks(chat(), TextDelta("x"), Finish("stop"), UsageEvent(Usage()))
    assert len(stream) == 2


def test_tool_calls_keep_their_indexes_and_say_their_names_once():
    stream = chunks(
        chat(),
        ToolCallDelta(0, "", "call_a", "f"),
        ToolCallDelta(1, '{"y"', "call_b", "g"),
        ToolCallDelta(0, '{"x":"\\ud83d'),
        ToolCallDelta(1, ":2}"),
        ToolCallDelta(0, '\\ude42"}'),
        Finish("tool_calls"),
    )
    deltas = [chunk.choices[0].delta.tool_calls[0] for chunk in stream[:-1]]
    assert [delta.index for delta in deltas] == [0, 1, 0, 1, 0]
    assert [delta.id for delta in deltas] == ["call_a", "call_b", None, None, None]
    assert [delta.function.name for delta in deltas] == ["f", "g", None, None, None]
    first = "".join(delta.function.arguments for delta in deltas if delta.index == 0)
    assert jsonx.loads(first) == {"x": "🙂"}
    assert stream[-1].choices[0].finish_reason == "tool_calls"


def test_calls_of_custom_tools_have_an_input():  # the SDK has no type for them in streams
    first, then = streamed(
        chat(), ToolCallDelta(0, "x = ", "call_a", "run", custom=True), ToolCallDelta(0, "1", custom=True)
    )
    assert first["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_a", "type": "custom", "custom": {"name": "run", "input": "x = "}}
    ]
    assert then["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "custom": {"input": "1"}}]


def test_refusals_reasoning_and_logprobs_have_their_own_fields():
    stream = chunks(
        chat(),
        ReasoningDelta("hm"),
        ReasoningDelta("", signature="sig"),
        RefusalDelta("no"),
        TextDelta("Hi", TOKENS),
        Finish("content_filter"),
    )
    reasoning, refusal, text, last = (chunk.choices[0] for chunk in stream)
    assert reasoning.delta.model_extra["reasoning_content"] == "hm"
    assert refusal.delta.refusal == "no"
    assert text.logprobs.content[0].top_logprobs[1].token == "Ho"
    assert text.logprobs.content[0].bytes == [72, 105]
    assert last.finish_reason == "content_filter"


def whole(*events):
    answer = Fold(events).answer()
    return ChatCompletion.model_validate(jsonx.loads(chat().whole(answer)), strict=True)


def test_a_whole_answer():
    body = whole(
        Start(),
        ReasoningDelta("hm"),
        TextDelta("Hi", TOKENS),
        ToolCallDelta(0, '{"x":1}', "call_a", "f"),
        ToolCallDelta(1, "free", "call_b", "g", custom=True),
        Finish("tool_calls"),
        UsageEvent(Usage(3, 4)),
    )
    message = body.choices[0].message
    assert message.content == "Hi" and message.model_extra["reasoning_content"] == "hm"
    assert [call.id for call in message.tool_calls] == ["call_a", "call_b"]
    assert message.tool_calls[0].function.arguments == '{"x":1}'
    assert message.tool_calls[1].custom.input == "free"
    assert body.choices[0].finish_reason == "tool_calls"
    assert body.choices[0].logprobs.content[0].token == "Hi"
    assert body.usage.total_tokens == 7
    assert body.usage.prompt_tokens_details is None


def test_a_whole_answer_of_calls_only_has_null_content_and_one_of_nothing_has_none_of_calls():
    calls = whole(ToolCallDelta(0, "{}", "a", "f"), Finish("tool_calls"))
    assert calls.choices[0].message.content is None and calls.usage is None
    nothing = whole(Start(), Finish("stop"))
    assert nothing.choices[0].message.content == "" and nothing.choices[0].message.tool_calls is None
    refusal = whole(RefusalDelta("no"), Finish("stop")).choices[0].message
    assert (refusal.content, refusal.refusal) == (None, "no")


@pytest.mark.parametrize(
    ("neutral", "openai"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("pause", "stop")],
)
def test_finish_reasons(neutral, openai):
    assert whole(Finish(neutral)).choices[0].finish_reason == openai


def completion():
    return CompletionWriter("cmpl-1", "m", 1700000000)


COMPLETION = (Start(), TextDelta("Hi", TOKENS), TextDelta(" you"), Finish("length"), UsageEvent(Usage(1, 2)))


def test_a_stream_of_a_completion():
    # built as the SDK builds it: its type does not know the null that is there until the last chunk
    stream = [Completion.construct(**value) for value in streamed(completion(), *COMPLETION)]
    assert "".join(chunk.choices[0].text for chunk in stream[:-1]) == "Hi you"
    assert stream[0].choices[0].logprobs.tokens == ["Hi"]
    assert [chunk.choices[0].finish_reason for chunk in stream[:-1]] == [None, None, "length"]
    assert stream[-1].usage.total_tokens == 3


def test_a_whole_completion():
    body = Completion.model_validate(jsonx.loads(completion().whole(Fold(COMPLETION).answer())), strict=True)
    choice = body.choices[0]
    assert (choice.text, choice.finish_reason, body.usage.total_tokens) == ("Hi you", "length", 3)
    assert choice.logprobs.token_logprobs == [-0.25] and choice.logprobs.text_offset == [0]
    assert choice.logprobs.top_logprobs == [{"Hi": -0.25, "Ho": -2.0}]


def test_embeddings_as_numbers_and_as_float32():
    vectors = [[0.5, -0.25], [1.0, 0.0]]
    plain = jsonx.loads(embeddings_body("m", vectors, Usage(prompt=4), as_base64=False))
    body = CreateEmbeddingResponse.model_validate(plain, strict=True)
    assert [item.embedding for item in body.data] == vectors
    assert [item.index for item in body.data] == [0, 1]
    assert (body.usage.prompt_tokens, body.usage.total_tokens) == (4, 4)
    packed = jsonx.loads(embeddings_body("m", vectors, Usage(prompt=4), as_base64=True))
    decoded = [struct.unpack("<2f", base64.b64decode(item["embedding"])) for item in packed["data"]]
    assert [list(vector) for vector in decoded] == vectors

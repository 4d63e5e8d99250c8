"""The judge of the chaos: it has to see every lie, and to blame nobody for what models do by themselves."""

import json

import pytest

from bench.chaos_doors import DOORS, Question
from bench.chaos_judge import Answer, Reference, Verdict, judge, repeated

WHOLE = "The river flows from the mountains down to the sea, and never back."
REFERENCE = Reference(WHOLE, cut=False)


def sse(*values):
    return b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in values)


def chat(text, finish="stop"):
    def chunk(delta, reason):
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    return sse(chunk({"content": text}, None), chunk({}, finish)) + b"data: [DONE]\n\n"


def messages(text, finish="end_turn"):
    return sse(
        {"type": "message_start", "message": {}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "message_delta", "delta": {"stop_reason": finish}},
        {"type": "message_stop"},
    )


def responses(text):
    done = {"type": "response.completed", "response": {"incomplete_details": None}}
    return sse({"type": "response.output_text.delta", "delta": text}, done)


def lines(text, reason="stop"):
    said = [{"message": {"content": text}, "done": False}]
    said.append({"message": {"content": ""}, "done": True, "done_reason": reason})
    return b"".join(json.dumps(value).encode() + b"\n" for value in said)


STREAMS = {"openai": chat, "anthropic": messages, "responses": responses, "ollama": lines}
FAILURES = {
    "openai": sse({"error": {"message": "gone"}}),
    "anthropic": sse({"type": "error", "error": {"message": "gone"}}),
    "responses": sse({"type": "response.failed", "response": {"error": {"message": "gone"}}}),
    "ollama": b'{"error":"gone"}\n',
}
BY_NAME = {door.name: door for door in DOORS}


def heard(door, stream, *, step=7, **more):
    """The answer as it comes in pieces of `step` bytes."""
    door = BY_NAME[door]
    answer = Answer(door, Question("?", 32), door.hearing(), False, 0.0, status=200, framed=True)
    for at in range(0, len(stream), step):
        answer.hearing.feed(stream[at : at + step], float(at))
    for name, value in more.items():
        setattr(answer, name, value)
    return answer


def verdict(*args, reference=REFERENCE, **more):
    return judge(heard(*args, **more), reference)[0]


@pytest.mark.parametrize("door", STREAMS)
class TestOfEachDoor:
    def test_a_whole_answer(self, door):
        answer = heard(door, STREAMS[door](WHOLE))
        assert answer.hearing.text == WHOLE and answer.hearing.first is not None
        assert judge(answer, REFERENCE) == (Verdict.COMPLETE, "")
        assert verdict(door, STREAMS[door](WHOLE), rescued=1) is Verdict.RESCUED

    def test_one_that_says_that_it_failed(self, door):
        begun = STREAMS[door](WHOLE[:20]).splitlines(keepends=True)[: 4 if door == "anthropic" else 1]
        assert verdict(door, b"".join(begun) + b"\n" + FAILURES[door]) is Verdict.FAILED
        assert verdict(door, FAILURES[door] + STREAMS[door](WHOLE)) is Verdict.LYING

    def test_a_part_that_is_presented_as_whole(self, door):
        assert verdict(door, STREAMS[door](WHOLE[:30])) is Verdict.LYING
        assert verdict(door, STREAMS[door](WHOLE[:30]), rescued=1) is Verdict.LYING

    def test_one_that_just_ends(self, door):
        body = STREAMS[door](WHOLE)
        last = (
            b"data: [DONE]"
            if door == "openai"
            else body.splitlines(keepends=True)[-2 if door != "ollama" else -1]
        )
        assert verdict(door, body[: body.rindex(last)]) is Verdict.LYING
        assert verdict(door, body, framed=False) is Verdict.LYING

    def test_something_after_the_end(self, door):
        assert verdict(door, STREAMS[door](WHOLE) * 2) is Verdict.LYING


def test_without_a_finish_reason():
    assert verdict("openai", chat(WHOLE, None)) is Verdict.LYING
    assert verdict("ollama", lines(WHOLE, None)) is Verdict.LYING


def test_without_any_answer():
    assert verdict("openai", b"", status=0) is Verdict.LYING
    assert verdict("openai", b"", hung=True) is Verdict.HUNG
    assert verdict("openai", b"", status=503, body=b'{"error":{}}') is Verdict.FAILED
    assert verdict("openai", b"", status=503, body=b"") is Verdict.LYING


def test_a_text_that_another_rounding_made():
    other = WHOLE[:30] + "somewhere else."
    assert verdict("openai", chat(other)) is Verdict.COMPLETE


def test_a_few_tokens_less_after_a_rescue_at_the_limit():
    limited = Reference(WHOLE, cut=True)
    assert verdict("openai", chat(WHOLE[:-9], "length"), rescued=1, reference=limited) is Verdict.RESCUED
    assert verdict("openai", chat(WHOLE[:-9], "length"), reference=limited) is Verdict.LYING
    assert verdict("openai", chat(WHOLE[:30], "length"), rescued=1, reference=limited) is Verdict.LYING


def test_what_is_said_twice_at_a_seam():
    assert repeated(WHOLE[:40] + WHOLE[20:], WHOLE, []) == WHOLE[20:40]
    assert repeated(WHOLE[:40] + WHOLE, WHOLE, []) == WHOLE[:12]
    assert repeated(WHOLE, WHOLE, [40]) == ""
    assert repeated("Another. " + WHOLE[:40] + WHOLE[20:], WHOLE, [49]) == WHOLE[20:40], "where it was told"
    assert verdict("ollama", lines(WHOLE[:40] + WHOLE[20:]), rescued=1) is Verdict.LYING


def test_a_model_that_repeats_itself():
    chorus = "row, row, row your boat, " * 4
    assert repeated(chorus, chorus, [50]) == ""
    assert repeated("Sing: " + chorus, chorus, [56]) == ""


def test_the_comment_that_tells_of_a_rescue():
    first, second = sse({"choices": [{"delta": {"content": "ab"}, "finish_reason": None}]}), chat("cd")
    answer = heard("openai", first + b": x-ghostllm-backend: b1 (rescue)\n\n" + second)
    assert answer.hearing.seams == [2] and answer.hearing.text == "abcd"

"""OpenAI-compatible backends behind another door: what each kind of server is sent, and what comes back."""

from __future__ import annotations

import pytest

from ghostllm.api.doors import DOORS
from ghostllm.backends.openai import OpenAIBackend
from ghostllm.backends.profiles import LLAMACPP, LMSTUDIO, OPENAI, PROFILES, TRANSFORMERS, VLLM
from ghostllm.errors import UnsupportedParameter, UnsupportedValue, UpstreamCut, UpstreamProtocolError
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call, Parameters

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
FOREIGN = "another"
"""A door of another name, with a dialect that is easily read here: what matters is that it is another."""


@pytest.fixture(autouse=True)
def another_door(monkeypatch):
    monkeypatch.setitem(DOORS, FOREIGN, DOORS["openai"])


def backend(profile):
    return OpenAIBackend(profile, "b", mint=lambda prefix: prefix + "1", clock=lambda: 99.5)


def call(operation="chat", door=FOREIGN, *, stream=False, wants=None, **members):
    content = {
        "chat": {"messages": MESSAGES},
        "completions": {"prompt": "Once"},
        "embeddings": {"input": ["a"]},
    }
    fields = {"model": "m", **content[operation], **({"stream": True} if stream else {}), **members}
    return Call(door, operation, "m", dumps(fields), fields, stream, not stream if wants is None else wants)


def sent(profile, asked, model="real", extra=None):
    request, answer = backend(profile).prepare(asked, model, extra or {})
    return loads(b"".join(request.body)), request, answer


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + dumps({"id": "x", "model": "real", "choices": [choice], **more}) + b"\n\n"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_chat_is_written_anew_and_read_back(profile):
    body, request, answer = sent(profile, call(stream=True, max_tokens=5))
    limit = "max_completion_tokens" if profile is OPENAI else "max_tokens"
    expected = {"model": "real", "messages": MESSAGES, "stream": True, limit: 5}
    if profile is not TRANSFORMERS:
        expected["stream_options"] = {"include_usage": True}
    assert body == expected
    assert (request.path, dict(request.headers)[b"accept"]) == ("/chat/completions", b"text/event-stream")
    out = answer.feed(chunk({"reasoning": "hm"}) + chunk({"content": "x"}))
    out += (
        answer.feed(chunk({}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 2})) + answer.finish()
    )
    first = loads(out.split(b"\n\n")[0][6:])
    assert (first["id"], first["created"], first["model"]) == ("chatcmpl-1", 99, "m")
    assert b'"reasoning_content":"hm"' in out and out.endswith(b"data: [DONE]\n\n")
    assert answer.committed and answer.complete and answer.usage.completion == 2


def test_a_stream_that_is_cut_is_told():
    _, _, answer = sent(VLLM, call(stream=True))
    answer.feed(chunk({"content": "x"}))
    with pytest.raises(UpstreamCut):
        answer.finish()


def test_whole_answers_are_written_anew():
    body, request, answer = sent(VLLM, call())
    assert "stream" not in body and dict(request.headers)[b"accept"] == b"application/json"
    message = {"role": "assistant", "content": "x"}
    out = answer.whole(dumps({"model": "real", "choices": [{"message": message, "finish_reason": "length"}]}))
    assert loads(out)["model"] == "m" and loads(out)["choices"][0]["finish_reason"] == "length"


def test_configured_members_are_set_and_usage_is_asked_for_whatever_the_client_wants():
    asked = call(stream=True, wants=False, temperature=1)
    asked.parameters = Parameters({"top_k": 3}, {"temperature": 0})
    body, _, _ = sent(VLLM, asked)
    assert (body["temperature"], body["top_k"], body["stream_options"]) == (0, 3, {"include_usage": True})


def test_a_continuation_goes_to_completions():
    body, request, answer = sent(VLLM, call("completions", stream=True, max_tokens=3))
    assert (request.path, body["prompt"], body["max_tokens"]) == ("/completions", "Once", 3)
    out = (
        answer.feed(b'data: {"choices":[{"text":" upon","index":0,"finish_reason":"stop"}]}\n\n')
        + answer.finish()
    )
    assert loads(out.split(b"\n\n")[0][6:])["choices"][0]["text"] == " upon"


def test_embeddings_are_vectors_again():
    body, request, answer = sent(VLLM, call("embeddings"))
    assert body == {"model": "real", "input": "a"} and request.path == "/embeddings"
    out = answer.whole(b'{"data":[{"index":0,"embedding":[0.5,1]}],"usage":{"prompt_tokens":4}}')
    assert loads(out)["data"][0]["embedding"] == [0.5, 1] and answer.usage.prompt == 4
    for wrong in (lambda: answer.whole(b"{}"), lambda: answer.feed(b"x"), answer.finish):
        with pytest.raises(UpstreamProtocolError):
            wrong()
    with pytest.raises(UnsupportedValue):
        sent(TRANSFORMERS, call("embeddings"))


# --- what the servers differ in


@pytest.mark.parametrize(
    ("profile", "name"),
    [(OPENAI, "top_k"), (LMSTUDIO, "min_p"), (TRANSFORMERS, "top_k"), (TRANSFORMERS, "repetition_penalty")],
)
def test_parameters_that_a_server_does_not_know_are_refused(profile, name):
    with pytest.raises(UnsupportedParameter) as caught:
        sent(profile, call(**{name: 1}))
    assert caught.value.param == name


def test_llamacpp_has_its_own_names():
    body, _, _ = sent(LLAMACPP, call(repetition_penalty=1.5, reasoning_effort="none", min_p=0.1))
    assert (body["repeat_penalty"], body["min_p"]) == (1.5, 0.1)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("profile", [VLLM, LLAMACPP, TRANSFORMERS, LMSTUDIO], ids=lambda one: one.kind)
def test_every_effort_is_something_to_a_local_server(profile):
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        body, _, _ = sent(profile, call(reasoning_effort=effort))
        assert "chat_template_kwargs" in body or body["reasoning_effort"] == effort


def test_what_transformers_ignores_is_refused_or_left_out():
    body, _, _ = sent(TRANSFORMERS, call(tools=[TOOL], tool_choice="none", n=1, user="u"))
    assert body == {"model": "real", "messages": MESSAGES}
    for member in ({"tools": [TOOL], "tool_choice": "required"}, {"logprobs": True}, {"min_p": 0.1}):
        with pytest.raises(UnsupportedParameter):
            sent(TRANSFORMERS, call(**member))


def test_one_answer_a_request():
    with pytest.raises(UnsupportedParameter) as caught:
        sent(VLLM, call(n=2))
    assert caught.value.param == "n"


def test_where_parallel_calls_are_ruled_out_the_first_counts():
    _, _, answer = sent(VLLM, call(tools=[TOOL], parallel_tool_calls=False))
    calls = [{"id": name, "function": {"name": "f", "arguments": "{}"}} for name in "ab"]
    out = loads(
        answer.whole(dumps({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "stop"}]}))
    )
    assert [each["id"] for each in out["choices"][0]["message"]["tool_calls"]] == ["a"]


# --- a call that must be made, where the server cannot be told so

NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("door", ["openai", FOREIGN])
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_llamacpp_is_made_to_call(door, choice):
    asked = call(door=door, stream=True, tools=[TOOL], tool_choice=choice, cache_prompt=True)
    body, _, answer = sent(LLAMACPP, asked)
    assert "tools" not in body and "tool_choice" not in body and body["cache_prompt"] is True
    assert (
        body["response_format"]["type"] == "json_schema" and "function call" in body["messages"][0]["content"]
    )
    out = answer.feed(chunk({"content": '{"name":"f","argu'}) + chunk({"content": 'ments":{"x":1}}'}))
    assert b'"content":"{' not in out and not answer.committed
    out += answer.feed(chunk({}, "stop")) + answer.finish()
    chunks = [loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
    (made,) = [one for each in chunks for one in each["choices"][0]["delta"].get("tool_calls", ())]
    assert made["function"] == {"name": "f", "arguments": '{"x":1}'} and made["id"] == "call_1"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_other_calls_to_llamacpp_pass_through():
    for choice in ("auto", "none", None):
        asked = call(door="openai", tools=[TOOL], tool_choice=choice)
        request, _ = backend(LLAMACPP).prepare(asked, "m", {})
        assert request.body[0] is asked.body
    body, _, _ = sent(LLAMACPP, call(door="openai", tools=[TOOL]), extra={"tool_choice": "required"})
    assert "response_format" in body
    asked = call(door="openai", tools=[TOOL], tool_choice="required")
    assert backend(VLLM).prepare(asked, "m", {})[0].body[0] is asked.body


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_clients_of_the_same_dialect_read_thinking_under_one_name(profile):
    name = "reasoning" if profile.other_reasoning else "reasoning_content"
    _, _, answer = sent(profile, call(door="openai", stream=True), "m")
    assert answer.feed(chunk({name: "hm"}, model="m")) == chunk({"reasoning_content": "hm"}, model="m")

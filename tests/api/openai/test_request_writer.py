"""Neutral requests for servers that know less than OpenAI: mapped where there is a way, else refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Continuation,
    Conversation,
    CustomTool,
    Embeddings,
    File,
    FunctionTool,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Sampling,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ghostllm.api.openai.request_writer import (
    forced_names,
    write_continuation,
    write_embeddings,
    write_request,
)
from ghostllm.api.openai.text_reader import read_continuation, read_embeddings
from ghostllm.api.openai.traits import Traits
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue
from ghostllm.jsonx import dumps, loads

USER = Message("user", (Text("hi"),))
PNG = Image(data="AAAA", media_type="image/png")
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
F, G = FunctionTool("f", parameters={"type": "object"}), FunctionTool("g")


def written(*messages, traits=None, **members):
    return write_request(Conversation("m", messages or (USER,), **members), traits or Traits())


def sent(*messages, **traits):
    return written(*messages, traits=Traits(**traits))["messages"]


def refused(error, *messages, traits, **members):
    with pytest.raises(error) as caught:
        written(*messages, traits=Traits(label="S", **traits), **members)
    assert "S" in caught.value.message or error is RequestError
    return caught.value.param


# --- messages


def system(text, role="system"):
    return Message(role, (Text(text),))


def test_system_messages_are_one_in_front_where_they_have_to_be():
    messages = sent(
        system("a"), USER, system("b", "developer"), USER, system("c"), system_anywhere=False, developer=False
    )
    assert messages == [
        {"role": "system", "content": "a\n\nb\n\nc"},
        {"role": "user", "content": "hi"},
        {"role": "user", "content": "hi"},
    ]
    assert sent(USER, system("a"), system_anywhere=False)[0] == {"role": "system", "content": "a"}


def test_the_role_developer_is_system_where_it_is_unknown():
    assert [message["role"] for message in sent(system("a", "developer"), developer=False)] == ["system"]
    assert [message["role"] for message in sent(system("a", "developer"))] == ["developer"]


def test_text_in_parts_is_one_string_where_templates_want_one():
    parts = Message("user", (Text("a"), Text("b")))
    assert sent(parts, flat_text=True)[0]["content"] == "a\nb"
    assert sent(parts)[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    mixed = Message("user", (Text("a"), PNG))
    assert sent(mixed, flat_text=True)[0]["content"] == [{"type": "text", "text": "a"}, PNG_PART]


def result(identity, *parts, **more):
    return Message("tool", (ToolResult(identity, parts, **more),))


def test_images_of_results_follow_all_of_them_in_the_users_turn():
    called = Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")))
    seen = result("a", Text("seen"), PNG)
    messages = sent(called, seen, result("b", PNG), USER, result_images=False)
    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "seen" and "image" in messages[2]["content"]
    assert messages[3]["content"] == [
        {"type": "text", "text": "What the tool call a has shown:"},
        PNG_PART,
        {"type": "text", "text": "What the tool call b has shown:"},
        PNG_PART,
        {"type": "text", "text": "hi"},
    ]
    assert [message["role"] for message in sent(called, seen, result_images=False)] == [
        "assistant",
        "tool",
        "user",
    ]
    after = sent(called, seen, Message("assistant", (Text("x"),)), result_images=False)
    assert [message["role"] for message in after] == ["assistant", "tool", "user", "assistant"]
    assert sent(called, seen)[1]["content"][1] == PNG_PART


def test_a_tool_that_failed_says_so():
    assert sent(result("a", Text("no file"), error=True))[0]["content"] == "Error: no file"
    assert sent(result("a", error=True))[0]["content"].startswith("Error")


def test_thinking_goes_back_without_what_others_have_signed():
    thought = Message("assistant", (Reasoning("hm", signature="s"), Reasoning("", redacted="xyz"), Text("x")))
    assert sent(thought) == [{"role": "assistant", "content": "x", "reasoning_content": "hm"}]
    assert sent(thought, reasoning="reasoning")[0]["reasoning"] == "hm"
    assert sent(thought, reasoning="") == [{"role": "assistant", "content": "x"}]
    sealed = Message("assistant", (Reasoning("", redacted="xyz"),))
    assert sent(sealed, flat_text=True) == [{"role": "assistant", "content": ""}]


def test_files_are_data_urls_where_they_are_taken():
    given = Message("user", (File(data="AAAA", media_type="application/pdf", filename="a.pdf"),))
    assert sent(given)[0]["content"] == [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}
    ]
    assert refused(UnsupportedValue, USER, given, traits={"files": False}) == "messages[1].content[0].type"
    by_url = Message("user", (Text("a"), File(url="https://example.com/a.pdf")))
    assert refused(UnsupportedValue, by_url, traits={}) == "messages[0].content[1].type"


def test_custom_tools_are_refused_where_there_are_none():
    traits = {"custom_tools": False}
    assert refused(UnsupportedValue, traits=traits, tools=(F, CustomTool("c"))) == "tools[1].type"
    called = Message("assistant", (Text("x"), ToolCall("a", "f", "{}"), ToolCall("b", "c", "x", custom=True)))
    assert refused(UnsupportedValue, called, traits=traits) == "messages[0].tool_calls[1].type"


# --- parameters


def test_parameters_have_the_names_that_the_server_knows():
    sampling = Sampling(max_tokens=5, top_k=3, repetition_penalty=1.1)
    body = written(
        sampling=sampling,
        traits=Traits(
            token_limit="max_tokens", extras={"top_k": "top_k", "repetition_penalty": "repeat_penalty"}
        ),
    )
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "top_k": 3,
        "repeat_penalty": 1.1,
    }
    assert written(sampling=sampling)["max_completion_tokens"] == 5


@pytest.mark.parametrize("name", ["top_k", "min_p", "repetition_penalty"])
def test_a_parameter_that_would_be_ignored_is_refused(name):
    sampling = Sampling(**{name: 1})
    assert refused(UnsupportedParameter, traits={"extras": {}}, sampling=sampling) == name
    with pytest.raises(UnsupportedParameter):
        write_continuation(Continuation("m", "x", sampling=sampling), Traits(extras={}))


EFFORTS = {"none": {"chat_template_kwargs": {"enable_thinking": False}}, "high": {"reasoning_effort": "high"}}


def test_efforts_become_what_the_server_has_for_them():
    traits = Traits(efforts=EFFORTS)
    kept = written(reasoning_effort="none", traits=traits, extensions={"chat_template_kwargs": {"x": 1}})
    assert (
        kept["chat_template_kwargs"] == {"enable_thinking": False, "x": 1} and "reasoning_effort" not in kept
    )
    assert written(reasoning_effort="high", traits=traits)["reasoning_effort"] == "high"
    assert written(reasoning_effort="xhigh")["reasoning_effort"] == "xhigh"
    with pytest.raises(UnsupportedValue) as caught:
        written(reasoning_effort="some", traits=traits)
    assert caught.value.param == "reasoning_effort"


@pytest.mark.parametrize(
    ("budget", "effort"), [(0, "none"), (1024, "low"), (8000, "medium"), (32000, "high")]
)
def test_a_budget_becomes_an_effort_where_there_is_no_member_for_it(budget, effort):
    assert written(reasoning_budget=budget)["reasoning_effort"] == effort
    kept = written(reasoning_budget=budget, reasoning_effort="max")
    assert kept["reasoning_effort"] == "max"
    own = written(reasoning_budget=budget, traits=Traits(budget="thinking_token_budget"))
    assert own.get("thinking_token_budget") == (budget or None) and ("reasoning_effort" in own) == (
        budget == 0
    )


def test_what_changes_nothing_is_left_out_and_the_rest_goes_on():
    body = written(extensions={"keep_alive": "5m", "num_ctx": 1, "mirostat": 2})
    assert "keep_alive" not in body and "num_ctx" not in body and body["mirostat"] == 2
    assert "metadata" not in written(metadata={"a": "b"}, traits=Traits(labels=False))


# --- tools


def choice_of(choice, **traits):
    body = written(tools=(F, G), tool_choice=choice, parallel_tool_calls=False, traits=Traits(**traits))
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    return names, body.get("tool_choice"), body.get("parallel_tool_calls")


def test_a_choice_the_server_does_not_know_leaves_only_what_may_be_called():
    named = {"type": "function", "function": {"name": "g"}}
    assert choice_of(ToolChoice("required", ("g",))) == (["f", "g"], named, False)
    assert choice_of(ToolChoice("required", ("g",)), named_choice=False) == (["g"], "required", False)
    assert choice_of(ToolChoice("auto", ("g",)), allowed_tools=False) == (["g"], "auto", False)
    assert choice_of(ToolChoice("required", ("f", "g")), allowed_tools=False) == (
        ["f", "g"],
        "required",
        False,
    )
    assert choice_of(ToolChoice("none"), tool_choice=False) == ([], None, None)
    assert choice_of(ToolChoice("none")) == (["f", "g"], "none", False)
    unknown = ToolChoice("auto", ("h",))
    param = refused(RequestError, traits={"allowed_tools": False}, tools=(F,), tool_choice=unknown)
    assert param == "tool_choice"


def test_a_forced_call_constrains_the_output():
    conversation = Conversation(
        "m",
        (system("brief"), USER),
        tools=(F, G),
        tool_choice=ToolChoice("required", ("f",)),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_object"),
    )
    traits = Traits(forced_by_format=True, flat_text=True)
    body = write_request(conversation, traits)
    assert "tools" not in body and "tool_choice" not in body and "parallel_tool_calls" not in body
    assert body["messages"][0]["content"].startswith("brief\nAnswer with exactly one function call")
    shape = body["response_format"]["json_schema"]["schema"]
    assert shape["properties"]["name"] == {"type": "string", "enum": ["f"]}
    assert forced_names(conversation, traits) == ("f",)
    assert forced_names(conversation, Traits()) == ()
    free = Conversation("m", (USER,), tools=(F,), tool_choice=ToolChoice("auto"))
    assert forced_names(free, traits) == () and "tools" in write_request(free, traits)


# --- continuations and embeddings

numbers = st.one_of(st.none(), st.floats(-2, 2))
counts = st.one_of(st.none(), st.integers(0, 99))


@st.composite
def continuations(draw):
    stream = draw(st.booleans())
    top = draw(counts)
    return Continuation(
        model="m",
        prompt=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
        suffix=draw(st.sampled_from(["", "end"])),
        echo=draw(st.booleans()),
        sampling=Sampling(
            temperature=draw(numbers),
            top_k=draw(counts),
            min_p=draw(numbers),
            seed=draw(counts),
            max_tokens=draw(counts),
            n=draw(counts),
            stop=draw(st.sampled_from([(), ("a", "b")])),
            logit_bias=draw(st.sampled_from([{}, {"5": -100.0}])),
            logprobs=top is not None,
            top_logprobs=top,
        ),
        stream=stream,
        wants_usage=draw(st.booleans()) if stream else True,
        extensions=draw(st.sampled_from([{}, {"user": "u"}])),
    )


@given(continuations())
def test_any_continuation_survives_the_way_through_openai_json(continuation):
    assert read_continuation(loads(dumps(write_continuation(continuation)))) == continuation


@given(
    st.builds(
        Embeddings,
        model=st.just("m"),
        inputs=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1).map(tuple),
        dimensions=st.one_of(st.none(), st.integers(1, 99)),
        base64=st.booleans(),
        extensions=st.sampled_from([{}, {"user": "u"}]),
    )
)
def test_any_embeddings_request_survives_the_way_through_openai_json(embeddings):
    assert read_embeddings(loads(dumps(write_embeddings(embeddings)))) == embeddings

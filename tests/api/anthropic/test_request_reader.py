"""Anthropic's requests in the neutral form: every block, every member, and what is wrong by its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.anthropic.message_reader import OWN_SIGNATURE
from ghostllm.api.anthropic.request_reader import own_signature, read_request
from ghostllm.api.canonical import (
    Conversation,
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
from ghostllm.api.estimate_prompt import estimate_tokens
from ghostllm.errors import GhostError, RequestError, UnsupportedValue

HELLO = [{"role": "user", "content": "hello"}]
CACHE = {"cache_control": {"type": "ephemeral"}}
BILLING = "x-anthropic-billing-header: cc_version=2.1.328; cc_entrypoint=cli; cch=12ab;"


def read(messages=HELLO, **members):
    return read_request({"model": "m", "max_tokens": 9, "messages": messages, **members})


def turns(*messages, **members):
    """(role, parts) of each neutral message."""
    return [(message.role, message.parts) for message in read(list(messages), **members).messages]


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def use(identity="t1", name="f", **members):
    return {"type": "tool_use", "id": identity, "name": name, "input": {}, **members}


def result(identity="t1", **members):
    return {"type": "tool_result", "tool_use_id": identity, **members}


def document(source, **members):
    return {"type": "document", "source": source, **members}


# --- the whole


def test_a_small_request():
    asked = read_request({"model": "m", "max_tokens": 9, "messages": HELLO})
    assert asked == Conversation(
        "m", (Message("user", (Text("hello"),)),), sampling=Sampling(max_tokens=9), wants_usage=True
    )


def test_every_member_with_a_neutral_meaning():
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    asked = read(
        system="Be brief.",
        stream=True,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END", "STOP"],
        tools=[
            {"name": "f", "description": "does f", "input_schema": schema, "strict": True, **CACHE},
            {"type": "custom", "name": "g", "input_schema": {}},
            {"type": None, "name": "h"},
        ],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2048, "display": "summarized"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": schema}},
        metadata={"user_id": "u-1"},
    )
    assert asked == Conversation(
        "m",
        (Message("system", (Text("Be brief."),)), Message("user", (Text("hello"),))),
        tools=(
            FunctionTool("f", "does f", schema, True),
            FunctionTool("g", parameters={}),
            FunctionTool("h"),
        ),
        tool_choice=ToolChoice("required", ("f",)),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", schema=schema),
        sampling=Sampling(0.5, 0.9, 40, stop=("END", "STOP"), max_tokens=9),
        reasoning_effort="high",
        reasoning_budget=2048,
        stream=True,
        metadata={"user_id": "u-1"},
    )


def test_members_without_a_meaning_here_are_passed_over():
    others = {
        "service_tier": "auto",
        "speed": "fast",
        "container": {"id": "c"},
        "context_management": {"edits": []},
        "mcp_servers": [],
        "inference_geo": "eu",
        "anthropic_beta": ["x"],
        "whatever": {"comes": "next"},
        **CACHE,
    }
    assert read(**others) == read()
    assert read(metadata={"user_id": None, "other": 5}) == read(metadata={}) == read()


# --- system


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        (None, None),
        ("", None),
        ([], None),
        ([text("")], None),
        ("a", (Text("a"),)),
        ([text("a", **CACHE), text("b")], (Text("a"), Text("b"))),
        (BILLING, None),
        (f"{BILLING}\nYou are x.\nAnd y.", (Text("You are x.\nAnd y."),)),
        (f"{BILLING}\n\nYou are x.", (Text("You are x."),)),
        ([text(BILLING), text("You are x.", **CACHE)], (Text("You are x."),)),
        ([text("a"), text(BILLING)], (Text("a"), Text(BILLING))),  # in front only: elsewhere it is content
    ],
)
def test_system_in_every_form(system, parts):
    expected = [] if parts is None else [("system", parts)]
    assert turns(*HELLO, system=system) == [*expected, ("user", (Text("hello"),))]


def test_system_messages_stay_where_they_are():
    assert turns(
        *HELLO,
        {"role": "system", "content": "now"},
        assistant(text("ok")),
        {"role": "system", "content": [text("then", **CACHE)]},
        user(text("go")),
    ) == [
        ("user", (Text("hello"),)),
        ("system", (Text("now"),)),
        ("assistant", (Text("ok"),)),
        ("system", (Text("then"),)),
        ("user", (Text("go"),)),
    ]


# --- blocks


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (text("a", citations=None, **CACHE), (Text("a"),)),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/PNG", "data": "AAAA"},
                **CACHE,
            },
            (Image("AAAA", "image/png"),),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y"}}, (Image(url="https://x/y"),)),
        (
            document({"type": "base64", "media_type": "application/pdf", "data": "JVBE"}, title="t.pdf"),
            (File("JVBE", filename="t.pdf", media_type="application/pdf"),),
        ),
        (
            document({"type": "url", "url": "https://x/y.pdf"}, context="old", citations={"enabled": True}),
            (Text("old"), File(url="https://x/y.pdf")),
        ),
        (document({"type": "text", "media_type": "text/plain", "data": "a\nb"}), (Text("a\nb"),)),
        (document({"type": "text", "data": "a"}, title="t", context="c"), (Text("t\nc\na"),)),
        (document({"type": "content", "content": "a"}, title="t"), (Text("t"), Text("a"))),
        (
            document(
                {
                    "type": "content",
                    "content": [text("a"), {"type": "image", "source": {"type": "url", "url": "u"}}],
                }
            ),
            (Text("a"), Image(url="u")),
        ),
        (
            {
                "type": "search_result",
                "title": "t",
                "source": "s",
                "content": [text("a"), text("b")],
                **CACHE,
            },
            (Text("t\ns\na\nb"),),
        ),
    ],
)
def test_blocks_of_the_user(block, parts):
    assert turns(user(block)) == [("user", parts)]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (text("a"), Text("a")),
        ({"type": "thinking", "thinking": "hm", "signature": "sig"}, Reasoning("hm", "sig")),
        ({"type": "thinking", "thinking": "", "signature": "sig"}, Reasoning("", "sig")),
        ({"type": "thinking", "thinking": "hm"}, Reasoning("hm")),
        ({"type": "thinking", "thinking": "hm", "signature": ""}, Reasoning("hm")),
        ({"type": "thinking", "thinking": "hm", "signature": OWN_SIGNATURE}, Reasoning("hm")),
        ({"type": "redacted_thinking", "data": "xyz"}, Reasoning("", redacted="xyz")),
        (use(input={"z": 1, "a": {"ü": [1.5]}}), ToolCall("t1", "f", '{"z":1,"a":{"ü":[1.5]}}')),
        (use(input=None, **CACHE), ToolCall("t1", "f", "{}")),
    ],
)
def test_blocks_of_the_assistant(block, part):
    assert turns(*HELLO, assistant(block))[1:] == [("assistant", (part,))]


def test_the_gateways_signature_is_its_own():
    assert own_signature(OWN_SIGNATURE) and not own_signature("EqoBCkgIARABGAIiQL") and not own_signature("")


# --- turns


def test_consecutive_turns_of_one_role_are_one():
    assert turns(*HELLO, user(text("a"), text("b")), assistant(text("c")), assistant(text("d"))) == [
        ("user", (Text("hello"), Text("a"), Text("b"))),
        ("assistant", (Text("c"), Text("d"))),
    ]


def test_a_trailing_turn_of_the_assistant_is_kept_as_it_is():
    prefill = {"role": "assistant", "content": "The answer is ("}
    assert turns(*HELLO, prefill)[-1] == ("assistant", (Text("The answer is ("),))


def test_turns_without_content_say_nothing():
    assert turns(*HELLO, assistant()) == [("user", (Text("hello"),))]
    assert turns(*HELLO, {"role": "assistant", "content": ""}, *HELLO) == [("user", (Text("hello"),) * 2)]
    assert turns(user(text(""), text("a"))) == [("user", (Text("a"),))]
    assert turns(user()) == [("user", (Text(""),))]


def test_results_follow_their_calls_and_the_users_words_follow_them():
    told = turns(
        *HELLO,
        assistant(text("let me see"), use("t1"), use("t2")),
        user(text("and hurry"), result("t2", content="two"), result("t1", content=[text("one")], **CACHE)),
    )
    assert told[1:] == [
        ("assistant", (Text("let me see"), ToolCall("t1", "f", "{}"), ToolCall("t2", "f", "{}"))),
        ("tool", (ToolResult("t2", (Text("two"),)), ToolResult("t1", (Text("one"),)))),
        ("user", (Text("and hurry"),)),
    ]


def test_results_alone_make_no_turn_of_the_user():
    assert [role for role, _ in turns(*HELLO, assistant(use()), user(result(content="x")))] == [
        "user",
        "assistant",
        "tool",
    ]


def test_results_in_two_turns_of_the_user_are_together():
    told = turns(
        *HELLO, assistant(use("t1"), use("t2")), user(result("t1")), user(result("t2")), user(text("x"))
    )
    assert [role for role, _ in told] == ["user", "assistant", "tool", "user"]
    assert [part.id for part in told[2][1]] == ["t1", "t2"]


def test_nothing_stands_between_calls_and_results():
    note = {"role": "system", "content": "note"}
    told = turns(*HELLO, assistant(use("t1"), use("t2")), note, user(result("t1"), text("x")))
    assert [role for role, _ in told] == ["user", "assistant", "tool", "system", "user"]
    told = turns(*HELLO, assistant(use("t1"), use("t2")), user(result("t1")), note, user(result("t2")))
    assert [role for role, _ in told] == ["user", "assistant", "tool", "tool", "system"]


def test_a_result_without_a_call_stays_for_the_backend_to_judge():
    assert [role for role, _ in turns({"role": "system", "content": "s"}, user(result()))] == [
        "system",
        "tool",
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, ToolResult("t1", (Text(""),))),
        ({"content": None}, ToolResult("t1", (Text(""),))),
        ({"content": ""}, ToolResult("t1", (Text(""),))),
        ({"content": []}, ToolResult("t1", (Text(""),))),
        ({"content": "ok", "is_error": False}, ToolResult("t1", (Text("ok"),))),
        ({"content": "no", "is_error": True}, ToolResult("t1", (Text("no"),), error=True)),
        (
            {"content": [text("a"), {"type": "image", "source": {"type": "url", "url": "u"}}]},
            ToolResult("t1", (Text("a"), Image(url="u"))),
        ),
        (
            {"content": [document({"type": "text", "data": "a"}, title="t")]},
            ToolResult("t1", (Text("t\na"),)),
        ),
    ],
)
def test_results_in_every_form(members, expected):
    assert turns(*HELLO, assistant(use()), user(result(**members)))[2:] == [("tool", (expected,))]


def test_a_file_in_a_result_goes_to_the_user():
    pdf = document({"type": "base64", "media_type": "application/pdf", "data": "JVBE"})
    told = turns(*HELLO, assistant(use()), user(result(content=[pdf]), text("well?")))
    assert told[2:] == [
        ("tool", (ToolResult("t1", (Text("See the file in the next message."),)),)),
        ("user", (File("JVBE", media_type="application/pdf"), Text("well?"))),
    ]


# --- thinking, choice, format


@pytest.mark.parametrize(
    ("members", "effort", "budget"),
    [
        ({}, None, None),
        ({"thinking": None, "output_config": None}, None, None),
        ({"thinking": {"type": "adaptive"}}, None, None),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"}},
            "max",
            None,
        ),
        ({"thinking": {"type": "between_tools"}}, None, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, None, 1024),
        ({"output_config": {"effort": "xhigh"}}, "xhigh", None),
    ],
)
def test_how_much_to_think(members, effort, budget):
    asked = read(**members)
    assert (asked.reasoning_effort, asked.reasoning_budget) == (effort, budget)


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "f"}, ToolChoice("required", ("f",)), None),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice("auto"), None),
    ],
)
def test_tool_choice(choice, expected, parallel):
    asked = read(tool_choice=choice)
    assert (asked.tool_choice, asked.parallel_tool_calls) == (expected, parallel)


def test_the_form_of_the_answer_has_an_older_name():
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    wanted = ResponseFormat("json_schema", schema={"type": "object"})
    assert read(output_format=shape).response_format == wanted
    newer = {"format": {"type": "json_schema", "schema": {}}}
    assert read(output_format=shape, output_config=newer).response_format.schema == {}


# --- what is wrong


@pytest.mark.parametrize(
    ("messages", "param", "words"),
    [
        ([{"content": "x"}], "messages[0].role", "is required"),
        ([{"role": "tool", "content": "x"}], "messages[0].role", "user, assistant, system"),
        ([{"role": "user"}], "messages[0].content", "is required"),
        ([{"role": "user", "content": 5}], "messages[0].content", "a string or an array of content blocks"),
        ([user(5)], "messages[0].content[0]", "must be an object"),
        ([user({"text": "x"})], "messages[0].content[0].type", "is required"),
        ([user({"type": "text"})], "messages[0].content[0].text", "is required"),
        ([user({"type": "text", "text": 5})], "messages[0].content[0].text", "must be a string"),
        (
            [*HELLO, user(text("a"), use())],
            "messages[1].content[1].type",
            "'tool_use' is no block of a message",
        ),
        ([*HELLO, assistant(result())], "messages[1].content[0].type", "known are text, thinking"),
        ([user({"type": "server_tool_use"})], "messages[0].content[0].type", "'server_tool_use'"),
        ([{"role": "system", "content": [use()]}], "messages[0].content[0].type", "known are text"),
        ([user({"type": "image"})], "messages[0].content[0].source", "is required"),
        (
            [user({"type": "image", "source": {"type": "file", "file_id": "f"}})],
            "messages[0].content[0].source.type",
            "'file' is not served here; known are base64, url",
        ),
        (
            [user(document({"type": "file", "file_id": "f"}))],
            "messages[0].content[0].source.type",
            "known are base64, url, text, content",
        ),
        (
            [user({"type": "image", "source": {"type": "base64", "data": "AA"}})],
            "messages[0].content[0].source.media_type",
            "is required",
        ),
        ([user({"type": "tool_result"})], "messages[0].content[0].tool_use_id", "is required"),
        ([user(result(content=[use()]))], "messages[0].content[0].content[0].type", "a tool's result"),
        ([user(result(is_error="yes"))], "messages[0].content[0].is_error", "must be a boolean"),
        ([assistant({"type": "tool_use", "id": "t"})], "messages[0].content[0].name", "is required"),
        ([assistant(use(input="{}"))], "messages[0].content[0].input", "must be an object"),
        ([assistant({"type": "thinking"})], "messages[0].content[0].thinking", "is required"),
        ([assistant({"type": "redacted_thinking"})], "messages[0].content[0].data", "is required"),
        ([assistant()], "messages", "at least one"),
    ],
)
def test_what_is_wrong_with_messages_is_named(messages, param, words):
    with pytest.raises(RequestError) as refused:
        read(messages)
    assert refused.value.param == param
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"system": 5}, "system", "a string or an array"),
        ({"system": [use()]}, "system[0].type", "known are text"),
        ({"max_tokens": 0}, "max_tokens", "a positive integer"),
        ({"temperature": "hot"}, "temperature", "a number"),
        ({"stop_sequences": [5]}, "stop_sequences[0]", "a string"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "custom"),
        (
            {"tools": [{"name": "f"}, {"type": "bash_20250124", "name": "bash"}]},
            "tools[1].type",
            "not served",
        ),
        ({"tools": [{"type": "computer_20250124"}]}, "tools[0].type", "'computer_20250124'"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "is required"),
        ({"tools": [{"name": "f", "input_schema": "x"}]}, "tools[0].input_schema", "an object"),
        ({"tool_choice": "auto"}, "tool_choice", "an object"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type", "known are auto, any, tool, none"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "is required"),
        ({"thinking": {"type": "much"}}, "thinking.type", "known are enabled"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is required"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens", "positive"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort", "known are low"),
        ({"output_config": {"format": {"type": "regex"}}}, "output_config.format.type", "json_schema"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema", "is required"),
        ({"metadata": []}, "metadata", "an object"),
    ],
)
def test_what_is_wrong_with_a_member_is_named(members, param, words):
    with pytest.raises(RequestError) as refused:
        read(**members)
    assert refused.value.param == param
    assert words in refused.value.message


def test_hosted_tools_are_a_value_that_is_not_supported():
    with pytest.raises(UnsupportedValue):
        read(tools=[{"type": "web_search_20250305", "name": "web_search"}])


def test_input_that_cannot_be_written_again_is_named():
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(RequestError) as refused:
        read([*HELLO, assistant(use(input=deep))])
    assert refused.value.param == "messages[1].content[0].input"


# --- anything

KEYS = st.sampled_from([
    "type", "text", "role", "content", "source", "data", "media_type", "url", "id", "name", "input", "title",
    "tool_use_id", "thinking", "signature", "is_error", "context", "schema", "effort", "format", "system",
])  # fmt: skip
WORDS = st.sampled_from([
    "text", "image", "document", "search_result", "tool_result", "tool_use", "thinking", "redacted_thinking",
    "base64", "url", "content", "user", "assistant", "system", "enabled", "any", "json_schema", "", "x",
])  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
blocks = st.fixed_dictionaries({"type": WORDS}, optional={"text": WORDS, "source": values, "content": values})
OPTIONS = ("system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "metadata")
bodies = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "messages": st.lists(
            st.fixed_dictionaries({
                "role": st.sampled_from(["user", "assistant", "system", "x"]),
                "content": WORDS | st.lists(blocks | st.dictionaries(KEYS, values, max_size=5), max_size=3),
            }),
            max_size=3,
        ),
    },
    optional=dict.fromkeys(OPTIONS, values),
)  # fmt: skip


@settings(deadline=None)
@given(bodies | st.dictionaries(KEYS, values))
def test_any_request_is_understood_or_refused_and_counted(fields):
    try:
        asked = read_request(jsonx.loads(jsonx.dumps(fields)))
        assert estimate_tokens(asked) > 0
    except GhostError as error:
        assert isinstance(error, RequestError)
        return
    assert asked.messages
    for message in asked.messages:
        assert message.parts
        results = [isinstance(part, ToolResult) for part in message.parts]
        assert all(results) if message.role == "tool" else not any(results)

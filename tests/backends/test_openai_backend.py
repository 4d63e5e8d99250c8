"""The OpenAI-compatible backend: what it sends, how it judges refusals, which models it lists."""

from __future__ import annotations

import pytest

from ghostllm.backends import base_url, translator
from ghostllm.backends.openai import OpenAIBackend, retry_after
from ghostllm.backends.profiles import LLAMACPP, OPENAI, PROFILES, TRANSFORMERS, VLLM
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import BackendConfig
from ghostllm.errors import (
    ContextLengthExceeded,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamProtocolError,
)
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call
from ghostllm.ports import ModelInfo

KEY = "sk-verysecretkey"
MESSAGES = [{"role": "user", "content": "hi"}]


def backend(profile=OPENAI, **options):
    return OpenAIBackend(profile, "b", **options)


def call(operation="chat", *, stream=False, **members):
    fields = {"model": "m", "messages": MESSAGES, **({"stream": True} if stream else {}), **members}
    return Call("openai", operation, "m", dumps(fields), fields, stream, not stream)


def sent(profile, asked, model="m", extra=None):
    request, answer = backend(profile).prepare(asked, model, extra or {})
    return loads(b"".join(request.body)), request, answer


def test_nothing_changes_where_nothing_has_to():
    asked = call(temperature=0.5)
    request, _ = backend().prepare(asked, "m", {})
    assert request.body == [asked.body] and request.body[0] is asked.body
    assert (request.method, request.path) == ("POST", "/chat/completions")


def test_the_model_and_configured_members_are_set_in_one_go():
    body, request, _ = sent(OPENAI, call(temperature=0.5), "other", {"temperature": 0, "top_k": 3})
    assert body == {"model": "other", "messages": MESSAGES, "temperature": 0, "top_k": 3}
    assert b'"messages":[{"role":"user","content":"hi"}]' in b"".join(request.body)


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"include_usage": None, "other": [1]}]
)
def test_usage_of_a_stream_is_always_asked_for(options):
    asked = call(stream=True) if options is None else call(stream=True, stream_options=options)
    body, _, _ = sent(VLLM, asked)
    assert body["stream_options"] == {**(options or {}), "include_usage": True}
    body, _, _ = sent(VLLM, asked, extra={"stream_options": {"x": 1}})
    assert body["stream_options"] == {"x": 1, "include_usage": True}


def test_usage_that_was_asked_for_is_not_asked_for_again():
    asked = call(stream=True, stream_options={"include_usage": True})
    request, _ = backend(VLLM).prepare(asked, "m", {})
    assert request.body[0] is asked.body
    assert "stream_options" not in sent(VLLM, call())[0]


def test_headers_carry_what_is_configured_and_nothing_else():
    configured = ((b"x-team", b"red"),)
    request, _ = backend(api_key=KEY, headers=configured).prepare(call(stream=True), "m", {})
    assert dict(request.headers) == {
        b"content-type": b"application/json",
        b"accept": b"text/event-stream",
        b"accept-encoding": b"identity",
        b"authorization": b"Bearer " + KEY.encode(),
        b"x-team": b"red",
    }
    own = ((b"authorization", b"Basic eA=="),)
    request = backend(api_key=KEY, headers=own).inventory_request()
    assert [value for name, value in request.headers if name == b"authorization"] == [b"Basic eA=="]
    assert (request.method, request.path, request.body) == ("GET", "/models", [])
    assert b"authorization" not in dict(backend().inventory_request().headers)


def test_the_answer_knows_how_many_choices_to_wait_for():
    _, _, answer = sent(OPENAI, call(stream=True, n=2))
    end = b'data: {"choices":[{"index":%d,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    answer.feed(end % 0)
    assert not answer.complete
    answer.feed(end % 1)
    assert answer.complete


# --- transformers serve refuses or ignores most members


def test_members_that_say_nothing_are_left_out():
    asked = call(
        stream=True,
        n=1,
        logprobs=False,
        user="u",
        presence_penalty=0.0,
        tool_choice="auto",
        seed=1,
        unknown=None,
        stream_options={"include_usage": True},
        response_format={"type": "text"},
        store=False,
        metadata={"a": "b"},
    )
    body, _, _ = sent(TRANSFORMERS, asked)
    assert body == {"model": "m", "messages": MESSAGES, "stream": True, "seed": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("presence_penalty", 0.5),
        ("tool_choice", "required"),
        ("parallel_tool_calls", False),
        ("response_format", {"type": "json_object"}),
        ("reasoning_effort", "low"),
        ("store", True),
        ("unheard_of", 0),
    ],
)
def test_wishes_that_would_be_ignored_are_refused(name, value):
    with pytest.raises(UnsupportedParameter, match=name) as refused:
        sent(TRANSFORMERS, call(**{name: value}))
    assert refused.value.param == name and refused.value.code == "unsupported_parameter"
    with pytest.raises(UnsupportedParameter):
        sent(TRANSFORMERS, call(), extra={name: value})


def test_a_member_with_another_name_is_renamed():
    assert sent(TRANSFORMERS, call(max_completion_tokens=5))[0] == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 5,
    }
    both = call(max_completion_tokens=5, max_tokens=9)
    assert sent(TRANSFORMERS, both)[0] == {"model": "m", "messages": MESSAGES, "max_tokens": 5}


def test_an_operation_that_a_server_does_not_have():
    with pytest.raises(UnsupportedValue, match="does not serve embeddings"):
        sent(TRANSFORMERS, call("embeddings", input="x"))
    assert sent(LLAMACPP, call("embeddings", input="x"))[1].path == "/embeddings"


# --- refusals


def test_vllm_unknown_model():
    body = b'{"error":{"message":"The model `x` does not exist.","param":"model","code":404}}'
    error = backend().failure(404, {}, body)
    assert (error.status, error.code, error.param, error.retryable, error.repeatable) == (
        404,
        "model_not_found",
        "model",
        True,
        False,
    )
    assert error.message == "The model `x` does not exist."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "model 'x' not found", "code": 400, "type": "invalid_request_error"}}),
        (400, {"error": {"message": "Model Not Exist", "code": "invalid_request_error"}}),
        (404, {"error": {"message": "?", "code": "model_not_found"}}),
        (400, {"detail": "Server is pinned to 'a'; model 'b' cannot be used"}),
    ],
)
def test_other_words_for_an_unknown_model(status, body):
    error = backend().failure(status, {}, dumps(body))
    assert (error.status, error.code, error.retryable) == (404, "model_not_found", True)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "request (9 tokens) exceeds the available context size (8 tokens)",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 9,
                    "n_ctx": 8,
                }
            },
        ),
        (
            400,
            {
                "error": {
                    "message": "maximum context length is 2048 tokens, however you requested 9000",
                    "type": "BadRequestError",
                    "param": "input_tokens",
                    "code": 400,
                }
            },
        ),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}}),
        (500, {"error": {"message": "?", "type": "exceed_context_size_error"}}),
        (400, {"object": "error", "message": "The input is longer than the model's context length (5 > 4)"}),
        (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
        (
            400,
            {"error": "The number of tokens to keep is greater than the context length"},
        ),
    ],
)
def test_a_prompt_that_does_not_fit(status, body):
    error = backend().failure(status, {}, dumps(body))
    assert isinstance(error, ContextLengthExceeded)
    assert (error.status, error.code, error.retryable) == (400, "context_length_exceeded", False)


@pytest.mark.parametrize(
    ("status", "body", "shown", "code", "retryable", "repeatable"),
    [
        (400, b'{"error":{"message":"no","type":"BadRequestError","code":400}}', 400, None, False, False),
        (400, b'{"error":{"message":"no","code":"content_filter"}}', 400, "content_filter", False, False),
        (400, b'{"error":{"message":"This model: `top_k` is not supported"}}', 400, None, False, False),
        (401, b'{"error":{"message":"Invalid key sk-verysecretkey"}}', 502, "upstream_refused", True, False),
        (403, b"forbidden", 502, "upstream_refused", True, False),
        (402, b'{"error":{"message":"balance"}}', 502, "upstream_refused", True, False),
        (404, b'{"detail":"Not Found"}', 501, "not_supported", True, False),
        (404, b"404 page not found", 501, "not_supported", True, False),
        (404, b'{"error":{"message":"not a chat thing"}}', 404, None, True, False),
        (405, b'{"detail":"Method Not Allowed"}', 501, "not_supported", True, False),
        (409, b"", 502, "upstream_error", True, False),
        (413, b"", 413, None, True, False),
        (422, b'{"detail":[{"loc":["body","n"],"msg":"bad"}]}', 422, None, False, False),
        (429, b"", 429, "rate_limit_exceeded", True, True),
        (429, b'{"error":{"type":"insufficient_quota"}}', 429, "insufficient_quota", True, True),
        (500, b"Internal Server Error", 502, "upstream_error", True, True),
        (
            501,
            b'{"error":{"code":501,"message":"no embeddings","type":"not_supported_error"}}',
            501,
            "not_supported",
            True,
            False,
        ),
        (502, b"<html>Bad Gateway</html>", 502, "upstream_error", True, True),
        (
            503,
            b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
            503,
            "overloaded",
            True,
            True,
        ),
        (504, b"", 504, "upstream_timeout", True, True),
        (529, b"", 503, "overloaded", True, True),
        (302, b"", 502, "upstream_error", True, False),
    ],
)
def test_whose_fault_a_refusal_is(status, body, shown, code, retryable, repeatable):
    error = backend(api_key=KEY).failure(status, {}, body)
    assert (error.status, error.code) == (shown, code)
    assert (error.retryable, error.repeatable) == (retryable, repeatable)
    assert error.message and KEY not in error.message and "<" not in error.message
    assert str(error) == error.message


def test_words_are_passed_on_without_secrets():
    judge = backend(api_key=KEY, headers=((b"x-token", b"tok-abcdef123"),), url="http://10.1.2.3:8000/v1")
    text = f"at http://10.1.2.3:8000/v1 with {KEY} and tok-abcdef123: see https://docs.example.com/x"
    error = judge.failure(400, {}, dumps({"error": {"message": text}}))
    assert error.message == "at http://***/v1 with *** and ***: see https://docs.example.com/x"


def test_fastapi_tells_the_field():
    body = {
        "detail": [
            {"loc": ["body", "messages", 0, "role"], "msg": "Field required"},
            {"loc": [], "msg": "and"},
        ]
    }
    error = backend().failure(422, {}, dumps(body))
    assert error.message == "messages.0.role: Field required; and" and error.param == "messages.0.role"


def test_words_have_an_end():
    assert len(backend().failure(400, {}, dumps({"error": {"message": "x" * 100_000}})).message) == 2000
    assert len(backend().failure(500, {}, b"x" * 100_000).message) == 2000


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"5",
        b'{"error":null}',
        b'{"error":[]}',
        b'{"detail":5}',
        b"\xff\xfe",
        b'{"detail":{"error":{"message":7,"code":[]}}}',
        b'{"error":{"code":"429"}}',
    ],
)
def test_odd_bodies_are_judged_by_their_status(body):
    assert backend().failure(400, {}, body).status == 400
    assert backend().failure(500, {}, body).status == 502


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"20"}, 20),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"-3"}, 0),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"99999999999"}, 86_400),
        ({b"retry-after": b"9", b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after": b"Sun, 06 Nov 1994 08:50:07 GMT"}, 30),
        ({b"retry-after": b"Sun, 06 Nov 1994 08:40:00 GMT"}, 0),
        ({b"retry-after": b"Sun, 06 Nov 1994 12:00:10 GMT", b"date": b"Sun, 06 Nov 1994 12:00:00 GMT"}, 10),
    ],
)
def test_when_to_try_again(headers, seconds):
    assert retry_after(headers, NOW) == seconds
    assert backend().failure(429, {b"retry-after": b"7"}, b"").retry_after == 7


# --- inventories


def test_inventories_of_each_server():
    vllm = {
        "object": "list",
        "data": [
            {
                "id": "v",
                "object": "model",
                "created": 1750000000,
                "owned_by": "vllm",
                "root": "v",
                "parent": None,
                "max_model_len": 2048,
                "permission": [],
            }
        ],
    }
    llama = {
        "models": [{"name": "s"}],
        "object": "list",
        "data": [
            {
                "id": "s",
                "owned_by": "llamacpp",
                "created": 1,
                "meta": {"n_ctx": 1024, "n_ctx_train": 8192, "n_params": 1},
            }
        ],
    }
    router = {"data": [{"id": "r", "meta": None}, {"id": "q", "context_length": 32768}]}
    assert backend().inventory(dumps(vllm)) == [ModelInfo("v", 1750000000, "vllm", 2048)]
    assert backend().inventory(dumps(llama)) == [ModelInfo("s", 1, "llamacpp", 1024)]
    assert backend().inventory(dumps(router)) == [ModelInfo("r"), ModelInfo("q", context=32768)]
    assert backend().inventory(b'{"object":"list","data":[]}') == []
    assert backend().inventory(b'{"object":"list","data":null}') == []
    assert backend().inventory(b'{"data":[5,{"id":""},{"id":7},{},{"id":"x","created":0,"owned_by":3}]}') == [
        ModelInfo("x")
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"5", b'{"data":{}}', b'{"error":"x"}'])
def test_what_is_no_inventory(body):
    with pytest.raises(UpstreamProtocolError, match="model list"):
        backend().inventory(body)


# --- from the configuration


@pytest.mark.parametrize(
    ("kind", "url", "base"),
    [
        ("openai", "http://h:1", "http://h:1/v1"),
        ("vllm", "http://h:1/", "http://h:1/v1"),
        ("auto", "https://h/openai/v1/", "https://h/openai/v1"),
        ("ollama", "http://h:11434", "http://h:11434"),
        ("ollama", "http://h:11434/v1/", "http://h:11434"),
        ("ollama", "http://h:11434/api", "http://h:11434"),
        ("ollama", "http://h/behind/api", "http://h/behind"),
    ],
)
def test_what_a_url_means(kind, url, base):
    assert base_url(BackendConfig(name="b", kind=kind, url=url)) == base


def test_translators_are_made_from_the_configuration():
    config = BackendConfig(
        name="b", kind="vllm", url="http://h:1", api_key=Secret(KEY), headers={"X-Team": "red"}
    )
    made = translator(config, 1000)
    assert isinstance(made, OpenAIBackend) and made.profile is VLLM
    assert dict(made.inventory_request().headers)[b"x-team"] == b"red"
    assert KEY not in repr(made)
    assert translator(BackendConfig(name="b", kind="auto", url="http://h"), 1).profile is OPENAI
    assert translator(BackendConfig(name="b", kind="gguf"), 1).profile is LLAMACPP
    assert "Ollama" in type(translator(BackendConfig(name="b", kind="ollama", url="http://h"), 1)).__name__


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_profiles_are_coherent(profile):
    assert PROFILES[profile.kind] is profile
    assert set(profile.paths) >= {"chat", "completions"}
    for operation, fields in profile.fields.items():
        assert operation in profile.paths
        assert {"model", "stream"} <= fields.accepted
        assert not fields.accepted & (set(fields.neutral) | set(fields.renamed))
        assert set(fields.renamed.values()) <= fields.accepted

"""What a browser is told."""

from ghostllm.config.schema import Cors
from ghostllm.gateway.cors import CorsPolicy
from ghostllm.message import Request


def request(**headers):
    return Request("OPTIONS", "/v1/models", {k.replace("_", "-").encode(): v for k, v in headers.items()})


def test_without_origins_nothing_is_said():
    policy = CorsPolicy(Cors())
    asking = request(origin=b"https://app.example")
    assert policy.answer_headers(asking) == ()
    assert policy.preflight_headers(asking, "GET") == ()


def test_an_exact_origin_is_echoed_and_others_are_not():
    policy = CorsPolicy(Cors(origins=("https://app.example",)))
    told = dict(policy.answer_headers(request(origin=b"https://app.example")))
    assert told[b"access-control-allow-origin"] == b"https://app.example"
    assert told[b"vary"] == b"origin"
    assert policy.answer_headers(request(origin=b"https://app.example.evil")) == ((b"vary", b"origin"),)
    assert policy.answer_headers(request()) == ()


def test_any_origin_is_a_star_not_an_echo():
    told = dict(CorsPolicy(Cors(origins=("*",))).answer_headers(request(origin=b"https://x")))
    assert told[b"access-control-allow-origin"] == b"*"


def test_a_preflight_gets_methods_and_headers():
    policy = CorsPolicy(Cors(origins=("https://a",), max_age=60))
    asked = request(origin=b"https://a", access_control_request_headers=b"authorization, x-stainless-os")
    assert dict(policy.preflight_headers(asked, "OPTIONS, POST")) == {
        b"access-control-allow-methods": b"OPTIONS, POST",
        b"access-control-allow-headers": b"authorization, x-stainless-os",
        b"access-control-max-age": b"60",
    }
    listed = CorsPolicy(Cors(origins=("https://a",), headers=("authorization", "content-type")))
    told = dict(listed.preflight_headers(asked, "POST"))
    assert told[b"access-control-allow-headers"] == b"authorization, content-type"


def test_credentials_only_when_configured():
    policy = CorsPolicy(Cors(origins=("https://a",), credentials=True))
    told = dict(policy.answer_headers(request(origin=b"https://a")))
    assert told[b"access-control-allow-credentials"] == b"true"

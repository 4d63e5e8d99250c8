"""HTTP/1.1 towards clients, byte by byte: framing, keep-alive, encodings, refusals, CORS, hop-by-hop."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess

import pytest
import zstandard

from tests.e2e.conftest import Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.gateway import Gateway
from tests.fakes.raw import ask, chunked, request

pytestmark = pytest.mark.smoke

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
SAID = b'"messages":[{"role":"user","content":"Hi"}]'
STREAM = BODY[:-1] + b',"stream":true}'
WHOLE = "".join(TEXT)


def test_a_connection_is_kept_for_many_requests(gateway: Gateway, fakes: Fakes) -> None:
    with gateway.open() as raw:
        for body in (BODY, STREAM, b"{", BODY):
            answer = raw.ask(request("POST", CHAT, body))
            assert answer.status == (400 if body == b"{" else 200) and answer.complete
        assert raw.ask(request("GET", "/v1/models"), "GET").status == 200
        assert raw.ask(request("GET", "/nowhere"), "GET").status == 404
        assert raw.ask(request("POST", CHAT, BODY)).status == 200


def test_connection_close_is_obeyed(gateway: Gateway) -> None:
    with gateway.open() as raw:
        answer = raw.ask(request("POST", CHAT, STREAM, {"Connection": "close"}))
        assert answer.complete and answer.headers["connection"] == "close"
        assert raw.at_end()


def test_http_1_0(gateway: Gateway) -> None:
    with gateway.open() as raw:
        answer = raw.ask(request("POST", CHAT, STREAM, minor=0))
        assert "transfer-encoding" not in answer.headers
        assert answer.text == WHOLE and answer.events[-1] == "[DONE]"
    with gateway.open() as raw:
        assert raw.ask(request("GET", "/health", minor=0), "GET").status == 200
        assert raw.at_end()


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, fakes: Fakes) -> None:
    """The first is answered last by its backend, and still comes first."""
    fakes.primary.script({"gate": "first", "tokens": ["slow"]})
    with gateway.open() as raw:
        raw.send(request("POST", CHAT, STREAM) + request("GET", "/version") + request("POST", CHAT, BODY))
        fakes.primary.call()
        fakes.primary.release("first")
        assert raw.answer().text == "slow"
        assert raw.answer("GET").json()["name"] == "ghostllm"
        assert raw.answer().json()["choices"][0]["message"]["content"] == WHOLE


def test_a_request_in_single_bytes(gateway: Gateway, fakes: Fakes) -> None:
    with gateway.open() as raw:
        for byte in request("POST", CHAT, BODY):
            raw.send(bytes([byte]))
        assert raw.answer().status == 200
    assert fakes.primary.call().body == BODY


def test_chunked_request_bodies(gateway: Gateway, fakes: Fakes) -> None:
    head = request("POST", CHAT, headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    pieces = chunked(BODY[:10], BODY[10:11], BODY[11:])
    with gateway.open() as raw:
        assert raw.ask(head + pieces).status == 200
        for byte in head + pieces:
            raw.send(bytes([byte]))
        assert raw.answer().status == 200
        extended = (
            b"a;name=value\r\n" + BODY[:10] + b"\r\n" + chunked(BODY[10:])[:-2] + b"X-Trailer: 1\r\n\r\n"
        )
        assert raw.ask(head + extended).status == 200
    assert [call.body for call in fakes.primary.calls] == [BODY] * 3
    assert all(call.headers["content-length"] == str(len(BODY)) for call in fakes.primary.calls)


def test_expect_100_continue(gateway: Gateway) -> None:
    with gateway.open() as raw:
        raw.send(request("POST", CHAT, BODY, {"Expect": "100-continue"})[: -len(BODY)])
        raw.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer = raw.ask(BODY)
        assert (answer.status, answer.interim) == (200, [100])


def test_expect_is_not_invited_for_a_request_that_is_refused(gateway: Gateway) -> None:
    with gateway.open() as raw:
        answer = raw.ask(request("POST", "/nowhere", b"x" * 10, {"Expect": "100-continue"})[:-10])
        assert (answer.status, answer.interim) == (404, [])


def test_head_has_the_head_of_get_and_no_body(gateway: Gateway) -> None:
    with gateway.open() as raw:
        got = raw.ask(request("GET", "/v1/models"), "GET")
        head = raw.ask(request("HEAD", "/v1/models"), "HEAD")
        assert head.status == 200 and not head.body
        assert head.headers["content-length"] == got.headers["content-length"]
        assert raw.ask(request("GET", "/health"), "GET").status == 200, "nothing of a body was sent"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "GZIP", "identity"])
def test_compressed_request_bodies(gateway: Gateway, fakes: Fakes, encoding: str) -> None:
    packed = {"gzip": gzip.compress(BODY), "zstd": zstandard.compress(BODY)}.get(encoding.lower(), BODY)
    answer = gateway.ask("POST", CHAT, packed, {"Content-Encoding": encoding})
    assert answer.status == 200
    call = fakes.primary.call()
    assert call.body == BODY and "content-encoding" not in call.headers


@pytest.mark.parametrize(("encoding", "body", "status"), [
    ("gzip", b"not gzip at all", 400),
    ("gzip", gzip.compress(BODY)[:-9], 400),
    ("zstd", b"\x28\xb5\x2f\xfd broken", 400),
    ("br", b"whatever", 415),
    ("gzip", gzip.compress(b" " * (33_554_432 + 1)), 413),
    ("zstd", zstandard.compress(b" " * (33_554_432 + 1)), 413),
])  # fmt: skip
def test_bad_compressed_bodies(gateway: Gateway, encoding: str, body: bytes, status: int) -> None:
    answer = gateway.ask("POST", CHAT, body, {"Content-Encoding": encoding})
    assert answer.status == status and answer.error
    assert gateway.chat("m").status == 200


DEEP = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
IN_CHUNKS = {"Transfer-Encoding": "chunked"}

REFUSED: dict[str, tuple[bytes, int]] = {
    "no such path": (request("GET", "/nowhere"), 404),
    "unknown model": (request("POST", CHAT, b'{"model":"none",%b}' % SAID), 404),
    "wrong method": (request("GET", CHAT), 405),
    "wrong media type": (request("POST", CHAT, BODY, {"Content-Type": "text/plain"}), 415),
    "form": (request("POST", CHAT, BODY, {"Content-Type": "application/x-www-form-urlencoded"}), 415),
    "known elsewhere": (request("POST", "/v1/vector_stores", b"{}"), 501),
    "unknown method": (request("BREW", "/v1/models"), 501),
    "not JSON": (request("POST", CHAT, b"{"), 400),
    "not an object": (request("POST", CHAT, b"[1]"), 400),
    "empty body": (request("POST", CHAT, b""), 400),
    "no model": (request("POST", CHAT, b"{%b}" % SAID), 400),
    "model no string": (request("POST", CHAT, b'{"model":3,%b}' % SAID), 400),
    "stream no boolean": (request("POST", CHAT, b'{"model":"m",%b,"stream":"yes"}' % SAID), 400),
    "bad utf-8": (request("POST", CHAT, b'{"model":"m",%b,"x":"\xff"}' % SAID), 400),
    "too deep": (request("POST", CHAT, DEEP), 400),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_have_openais_shape_and_keep_the_connection(
    gateway: Gateway, fakes: Fakes, case: str
) -> None:
    data, status = REFUSED[case]
    with gateway.open() as raw:
        answer = raw.ask(data)
        assert (answer.status, answer.complete) == (status, True)
        assert answer.error["type"]
        assert answer.headers["x-request-id"]
        assert raw.ask(request("GET", "/health"), "GET").status == 200
    assert not fakes.primary.calls


def test_what_a_refusal_says(gateway: Gateway) -> None:
    wrong = gateway.ask("DELETE", "/v1/models")
    assert "GET" in wrong.headers["allow"]
    assert gateway.ask("POST", "/v1/vector_stores", b"{}").headers["x-should-retry"] == "false"
    assert gateway.chat("none").error["code"] == "model_not_found"
    assert gateway.ask("POST", CHAT, b"{%b}" % SAID).error["param"] == "model"
    assert "/v1/chat/completions" in gateway.ask("POST", "/chat/completions", BODY).error["message"]


MALFORMED: dict[str, bytes] = {
    "length and chunked": request("POST", CHAT, BODY, {"Transfer-Encoding": "chunked"}),
    "two lengths": request("POST", CHAT, BODY).replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1),
    "length list": request("POST", CHAT, BODY, {"Content-Length": "5, 5"}),
    "signed length": request("POST", CHAT, BODY, {"Content-Length": "+5"}),
    "hex length": request("POST", CHAT, BODY, {"Content-Length": "0x5"}),
    "bare LF": request("GET", "/health").replace(b"\r\n", b"\n"),
    "space before colon": request("GET", "/health", headers={"X-A ": "b"}),
    "folded line": request("GET", "/health", headers={"X-A": "b\r\n c"}),
    "no host": request("GET", "/health", headers={"Host": None}),
    "two hosts": request("GET", "/health").replace(b"\r\n\r\n", b"\r\nHost: other\r\n\r\n"),
    "chunked on 1.0": request("POST", CHAT, headers=IN_CHUNKS, minor=0) + chunked(BODY),
    "not chunked last": request("POST", CHAT, headers={"Transfer-Encoding": "chunked, gzip"}),
    "NUL": request("GET", "/health", headers={"X-A": "b\0c"}),
    "bad chunk size": request("POST", CHAT, headers=IN_CHUNKS) + b"zz\r\n",
    "bad chunk end": request("POST", CHAT, headers=IN_CHUNKS) + b"3\r\nabcX\r\n0\r\n\r\n",
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello, is this TLS?\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_framing_is_refused_and_the_connection_closed(
    gateway: Gateway, fakes: Fakes, case: str
) -> None:
    with gateway.open() as raw:
        raw.send(MALFORMED[case] + request("GET", "/health"))
        answer = raw.answer()
        # RFC 9112 6.3 asks for 400 where chunked is not the last coding, 6.1 allows 501 for an unknown one.
        assert answer.status == 400 or (case, answer.status) == ("not chunked last", 501)
        assert answer.error and answer.headers["connection"] == "close"
        assert not raw.rest(), "what was behind it is not taken for a request"
    assert not fakes.primary.calls
    assert gateway.ask("GET", "/health").status == 200


def test_http_2_and_3_versions_are_told(gateway: Gateway) -> None:
    with gateway.open() as raw:
        assert raw.ask(b"GET /health HTTP/3.0\r\nHost: a\r\n\r\n", "GET").status in (400, 505)


# --- request ids and header fields


def test_a_sane_request_id_is_kept_and_passed_on(gateway: Gateway, fakes: Fakes) -> None:
    answer = gateway.ask("POST", CHAT, BODY, {"X-Request-Id": "abc-123.DEF:4"})
    assert answer.headers["x-request-id"] == "abc-123.DEF:4"
    assert fakes.primary.call().headers["x-request-id"] == "abc-123.DEF:4"


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "x" * 300, "{${jndi}}", "é"])
def test_an_insane_request_id_is_replaced(gateway: Gateway, fakes: Fakes, given: str) -> None:
    made = gateway.ask("POST", CHAT, BODY, {"X-Request-Id": given}).headers["x-request-id"]
    assert made and made != given and len(made) < 100
    assert fakes.primary.call().headers["x-request-id"] == made


def test_request_ids_differ(gateway: Gateway) -> None:
    ids = [gateway.ask("GET", "/health").headers["x-request-id"] for _ in range(20)]
    assert len(set(ids)) == 20


def test_hop_by_hop_and_private_fields_stay_here(gateway: Gateway, fakes: Fakes) -> None:
    fields = {
        "Authorization": "Bearer client-secret", "Proxy-Authorization": "Basic eDp5", "Cookie": "session=1",
        "X-Api-Key": "client-secret", "Api-Key": "client-secret", "Connection": "keep-alive, X-Hop",
        "X-Hop": "1", "Keep-Alive": "timeout=5", "TE": "trailers", "Upgrade": "websocket",
        "Accept-Encoding": "gzip, br", "X-Forwarded-For": "10.0.0.1", "Idempotency-Key": "k1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }  # fmt: skip
    assert gateway.ask("POST", CHAT, BODY, fields).status == 200
    seen = fakes.primary.call().headers
    assert seen["authorization"] == "Bearer secret-of-primary"
    assert "client-secret" not in str(seen) and "session=1" not in str(seen)
    gone = {"proxy-authorization", "cookie", "x-api-key", "api-key", "x-hop", "keep-alive", "te", "upgrade"}
    assert not gone & set(seen)
    assert seen.get("accept-encoding", "identity") == "identity"
    assert seen["idempotency-key"] == "k1" and seen["traceparent"] == fields["traceparent"]
    assert seen["host"] == fakes.primary.address and seen["content-length"] == str(len(BODY))


def test_response_fields_of_the_backend_stay_there(gateway: Gateway, fakes: Fakes) -> None:
    private = {
        "Set-Cookie": "a=b",
        "X-Backend-Secret": "1",
        "Keep-Alive": "timeout=1",
        "openai-organization": "org-1",
    }
    fakes.primary.script({"headers": private}, {"headers": private})
    for answer in (gateway.chat("m"), gateway.chat("m", stream=True)):
        assert answer.status == 200
        assert not {"set-cookie", "x-backend-secret", "keep-alive", "openai-organization"} & set(
            answer.headers
        )


def test_a_compressed_answer_is_decoded(gateway: Gateway, fakes: Fakes) -> None:
    """The fake's body is text; latin-1 lets the bytes of gzip through its JSON control port only if ASCII, so
    the answer says gzip and is none: that must not be passed on as if it were.
    """
    fakes.primary.script({"headers": {"Content-Encoding": "gzip"}})
    answer = gateway.chat("pair")
    assert answer.status == 200 and answer.json()["choices"][0]["message"]["content"] == WHOLE
    assert "content-encoding" not in answer.headers
    assert len(fakes.second.calls) == 1


def test_header_injection_through_the_model_name(gateway: Gateway, fakes: Fakes) -> None:
    answer = gateway.chat("m\r\nX-Evil: 1")
    assert answer.status == 404 and "x-evil" not in answer.headers


# --- stale connections


def test_a_stale_connection_is_replaced_once(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"hang_up": True})
    assert gateway.chat("m").status == 200
    assert gateway.chat("m").status == 200
    first, second = fakes.primary.calls
    assert first.connection != second.connection


def test_a_used_connection_that_dies_on_the_next_request(gateway: Gateway, fakes: Fakes) -> None:
    """The request was sent and nothing came back: once more on a fresh connection, and no failure."""
    assert gateway.chat("m").status == 200
    fakes.primary.script({"close": True})
    answer = gateway.chat("m")
    assert answer.status == 200
    calls = fakes.primary.calls
    assert len(calls) == 3 and calls[1].connection == calls[0].connection != calls[2].connection


def test_connections_are_reused(gateway: Gateway, fakes: Fakes) -> None:
    for stream in (False, True) * 5:
        assert gateway.chat("m", stream=stream).complete
    assert len({call.connection for call in fakes.primary.calls}) == 1


# --- CORS and addresses


@pytest.fixture(scope="module")
def cors(started: Fakes) -> object:
    server = {
        "cors": {"origins": ["https://app.example"], "max_age": 60},
        "listen": ["127.0.0.1:0", "[::1]:0"],
    }
    with Gateway({**settings(started), "server": server}) as gateway:
        yield gateway


def test_preflight(cors: Gateway) -> None:
    fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang"}  # fmt: skip
    answer = cors.ask("OPTIONS", CHAT, None, fields)
    assert answer.status in (200, 204) and not answer.body
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert answer.headers["access-control-max-age"] == "60"
    assert "origin" in answer.headers["vary"].lower()


def test_cors_on_answers_and_errors(cors: Gateway, fakes: Fakes) -> None:
    for body, status in ((BODY, 200), (STREAM, 200), (b"{", 400)):
        answer = cors.ask("POST", CHAT, body, {"Origin": "https://app.example"})
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
    stranger = cors.ask("POST", CHAT, BODY, {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_without_origins_there_is_no_cors(gateway: Gateway) -> None:
    answer = gateway.ask("POST", CHAT, BODY, {"Origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_ipv4_and_ipv6(cors: Gateway, fakes: Fakes) -> None:
    families = {"[" in address for address in cors.addresses}
    assert families == {False, True}
    for address in cors.addresses:
        assert ask(address, "POST", CHAT, BODY).status == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(gateway: Gateway, fakes: Fakes) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    kind = "Content-Type: application/json"
    streamed = curl("-N", "-H", kind, "-d", STREAM.decode(), gateway.url + CHAT)
    assert streamed.endswith("data: [DONE]\n\n")
    large = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 2_000_000}]})
    packed = subprocess.run(
        ["curl", "--silent", "--max-time", "20", "-H", kind, "--data-binary", "@-", gateway.url + CHAT],
        input=large.encode(), check=True, capture_output=True,
    ).stdout  # fmt: skip  # above 1 MB curl asks with Expect: 100-continue
    assert json.loads(packed)["choices"][0]["message"]["content"] == WHOLE
    assert fakes.primary.call(1).body == large.encode()

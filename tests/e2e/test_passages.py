"""Requests that are passed on as they are: audio, images, rerank, files."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Fakes
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

MP3 = "ID3" + "\x00ÿ" * 5000


def form(model: str, *, file: bytes = b"RIFF" + bytes(range(256)) * 40) -> bytes:
    return (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n%b\r\n"
        b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--xyz--\r\n'
        % (file, model.encode())
    )


def transcribe(gateway: Gateway, body: bytes, kind: str = "multipart/form-data; boundary=xyz") -> Answer:
    return gateway.ask("POST", "/v1/audio/transcriptions", body, {"Content-Type": kind})


def test_speech_comes_back_as_it_is(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"path": "/v1/audio/speech", "body": MP3, "content_type": "audio/mpeg"})
    asked = {"model": "m", "input": "Hello", "voice": "alloy"}
    answer = gateway.ask("POST", "/v1/audio/speech", asked)
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.body == MP3.encode()
    seen = fakes.primary.requests[-1]
    assert seen.json() == asked and seen.headers["authorization"] == "Bearer secret-of-primary"


def test_a_form_is_routed_by_its_model_and_keeps_every_byte(gateway: Gateway, fakes: Fakes) -> None:
    path = "/v1/audio/transcriptions"
    fakes.primary.script(*[{"path": path, "body": '{"text":"hi"}', "content_type": "application/json"}] * 2)
    assert transcribe(gateway, form("m")).json() == {"text": "hi"}
    assert fakes.primary.requests[-1].body == form("m")
    assert transcribe(gateway, form("renamed")).status == 200
    assert fakes.primary.requests[-1].body == form("upstream-name")
    assert fakes.primary.requests[-1].headers["content-type"] == "multipart/form-data; boundary=xyz"


def test_json_is_routed_by_its_model(gateway: Gateway, fakes: Fakes) -> None:
    fakes.vllm.script({"path": "/v1/rerank", "body": '{"results":[]}', "content_type": "application/json"})
    asked = {"model": "vllm", "query": "q", "documents": ["a"]}
    assert gateway.ask("POST", "/v1/rerank", asked).json() == {"results": []}
    assert fakes.vllm.requests[-1].json() == asked


def test_what_has_no_model_goes_to_the_first_that_has_the_path(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {"path": "/v1/files/file-1/content", "body": "a,b", "content_type": "text/csv"},
        {"path": "/v1/files/file-1", "body": '{"deleted":true}', "content_type": "application/json"},
    )
    assert gateway.ask("GET", "/v1/files/file-1/content?x=1").body == b"a,b"
    assert gateway.ask("DELETE", "/v1/files/file-1").json() == {"deleted": True}
    assert [seen.method for seen in fakes.primary.requests[-2:]] == ["GET", "DELETE"]
    assert fakes.primary.requests[-2].target == "/v1/files/file-1/content?x=1"


def test_a_model_whose_backend_lacks_the_path_is_told(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/audio/speech", {"model": "ollama", "input": "x"})
    assert answer.status == 501 and "'ollama'" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"model":7}', "application/json", 400),
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 400),
        (form("m")[:-20], "multipart/form-data; boundary=xyz", 400),
        (form("nobody-has-this"), "multipart/form-data; boundary=xyz", 404),
    ],
)
def test_bad_input_is_told(gateway: Gateway, fakes: Fakes, body: bytes, kind: str, status: int) -> None:
    answer = transcribe(gateway, body, kind)
    assert answer.status == status and answer.error["message"]
    assert not [seen for seen in fakes.primary.requests if "audio" in seen.target]


@pytest.mark.parametrize(
    "path", ["/v1/files/../chat", "/v1/files/%2e%2e/x", "/v1/files//x", "/v1/audio/a%2Fb"]
)
def test_a_path_cannot_lead_elsewhere(gateway: Gateway, fakes: Fakes, path: str) -> None:
    method = "POST" if "audio" in path else "GET"
    assert gateway.ask(method, path, {"model": "m"} if method == "POST" else None).status == 404


def test_a_failure_before_the_answer_goes_to_the_next(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"path": "/v1/audio/transcriptions", "status": 503, "times": None})
    fakes.second.script(
        {
            "path": "/v1/audio/transcriptions",
            "body": '{"text":"hi"}',
            "content_type": "application/json",
            "times": None,
        }
    )
    assert transcribe(gateway, form("pair")).json() == {"text": "hi"}


def test_an_answer_that_breaks_off_is_not_ended(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {"path": "/v1/audio/speech", "body": MP3, "content_type": "audio/mpeg", "cut_after_bytes": 6000}
    )
    answer = gateway.ask("POST", "/v1/audio/speech", {"model": "m", "input": "x"})
    assert not answer.complete and MP3.encode().startswith(answer.body)
    until(lambda: gateway.record(answer.headers["x-request-id"])["outcome"] == "broken", "the record")

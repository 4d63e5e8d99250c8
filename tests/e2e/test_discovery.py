"""Servers that are found, and servers whose kind is found out."""

from __future__ import annotations

import socket

import pytest

from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway

OLLAMA_PORT = 11434

PATHS = {
    "ollama": "/api/chat",
    "llamacpp": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "transformers": "/v1/chat/completions",
    "lmstudio": "/v1/chat/completions",
}


@pytest.mark.parametrize("kind", PATHS)
def test_the_kind_of_a_server_is_found_out(kind: str) -> None:
    with Fake(kind, "m") as fake, Gateway({"backends": [{"name": "it", "url": fake.url}]}) as gateway:
        assert gateway.chat("m").status == 200
        assert fake.calls[-1].target == PATHS[kind]
        identified = [record for record in gateway.records if record["event"] == "identified"]
        assert [record["kind"] for record in identified] == [kind]


def test_a_server_that_comes_up_later_is_identified_then() -> None:
    with Fake("ollama", "m") as fake:
        fake.listen(False)
        settings = {"backends": [{"name": "it", "url": fake.url}], "routing": {"refresh": 0.2}}
        with Gateway(settings, wait=False) as gateway:
            until(lambda: gateway.addresses, "it listens")
            until(lambda: "does not answer" in gateway.log, "it says so")
            fake.listen(True)
            until(lambda: gateway.ask("GET", "/ready").status == 200, "it is ready")
            assert gateway.chat("m").status == 200
            assert fake.calls[-1].target == "/api/chat"


def test_without_configuration_this_machine_is_searched() -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", OLLAMA_PORT)) == 0:
            pytest.skip(f"something else listens on Ollama's port {OLLAMA_PORT}")
    with Fake("ollama", "found-me", port=OLLAMA_PORT) as fake:
        with Gateway({"routing": {"refresh": 0.5}}) as gateway:
            until(lambda: "found-me" in gateway.log, "its models are served")
            assert gateway.chat("found-me").status == 200
            assert fake.calls[-1].target == "/api/chat"
            found = [record for record in gateway.records if record["event"] == "found"]
            assert {"kind": "ollama", "url": f"http://127.0.0.1:{OLLAMA_PORT}"}.items() <= found[0].items()

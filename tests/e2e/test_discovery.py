"""Servers that are found, and servers whose kind is found out."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway, toml
from tests.fakes.ports import free_port
from tests.fakes.raw import request

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
        identified = until(lambda: events(gateway, "identified"), "it is told")
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
            found = until(lambda: events(gateway, "found"), "it is told")
            assert {"kind": "ollama", "url": f"http://127.0.0.1:{OLLAMA_PORT}"}.items() <= found[0].items()


QUICK = {"local": False, "interval": 0.05}
"""Looks as often as tests like it."""


def entry(name: str, fake: Fake, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": fake.kind, "url": fake.url, **more}


def write(path: Path, *entries: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(toml({"backends": list(entries)}) if entries else "backends = []\n")
    os.replace(beside, path)


def events(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [record for record in gateway.records if record["event"] == event]


def models(gateway: Gateway) -> set[str]:
    return {model["id"] for model in gateway.ask("GET", "/v1/models").json()["data"]}


def test_a_watched_file_adds_changes_and_removes_while_a_stream_runs(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    with Fake("openai", "m") as one, Fake("openai", "n") as two:
        one.script({"tokens": [f"{n} " for n in range(40)], "token_delay": 0.05})
        write(path, entry("one", one))
        with Gateway({"discovery": {**QUICK, "file": str(path)}}) as gateway, gateway.open() as raw:
            body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
            raw.send(request("POST", "/v1/chat/completions", body.encode()))
            raw.read_until(b"3 ")

            write(path, entry("one", one), entry("two", two))
            until(lambda: models(gateway) == {"m", "n"}, "the second is there")
            assert gateway.chat("n").status == 200

            write(path, entry("two", one))
            until(lambda: models(gateway) == {"m"}, "the second is another, the first is gone")
            assert gateway.chat("m").status == 200

            write(path)
            until(lambda: models(gateway) == set(), "none is left")
            assert gateway.chat("m").status in (404, 503)
            assert one.call().outcome == "open"  # all that in one stream's time

            answer = raw.answer()
            assert answer.complete and answer.events[-1] == "[DONE]"
            assert answer.text == "".join(f"{n} " for n in range(40))
            until(lambda: one.open_connections == 0, "what was removed is closed at last")
        assert [record["backend"] for record in events(gateway, "backend added")] == ["one", "two", "two"]
        assert [record["backend"] for record in events(gateway, "backend removed")] == ["one", "two"]


def test_a_mistake_in_the_file_changes_nothing_and_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    with Fake("openai", "m") as fake:
        write(path, entry("one", fake))
        with Gateway({"discovery": {**QUICK, "file": str(path)}}) as gateway:
            path.write_text("[[backends]]\nname = 7\n")
            until(lambda: events(gateway, "discovery fails"), "it is told")
            assert f"{path}:2: backends[0].name" in events(gateway, "discovery fails")[0]["reason"]
            assert gateway.chat("m").status == 200
            write(path, entry("one", fake))
            until(lambda: events(gateway, "discovery works again"), "it is told")


def test_targets_by_pattern_take_in_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    with Fake("openai", "m") as one, Fake("openai", "m") as two:
        write(path, entry("gpu-1", one))
        settings = {
            "discovery": {**QUICK, "file": str(path)},
            "models": [{"name": "chat", "targets": [{"backend": "gpu-*", "model": "m"}]}],
        }
        with Gateway(settings) as gateway:
            until(lambda: gateway.chat("chat").status == 200, "the first is there")
            assert one.calls[-1].json()["model"] == "m"
            write(path, entry("gpu-2", two), entry("cpu-1", one))
            until(lambda: events(gateway, "backend removed"), "the second takes its place")
            before = len(one.calls)
            assert gateway.chat("chat").status == 200
            assert len(one.calls) == before and len(two.calls) == 1


def test_the_addresses_of_a_name(tmp_path: Path) -> None:
    with Fake("openai", "m") as fake:
        port = int(fake.address.rpartition(":")[2])
        source = {"name": "d", "host": "localhost", "port": port, "api_key": "of-d"}
        with Gateway({"discovery": {**QUICK, "dns": [source]}}) as gateway:
            until(lambda: "m" in models(gateway), "its models are there")
            assert gateway.chat("m").status == 200
            assert fake.calls[-1].headers["authorization"] == "Bearer of-d"
            name = f"d-127.0.0.1-{port}"
            until(lambda: name in [one["backend"] for one in events(gateway, "backend added")], "it is told")


def test_a_network_that_is_to_be_looked_through() -> None:
    with Fake("ollama", "m") as fake:
        port = int(fake.address.rpartition(":")[2])
        discovery = {**QUICK, "network": ["127.0.0.1/32"], "ports": [port], "timeout": 2.0}
        with Gateway({"discovery": discovery}) as gateway:
            until(lambda: "m" in models(gateway), "its models are there")
            assert gateway.chat("m").status == 200 and fake.calls[-1].target == "/api/chat"
            found = until(lambda: events(gateway, "found"), "it is told")
            assert {"kind": "ollama", "url": fake.url}.items() <= found[0].items()


def test_a_server_that_is_configured_is_not_taken_twice() -> None:
    with Fake("openai", "m") as fake:
        port = int(fake.address.rpartition(":")[2])
        discovery = {**QUICK, "dns": [{"name": "d", "host": "127.0.0.1", "port": port}]}
        with Gateway({"backends": [entry("mine", fake)], "discovery": discovery}) as gateway:
            until(lambda: events(gateway, "backend refused"), "it is told")
            refused = events(gateway, "backend refused")[0]
            assert refused["backend"] == f"d-127.0.0.1-{port}" and "backend mine" in refused["reason"]
            assert events(gateway, "backend added") == []


def test_the_gateway_is_no_backend_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    with Fake("openai", "m") as fake:
        write(path, entry("it", fake))
        with Gateway({"discovery": {**QUICK, "file": str(path)}}) as gateway:
            write(path, entry("it", fake), {"name": "me", "url": gateway.url + "/v1"})
            until(lambda: events(gateway, "backend refused"), "it is told")
            refused = events(gateway, "backend refused")[0]
            assert refused["backend"] == "me" and "an address of this gateway" in refused["reason"]
            assert models(gateway) == {"m"}


def test_the_gateway_is_no_backend_of_its_own_where_it_is_configured() -> None:
    address = f"127.0.0.1:{free_port()}"
    backends = [{"name": "me", "kind": "openai", "url": f"http://{address}"}]
    with Gateway({"server": {"listen": [address]}, "backends": backends}, wait=False) as gateway:
        until(lambda: events(gateway, "backend refused"), "it is told")
        until(lambda: events(gateway, "serving"), "it goes on")
        assert events(gateway, "serving")[0]["models"] == []

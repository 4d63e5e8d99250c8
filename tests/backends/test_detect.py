"""Telling servers apart by what they say; scripted servers with the bodies that the real ones send."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm.backends.detect import HOSTS, PORTS, Found, find_local, identify
from ghostllm.errors import UpstreamTimeout
from ghostllm.jsonx import dumps


def listing(*models):
    return {"object": "list", "data": list(models)}


def model(owner, **more):
    return {"id": "m", "object": "model", "created": 1, "owned_by": owner, **more}


TAGS = {"models": [{"name": "a:latest", "digest": "sha256:1", "details": {"family": "llama"}}]}
OLLAMA = {
    "/": b"Ollama is running",
    "/api/version": {"version": "0.33.0"},
    "/api/tags": TAGS,
    "/v1/models": listing(model("library")),
}
VLLM = {"/version": {"version": "0.32.0"}, "/v1/models": listing(model("vllm", max_model_len=2048, root="m"))}
FASTAPI = {"info": {"title": "FastAPI", "version": "0.1.0"}, "paths": {"/v1/chat/completions": {}}}
SERVERS = {
    "Ollama": (OLLAMA, "ollama", "0.33.0", ""),
    "Ollama without models": ({**OLLAMA, "/api/tags": {"models": []}}, "ollama", "0.33.0", ""),
    "Ollama, models null": ({**OLLAMA, "/api/tags": {"models": None}}, "ollama", "0.33.0", ""),
    "vLLM": (VLLM, "vllm", "0.32.0", ""),
    "llama.cpp": (
        {"/v1/models": {**listing(model("llamacpp", meta={"n_ctx": 1})), "models": [{"name": "m"}]}},
        "llamacpp",
        None,
        "",
    ),
    "llama.cpp, by its props": (
        {"/props": {"build_info": "b11434-abc"}, "/v1/models": listing()},
        "llamacpp",
        "b11434-abc",
        "",
    ),
    "LM Studio": (
        {"/lmstudio-greeting": {"lmstudio": True}, "/v1/models": listing(model("organization_owner"))},
        "lmstudio",
        None,
        "",
    ),
    "transformers serve": (
        {"/openapi.json": {**FASTAPI, "paths": {"/load_model": {}, "/reset": {}}}},
        "transformers",
        None,
        "",
    ),
    "SGLang": (
        {"/v1/models": listing(model("sglang", max_model_len=9)), "/server_info": {"version": "0.5"}},
        "openai",
        None,
        "",
    ),
    "SGLang, by its settings": (
        {"/get_server_info": {"mem_fraction_static": 0.8, "version": "0.4"}, "/v1/models": listing()},
        "openai",
        "0.4",
        "",
    ),
    "Text Generation Inference": (
        {"/info": {"model_id": "m", "docker_label": "x", "version": "3"}},
        "openai",
        "3",
        "",
    ),
    "Docker Model Runner": ({"/engines/v1/models": listing(model("docker"))}, "openai", None, "/engines/v1"),
    "LocalAI": ({"/metrics": b"# TYPE x\nlocalai_api_call 1\n", "/v1/models": listing()}, "openai", None, ""),
    "Jan": (
        {"/openapi.json": {"info": {"title": "Jan API Server Endpoints"}, "paths": {}}},
        "openai",
        None,
        "",
    ),
    "Lemonade": (
        {"/api/v1/health": {"status": "ok", "model_loaded": None, "version": "9.1"}, "/v1/models": listing()},
        "openai",
        "9.1",
        "/api/v1",
    ),
    "KoboldCpp": (
        {"/api/extra/version": {"result": "KoboldCpp", "version": "1.9"}, "/v1/models": listing()},
        "openai",
        "1.9",
        "",
    ),
    "TabbyAPI": ({"/.well-known/serviceinfo": {"software": {"name": "TabbyAPI"}}}, "openai", None, ""),
    "text-generation-webui": (
        {"/openapi.json": {"info": {}, "paths": {"/v1/internal/model/info": {}}}},
        "openai",
        None,
        "",
    ),
    "GPT4All": ({"/v1/models": listing(model("humanity"))}, "openai", None, ""),
    "LiteLLM": (
        {"/health/readiness": {"litellm_version": "1.80"}, "/v1/models": listing()},
        "openai",
        "1.80",
        "",
    ),
    "llama-swap": ({"/v1/models": listing(model("llama-swap"))}, "openai", None, ""),
    "GhostLLM": (
        {"/version": {"name": "ghostllm", "version": "0.1.0"}, "/v1/models": listing()},
        "openai",
        "0.1.0",
        "",
    ),
    "OpenAI-compatible server": ({"/v1/models": listing(model("somebody"))}, "openai", None, ""),
}


class Machine:
    """Servers at addresses. asked: every GET that came."""

    def __init__(self, servers, *, headers=None, statuses=None):
        self.servers = servers
        self.headers = headers or {}
        self.statuses = statuses or {}
        self.asked = []

    async def fetch(self, url, path):
        self.asked.append((url, path))
        await asyncio.sleep(0)
        if url not in self.servers:
            raise ConnectionRefusedError(111, "refused")
        body = self.servers[url].get(path)
        status = self.statuses.get(path, 404 if body is None else 200)
        if body is None:
            body = {"detail": "Not Found"} if status == 404 else {"error": {"message": "key needed"}}
        return status, self.headers, body if isinstance(body, bytes) else dumps(body)


def looked_at(server, url="http://127.0.0.1:8000", **options):
    root = "/".join(url.split("/")[:3])
    return asyncio.run(identify(Machine({root: server}, **options).fetch, url))


@pytest.mark.parametrize("name", SERVERS)
def test_servers_are_known_by_what_they_say(name):
    server, kind, version, path = SERVERS[name]
    found = looked_at(server)
    assert found == Found(
        f"http://127.0.0.1:8000{path}", kind, name.split(",")[0].split(" without")[0], version
    )


@pytest.mark.parametrize(
    "name", ["KoboldCpp", "Lemonade", "Docker Model Runner", "LM Studio", "llama-swap", "llama.cpp", "vLLM"]
)
def test_a_server_that_imitates_ollama_is_not_taken_for_it(name):
    server, kind, _, _ = SERVERS[name]
    found = looked_at({**OLLAMA, **server})
    assert (found.kind, found.label) == (kind, name)


def test_an_ollama_without_digests_is_an_imitation():
    fake = {**OLLAMA, "/api/tags": {"models": [{"name": "a"}]}}
    assert looked_at(fake).kind == "openai"
    kobold = {"models": [{"name": "a", "details": {"family": "koboldcpp"}}]}
    assert looked_at({**OLLAMA, "/api/tags": kobold}).label == "KoboldCpp"
    assert looked_at({"/": b"Ollama is running"}) is None


def test_the_server_header_proves_what_it_can():
    assert looked_at({}, headers={b"server": b"llama.cpp"}).kind == "llamacpp"
    assert looked_at(OLLAMA, headers={b"server": b"ghostllm/0.1"}).label == "GhostLLM"


def test_vllm_behind_a_key_is_known_and_locked():
    server = {"/version": {"version": "0.32.0"}, "/metrics": b"# HELP x\nvllm:num_requests_running 0\n"}
    found = looked_at(server, statuses={"/v1/models": 401})
    assert (found.kind, found.locked) == ("vllm", True)
    anybody = looked_at({}, statuses={"/v1/models": 401})
    assert (anybody.kind, anybody.label, anybody.locked) == ("openai", "OpenAI-compatible server", True)


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"null", b"[]", b"{", b'{"object":"list"}', b'{"data":{}}', b"\xff"]
)
def test_any_other_server_is_none(body):
    everywhere = {path: body for server, *_ in SERVERS.values() for path in server}
    assert looked_at(everywhere) is None
    assert looked_at({}) is None


def test_silence_is_nobody():
    assert asyncio.run(identify(Machine({}).fetch, "http://127.0.0.1:1")) is None


def test_a_probe_that_hangs_counts_as_no_answer():
    machine = Machine({"http://h": {**VLLM, "/version": b""}})

    async def fetch(url, path):
        if path == "/version":
            raise UpstreamTimeout("slow", limit="total")
        return await machine.fetch(url, path)

    found = asyncio.run(identify(fetch, "http://h"))
    assert (found.kind, found.version) == ("vllm", None)


def test_a_path_that_was_given_is_kept():
    assert looked_at(VLLM, "http://h:1/v1/").url == "http://h:1/v1"
    behind = {"/openai/v1/models": listing(model("x"))}
    assert looked_at(behind, "https://h/openai/v1") == Found(
        "https://h/openai/v1", "openai", "OpenAI-compatible server"
    )


def test_a_plain_server_is_asked_little():
    machine = Machine({"http://h": VLLM})
    asyncio.run(identify(machine.fetch, "http://h"))
    assert len(machine.asked) == 3


def test_local_servers_are_found_wherever_they_listen():
    machine = Machine(
        {
            "http://127.0.0.1:11434": OLLAMA,
            "http://[::1]:11434": OLLAMA,
            "http://[::1]:8000": VLLM,
            "http://127.0.0.1:8000": {"/": b"some web page"},
            "http://127.0.0.1:8080": SERVERS["GhostLLM"][0],
            "http://127.0.0.1:5000": {"/": b"AirPlay"},
            "http://127.0.0.1:12434": SERVERS["Docker Model Runner"][0],
        }
    )
    found = asyncio.run(find_local(machine.fetch))
    assert [(server.url, server.kind) for server in found] == [
        ("http://127.0.0.1:11434", "ollama"),
        ("http://[::1]:8000", "vllm"),
        ("http://127.0.0.1:12434/engines/v1", "openai"),
    ]


def test_locked_servers_are_left_alone_and_other_ports_are_not_asked():
    machine = Machine({"http://127.0.0.1:7": {}}, statuses={"/v1/models": 401})
    assert asyncio.run(find_local(machine.fetch, ports=(7, 8))) == []
    assert {url for url, _ in machine.asked} == {
        f"http://{host}:{port}" for host in HOSTS for port in (7, 8)
    } - {"http://[::1]:7"}
    assert {8080, 9931, 11434} <= set(PORTS)

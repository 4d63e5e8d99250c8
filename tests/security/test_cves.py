"""The classes of holes that other gateways have had a CVE for, tried on a running gateway."""

from __future__ import annotations

import ast
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import raw
from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway

PACKAGE = Path(__file__).parents[2] / "ghostllm"
USER, BOSS = "sk-user-0123456789-abcdefghijkl", "sk-boss-0123456789-abcdefghijkl"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake("openai", "m") as fake:
        yield fake


@pytest.fixture(scope="module")
def running(fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "backends": [{"name": "b", "kind": "openai", "url": fake.url, "api_key": "backends-own-key"}],
        "keys": [{"name": "user", "key": USER}, {"name": "boss", "key": BOSS, "manage": True}],
        "state": {"file": str(tmp_path_factory.mktemp("state") / "state.db")},
    }
    with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway, fake: Fake) -> Gateway:
    fake.reset()
    return running


def ask(
    gateway: Gateway, method: str, target: str, body: Any = None, key: str = USER, **more: str
) -> raw.Answer:
    return gateway.ask(method, target, body, {"Authorization": f"Bearer {key}", **more})


def chat(**members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}


# --- CVE-2026-35030: an authentication cache that knew the first characters of a token only


def test_a_key_is_known_by_the_whole_of_it(gateway: Gateway) -> None:
    assert ask(gateway, "GET", "/v1/models").status == 200  # it is known now, if anything remembers it
    for at in range(len(USER)):
        other = USER[:at] + ("x" if USER[at] != "x" else "y") + USER[at + 1 :]
        assert ask(gateway, "GET", "/v1/models", key=other).status == 401, at
    for other in (USER[:-1], USER[:8], USER[:20], USER + "x", USER.upper(), f" {USER}x", USER + "\t" + USER):
        assert ask(gateway, "GET", "/v1/models", key=other).status == 401, other


# --- CVE-2026-35029: routes of the administration that did not look at the role


ADMIN = [
    ("GET", "/admin/api/requests"), ("GET", "/admin/api/requests/x"), ("GET", "/admin/api/backends"),
    ("GET", "/admin/api/backends/b"), ("POST", "/admin/api/backends/b/drain"), ("GET", "/admin/api/models"),
    ("POST", "/admin/api/backends/b/probe"), ("GET", "/admin/api/splits"), ("GET", "/admin/api/audit"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), ADMIN)
def test_the_role_is_looked_at(gateway: Gateway, method: str, target: str) -> None:
    """The whole table, route by route and role by role, is in tests/policy/test_route_table.py."""
    deliberate = {"x-ghostllm-admin": "1"}
    assert ask(gateway, method, target, **deliberate).status == 403
    assert ask(gateway, method, target, key="sk-nobody-9876543210", **deliberate).status == 401
    assert gateway.ask(method, target, None, deliberate).status == 401
    assert ask(gateway, method, target, key=BOSS, **deliberate).status in (200, 404)


@pytest.mark.parametrize(
    "target",
    ["//admin/api/backends", "/admin//api/backends", "/./admin/api/backends", "/admin/api/../api/backends",
     "/admin/api/backends/", "/Admin/api/backends", "/admin/api/backends%2f", "/%61dmin/api/backends",
     "/v1/../admin/api/backends", "/admin/api/backends;x", "/admin/api/backends?x",
     "/v1/models/../../admin/api"],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_it(gateway: Gateway, target: str) -> None:
    answer = ask(gateway, "GET", target)
    assert answer.status in (400, 403, 404) and b'"backends"' not in answer.body


# --- CVE-2026-42208: SQL put together with what a client sent

HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE audit; --",
    '" OR ""="',
    "\\'; --",
    "%' UNION SELECT sql FROM sqlite_master",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_client_is_sql(gateway: Gateway, fake: Fake, text: str) -> None:
    made = ask(gateway, "POST", "/v1/responses", {"model": "m", "input": text, "metadata": {"a": text}})
    assert made.status == 200 and ask(gateway, "GET", f"/v1/responses/{made.json()['id']}").status == 200
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    for method, target in (
        ("GET", f"/v1/responses/{quoted}"), ("DELETE", f"/v1/responses/{quoted}"),
        ("GET", f"/v1/responses/{quoted}/input_items"),
    ):  # fmt: skip
        assert ask(gateway, method, target).status == 404
    again = {"model": "m", "input": "Hi", "previous_response_id": text}
    assert ask(gateway, "POST", "/v1/responses", again).status in (400, 404)
    refers = {"model": "m", "input": [{"type": "item_reference", "id": text}]}
    assert ask(gateway, "POST", "/v1/responses", refers).status in (400, 404)
    for name in ("who", "action"):
        found = ask(gateway, "GET", f"/admin/api/audit?{name}={quoted}", key=BOSS)
        assert found.status == 200 and found.json()["audit"] == []
    assert ask(gateway, "GET", f"/v1/responses/{made.json()['id']}").status == 200, "it is still there"


def test_statements_are_made_of_constants() -> None:
    """What is put into the text of a statement is a constant of its module, never a value: parameters are."""
    seen = 0
    for path in (*PACKAGE.glob("state/*.py"), *PACKAGE.glob("policy/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
                if not re.search(r"\b(SELECT|INSERT|UPDATE|DELETE FROM|PRAGMA|WHERE)\b", text):
                    continue
                seen += 1
                for part in node.values:
                    if isinstance(part, ast.FormattedValue):
                        names = {each.id for each in ast.walk(part.value) if isinstance(each, ast.Name)}
                        unknown = {name for name in names if not name.strip("_").isupper()} - SAFE.get(
                            path.name, set()
                        )
                        assert not unknown, f"{path.name}:{node.lineno}: {unknown}"
    assert seen


SAFE = {"usage.py": {"condition", "columns", "place", "str", "range", "len"}}
"""Names of columns, looked up in a table of those there are: tests/state/test_usage.py tries others."""


# --- CVE-2025-43859: chunks that end in something else than CRLF, so that two readers see two bodies

BODIES = {
    "a chunk that ends in other bytes": b"5\r\nhelloXX0\r\n\r\n",
    "a chunk that ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "a chunk that is longer than it says": b"4\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\n" + b"h" * 16 + b"\r\n0\r\n\r\n",
    "a size with a space before it": b" 5\r\nhello\r\n0\r\n\r\n",
    "a size in a line of LF": b"5\nhello\r\n0\r\n\r\n",
    "a size of too many digits": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "an extension with a bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a last chunk that ends in other bytes": b"5\r\nhello\r\n0\r\nXX",
}
HEADS = {
    "length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n",
    "two lengths in one": "Content-Length: 5, 6\r\n",
    "a length with a sign": "Content-Length: +5\r\n",
    "chunks that are not last": "Transfer-Encoding: chunked, gzip\r\n",
    "chunks twice": "Transfer-Encoding: chunked, chunked\r\n",
    "chunks spelled oddly": "Transfer-Encoding: xchunked\r\n",
    "chunks after a tab": "Transfer-Encoding:\x0bchunked\r\n",
    "a space before the colon": "Content-Length : 5\r\n",
    "a folded line": "Transfer-Encoding:\r\n chunked\r\n",
}
SMUGGLED = raw.request("GET", "/admin/api/backends", headers={"Authorization": f"Bearer {BOSS}"})


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_malformed_chunk_is_the_end_of_the_connection(gateway: Gateway, fake: Fake, body: bytes) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {USER}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    alone_and_closed(gateway, head.encode() + body + SMUGGLED)
    assert fake.calls == []


@pytest.mark.parametrize("fields", HEADS.values(), ids=HEADS)
def test_a_body_of_two_meanings_is_the_end_of_the_connection(
    gateway: Gateway, fake: Fake, fields: str
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {USER}\r\n{fields}\r\n"
    alone_and_closed(gateway, head.encode() + b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    assert fake.calls == []


def alone_and_closed(gateway: Gateway, data: bytes) -> None:
    with gateway.open() as client:
        client.send(data)
        answer = client.rest()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), answer[:80]
    assert answer.count(b"HTTP/1.1 ") == 1, "what was smuggled is no request"


@pytest.fixture(scope="module")
def lied_to() -> Iterator[tuple[Gateway, Liar]]:
    with Liar() as liar:
        settings = {
            "backends": [{"name": "b", "kind": "openai", "url": liar.url}],
            "models": [{"name": "m", "targets": [{"backend": "b"}]}],
            "routing": {"attempts": 1, "health": {"interval": 0, "load": 0},
                        "breaker": {"failures": 10**6, "volume": 10**6}},
        }  # fmt: skip
        with Gateway(settings, wait=False) as gateway:
            until(lambda: gateway.addresses, "it listens")
            yield gateway, liar


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_backends_malformed_chunk_is_no_answer(lied_to: tuple[Gateway, Liar], body: bytes) -> None:
    """The same from the other side: what follows must not become the answer to somebody else."""
    gateway, liar = lied_to
    liar.body = body
    for _ in range(2):
        answer = gateway.chat("m")
        assert answer.status == 502 and b"smuggled" not in answer.body, answer.body


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
_SMUGGLED = b'{"choices":[{"message":{"content":"smuggled"},"finish_reason":"stop"}]}'
_BEHIND = _HEAD + b"content-length: %d\r\n\r\n" % len(_SMUGGLED) + _SMUGGLED


class Liar:
    """A backend whose every answer has the given chunks, and another answer behind them."""

    def __init__(self) -> None:
        self.body = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Liar:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_to, args=(connection,), daemon=True).start()

    def _answer_to(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := connection.recv(65536)):
                    return
                data += more
            connection.sendall(_CHUNKED + self.body + _BEHIND)
            connection.settimeout(5)
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                return


# --- CVE-2026-30623: a request that named the command of an MCP server


def test_no_request_starts_a_process(gateway: Gateway, fake: Fake, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    command = {"command": "/bin/sh", "args": ["-c", f"touch {mark}"], "env": {}}
    stdio = {"type": "mcp", "server_label": "x", "transport": "stdio", **command}
    for path, body in (
        (CHAT, chat(tools=[stdio])), (CHAT, chat(mcp_servers=[stdio], mcp_server=command)),
        ("/v1/responses", {"model": "m", "input": "Hi", "tools": [stdio]}),
        ("/v1/responses", {"model": "m", "input": "Hi", "tools": [{"type": "local_shell"}]}),
        ("/v1/messages", {**chat(max_tokens=5), "mcp_servers": [{"name": "x", **stdio}]}),
        ("/api/chat", {**chat(), "tools": [stdio], "options": command}),
        ("/v1/mcp", command), ("/mcp", command), ("/mcp/servers", command),
        ("/mcp-rest/test/connection", command),
    ):  # fmt: skip
        ask(gateway, "POST", path, body)
        ask(gateway, "POST", path, body, key=BOSS)
    assert not mark.exists()
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    assert not children.exists() or children.read_text().strip() == ""


def test_processes_are_started_in_one_module_by_the_configuration() -> None:
    """There is no way from a request to a command line: only the runner of a configured model file starts
    anything."""
    starting = re.compile(
        r"create_subprocess|subprocess\.|os\.(system|popen|exec|spawn|posix_spawn)|multiprocessing|\bpty\."
    )
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if starting.search(path.read_text("utf-8"))
    }
    assert found <= {"backends/child.py", "backends/gguf_child.py"}
    for path in PACKAGE.rglob("*.py"):
        calls = {node.func.id for node in ast.walk(ast.parse(path.read_text("utf-8")))
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
        assert not calls & {"eval", "exec", "compile", "__import__"}, path
        assert not re.search(
            r"^import (pickle|marshal|shelve)|yaml\.(unsafe|full)_load\(", path.read_text("utf-8"), re.M
        )


# --- a body that names another upstream, or credentials for one (S6)


def test_a_body_leads_nowhere_else(gateway: Gateway, fake: Fake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        there = f"http://127.0.0.1:{trap.getsockname()[1]}"
        members = {
            "api_base": there, "base_url": there, "api_key": "from-the-body", "url": there, "host": there,
            "proxy": there, "organization": "x", "headers": {"authorization": "Bearer from-the-body"},
            "extra_headers": {"authorization": "Bearer from-the-body"}, "custom_llm_provider": "openai",
            "aws_bedrock_runtime_endpoint": there, "vertex_credentials": "x",
            "fallbacks": [{"api_base": there}],
            "litellm_params": {"api_base": there}, "user_config": {"model_list": [{"api_base": there}]},
        }  # fmt: skip
        headers = {"x-api-base": there, "x-litellm-api-base": there, "x-portkey-custom-host": there,
                   "x-forwarded-host": "127.0.0.1", "openai-organization": "x", "Cookie": "a=b"}  # fmt: skip
        for name, value in members.items():
            assert ask(gateway, "POST", CHAT, chat(**{name: value}), **headers).status == 200, name
        with pytest.raises(TimeoutError):
            trap.accept()
    assert len(fake.calls) == len(members)
    for call in fake.calls:
        assert call.headers["authorization"] == "Bearer backends-own-key"
        assert not {"cookie", "x-api-base", "x-portkey-custom-host", "openai-organization"} & set(
            call.headers
        )


# --- names that lead out of where they belong, and into other lines (S2)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..", "/etc/passwd", "a/../../b", "m\r\nx-evil: 1", "m\x00", "%2e%2e%2f", "\\..\\"],
)
def test_the_name_of_a_model_is_only_a_name(gateway: Gateway, fake: Fake, name: str) -> None:
    assert ask(gateway, "POST", CHAT, {**chat(), "model": name}).status in (400, 404)
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    answer = ask(gateway, "GET", f"/v1/models/{quoted}")
    assert answer.status == 404 and "x-evil" not in answer.headers
    for path in ("/api/show", "/api/pull", "/api/delete", "/api/copy"):
        method = "DELETE" if path == "/api/delete" else "POST"
        assert ask(gateway, method, path, {"model": name, "source": name, "destination": name}).status >= 400
    assert fake.calls == []

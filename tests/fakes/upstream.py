"""A fake LLM server: `python -m tests.fakes.upstream --kind openai [--host ADDR] [--port 0] [--model NAME]…`

Prints one JSON line {"address", "control"} and serves until its standard input ends, so that it never
outlives the test run that started it. The port `control`, on 127.0.0.1, takes and gives JSON: see `Control`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import os
import socket
import struct
import sys
import time
from typing import Any, cast

from tests.fakes import anthropic_formats, formats, ollama_formats
from tests.fakes.behaviour import Behaviour
from tests.fakes.plan import OPERATIONS, SERVERS, Step, error, head, plan
from tests.fakes.ports import free_port

CONTROL_BYTES = 64 << 20
"""The longest line: a script may hold whole answers."""

Reading = tuple[str, str, list[tuple[str, str]], bytes]
"""method, target, header fields in order, body"""


class Fake:
    """State of the process: what to do, and what was seen. Times are time.monotonic(), the same clock in
    every process of a machine.
    """

    def __init__(self, kind: str, host: str, models: list[str]) -> None:
        self.kind = kind
        self.host = host
        self.models = models
        self.script: list[Behaviour] = []
        self.records: list[dict[str, Any]] = []
        self.sockets: list[dict[str, Any]] = []
        self.numbers = itertools.count()
        self.connections: set[Connection] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.listener: asyncio.Server | None = None
        self.born = time.time()
        self.port = 0

    async def listen(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(lambda: Connection(self), self.host, port)
        self.port = self.listener.sockets[0].getsockname()[1]

    def behaviour(self, method: str, path: str, model: str | None) -> Behaviour | None:
        for index, candidate in enumerate(self.script):
            if candidate.matches(method, path, model):
                if candidate.times is not None:
                    candidate.times -= 1
                    if candidate.times <= 0:
                        del self.script[index]
                return candidate
        return Behaviour() if path in OPERATIONS and method == "POST" else None

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def steps(self, number: int, method: str, path: str, body: bytes) -> list[Step]:
        request: dict[str, Any] = {}
        if method == "POST" and not body.startswith(b"--"):  # a form is not looked into
            try:
                request = json.loads(body)
            except ValueError:
                return self.plain(400, "not JSON")
        b = self.behaviour(method, path, request.get("model"))
        if b is not None:
            return plan(self.kind, number, path, request, b)
        return self.inventory(method, path)

    def inventory(self, method: str, path: str) -> list[Step]:
        """What servers tell of themselves."""
        kind = self.kind
        pages: dict[str, bytes] = {"/health": b'{"status":"ok"}'}
        if kind == "ollama":
            pages = {
                "/": b"Ollama is running",
                "/api/version": b'{"version":"0.33.0"}',
                "/api/ps": b'{"models":[]}',
                "/api/tags": ollama_formats.tags(self.models),
                "/api/show": ollama_formats.show(),
            }
        elif kind == "anthropic":
            pages["/v1/models"] = anthropic_formats.models(self.models)
        else:
            pages["/v1/models"] = formats.models(kind, self.models)
        if kind == "vllm":
            pages["/version"] = b'{"version":"0.32.0"}'
            pages["/health"] = b""
            pages["/metrics"] = formats.metrics(
                sum(record["method"] == "POST" and record["outcome"] == "open" for record in self.records),
                self.born,
            )
        if kind == "llamacpp":
            pages["/props"] = b'{"build_info":"b11434-0a1b2c3d","total_slots":4,"is_sleeping":false}'
            pages["/models"] = pages["/v1/models"]
            pages["/slots"] = b'[{"id":0,"n_ctx":4096,"is_processing":false}]'
            if path == "/metrics":
                return self.plain(501, "This server does not support metrics endpoint.")
        if kind == "lmstudio":
            pages["/lmstudio-greeting"] = b'{"lmstudio":true}'
            pages["/api/v0/models"] = formats.lmstudio_models(self.models)
        if kind == "transformers":
            pages["/openapi.json"] = b'{"paths":{"/load_model":{},"/reset":{},"/v1/models":{}}}'
        page = pages.get(path)
        if page is None:
            return self.plain(404, f"no such path: {path}")
        plain = "text/plain; charset=utf-8" if path in ("/", "/metrics") else "application/json"
        top = head(kind, 200, plain, len(page))
        return [Step("send", top if method == "HEAD" else top + page, framed=False)]

    def plain(self, status: int, message: str) -> list[Step]:
        body = error(self.kind, status, message, None)
        return [Step("send", head(self.kind, status, "application/json", len(body)) + body, framed=False)]


class Connection(asyncio.Protocol):
    """One client. Its task answers request after request and is cancelled when the client goes."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.record: dict[str, Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen = {
            "number": next(self._fake.numbers),
            "opened": time.monotonic(),
            "closed": None,
            "requests": 0,
        }
        self._fake.sockets.append(self.seen)
        self._fake.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        self._gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self._fake.connections.discard(self)
        self._task.cancel()

    def _gone(self) -> None:
        now = time.monotonic()
        if self.seen["closed"] is None:
            self.seen["closed"] = now
        if self.record is not None and self.record["outcome"] == "open":
            self.record.update(outcome="gone", ended=now)

    def pause_writing(self) -> None:
        self._writable.clear()
        if self.record is not None:
            self.record["blocked"] = True

    def resume_writing(self) -> None:
        self._writable.set()

    async def _serve(self) -> None:
        while True:
            method, target, fields, body = await self._read()
            number = len(self._fake.records)
            self.seen["requests"] += 1
            self.record = {
                "number": number, "connection": self.seen["number"], "method": method, "target": target,
                "headers": fields, "body": base64.b64encode(body).decode(), "received": time.monotonic(),
                "head_sent": None, "first_token": None, "ended": None, "outcome": "open", "bytes_sent": 0,
                "tokens_sent": 0, "blocked": False,
            }  # fmt: skip
            self._fake.records.append(self.record)
            steps = self._fake.steps(number, method, target.partition("?")[0], body)
            try:
                await self._perform(steps)
            except (ConnectionError, asyncio.CancelledError):
                self._gone()
                raise
            if self.transport.is_closing():
                return

    async def _read(self) -> Reading:
        """One request. Strict in nothing: what the gateway sends is for the tests to judge."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, target, _ = lines[0].split(" ", 2)
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        lower = {name.lower(): value for name, value in fields}
        if lower.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if lower.get("transfer-encoding", "").lower() == "chunked":
            return method, target, fields, await self._read_chunks()
        return method, target, fields, await self._take(int(lower.get("content-length", 0)))

    async def _read_chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                await self._more()
            size = int(self._buffer[:end], 16)
            del self._buffer[: end + 2]
            piece = await self._take(size + 2)
            if not size:
                return body
            body += piece[:-2]

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _perform(self, steps: list[Step]) -> None:
        record = self.record
        assert record is not None
        for step in steps:
            if step.do == "send":
                await self._send(step, record)
            elif step.do == "sleep":
                await asyncio.sleep(step.seconds)
            elif step.do == "wait":
                await self._fake.gate(step.name).wait()
            elif step.do == "stall":
                await asyncio.get_running_loop().create_future()
            else:
                self._end(step.do, record)
                return
        record.update(outcome="answered", ended=time.monotonic())

    async def _send(self, step: Step, record: dict[str, Any]) -> None:
        await asyncio.sleep(0)  # between any two writes, it may turn out that the client has gone
        await self._writable.wait()
        self.transport.write(step.data)
        record["bytes_sent"] += len(step.data)
        if record["head_sent"] is None:
            record["head_sent"] = time.monotonic()
        if step.token:
            record["tokens_sent"] += 1
            if record["first_token"] is None:
                record["first_token"] = time.monotonic()

    def _end(self, how: str, record: dict[str, Any]) -> None:
        record.update(outcome=how, ended=time.monotonic())
        if how == "rst":
            self.reset()
        else:
            self.transport.close()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Control:
    """The second port: lines of JSON, [what, data], each answered by {"value"} or {"error"}.

    script     a list of behaviours, appended
    reset      forget the script, the records, the gates and the connections that are closed; listen again
    release    the name of a gate
    listen     false: refuse connections and reset those open; true: listen on the same port again
    models     the names to list
    seen       gives {"requests": […], "connections": […]}, see Connection
    """

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                what, data = json.loads(line)
                try:
                    answer = {"value": await self._answer(what, data)}
                except (TypeError, ValueError, LookupError) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, what: str, data: Any) -> Any:
        fake = self._fake
        match what:
            case "script":
                fake.script += [Behaviour.of(item) for item in data]
            case "reset":
                await self._reset()
            case "release":
                fake.gate(data).set()
            case "listen":
                await self._listen(data)
            case "models":
                fake.models = data
            case "seen":
                return {"requests": fake.records, "connections": fake.sockets}
            case _:
                raise LookupError(what)
        return None

    async def _reset(self) -> None:
        fake = self._fake
        fake.script, fake.gates, fake.records = [], {}, []
        fake.sockets = [seen for seen in fake.sockets if seen["closed"] is None]
        if fake.listener is None:
            await fake.listen(fake.port)

    async def _listen(self, wanted: bool) -> None:
        fake = self._fake
        if wanted and fake.listener is None:
            await fake.listen(fake.port)
        elif not wanted and fake.listener is not None:
            loop = asyncio.get_running_loop()
            for sock in fake.listener.sockets:
                loop.remove_reader(sock.fileno())
            # asyncio drops what it has just accepted and not yet set up when the server closes: nobody would
            # ever close such a connection.
            for _ in range(3):
                await asyncio.sleep(0)
            fake.listener.close()
            fake.listener = None
            for connection in list(fake.connections):
                connection.reset()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=sorted(SERVERS), default="openai")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", action="append", default=[])
    args = parser.parse_args()
    fake = Fake(args.kind, args.host, args.model or ["fake-model"])
    await fake.listen(args.port or free_port(args.host))
    control = await asyncio.start_server(Control(fake).serve, "127.0.0.1", 0, limit=CONTROL_BYTES)
    port = control.sockets[0].getsockname()[1]
    host = f"[{args.host}]" if ":" in args.host else args.host
    print(json.dumps({"address": f"{host}:{fake.port}", "control": port}), flush=True)
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 4096) or over.done() or over.set_result(None))
    await over
    os._exit(0)  # tasks that stall for ever are nobody's loss here


if __name__ == "__main__":
    asyncio.run(main())

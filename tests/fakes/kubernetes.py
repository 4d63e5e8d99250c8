"""A Kubernetes API with the EndpointSlices of a service, in the loop of the test: lists, watches, faults."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

Slice = dict[str, Any]


def endpoint(address: str, *, uid: str = "", **conditions: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"addresses": [address], "conditions": conditions or {"ready": True}}
    return found | ({"targetRef": {"kind": "Pod", "name": uid, "uid": uid}} if uid else {})


def endpoint_slice(
    *endpoints: dict[str, Any], ports: list[dict[str, Any]] | None = None, family: str = "IPv4"
) -> Slice:
    ports = [{"name": "http", "port": 8000, "protocol": "TCP"}] if ports is None else ports
    return {"addressType": family, "endpoints": list(endpoints), "ports": ports}


@dataclass(eq=False)
class Watch:
    """One watch under way. queue: pieces to send; None ends it, b"" cuts it."""

    query: dict[str, list[str]]
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class Api:
    """requests: what was asked, with its headers. refuse: (status, message) for everything while it is set.
    piece: bytes of an event that are sent at a time.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.slices: dict[str, Slice] = {}
        self.version = 100
        self.history: list[tuple[int, Any]] = []
        self.watches: list[Watch] = []
        self.refuse: tuple[int, str] | None = None
        self.piece = 7
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lists(self) -> int:
        return sum("watch=1" not in target for target, _ in self.requests)

    async def __aenter__(self) -> Api:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what happens in the cluster

    def put(self, name: str, value: Slice) -> None:
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self.slices[name] = value
        self._tell(kind, self._object(name))

    def delete(self, name: str) -> None:
        gone = self._object(name)
        del self.slices[name]
        self._tell("DELETED", gone)

    def bookmark(self) -> None:
        self._tell("BOOKMARK", {"kind": "EndpointSlice"})

    def fail(self, code: int, message: str) -> None:
        """The watch's own way of saying that it cannot go on."""
        self.send({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": message}})
        self.end()

    def send(self, event: Any) -> None:
        data = event if isinstance(event, bytes) else _line(event)
        for watch in self.watches:
            for start in range(0, len(data), self.piece):
                watch.queue.put_nowait(data[start : start + self.piece])

    def cut(self) -> None:
        """The connections of the watches are lost, in the middle of their answers."""
        for watch in self.watches:
            watch.queue.put_nowait(b"")

    def end(self) -> None:
        """Every watch is over, as they all are after a while."""
        for watch in self.watches:
            watch.queue.put_nowait(None)

    def _tell(self, kind: str, thing: dict[str, Any]) -> None:
        self.version += 1
        thing = {**thing, "metadata": {**thing.get("metadata", {}), "resourceVersion": str(self.version)}}
        event = {"type": kind, "object": thing}
        self.history.append((self.version, event))
        self.send(event)

    def _object(self, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "resourceVersion": str(self.version)}, **self.slices[name]}

    # --- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                target = head[0].split(" ")[1]
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                self.requests.append((target, fields))
                query = parse_qs(urlsplit(target).query)
                if self.refuse is not None:
                    status, message = self.refuse
                    self._answer(writer, status, {"kind": "Status", "message": message, "code": status})
                elif "watch" in query:
                    await self._watch(writer, Watch(query))
                else:
                    items = [self._object(name) for name in self.slices]
                    self._answer(
                        writer, 200, {"items": items, "metadata": {"resourceVersion": str(self.version)}}
                    )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, the watch is cut, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, status: int, value: Any) -> None:
        body = json.dumps(value).encode() + b"\n"
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    async def _watch(self, writer: asyncio.StreamWriter, watch: Watch) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        self.watches.append(watch)
        since = int(watch.query["resourceVersion"][0])
        for version, event in self.history:
            if version > since:
                watch.queue.put_nowait(_line(event))
        try:
            while (piece := await watch.queue.get()) is not None:
                if not piece:
                    raise ConnectionError
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        finally:
            self.watches.remove(watch)


def _line(event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"

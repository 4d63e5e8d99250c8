"""A client that sends exactly the bytes it is told to and shows exactly the bytes that come back."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.fake import PATIENCE


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def request(
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str | None] | None = None,
    *,
    minor: int = 1,
) -> bytes:
    """A sound request; `headers` wins over the defaults, and None as a value takes a default away."""
    fields: dict[str, str | None] = {"Host": "localhost"}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= headers or {}
    lines = [f"{method} {target} HTTP/1.{minor}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass
class Answer:
    """One response. complete: its framing came to its end. interim: statuses of 1xx heads before it."""

    status: int = 0
    reason: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    interim: list[int] = field(default_factory=list)
    head: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.fields}

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, checked to be of OpenAI's shape."""
        assert self.headers["content-type"].startswith("application/json"), self.headers
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str) and error["message"]
        assert isinstance(error["type"], str)
        assert error["code"] is None or isinstance(error["code"], str)
        return error

    @property
    def events(self) -> list[str]:
        """The data of the SSE events of the body."""
        lines = self.body.decode().replace("\r\n", "\n").split("\n")
        return [line[5:].strip() for line in lines if line.startswith("data:")]

    @property
    def chunks(self) -> list[Any]:
        """The JSON of the SSE events, without the terminator."""
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        """The content of a streamed chat answer."""
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk.get("choices", [])
        )


class Raw:
    """One connection. Every read fails the test when nothing comes for PATIENCE seconds."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        host, port = split(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""
        self._ended = False

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        """Reads once; False at the end, whether by FIN or by RST."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        self._ended = not data
        return bool(data)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`, which stays unread for `answer`. Fails if the end comes first."""
        while mark not in self._buffer:
            assert self._more(), f"{mark!r} never came: {self._buffer!r}"
        return self._buffer[: self._buffer.index(mark) + len(mark)]

    def at_end(self) -> bool:
        """Waits for the gateway to close: True if it does so without another byte."""
        if self._buffer:
            return False
        return not self._more()

    def rest(self) -> bytes:
        """Everything until the connection ends."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def ask(self, data: bytes, method: str = "POST") -> Answer:
        self.send(data)
        return self.answer(method)

    def answer(self, method: str = "POST") -> Answer:
        """The next response. `complete` is False if the connection ended inside it; no bytes: status 0."""
        answer = Answer()
        while True:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                if not self._more():
                    return answer
            answer.head, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
            lines = answer.head[:-4].decode("latin-1").split("\r\n")
            _, status, reason = [*lines[0].split(" ", 2), ""][:3]
            if int(status) >= 200:
                break
            answer.interim.append(int(status))
        answer.status, answer.reason = int(status), reason
        answer.fields = [
            (name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])
        ]
        self._body(answer, method)
        return answer

    def _body(self, answer: Answer, method: str) -> None:
        headers = answer.headers
        if method == "HEAD" or answer.status in (204, 304):
            answer.complete = True
        elif headers.get("transfer-encoding") == "chunked":
            answer.complete = self._chunks(answer)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            while len(self._buffer) < length and self._more():
                pass
            answer.body, self._buffer = self._buffer[:length], self._buffer[length:]
            answer.complete = len(answer.body) == length
        else:
            answer.body = self.rest()
            answer.complete = True

    def _chunks(self, answer: Answer) -> bool:
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                if not self._more():
                    return False
            size = int(self._buffer[:end], 16)
            while len(self._buffer) < end + 2 + size + 2:
                if not self._more():
                    return False
            piece = self._buffer[end + 2 : end + 2 + size + 2]
            self._buffer = self._buffer[end + 2 + size + 2 :]
            assert piece[-2:] == b"\r\n", piece[-20:]
            if not size:
                return True
            answer.body += piece[:-2]


def ask(
    address: str, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own; `body` as JSON, or bytes as they are."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with Raw(address) as raw:
        return raw.ask(request(method, target, data, headers), method)

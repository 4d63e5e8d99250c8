"""The clients of the soak: they finish, leave at any moment, read slowly, send large bodies and nonsense."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from tests.fakes.raw import request, split

WORKERS = 24
PATIENCE = 30.0
IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 200_000
"""2 MB: whether it is a picture is for nobody here to find out."""

BEHAVIOURS: dict[str, dict[str, Any]] = {
    "fine": {"tokens": 20},
    "slow": {"tokens": 30, "token_delay": 0.02},
    "large": {"tokens": ["x" * 4000] * 1000},
    "error": {"status": 500},
    "busy": {"status": 429, "headers": {"Retry-After": "60"}},
    "cut": {"tokens": 20, "fault": "fin", "at": 7},
    "reset": {"tokens": 20, "fault": "rst", "at": 7},
    "broken": {"tokens": 20, "fault": "bad_json", "at": 7},
    "stall": {"tokens": 20, "fault": "stall", "at": 7},
    "hang": {"hang": True},
    "hangup": {"hang_up": True},
}
"""Models, by what the backends do when they are asked for."""

HALVED = ("cut", "reset", "broken")
"""No backend ever gives a whole answer of these."""
SILENT = ("hang", "stall")
"""Nothing to wait for."""

NONSENSE = (
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    request("POST", "/v1/chat/completions", b"{"),
    request(
        "POST", "/v1/chat/completions", b'{"model":"fine","messages":[]}', {"Content-Type": "text/plain"}
    ),
    request("POST", "/v1/chat/completions", b'{"model":"nobody has this","messages":[]}'),
    request("DELETE", "/v1/chat/completions"),
    request("GET", "/no/such/path"),
)

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Scenario: TypeAlias = Callable[[Reader, Writer], Awaitable[str]]


class Left(Exception):
    """The client has ended its connection; what it did."""


class Traffic:
    """The clients. `seen` counts what they did and what came of it."""

    def __init__(self, address: str, seed: int) -> None:
        self._host, self._port = split(address)
        self._chance = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.running = False

    async def run(self, seconds: float) -> None:
        self.running = True
        workers = [asyncio.create_task(self._worker()) for _ in range(WORKERS)]
        await asyncio.sleep(seconds)
        self.running = False
        await asyncio.gather(*workers)

    async def _worker(self) -> None:
        scenarios: list[Scenario] = [
            self._ask, self._ask, self._ask, self._leave_in_the_request, self._leave_before_the_answer,
            self._leave_in_the_answer, self._read_slowly, self._talk_nonsense, self._send_images,
        ]  # fmt: skip
        weights = [3, 3, 3, 2, 3, 3, 1, 3, 1]
        while self.running:
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 18)
            try:
                async with asyncio.timeout(PATIENCE):
                    for _ in range(self._chance.randint(1, 5)):
                        (scenario,) = self._chance.choices(scenarios, weights)
                        self.seen[await scenario(reader, writer)] += 1
            except Left as left:
                self.seen[f"left {left}"] += 1
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.seen[type(error).__name__] += 1
            finally:
                writer.transport.abort()

    # --- what they do

    async def _ask(self, reader: Reader, writer: Writer) -> str:
        model = self._chance.choice([name for name in BEHAVIOURS if name not in ("large", *SILENT)])
        writer.write(self._request(model))
        return await self._read(model, reader)

    async def _send_images(self, reader: Reader, writer: Writer) -> str:
        picture = {"type": "image_url", "image_url": {"url": IMAGE}}
        content = [{"type": "text", "text": "What is this?"}, *[picture] * self._chance.randint(1, 4)]
        writer.write(chat("fine", content, stream=self._chance.random() < 0.5))
        return "images, " + await self._read("fine", reader)

    async def _read(self, model: str, reader: Reader) -> str:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if b"chunked" in head.lower():
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            ending = "done" if b"[DONE]" in body else "error" if b'"error"' in body else "neither"
            return f"{model}: {status}, {ending}"
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return f"{model}: {status}"

    async def _leave_in_the_request(self, reader: Reader, writer: Writer) -> str:
        """Within the head, or within the body."""
        whole = self._request("fine")
        writer.write(whole[: self._chance.randrange(len(whole))])
        await self._go(writer, 0.1)
        raise Left("in the request")

    async def _leave_before_the_answer(self, reader: Reader, writer: Writer) -> str:
        """While a connection is made, a retry is waited for, or the backend is silent."""
        model = self._chance.choice(("hang", "busy", "error", "slow", "hangup", "fine"))
        writer.write(self._request(model))
        await self._go(writer, 0.05)
        raise Left("before the answer")

    async def _leave_in_the_answer(self, reader: Reader, writer: Writer) -> str:
        """After a few tokens, with or without having read them."""
        writer.write(self._request(self._chance.choice(("slow", "stall", "large")), stream=True))
        await reader.readuntil(b"\r\n\r\n")
        await self._go(writer, 0.3)
        raise Left("in the answer")

    async def _go(self, writer: Writer, within: float) -> None:
        """By a reset or a FIN, after a moment."""
        await asyncio.sleep(self._chance.random() * within)
        if self._chance.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
            await asyncio.sleep(0.01)

    async def _read_slowly(self, reader: Reader, writer: Writer) -> str:
        writer.write(self._request("large", stream=True))
        read = b""
        while not read.endswith(b"\r\n0\r\n\r\n"):
            await asyncio.sleep(0.002)
            piece = await reader.read(16384)
            if not piece:
                raise EOFError
            read = read[-16:] + piece
        return "read slowly"

    async def _talk_nonsense(self, reader: Reader, writer: Writer) -> str:
        writer.write(self._chance.choice(NONSENSE))
        head = await reader.readuntil(b"\r\n\r\n")
        raise Left(f"after nonsense, {head[9:12].decode('latin-1')}")

    def _request(self, model: str, *, stream: bool | None = None) -> bytes:
        content = "x" * self._chance.choice((10, 1000, 100_000))
        return chat(model, content, stream=self._chance.random() < 0.7 if stream is None else stream)


def chat(model: str, content: Any, *, stream: bool) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream}
    return request("POST", "/v1/chat/completions", json.dumps(body).encode())

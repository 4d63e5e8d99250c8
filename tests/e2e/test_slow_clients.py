"""A thousand clients that send or read as slowly as they can, while ordinary traffic goes on."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import request, split

HEADS, BODIES, READERS = 460, 460, 80
LIMIT = 6.0
"""Seconds: long enough for all of them to be there at one time."""
RATE = 32_768
"""Bytes a second: what the kernels between take of an answer is soon not enough."""

HEAD = b"GET /health HTTP/1.1\r\nHost: h\r\nX-Slow: "
BODY = request("POST", "/v1/chat/completions", headers={
    "Content-Type": "application/json", "Content-Length": "100000"})  # fmt: skip
CHUNKS = request("POST", "/v1/messages", headers={"Transfer-Encoding": "chunked"}) + b"fffff\r\n"
READ = request("POST", "/v1/chat/completions",
               b'{"model":"big","stream":true,"messages":[{"role":"user","content":"Hi"}]}')  # fmt: skip

WHOLE = request("POST", "/v1/chat/completions", b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
STREAM = request("POST", "/v1/chat/completions", READ.partition(b"\r\n\r\n")[2].replace(b"big", b"m"))


class Slow:
    """One slow client. reads: it takes a few bytes at a time; else it sends one."""

    def __init__(self, address: str, beginning: bytes, *, reads: bool = False) -> None:
        self.reads = reads
        self.over = False
        self.got = b""
        self._socket = socket.socket()
        if reads:  # or the kernels between would take all that it does not
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            if sys.platform == "linux":
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self._socket.settimeout(10)
        self._socket.connect(split(address))
        self._socket.sendall(beginning)
        self._socket.setblocking(False)

    def step(self) -> None:
        try:
            if not self.reads:
                self._socket.send(b"x")
            data = self._socket.recv(10 if self.reads else 1000)
            self.got = (self.got + data)[:2000]
            # A reset is seen at once, and not after what came before it has been read at this pace.
            self.over = not data or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except BlockingIOError:
            pass
        except OSError:
            self.over = True

    def close(self) -> None:
        self._socket.close()


class Crowd:
    """All of them, kept going by one thread."""

    def __init__(self, address: str) -> None:
        self.clients: list[Slow] = []
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            for number in range(max(HEADS, BODIES, READERS)):
                if number < HEADS:
                    self.clients.append(Slow(address, HEAD))
                if number < BODIES:
                    self.clients.append(Slow(address, BODY if number % 2 else CHUNKS))
                if number < READERS:
                    self.clients.append(Slow(address, READ, reads=True))
            stack.pop_all()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for client in self.clients:
                if not client.over:
                    client.step()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        for client in self.clients:
            client.close()


class Traffic:
    """Ordinary clients, each asking again and again. wrong: answers that were not what they should be."""

    def __init__(self, gateway: Gateway) -> None:
        self.wrong: list[object] = []
        self.right = 0
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self._stop.wait(0.05):
            try:
                with self._gateway.open() as raw:
                    raw.socket.settimeout(30)  # it is asked what they get, not how soon on a busy machine
                    answer = raw.ask(STREAM if number % 2 else WHOLE)
                text = answer.text if number % 2 else answer.json()["choices"][0]["message"]["content"]
                if answer.status == 200 and answer.complete and text == "".join(TEXT):
                    self.right += 1
                    continue
                self.wrong.append(answer)
            except Exception as error:
                self.wrong.append(error)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def settings(started: Fakes, limit: float) -> Settings:
    return {
        "server": {
            "timeouts": {"header": limit, "body": limit, "write": limit, "idle": limit},
            "limits": {"client_rate": RATE},
        },
        "routing": FORGIVING,
        "backends": [
            {"name": "primary", "kind": "openai", "url": started.primary.url},
            {"name": "second", "kind": "openai", "url": started.second.url, "max_connections": READERS},
        ],
        "models": [
            {"name": "m", "targets": [{"backend": "primary"}]},
            {"name": "big", "targets": [{"backend": "second"}]},
        ],
    }


def gauge(gateway: Gateway, name: str) -> float:
    with gateway.open() as raw:
        raw.socket.settimeout(30)
        text = raw.ask(request("GET", "/metrics"), "GET").body.decode()
    found = re.search(rf"^{name} ([0-9.e+]+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@pytest.mark.timeout(120)
def test_a_thousand_slow_clients_harm_nobody(started: Fakes, fakes: Fakes) -> None:
    fakes.second.script({"tokens": ["x" * 3000] * 80, "times": None})
    with Gateway(settings(started, LIMIT)) as gateway:
        assert gateway.chat("m").status == 200
        before = gauge(gateway, "process_open_fds")
        crowd = Crowd(gateway.address)
        traffic = Traffic(gateway)
        try:
            most = HEADS + BODIES + READERS
            until(lambda: gauge(gateway, "ghostllm_connections") >= most, "all are there at one time")
            seen = traffic.right
            until(lambda: traffic.right >= seen + 20, "others are served beside them", 40)
            until(lambda: all(client.over for client in crowd.clients), "all of them have been cut", 60)
        finally:
            traffic.stop()
            crowd.stop()
        assert not traffic.wrong
        told = [client.got for client in crowd.clients if not client.reads]
        assert sum(b"HTTP/1.1 408 " in got for got in told) >= len(told) * 0.9, "unless a reset has eaten it"
        until(lambda: gauge(gateway, "ghostllm_connections") <= 2, "no connection is left")
        until(lambda: gauge(gateway, "ghostllm_requests_in_flight") <= 1, "no request is left")
        until(lambda: gauge(gateway, "process_open_fds") <= before + 10, "no descriptor is left")
        until(lambda: all(seen.outcome != "open" for seen in fakes.second.calls), "their backend is let go")
        until(lambda: refused(gateway) == len(told), "each of them is in the access log")


def refused(gateway: Gateway) -> int:
    return sum(record.get("status") == 408 for record in gateway.records if record.get("peer"))


def test_the_slow_are_told_what_was_too_slow(started: Fakes) -> None:
    """Without the crowd, in which the answer may get lost: one of each."""
    with Gateway(settings(started, 1.0)) as gateway:
        clients = [Slow(gateway.address, beginning) for beginning in (HEAD, BODY, CHUNKS)]
        try:
            end = time.monotonic() + 30
            while time.monotonic() < end and not all(b"408" in client.got for client in clients):
                time.sleep(0.1)
                for client in clients:
                    if not client.got:
                        client.step()
            assert "did not arrive within 1 s" in clients[0].got.decode()
            assert all("the request body stalled" in client.got.decode() for client in clients[1:])
        finally:
            for client in clients:
                client.close()

"""Starts and commands fake upstream processes from tests."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds a condition may take to come true on a busy machine. Nothing passes because of it, only fails."""


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Waits for `condition` to be true and returns its value; fails the test naming `what`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)
    return value


class Seen:
    """One request that an upstream got. Times are time.monotonic()."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.connection: int = record["connection"]
        self.method: str = record["method"]
        self.target: str = record["target"]
        self.fields: list[tuple[str, str]] = [(name, value) for name, value in record["headers"]]
        self.headers = {name.lower(): value for name, value in self.fields}
        self.body = base64.b64decode(record["body"])
        self.received: float = record["received"]
        self.first_token: float | None = record["first_token"]
        self.ended: float | None = record["ended"]
        self.outcome: str = record["outcome"]
        self.bytes_sent: int = record["bytes_sent"]
        self.tokens_sent: int = record["tokens_sent"]
        self.blocked: bool = record["blocked"]

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Seen {self.method} {self.target} {self.outcome}, {self.tokens_sent} tokens>"


class Fake:
    """A fake upstream process. Use as a context manager, or call `stop`."""

    def __init__(self, kind: str = "openai", *models: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "tests.fakes.upstream", "--kind", kind, "--host", host]
        command += ["--port", str(port)]
        for model in models:
            command += ["--model", model]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the fake upstream did not start")
        where = json.loads(line)
        self.address: str = where["address"]
        self._control = socket.create_connection(("127.0.0.1", where["control"]), PATIENCE)
        self._said = self._control.makefile("rb")
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self._said.close()
        self._control.close()
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def _ask(self, what: str, data: Any = None) -> Any:
        """Every test asks all the fakes something: over one connection that stays."""
        with self._one_at_a_time:
            self._control.sendall(json.dumps([what, data]).encode() + b"\n")
            answer = json.loads(self._said.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    def script(self, *behaviours: dict[str, Any]) -> None:
        self._ask("script", behaviours)

    def reset(self) -> None:
        self._ask("reset")

    def release(self, gate: str) -> None:
        self._ask("release", gate)

    def listen(self, wanted: bool) -> None:
        self._ask("listen", wanted)

    def models(self, *names: str) -> None:
        self._ask("models", names)

    @property
    def requests(self) -> list[Seen]:
        return [Seen(record) for record in self._ask("seen")["requests"]]

    @property
    def calls(self) -> list[Seen]:
        """The requests for answers: not those for the list of models."""
        return [seen for seen in self.requests if seen.method == "POST"]

    @property
    def open_connections(self) -> int:
        return sum(item["closed"] is None for item in self._ask("seen")["connections"])

    def call(self, number: int = 0) -> Seen:
        """The call of that number, waited for."""
        return until(lambda: self.calls[number : number + 1], f"call {number} at {self.kind}")[0]

    def ended(self, number: int = 0) -> Seen:
        """The call of that number once it is over."""
        until(lambda: self.call(number).outcome != "open", f"the end of call {number} at {self.kind}")
        return self.call(number)

    def sent_tokens(self, count: int, number: int = 0) -> Seen:
        """The call of that number once it has sent so many tokens."""
        until(lambda: self.call(number).tokens_sent >= count, f"{count} tokens of {self.kind}")
        return self.call(number)

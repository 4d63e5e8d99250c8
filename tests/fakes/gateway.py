"""Starts GhostLLM as a process with a configuration, reads its log, and ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fakes import raw
from tests.fakes.fake import ROOT, until

Settings = dict[str, Any]

UNDER_TEST = os.environ.get("GHOSTLLM_UNDER_TEST", ROOT)


def plain_environment(**more: str) -> dict[str, str]:
    """This process's, without what would be configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GHOSTLLM_")} | more


"""The folder that has the package to run: the sources, or a build of them (scripts/build-compiled)."""


def toml(settings: Settings) -> str:
    """A configuration file. Sections are tables; what is in them is written inline."""
    lines = []
    for name, section in settings.items():
        for table in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


class Gateway:
    """A running gateway. `settings`: sections of the configuration; it listens on a free port unless told.

    pure: without uvloop and orjson, as in a zipapp. arguments: more of the command line.
    """

    def __init__(
        self, settings: Settings, *, pure: bool = False, arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None, wait: bool = True,
    ) -> None:  # fmt: skip
        server = {"listen": ["127.0.0.1:0"], **settings.get("server", {})}
        self._folder = tempfile.TemporaryDirectory(prefix="ghostllm-test-")
        path = self.path = Path(self._folder.name, "ghostllm.toml")
        self.configure(settings)
        clean = plain_environment()
        clean |= {"PYTHONUNBUFFERED": "1", **(environment or {})}
        if pure or os.environ.get("GHOSTLLM_PURE") == "1":
            clean["GHOSTLLM_PURE"] = "1"
        command = [sys.executable, "-m", "ghostllm", "serve", "--config", str(path), "--log-format", "json"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=UNDER_TEST, env=clean,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            try:
                self._wait(len(server["listen"]))
            except BaseException:
                self.stop()
                raise

    def configure(self, settings: Settings) -> None:
        """Writes the file. It is read again when the gateway is told so."""
        server = {"listen": ["127.0.0.1:0"], **settings.get("server", {})}
        fresh = self.path.with_suffix(".new")
        fresh.write_text(toml({**settings, "server": server}))
        fresh.rename(self.path)

    def _wait(self, addresses: int) -> None:
        until(lambda: len(self.addresses) >= addresses or self.over, "the gateway listens")
        assert not self.over, self.log
        until(self._ready, "the gateway is ready")

    def _ready(self) -> bool:
        return raw.ask(self.address, "GET", "/ready").status == 200

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
        self.process.stderr.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log's lines that are JSON: all of them, if nothing is wrong."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def record(self, request_id: str) -> dict[str, Any]:
        """The access log's record of a request, waited for: logs are written off the event loop."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            likely = [line for line in list(self.lines) if request_id in line and line.startswith("{")]
            records = [json.loads(line) for line in likely]  # a long log is not parsed again each time
            found[:] = [record for record in records if record.get("request_id") == request_id]
            return bool(found)

        until(look, f"the access record of {request_id}")
        assert len(found) == 1, found
        return found[0]

    @property
    def addresses(self) -> list[str]:
        return list(self._listening())

    @property
    def address(self) -> str:
        """The first one: among the first lines of the log, which is not read to its end for it."""
        return next(self._listening())

    def _listening(self) -> Iterator[str]:
        for line in list(self.lines):
            if "listening" in line and line.startswith("{"):
                record = json.loads(line)
                if "listening" in record.values():
                    yield record["address"]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> raw.Answer:
        return raw.ask(self.address, method, target, body, headers)

    def chat(self, model: str, *, stream: bool = False, **members: Any) -> raw.Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **members}
        return self.ask("POST", "/v1/chat/completions", body)

    def open(self, **options: Any) -> raw.Raw:
        return raw.Raw(self.address, **options)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self) -> None:
        """Ends the process; a test that wants to see it drain says `terminate` and `wait`."""
        if not self.over:
            self.process.kill()
        self.wait()
        self._folder.cleanup()

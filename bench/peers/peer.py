"""What every peer has: how it is found, started, asked and ended."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from bench.processes import raise_descriptor_limit

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
PATIENCE = 120.0
"""Seconds until a peer must have answered: LiteLLM's first start after its installation compiles for long."""

SMALL = b'{"model":"bench","messages":[{"role":"user","content":"Hi"}]}'


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def executable(name: str, environment: str = "peers") -> str | None:
    """A program of the virtual environment `environment` below .cache, else of the system."""
    folders = [str(CACHE / environment / "bin"), os.environ.get("PATH", ""), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders))


def pip(environment: str, package: str) -> str:
    """The command that installs a package where `executable` finds it."""
    folder = f".cache/{environment}"
    return f"python3 -m venv {folder} && {folder}/bin/pip install {package!r}"


class Peer:
    """One gateway process in front of the mock. Subclasses say how it is started and if it is there."""

    name = ""
    title = ""
    """For tables; the name, if empty."""
    key = ""
    """The client's key, if it checks one."""
    note = ""
    install = ""
    """The command that brings it here."""
    heavy = False
    """So slow that the legs with thousands of connections are for those who name it."""

    def __init__(self, mock: str, folder: Path) -> None:
        self.mock = mock
        self.folder = folder / self.name
        self.address = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def program(cls) -> str | None:
        """What is run, None where it is not installed. The base needs nothing."""
        return ""

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot take part here; None if it can."""
        return None if cls.program() is not None else f"not installed; {cls.install}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def headers(self) -> dict[str, str]:
        """Fields that each request to it must have."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def found(self) -> str:
        program = self.program()
        assert program
        return program

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def request(self, body: bytes, path: str = "/v1/chat/completions", *, close: bool = False) -> bytes:
        """A whole POST to it."""
        fields = {"Host": self.address, "Content-Type": "application/json", **self.headers()}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if close else [])]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    def start(self) -> float:
        """Starts it, and returns the seconds until its first answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        log = (self.folder / "log").open("ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, preexec_fn=raise_descriptor_limit,
        )  # fmt: skip
        log.close()
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{self.name} does not answer; its log:\n{self.log()}")
            time.sleep(0.002)
        return time.monotonic() - began

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")[-4000:]

    def answers(self) -> bool:
        try:
            return self.ask(SMALL).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def ask(self, body: bytes, path: str = "/v1/chat/completions") -> bytes:
        """One request on a connection of its own; all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            sock.sendall(self.request(body, path, close=True))
            return b"".join(iter(lambda: sock.recv(1 << 16), b""))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def restart(self) -> None:
        """As it is before anybody asked much of it: for memory that earlier legs must not have filled."""
        self.stop()
        self.start()


def flow_style(value: object) -> str:
    """YAML, of which JSON is a part."""
    return json.dumps(value)

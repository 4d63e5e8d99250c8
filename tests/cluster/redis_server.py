"""A real redis-server on a free loopback port, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.ports import free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "neither redis-server nor valkey-server is installed"
PATIENCE = 20.0


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A fresh, empty one; the test is skipped where there can be none."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    pytest.importorskip("redis", reason="the extra redis is not installed")
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class RedisServer:
    """folder: its own. options: further command-line options."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            PROGRAM or "", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(self._folder), "--loglevel", "warning", *self.options,
        ]  # fmt: skip
        with open(self._folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                assert time.monotonic() < end and self._process.poll() is None, "redis-server does not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut would: nothing is kept."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """It hears, and does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

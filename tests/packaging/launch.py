"""Starts a packaged gateway by whatever command runs it, and finds out where it listens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.fakes.fake import until

BARE = {name: value for name, value in os.environ.items() if not name.startswith(("GHOSTLLM_", "PYTHON"))}
"""An environment that says nothing of this project."""


class Launched:
    """A process that logs JSON lines on stderr; ended by SIGTERM when the block is left, and it must obey.

    The command gets the flags that a test needs appended. folder: where it runs, so that nothing is found
    there.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path, *flags: str) -> None:
        self._err = tempfile.NamedTemporaryFile(prefix="ghostllm-log-")
        listen = ("--listen", "127.0.0.1:0", "--log-format", "json")
        self.process = subprocess.Popen(
            [*command, *listen, *flags], cwd=folder, env=BARE, stdin=subprocess.DEVNULL, stderr=self._err
        )

    def __enter__(self) -> Launched:
        try:
            until(lambda: self._listening() or self.process.poll() is not None, "the gateway listens", 30)
            assert self._listening(), self.log
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._err.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        try:
            os.kill(self.pid(), signal.SIGTERM)
            code = self.process.wait(30)
            assert kind is not None or code == 0, self.log
        finally:
            self.process.kill()
            self.process.wait()
            self._err.close()

    def pid(self) -> int:
        """The process to be told; another one than ours where something runs it for us."""
        return self.process.pid

    @property
    def log(self) -> str:
        return Path(self._err.name).read_text("utf-8")

    def _listening(self) -> list[str]:
        records = [
            json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")
        ]
        return [record["address"] for record in records if "listening" in record.values()]

    @property
    def address(self) -> str:
        return self._listening()[0]

"""One child process: its output as lines, the address it says it listens on, its end. No policy here."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

LINE_LIMIT = 2_000
"""Characters of a line that are kept; the rest is dropped, whatever the child writes."""
_TAIL = 12
_BLOCK = 65_536
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d{1,5})(?!\d)")


_SECRET = re.compile(r"key|token|secret|passw|credential|auth|^GHOSTLLM_", re.IGNORECASE)


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child may know of the environment: not what by its name is a secret, nor our own settings, as
    anybody may read those who may look into the child.
    """
    return {name: value for name, value in environ.items() if not _SECRET.search(name)}


class Child:
    """A running process. stdin stays open until its end: a child may take the closing as its signal to go.

    address: where it listens, once it has said so; cancelled if it ends before. exited: its exit status
    (negative: the signal). tail: its last lines, to explain an unexpected end.
    """

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self._process = process
        self._on_line = on_line
        self.tail: deque[str] = deque(maxlen=_TAIL)
        loop = asyncio.get_running_loop()
        self.address: asyncio.Future[str] = loop.create_future()
        self.exited: asyncio.Task[int] = loop.create_task(self._follow())

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'gone' if self.exited.done() else 'running'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def spawn(
        cls, command: Sequence[str], instructions: bytes, on_line: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> Child:  # fmt: skip
        """Raises OSError. A session of its own keeps the terminal's Ctrl-C for the gateway, which stops the
        child in its own time.
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(instructions)
        return cls(process, on_line)

    @property
    def epitaph(self) -> str:
        """Once it has exited: how, and the last thing that went wrong in its own words, if it said so."""
        status = self.exited.result()
        end = f"signal {-status}" if status < 0 else f"exit status {status}"
        words = [line for line in self.tail if "error" in line.lower() or " E " in line]
        return f"{end}: {words[-1].removeprefix('error: ')}" if words else end

    def kill(self) -> None:
        """The whole session: a child that has children of its own takes them along."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds. On return the process is gone and reaped."""
        try:
            with suppress(ProcessLookupError):
                self._process.terminate()
            await asyncio.wait((self.exited,), timeout=grace)
        finally:
            self.kill()
            while not self.exited.done():  # to its end, even when we are cancelled a second time
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((self.exited,))

    async def _follow(self) -> int:
        """Reads all output, so that the child never waits for us, then the exit status."""
        assert self._process.stdout is not None and self._process.stdin is not None
        rest = b""
        while block := await self._process.stdout.read(_BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._line(line)
            rest = rest[:LINE_LIMIT]
        self._line(rest)
        status = await self._process.wait()
        self.address.cancel()
        self._process.stdin.close()
        return status

    def _line(self, raw: bytes) -> None:
        line = raw[:LINE_LIMIT].decode("utf-8", "replace").rstrip()
        if not line:
            return
        if not self.address.done() and (found := _LISTENING.search(line)):
            self.address.set_result(found[1])
        self.tail.append(line)
        self._on_line(line)

"""A program on a terminal of its own: what it shows is waited for, what a person would type is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time

SECONDS = 20


class Terminal:
    """Use as a context manager. shown: all that has come so far."""

    def __init__(self, command, environ, *, columns=100, cwd=None):
        self.shown = ""
        self.status = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells have what they run beside others ignore it
            if cwd:
                os.chdir(cwd)
            os.execvpe(command[0], command, {"TERM": "dumb", "COLUMNS": str(columns), **environ})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def type(self, text):
        os.write(self._fd, text.encode())

    def see(self, pattern):
        """Waits until it has been shown, behind what was seen before; gives all up to its end."""
        until = time.monotonic() + SECONDS
        while (found := re.search(pattern, self.shown)) is None:
            assert self._more(until), f"no {pattern!r} in {self.shown!r}"
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen

    def insist(self, text, pattern):
        """Types it until there is the answer: between showing its prompt and waiting for a key, readline
        notices no signal before the next key comes.
        """
        until = time.monotonic() + SECONDS
        while re.search(pattern, self.shown) is None:
            assert time.monotonic() < until, f"no {pattern!r} in {self.shown!r}"
            self.type(text)
            if select.select([self._fd], [], [], 0.5)[0]:
                self._more(until)
        return self.see(pattern)

    def end(self):
        """Waits for the program's end, and gives its exit code."""
        until = time.monotonic() + SECONDS
        while self._more(until):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def _more(self, until):
        """False: nothing will come any more."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"nothing more came than {self.shown!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # how Linux tells that the other side is gone
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

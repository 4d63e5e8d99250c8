"""Looks whether the configuration's file has changed.

A stat costs nothing and sees what a watch on the file itself misses: the swapped links of a Kubernetes
ConfigMap, an editor that writes another file and renames it, changes on network file systems.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from ghostllm.app.sources import Own
from ghostllm.config.inputs import Inputs
from ghostllm.config.schema import Config
from ghostllm.observe.log import Logger

SETTLING = 0.1
"""Seconds that a changed file must stay as it is before it is read: it may still be being written."""

Stamp = tuple[int, int, int]
"""When it was changed in nanoseconds, its size, its inode."""


class FileWatch:
    """changed: called when the file is another one than at the last look, and at first."""

    def __init__(self, inputs: Inputs, changed: Callable[[], Awaitable[None]], log: Logger, own: Own) -> None:
        self._inputs = inputs
        self._changed = changed
        self._log = log
        self._own = own
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<FileWatch {self._inputs!r} {'on' if self._task is not None else 'off'}>"

    def follow(self, old: Config | None, new: Config) -> None:
        """Looks as often as `new` says. old: None at the start."""
        if old is not None and old.reload == new.reload:
            return
        self.stop()
        if new.reload.watch:
            self._task = self._own(self._run(new.reload.watch))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, period: float) -> None:
        read: Stamp | None = None
        missing = False
        while True:
            stamp = self._stamp()
            if stamp is None and not missing and self._inputs.path:
                self._log.warning("configuration file is gone", path=self._inputs.path)
            missing = stamp is None
            if stamp is not None and stamp != read:
                await asyncio.sleep(min(SETTLING, period))
                if self._stamp() == stamp:
                    read = stamp
                    await self._changed()
            await asyncio.sleep(period)

    def _stamp(self) -> Stamp | None:
        try:
            status = os.stat(self._inputs.path or "")
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

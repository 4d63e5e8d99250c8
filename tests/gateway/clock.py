"""An event loop in which nobody waits: when nothing is ready, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors


class _Selector(selectors.SelectSelector):
    elapsed = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing would ever happen"
            self.elapsed += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._skipping = _Selector()
        super().__init__(self._skipping)

    def time(self):
        return self._skipping.elapsed


def run(scenario):
    """Runs a coroutine function; what went wrong in callbacks fails it."""
    crashes = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: crashes.append(told))
        return await scenario()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        result = runner.run(watched())
    assert not crashes, crashes
    return result

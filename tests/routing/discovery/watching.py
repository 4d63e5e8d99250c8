"""Runs a source and remembers what it says."""

import asyncio
import contextlib

from tests.net.peers import until


class Watch:
    """found: the lists, newest last, as {name: URL}. told: what was reported."""

    def __init__(self):
        self.found = []
        self.told = []

    def take(self, source, configs):
        self.configs = list(configs)
        self.found.append({config.name: config.url for config in configs})

    def report(self, source, reason):
        self.told.append(reason)

    async def finds(self, expected):
        await until(lambda: self.found and self.found[-1] == expected)

    async def tells(self, count):
        """The last of so many reports."""
        await until(lambda: len(self.told) >= count)
        return self.told[count - 1]


@contextlib.asynccontextmanager
async def running(source, watch):
    task = asyncio.get_running_loop().create_task(source.run(watch.take))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

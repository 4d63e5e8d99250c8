"""News that every node hears: keys that were revoked, breakers that opened, answers to be forgotten.

News are entries of a hash with a version that rises with each. A message tells of a new entry and its
version; who missed one sees a version that does not follow, and reads all. So does who has just come, and now
and then everybody. What a node posts while the server is away waits here, and is posted when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing

from ghostllm.cluster.away import Away, ServerError
from ghostllm.cluster.link import Link
from ghostllm.cluster.scripts import POST, READ

EVERY = 5.0  # seconds between two looks at the version

MOST = 10_000  # entries above which those that no longer count are cleared away

PAGE = 500  # entries read and applied in one go where all are read: requests would wait for more

Apply = Callable[[Mapping[str, bytes]], None]
"""Given entries by name: new ones, or all there are, so that one may come again. They count for the same
thing however often they come. Many come in parts, names that begin alike the longest first.
"""

Whole = Callable[[Collection[str]], None]
"""Given the names of all entries, after they have been applied: for who sees to it that none is missing."""


class News:
    """name: what they are about. apply, whole: called in the loop. most: see MOST."""

    def __init__(
        self,
        link: Link,
        name: str,
        apply: Apply,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        *,
        whole: Whole = lambda names: None,
        most: int | None = None,
    ) -> None:
        self.name = name
        self._link = link
        self._apply = apply
        self._whole = whole
        self._most = MOST if most is None else most
        self._every = every
        self._clock = clock
        self._channel = f"news:{name}"
        self._keys = [f"{link.prefix}{self._channel}:{end}" for end in ("entries", "version")]
        self._version: int | None = None
        self._unsent: dict[str, tuple[bytes, float]] = {}  # value, when it no longer counts
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self.received = self.resyncs = 0

    def __repr__(self) -> str:
        return f"<News {self.name} version {self._version}, {len(self._unsent)} unsent>"

    def post(self, name: str, value: bytes, ttl: float) -> None:
        """Tells all other nodes; this one acts by itself. Does not wait. ttl: seconds that it counts."""
        self._unsent[name] = value, self._clock() + ttl
        self._sent.clear()
        self._wake.set()

    async def sent(self, within: float) -> bool:
        """Waits until the server has all that was posted, at most so many seconds; False: it has not."""
        try:
            async with asyncio.timeout(within if self._link.up else 0):
                await self._sent.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Posts and listens until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post())
            tasks.create_task(self._listen())

    # --- what this node has to tell

    async def _post(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                try:
                    await self._send()
                except Away:
                    await asyncio.sleep(self._link.pause or 1.0)
            self._sent.set()

    async def _send(self) -> None:
        for name, (value, until) in list(self._unsent.items()):
            left = round((until - self._clock()) * 1000)
            if left > 0:
                channel = self._link.prefix + self._channel
                await self._link.run(POST, self._keys, channel, name, value, left, self._most)
            if self._unsent.get(name) == (value, until):
                del self._unsent[name]

    # --- what the others tell

    async def _listen(self) -> None:
        while True:
            self._version = None
            try:
                async with aclosing(self._link.messages(self._channel, self._every)) as messages:
                    async for message in messages:
                        await self._heard(message)
            except (ServerError, Away):
                await asyncio.sleep(self._link.pause or 1.0)

    async def _heard(self, message: bytes | None) -> None:
        """None: a while has passed, or it begins. Raises Away, ServerError."""
        if message is None:
            version = _number(await self._link.ask("GET", self._keys[1]) or b"0")
            if version != self._version:
                await self._read()
            return
        told, _, name = message.partition(b" ")
        number = _number(told)
        self.received += 1
        if self._version is not None and number == self._version + 1:
            await self._read(name)
            self._version = number
        elif number != self._version:  # some were missed; or the server is a new one, and counts anew
            await self._read()

    async def _read(self, *names: bytes) -> None:
        """Of those names, or all there is. Raises Away, ServerError."""
        version, now, *rows = await self._link.run(READ, self._keys, *names)
        if names:
            if entries := _counting(rows, int(now)):
                self._apply(entries)
            return
        # What is posted from here on has a later version: its message comes after.
        cursor = b"0"
        while True:
            cursor, page = await self._link.ask("HSCAN", self._keys[0], cursor, "COUNT", PAGE)
            rows += page
            if cursor == b"0":
                break
        self._version = _number(version)
        self.resyncs += 1
        entries = _counting(rows, int(now))
        found = sorted(entries, reverse=True)
        for start in range(0, len(found), PAGE):
            self._apply({name: entries[name] for name in found[start : start + PAGE]})
            await asyncio.sleep(0)  # requests go on
        self._whole(entries.keys())


def _number(text: bytes) -> int:
    """Raises ServerError: somebody else has written there, too."""
    if not text.isdigit() or len(text) > 20:
        raise ServerError(f"no version of news: {text[:40]!r}")
    return int(text)


def _counting(rows: Sequence[bytes], now: int) -> dict[str, bytes]:
    """Of name, entry, name, entry, … those that still count. now: milliseconds by the server's clock."""
    entries: dict[str, bytes] = {}
    for name, entry in zip(rows[::2], rows[1::2], strict=True):
        until, _, value = entry.partition(b":")
        if until.isdigit() and int(until[:20]) > now:
            entries[name.decode("utf-8", "replace")] = value
    return entries

"""The holds of this node, and the leases that are renewed as long as it lives."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Protocol

from ghostllm.cluster.link import Link
from ghostllm.cluster.scripts import RENEW

PAGE = 200  # holds renewed by one step of the server

RENEWALS = 3  # in one lease: two may fail


class Hold(Protocol):
    """keys: gauge and holds of each subject. member: `id:amount`."""

    keys: Sequence[str]
    member: str


class Holds:
    """Renews what is open. lease: seconds. keep: milliseconds that gauges are kept; 0: they have an end."""

    def __init__(self, link: Link, lease: float, keep: int) -> None:
        self.lease = round(lease * 1000)  # milliseconds
        self.keep = keep
        self._link = link
        self._node = secrets.token_hex(6)
        self._number = 0
        self._open: dict[str, Hold] = {}

    def __repr__(self) -> str:
        return f"<Holds {len(self._open)} open>"

    def __len__(self) -> int:
        return len(self._open)

    def identity(self) -> str:
        """One that no other node has, and this one only once."""
        self._number += 1
        return f"{self._node}-{self._number:x}"

    def add(self, hold: Hold) -> None:
        self._open[hold.member] = hold

    def discard(self, hold: Hold) -> None:
        self._open.pop(hold.member, None)

    def renew(self) -> None:
        """Does not wait. A server that is away is told the next time."""
        rows = [
            (gauge, holds, hold.member)
            for hold in self._open.values()
            for gauge, holds in zip(hold.keys[::2], hold.keys[1::2], strict=True)
        ]
        for at in range(0, len(rows), PAGE):
            page = rows[at : at + PAGE]
            keys = [key for row in page for key in row[:2]]
            self._link.post(RENEW, keys, self.lease, self.keep, *(member for _, _, member in page))

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self.lease / 1000 / RENEWALS)
            self.renew()

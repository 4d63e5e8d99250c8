"""Keys made at run time, told to the other nodes: made, ended, revoked. Part of the composition root: it
joins policy and cluster.

The server has two entries of a key at most: as it was made, under its id, and as it was revoked, under a name
of its own, so that nothing older is ever written over a revocation. Each node keeps all in its own state
file, and sees to it that the server lacks nothing of it whenever it has read all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ghostllm.observe.log import Logger
from ghostllm.policy.issued import MOST_KEYS, IssuedKeys
from ghostllm.policy.keyhash import SEAL_BYTES, KeyHash
from ghostllm.policy.sealed import seal, unseal
from ghostllm.state.keys import KeyRecord

if TYPE_CHECKING:
    from ghostllm.app.cluster_life import ClusterLife

TTL = 10 * 365 * 86_400.0  # seconds: for as long as anybody will ask
PATIENCE = 1.0  # seconds that who changes a key waits until the server has it
REVOKED = ":revoked"


class KeyNews:
    """heard: records that told something new. refused: those that no node of ours has written, or that make
    no sense.
    """

    def __init__(self, cluster: ClusterLife, issued: IssuedKeys, hasher: KeyHash, log: Logger) -> None:
        self.heard = self.refused = 0
        self._issued = issued
        self._hasher = hasher
        self._log = log
        self._news = cluster.news("keys", self._hear, self._complete, most=2 * MOST_KEYS)
        self._seals: dict[str, bytes] = {}  # of each entry as it was last heard: it need not be read again
        issued.told = self._tell

    def __repr__(self) -> str:
        return f"<KeyNews heard={self.heard} refused={self.refused}>"

    async def told(self) -> bool:
        """Waits a moment until the server has all that was changed here; False: it gets it later."""
        return await self._news.sent(PATIENCE)

    def _tell(self, record: KeyRecord) -> None:
        name = _entry(record)
        self._seals.pop(name, None)
        self._news.post(name, seal(record, self._hasher), TTL)

    def _hear(self, entries: Mapping[str, bytes]) -> None:
        changed = refused = 0
        reason = ""
        for name in sorted(entries, reverse=True):  # that one was revoked, before that it was made
            value = entries[name]
            if self._seals.get(name) == value[:SEAL_BYTES]:
                continue
            if len(self._seals) >= 2 * MOST_KEYS:  # somebody writes names of their own
                self._seals.clear()
            self._seals[name] = value[:SEAL_BYTES]
            try:
                changed += self._take(name, value, entries)
            except ValueError as error:
                refused += 1
                reason = str(error)
        self.heard += changed
        self.refused += refused
        if changed:
            self._log.info("keys of other gateways taken over", records=changed)
        if refused:
            self._log.warning("keys in redis refused", records=refused, reason=reason)

    def _take(self, name: str, value: bytes, beside: Collection[str]) -> bool:
        """Whether it told something new. Raises ValueError."""
        heard = unseal(value, self._hasher)
        if _entry(heard) != name:
            raise ValueError("it stands under another name than its own")
        before = self._issued.record(heard.id)
        now = self._issued.hear(heard)
        if (now.expires, now.revoked) != (heard.expires, heard.revoked):  # this node knows more
            if _entry(now) == name or _entry(now) not in beside:
                self._tell(now)
        return now is not before

    def _complete(self, names: Collection[str]) -> None:
        """names: all that the server has. It may have been empty, or gone while something was told."""
        for record in self._issued.shared():
            if _entry(record) not in names:
                self._tell(record)


def _entry(record: KeyRecord) -> str:
    return record.id if record.revoked is None else f"{record.id}{REVOKED}"

"""Keys of nodes that share a real server: heard of, made up for, and never opened again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ghostllm.app.cluster_life import ClusterLife
from ghostllm.config.remember import Redis
from ghostllm.policy.issued import IssuedKeys
from ghostllm.policy.keyhash import KeyHash
from ghostllm.policy.roles import RoleBook
from ghostllm.policy.sealed import seal
from ghostllm.state.database import Database
from ghostllm.state.keys import COMPONENT, KeyTable, KeyTerms
from tests.cluster.conftest import server
from tests.cluster.redis_server import RedisServer
from tests.cluster.test_link import CALM, back, until

__all__ = ["server"]  # the fixture
SECRET = b"k" * 32


class Node:
    def __init__(self, server, secret=SECRET):
        self.database = Database(None, [COMPONENT])
        self.hasher = KeyHash(secret)
        self.issued = IssuedKeys(KeyTable(self.database), self.hasher, RoleBook())
        self.lines = []
        self.cluster = ClusterLife(Redis(url=server.url, timeout=CALM, pause=0.05), self)
        self.shared = self.cluster.share_keys(self.issued, self.hasher)
        self.tasks = []

    def info(self, event, **fields):
        self.lines.append((event, fields))

    warning = info

    def state(self, record):
        known = self.issued.record(record.id)
        return None if known is None else known.revoked is None

    async def start(self):
        self.cluster.start(lambda work: self.tasks.append(asyncio.create_task(work)))
        await until(lambda: self.shared._news.resyncs > 0)

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.cluster.close()
        self.database.close()


def run(server, scenario, *secrets):
    async def main():
        nodes = [Node(server, secret) for secret in secrets or (SECRET, SECRET)]
        try:
            await scenario(*nodes)
        finally:
            for node in nodes:
                await node.stop()

    asyncio.run(main())


async def written(node, name, value):
    """As somebody who can write to the server would, or another node."""
    node.shared._news.post(name, value, 60.0)
    assert await node.shared.told()


def test_what_is_changed_here_is_known_there(server: RedisServer):
    async def scenario(one, two):
        await one.start()
        await two.start()
        terms = KeyTerms(roles=("viewer",), team="red", models=("q*",), weight=2.0, priority=1)
        record, key = one.issued.create("ann", terms, expires=4e9)
        await until(lambda: two.issued.record(record.id) == record)
        digest = two.hasher.of_key(key.encode())
        assert two.issued.made.held[digest].identity.team == "red"
        rotated, _ = two.issued.rotate("ann", 60.0)
        await until(lambda: one.issued.record(rotated.id) == rotated)
        await until(lambda: one.issued.record(record.id).expires < 4e9)
        one.issued.revoke(record.id)
        await until(lambda: two.state(record) is False and digest not in two.issued.made.held)
        assert two.state(rotated) and await two.issued.saved()
        assert (one.shared.heard, two.shared.heard) == (2, 2)  # a node does not hear of its own
        kept = await KeyTable(two.database).records()
        assert [one.id for one in kept] == [record.id, rotated.id] and kept[0].revoked is not None

    run(server, scenario)


def test_both_sides_bring_each_other_up_to_date(server: RedisServer):
    async def scenario(one, two):
        mine, _ = one.issued.create("one")
        yours, _ = two.issued.create("two")
        both, _ = one.issued.create("both")
        two.issued.hear(both)
        one.issued.revoke("both")  # before there is any server that it could be told
        await two.start()
        await one.start()
        await until(lambda: two.state(mine) and one.state(yours) and two.state(both) is False)
        told = one.shared._news.received
        assert await one.shared.told() and await two.shared.told()
        assert one.shared._news.received - told < 10  # they do not tell each other for ever

    run(server, scenario)


def test_nothing_older_undoes_a_revocation(server: RedisServer):
    async def scenario(one, two, late):
        await one.start()
        await two.start()
        record, _ = one.issued.create("ann")
        await until(lambda: two.state(record))
        one.issued.revoke("ann")
        await until(lambda: two.state(record) is False)
        await written(two, record.id, seal(record, two.hasher))  # as a node does that has not heard
        await late.start()
        assert late.state(record) is False
        assert one.state(record) is two.state(record) is False
        # The server loses the revocation, and is given an older record of the key.
        await one.cluster.link.ask("FLUSHALL")
        two.shared._seals.clear()
        await written(late, record.id, seal(replace(record, expires=9e9), late.hasher))
        entries = one.shared._news._keys[0]

        for _ in range(2000):
            if await one.cluster.link.ask("HEXISTS", entries, f"{record.id}:revoked"):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("nobody has told it again")
        assert one.state(record) is two.state(record) is late.state(record) is False

    run(server, scenario, SECRET, SECRET, SECRET)


def test_a_server_that_comes_back_empty_is_given_all(server: RedisServer):
    async def scenario(one, two, late):
        await one.start()
        await two.start()
        record, _ = one.issued.create("ann")
        await until(lambda: two.state(record))
        server.kill()
        gone, _ = two.issued.create("gone")
        two.issued.revoke("gone")
        assert not await two.shared.told()
        server.start()
        await back(two.cluster.link)
        await back(late.cluster.link)
        await late.start()
        await until(lambda: late.state(record) and late.state(gone) is False and one.state(gone) is False)

    run(server, scenario, SECRET, SECRET, SECRET)


def test_what_somebody_writes_to_the_server_makes_no_key_and_no_admin(server: RedisServer):
    async def scenario(one, two, stranger):
        await one.start()
        await stranger.start()
        record, _ = one.issued.create("ann")
        await until(lambda: stranger.shared.refused == 1)
        assert stranger.issued.records() == []
        admin = replace(record, id="key_00000000000000aa", terms=KeyTerms(roles=("admin",)))
        own = replace(admin, digest=bytes(32))
        for name, value in (
            ("noise", b"\xff\x00"),
            ("empty", b""),
            (admin.id, seal(admin, stranger.hasher)),  # no node's secret
            (admin.id, seal(own, stranger.hasher)),
            (admin.id, seal(admin, one.hasher)),  # a node's, and the key is another's
            ("key_00000000000000bb", seal(record, one.hasher)),  # a true record under another name
            (record.id, seal(replace(record, terms=admin.terms), one.hasher)),
        ):
            before = one.shared.refused
            await written(stranger, name, value)
            await until(lambda before=before: one.shared.refused == before + 1)
        assert one.issued.records() == [record]
        assert {event for event, _ in one.lines} >= {"keys in redis refused"}
        reason = [fields["reason"] for event, fields in one.lines if event == "keys in redis refused"]
        assert reason[0] == "not sealed with this gateway's state.key_secret"
        assert reason[-3].startswith("its digest") and reason[-2].startswith("it stands under another name")

    run(server, scenario, SECRET, SECRET, b"x" * 32)

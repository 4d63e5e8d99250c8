"""News over a real server: heard at once, made up for when missed, posted late when it was away."""

from __future__ import annotations

import asyncio

from ghostllm.cluster.news import News
from tests.cluster.redis_server import RedisServer
from tests.cluster.test_link import back, linked, until


class Node:
    def __init__(self, server, every=60.0):
        self.link = linked(server)
        self.heard = {}
        self.calls = []
        self.all = []
        self.news = News(self.link, "revoked", self._apply, every, whole=self._whole)
        self._task = None

    def _apply(self, entries):
        self.calls.append(dict(entries))
        self.heard.update(entries)

    def _whole(self, names):
        self.all.append(set(names))
        assert self.all[-1] <= self.heard.keys()

    async def start(self):
        self._task = asyncio.create_task(self.news.run())

    async def listening(self):
        await until(lambda: self.news._version is not None)

    async def stop(self):
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.link.close()


def run(server, scenario, every=60.0, count=2):
    async def main():
        nodes = [Node(server, every) for _ in range(count)]
        try:
            await scenario(*nodes)
        finally:
            for node in nodes:
                await node.stop()

    asyncio.run(main())


def test_what_one_posts_all_hear_at_once(server: RedisServer):
    async def scenario(one, two):
        for node in (one, two):
            await node.start()
            await node.listening()
        one.news.post("key-1", b"now", 60.0)
        await until(lambda: two.heard == {"key-1": b"now"})
        two.news.post("key-2", b"too: it has a colon", 60.0)
        await until(lambda: one.heard.get("key-2") == b"too: it has a colon")
        assert two.news.resyncs <= 1  # by messages, not by reading all again and again

    run(server, scenario)


def test_who_comes_late_reads_what_there_is(server: RedisServer):
    async def scenario(one, two):
        await one.start()
        for number in range(50):
            one.news.post(f"key-{number}", b"x", 60.0)
        one.news.post("gone", b"x", 0.001)
        await until(lambda: not one.news._unsent)
        await asyncio.sleep(0.01)
        await two.start()
        await until(lambda: len(two.heard) == 50)
        assert "gone" not in two.heard

    run(server, scenario)


def test_a_message_that_was_missed_is_made_up_for_by_the_next(server: RedisServer):
    async def scenario(one, two):
        await one.start()
        await two.start()
        await two.listening()
        keys = one.news._keys
        # As if its message had got lost: the entry and the version are there.
        await one.link.ask("HSET", keys[0], "missed", b"99999999999999:x")
        await one.link.ask("INCR", keys[1])
        one.news.post("next", b"y", 60.0)
        await until(lambda: two.heard == {"missed": b"x", "next": b"y"})

    run(server, scenario)


def test_or_by_the_look_at_the_version(server: RedisServer):
    async def scenario(one, two):
        await two.start()
        await two.listening()
        keys = one.news._keys
        await one.link.ask("HSET", keys[0], "missed", b"99999999999999:x")
        await one.link.ask("INCR", keys[1])
        await until(lambda: two.heard == {"missed": b"x"})

    run(server, scenario, every=0.1)


def test_what_is_posted_while_it_is_away_is_posted_when_it_is_back(server: RedisServer):
    async def scenario(one, two):
        for node in (one, two):
            await node.start()
            await node.listening()
        server.kill()
        one.news.post("key-1", b"a", 60.0)
        one.news.post("key-1", b"b", 60.0)
        one.news.post("too late", b"x", 0.0)
        await until(lambda: not one.link.up)
        assert one.news._unsent and not two.heard
        server.start()
        await back(two.link)
        await until(lambda: two.heard == {"key-1": b"b"})
        await until(lambda: not one.news._unsent)

    run(server, scenario, every=0.2)


def test_the_server_is_killed_again_and_again_and_nothing_that_follows_is_missed(server: RedisServer):
    async def scenario(one, two):
        for node in (one, two):
            await node.start()
        for turn in range(3):
            server.kill()
            server.start()
            one.news.post(f"turn-{turn}", b"x", 60.0)
            await until(lambda turn=turn: f"turn-{turn}" in two.heard)

    run(server, scenario, every=0.2)


def test_entries_that_no_longer_count_are_cleared_away(server: RedisServer, monkeypatch):
    monkeypatch.setattr("ghostllm.cluster.news.MOST", 10)

    async def scenario(one):
        await one.start()
        for number in range(30):
            one.news.post(f"key-{number}", b"x", 0.2)
            await until(lambda: not one.news._unsent)
        await asyncio.sleep(0.3)
        one.news.post("last", b"x", 60.0)
        await until(lambda: not one.news._unsent)
        assert await one.link.ask("HLEN", one.news._keys[0]) == 1

    run(server, scenario, count=1)


def test_who_reads_all_is_told_what_there_is_however_much(server: RedisServer, monkeypatch):
    async def scenario(one, two):
        await one.start()
        await one.listening()
        assert one.all == [set()]
        names = {f"key-{number}" for number in range(2000)}
        for name in names:
            one.news.post(name, b"x" * 100, 60.0)
        one.news.post("gone", b"x", 0.001)
        assert await one.news.sent(20.0)
        await asyncio.sleep(0.01)
        monkeypatch.setattr("ghostllm.cluster.news.PAGE", 50)
        before = two.link.stats()["sent"]
        await two.start()
        await until(lambda: two.all)
        assert two.all[0] - {"gone"} == names and len(two.calls) == 2000 // 50
        assert two.link.stats()["sent"] - before > 10  # in pages

    run(server, scenario)


def test_a_server_that_was_emptied_is_read_anew(server: RedisServer):
    async def scenario(one, two):
        for node in (one, two):
            await node.start()
            await node.listening()
        one.news.post("key-1", b"x", 60.0)
        await until(lambda: "key-1" in two.heard)
        await one.link.ask("FLUSHALL")
        await until(lambda: two.all[-1:] == [set()] and len(two.all) == 2)

    run(server, scenario, every=0.1)


def test_who_posts_may_wait_until_the_server_has_it(server: RedisServer):
    async def scenario(one):
        await one.start()
        assert await one.news.sent(0.0)
        one.news.post("key-1", b"x", 60.0)
        assert await one.news.sent(20.0)
        assert await one.link.ask("HLEN", one.news._keys[0]) == 1
        server.kill()
        one.news.post("key-2", b"x", 60.0)
        assert not await one.news.sent(0.2)
        await until(lambda: not one.link.up)
        assert not await one.news.sent(20.0)  # at once: it is known to be away
        server.start()
        await back(one.link)
        assert await one.news.sent(20.0)

    run(server, scenario, count=1)


def test_what_others_write_there_stops_nothing(server: RedisServer):
    async def scenario(one, two):
        for node in (one, two):
            await node.start()
            await node.listening()
        entries, version = one.news._keys
        channel = entries.removesuffix(":entries")
        for name, entry in (
            (b"\xff", b"99999999999999:x"),
            (b"a", b""),
            (b"b", b"soon:x"),
            (b"c", b"9" * 9999),
        ):
            await one.link.ask("HSET", entries, name, entry)
        for message in (b"", b"x y", b"-1 a", b"7 a", b"9" * 9999):
            await one.link.ask("PUBLISH", channel, message)
        one.news.post("key-1", b"x", 60.0)
        await until(lambda: two.heard.get("key-1") == b"x")
        await one.link.ask("SET", version, "none")
        await asyncio.sleep(0.2)
        await one.link.ask("DEL", version)
        one.news.post("key-2", b"x", 60.0)
        await until(lambda: two.heard.get("key-2") == b"x")
        assert not {"a", "b"} & two.heard.keys()

    run(server, scenario, every=0.05)

"""Answers in a real Redis: kept for a time, flushed by model, and shared by two nodes' caches."""

from __future__ import annotations

import asyncio

from ghostllm.cache.answers import Answers
from ghostllm.cluster.store import AnswerStore
from ghostllm.config.remember import Cache
from tests.cache.test_answers import STREAM, answer, ask, call_of
from tests.cluster.redis_server import RedisServer
from tests.cluster.test_link import back, linked


def test_what_is_put_is_there_until_its_time_is_over(server: RedisServer):
    async def main():
        link = linked(server)
        store = AnswerStore(link)
        assert await store.get("m 1") is None
        store.put("m 1", b"\0\xff value", 0.0)
        store.put("m 2", b"short", 0.05)
        assert await store.get("m 1") == b"\0\xff value"
        assert await link.ask("PTTL", "{ghostllm}:answer:m 1") == -1
        for _ in range(500):
            if await store.get("m 2") is None:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("it is still there")
        await link.close()

    asyncio.run(main())


def test_flushing_is_by_model_and_tenant(server: RedisServer):
    async def main():
        link = linked(server, prefix="a*b")
        store = AnswerStore(link)
        await link.ask("SET", "{axb}:answer:gpt-4 t 1", b"another cluster's")
        for number in range(1200):
            store.put(f"gpt-4 t {number}", b"x", 60.0)
        for name in ("gpt-5 t 1", "gpt-[x] t 1", "llama:8b t 1", "llama:8b u 1"):
            store.put(name, b"x", 60.0)
        assert await store.flush("gpt-[4]") == 1200
        assert await store.flush("gpt-?") == 1
        assert await store.flush("gpt-[[]x]") == 1
        assert await store.flush("gpt") == 0 and await store.flush("gpt-5", "u") == 0
        assert await store.flush("llama*", "u") == 1
        assert await store.flush("*") == 1
        assert await link.ask("DBSIZE") == 1
        await link.close()

    asyncio.run(main())


def test_away_is_a_miss_and_nothing_more(server: RedisServer):
    async def main():
        link = linked(server, pause=0.02)
        answers = Answers(Cache(backend="redis"), AnswerStore(link))
        server.kill()
        question = ask(answers, call_of(**STREAM))
        assert answers.find(question, 1.0) is None and await answers.fetch(question, 1.0) is None
        assert answer(answers, question, call_of(**STREAM), now=1.0)
        assert answers.find(ask(answers), 2.0) is not None and await answers.flush("nothing") == 0
        server.start()
        await back(link)
        assert answer(answers, ask(answers), call_of(**STREAM), now=3.0)
        other = Answers(Cache(backend="redis"), AnswerStore(link))
        asked = ask(other)
        assert other.find(asked, 4.0) is None and (await other.fetch(asked, 4.0)) is not None
        assert asked.state == "hit"
        await link.close()

    asyncio.run(main())

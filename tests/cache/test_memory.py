"""The answers in memory: which go, when, and that there are never too many bytes of them."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ghostllm.api.recording import OVERHEAD, Recording
from ghostllm.cache.memory import ENTRY, MemoryCache
from ghostllm.message import Usage


def recording(size, text=b"x"):
    return Recording(("openai", "chat"), (False, False), Usage(), [text * size])


def test_it_gives_what_it_was_given_until_its_time_is_over():
    cache = MemoryCache(1 << 20)
    value = recording(10)
    assert cache.put("m 1", value, 100.0, 10.0)
    found = cache.get("m 1", 104.0)
    assert found.value is value and found.age == 4.0
    assert cache.get("m 1", 109.999) is not None
    assert cache.get("m 1", 110.0) is None and len(cache) == 0 and cache.size == 0
    assert cache.stats()["expired"] == 1 and cache.stats()["hits"] == 2 and cache.stats()["misses"] == 1


def test_no_time_to_live_is_no_end():
    cache = MemoryCache(1 << 20)
    cache.put("m 1", recording(1), 0.0, 0.0)
    assert cache.get("m 1", 1e12) is not None


def test_an_age_that_it_came_with_counts():
    cache = MemoryCache(1 << 20)
    cache.put("m 1", recording(1), 100.0, 10.0, age=6.0)
    assert cache.get("m 1", 101.0).age == 7.0
    assert cache.get("m 1", 104.0) is None
    assert not cache.put("m 1", recording(1), 100.0, 10.0, age=10.0)


def test_a_clock_that_goes_back_makes_nothing_younger_than_new():
    cache = MemoryCache(1 << 20)
    cache.put("m 1", recording(1), 100.0, 10.0)
    assert cache.get("m 1", 50.0).age == 0.0


def test_the_least_recently_used_goes_first():
    cost = recording(1000).size + ENTRY + 3
    cache = MemoryCache(3 * cost)
    for name in "abc":
        cache.put(f"m {name}", recording(1000), 0.0, 0.0)
    cache.get("m a", 1.0)
    cache.put("m d", recording(1000), 1.0, 0.0)
    assert [name for name in "abcd" if cache.get(f"m {name}", 2.0)] == ["a", "c", "d"]
    assert cache.stats()["evicted"] == 1


def test_what_is_too_large_is_not_kept_and_what_was_there_is_gone():
    cache = MemoryCache(10_000)
    cache.put("m 1", recording(1), 0.0, 0.0)
    assert not cache.put("m 1", recording(20_000), 0.0, 0.0)
    assert cache.get("m 1", 0.0) is None and cache.size == 0 and cache.stats()["too_large"] == 1


def test_flushing_is_by_the_models_name_and_the_tenant():
    cache = MemoryCache(1 << 20)
    for name in ("gpt-4 t 1", "gpt-5 t 2", "gpt-5 u 2", "llama:8b t 3", "gpt-[x] t 4"):
        cache.put(name, recording(1), 0.0, 0.0)
    assert cache.flush("gpt-?", "u") == 1 and len(cache) == 4
    assert cache.flush("gpt-?") == 2 and len(cache) == 2
    assert cache.flush("nothing") == 0 and cache.flush("*", "u") == 0
    assert cache.flush() == 2 and cache.size == 0


def test_a_smaller_limit_holds_at_once():
    cache = MemoryCache(1 << 20)
    for number in range(20):
        cache.put(f"m {number}", recording(1000), 0.0, 0.0)
    cache.resize(10_000)
    assert 0 < cache.size <= 10_000 and cache.get("m 19", 0.0) is not None


def test_no_more_memory_is_used_than_is_counted():
    """Of this process, as Python counts it: the limit is one on memory, not on texts."""
    cache = MemoryCache(2_000_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3000):
            pieces = [b"%d" % number * 20, b"i", b"," * 50, b"c", b"%d" % number * 5]
            kept = Recording(("openai", "chat"), (True, True), Usage(1, 2), pieces)
            cache.put(f"model {number:064x}", kept, 0.0, 60.0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.stats()["evicted"] > 500
    assert after - before <= cache.limit


KEYS = [f"m t {name}" for name in "abcdefgh"]


class Model(RuleBasedStateMachine):
    """Against a list that is kept in order by hand."""

    def __init__(self):
        super().__init__()
        self.cache = MemoryCache(20_000)
        self.rows = []  # (key, value, expires, size), the least recently used first
        self.now = 0.0

    def _pop(self, key):
        found = next((row for row in self.rows if row[0] == key), None)
        if found:
            self.rows.remove(found)
        return found

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 25_000), ttl=st.sampled_from([0.0, 1.0, 5.0]))
    def put(self, key, size, ttl):
        value = recording(size)
        self._pop(key)
        stored = self.cache.put(key, value, self.now, ttl)
        cost = ENTRY + len(key) + OVERHEAD + 64 + size
        assert stored == (cost <= 20_000)
        if stored:
            self.rows.append((key, value, self.now + ttl if ttl else 1e99, cost))
            while sum(row[3] for row in self.rows) > 20_000:
                del self.rows[0]

    @rule(key=st.sampled_from(KEYS))
    def get(self, key):
        row = self._pop(key)
        found = self.cache.get(key, self.now)
        if row is None or row[2] <= self.now:
            assert found is None
        else:
            assert found.value is row[1]
            self.rows.append(row)

    @rule(seconds=st.floats(0.1, 3.0))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def flush(self):
        assert self.cache.flush() == len(self.rows)
        self.rows.clear()

    @invariant()
    def counted(self):
        assert self.cache.size == sum(row[3] for row in self.rows) <= 20_000
        assert len(self.cache) == len(self.rows)


TestModel = Model.TestCase


@given(st.lists(st.integers(0, 5000), max_size=30), st.integers(1, 30_000))
def test_the_limit_holds_whatever_comes(sizes, limit):
    cache = MemoryCache(limit)
    for number, size in enumerate(sizes):
        cache.put(f"m {number % 7}", recording(size), 0.0, 0.0)
        assert cache.size <= limit

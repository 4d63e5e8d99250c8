"""The fleet: who holds a name or a server, and how backends come and go."""

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import backends
from ghostllm.config.schema import BackendConfig
from ghostllm.net import loop
from ghostllm.routing.fleet import CONFIGURED, Fleet
from ghostllm.routing.upstream import Upstream
from tests.net.peers import until


class World:
    """A fleet and what it did, in order."""

    def __init__(self):
        self.events = []
        self.closed = []
        self.broken = set()  # URLs of which no upstream can be made
        self.fleet = Fleet(
            self.make,
            self.close,
            lambda upstream: self.events.append(f"+{upstream.name}"),
            lambda name: self.events.append(f"-{name}"),
            lambda name, why: self.events.append(f"!{name}: {why}"),
        )

    def make(self, config):
        if config.url in self.broken:
            raise OSError("no such certificate")
        return Upstream(config, backends.base_url(config), backends.translator(config, 1 << 20), tls=None)

    async def close(self, upstream):
        await upstream.close()
        self.closed.append(upstream.name)

    def taken(self):
        """The events since the last time."""
        events, self.events = self.events, []
        return events

    def urls(self):
        return {name: upstream.config.url for name, upstream in self.fleet.upstreams.items()}


def at(name, port=1, **more):
    return BackendConfig(name=name, kind="openai", url=f"http://127.0.0.1:{port}", **more)


def run(scenario):
    async def main():
        world = World()
        await scenario(world)
        await world.fleet.close()
        assert not world.fleet.upstreams

    loop.run(main())


def test_a_source_adds_changes_and_removes():
    async def scenario(world):
        fleet, upstreams = world.fleet, world.fleet.upstreams
        assert fleet.apply("file", [at("a", 1), at("b", 2)])
        assert world.taken() == ["+a", "+b"]
        a, b = upstreams["a"], upstreams["b"]
        assert not fleet.apply("file", [at("a", 1), at("b", 2)])
        assert fleet.apply("file", [at("b", 3), at("a", 1)])
        assert upstreams["a"] is a and upstreams["b"] is not b
        assert upstreams is fleet.upstreams and [one.name for one in fleet.backends] == ["b", "a"]
        assert world.taken() == ["+b"]
        assert fleet.apply("file", [at("a", 1)])
        assert world.taken() == ["-b"] and list(upstreams) == ["a"]
        assert fleet.apply("file", [])
        assert world.taken() == ["-a"] and not upstreams

    run(scenario)


@pytest.mark.parametrize("change", [{"weight": 2.0}, {"max_inflight": 3}, {"headers": {"x": "y"}}])
def test_any_change_makes_another_backend(change):
    async def scenario(world):
        world.fleet.apply("file", [at("a")])
        before = world.fleet.upstreams["a"]
        assert world.fleet.apply("file", [dataclasses.replace(at("a"), **change)])
        assert world.fleet.upstreams["a"] is not before

    run(scenario)


def test_what_is_removed_is_closed_when_it_has_finished():
    async def scenario(world):
        world.fleet.apply("file", [at("busy", 1), at("idle", 2)])
        busy = world.fleet.upstreams["busy"]
        busy.in_flight = 1
        world.fleet.apply("file", [])
        await until(lambda: world.closed == ["idle"])
        await asyncio.sleep(0.6)  # more than two looks at it
        assert world.closed == ["idle"]
        busy.in_flight = 0
        await until(lambda: world.closed == ["idle", "busy"])

    run(scenario)


def test_at_the_end_all_are_closed():
    async def main():
        world = World()
        world.fleet.apply("file", [at("gone", 1), at("there", 2)])
        world.fleet.upstreams["gone"].in_flight = 1
        world.fleet.apply("file", [at("there", 2)])
        await world.fleet.close()
        assert sorted(world.closed) == ["gone", "there"]

    loop.run(main())


def test_the_configuration_wins_a_name_and_a_server():
    async def scenario(world):
        world.fleet.apply(CONFIGURED, [at("a", 1), at("also-a", 1)])
        assert world.taken() == ["+a", "+also-a"]  # whoever writes a server down twice means it
        world.fleet.apply("file", [at("a", 2), at("b", 1), at("c", 3)])
        assert world.taken() == [
            "!a: refused, from the file: the name is taken by the configuration",
            "!b: refused, from the file: its server is backend a of the configuration already",
            "+c",
        ]
        assert world.urls() == {
            "a": "http://127.0.0.1:1",
            "also-a": "http://127.0.0.1:1",
            "c": "http://127.0.0.1:3",
        }

    run(scenario)


def test_who_has_a_name_keeps_it_and_leaves_it_to_the_next():
    async def scenario(world):
        fleet = world.fleet
        fleet.apply("first", [])
        fleet.apply("second", [at("a", 2)])
        fleet.apply("first", [at("a", 1)])
        assert world.urls() == {"a": "http://127.0.0.1:2"}
        assert world.taken() == ["+a", "!a: refused, from the first: the name is taken by the second"]
        fleet.apply("second", [at("a", 2), at("b", 3)])
        assert world.taken() == ["+b"]  # said once
        fleet.apply("second", [])
        assert world.urls() == {"a": "http://127.0.0.1:1"}
        assert world.taken() == ["-b", "+a"]

    run(scenario)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h:80", "http://H/", True),
        ("http://h:8000", "http://h:8000/v1", True),
        ("http://h:8000", "https://h:8000", False),
        ("http://h:8000", "http://h:8001", False),
        ("http://h:8000/a", "http://h:8000/b", False),
    ],
)
def test_one_server_is_one_backend(one, other, same):
    async def scenario(world):
        world.fleet.apply("x", [BackendConfig(name="one", url=one)])
        world.fleet.apply("y", [BackendConfig(name="other", url=other)])
        assert list(world.fleet.upstreams) == (["one"] if same else ["one", "other"])

    run(scenario)


def test_the_gateways_own_address_is_refused_from_everybody():
    async def scenario(world):
        world.fleet.apply(CONFIGURED, [at("me", 1), at("it", 2)])
        world.taken()
        assert world.fleet.refuse(lambda url: url.endswith(":1"))
        assert world.taken() == [
            "!me: refused, from the configuration: http://127.0.0.1:1 is an address of this gateway",
            "-me",
        ]
        assert not world.fleet.apply("file", [at("again", 1)])
        assert world.taken() == [
            "!again: refused, from the file: http://127.0.0.1:1 is an address of this gateway"
        ]

    run(scenario)


def test_a_backend_that_cannot_be_made_is_left_out_and_a_changed_one_stays_as_it_was():
    async def scenario(world):
        world.broken = {"http://127.0.0.1:9"}
        assert world.fleet.apply("file", [at("a", 9), at("b", 1)])
        assert world.taken() == ["!a: refused, from the file: cannot be used: no such certificate", "+b"]
        assert not world.fleet.apply("file", [at("a", 9), at("b", 9)])
        assert world.taken() == ["!b: refused, from the file: cannot be used: no such certificate"]
        assert world.urls() == {"b": "http://127.0.0.1:1"}

    run(scenario)


claims = st.lists(
    st.tuples(st.sampled_from("xyz"), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4))), max_size=8
)


@given(claims)
def test_every_history_keeps_the_books(history):
    """What was told adds up to what is there; no name is served unclaimed, and no claim is lost."""

    async def main():
        world = World()
        told, lists = set(), {}
        for source, claimed in history:
            lists[source] = claimed
            before = dict(world.fleet.upstreams)
            changed = world.fleet.apply(source, [at(name, port) for name, port in claimed.items()])
            now = world.fleet.upstreams
            assert changed == (list(now.items()) != list(before.items()))
            for event in world.taken():
                if event[0] == "+":
                    told.add(event[1:])
                elif event[0] == "-":
                    told.remove(event[1:])
            assert told == set(now)
            for name, upstream in now.items():
                port = int(upstream.config.url.rpartition(":")[2])
                assert any(claimed.get(name) == port for claimed in lists.values())
            served = {upstream.config.url for upstream in now.values()}
            for claimed in lists.values():
                for name, port in claimed.items():
                    assert name in now or f"http://127.0.0.1:{port}" in served
        await world.fleet.close()

    loop.run(main())

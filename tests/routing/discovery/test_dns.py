"""Servers behind a name: addresses, SRV records, and answers that come and go."""

import asyncio
import contextlib
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from ghostllm.config.finding import DnsSource
from ghostllm.config.kinds import Secret
from ghostllm.net import loop
from ghostllm.routing.discovery.dns import Answer, DnsWatch, Place, by_srv, next_look, places_of
from ghostllm.routing.discovery.srv import lookup
from tests.net.peers import until
from tests.routing.discovery.watching import Watch, running


class Names:
    """A resolver that gives the next of its answers at each look, the last one from then on."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.looks = 0

    async def __call__(self, source):
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


def answer(*hosts, ttl=None):
    return Answer([Place(host, 8000) for host in hosts], ttl)


def source(**more):
    return DnsSource(name="d", host="llm.example", **more)


def watch_names(names, scenario, *, interval=0.02, **more):
    async def main():
        watch = Watch()
        async with running(DnsWatch(source(**more), interval, watch.report, names), watch):
            await scenario(watch)

    loop.run(main())


ONE = {"d-10.0.0.1-8000": "http://10.0.0.1:8000"}
TWO = ONE | {"d-fd00::2-8000": "http://[fd00::2]:8000"}


def test_addresses_come_and_go():
    async def scenario(watch):
        await watch.finds(ONE)
        assert watch.found[0] == TWO and watch.told == []

    watch_names(Names(answer("10.0.0.1", "fd00::2"), answer("10.0.0.1")), scenario)


def test_a_failure_keeps_what_was_known_and_is_told_once():
    async def scenario(watch):
        assert await watch.tells(1) == "llm.example: no such host"
        assert await watch.tells(2) is None
        assert watch.found == [ONE] * len(watch.found)

    no = OSError(None, "no such host")
    watch_names(Names(answer("10.0.0.1"), no, no, no, answer("10.0.0.1")), scenario)


def test_an_empty_answer_is_believed_the_second_time():
    async def scenario(watch):
        await watch.finds({})
        assert watch.found[:3] == [ONE, ONE, {}]
        assert watch.told == ["llm.example: no addresses", None, "llm.example: no addresses"]

    watch_names(
        Names(answer("10.0.0.1"), answer(), answer("10.0.0.1"), answer()),
        scenario,
    )


def test_without_an_interval_one_look_is_enough():
    names = Names(answer("10.0.0.1"))

    async def scenario(watch):
        await watch.finds(ONE)
        await asyncio.sleep(0.05)
        assert names.looks == 1

    watch_names(names, scenario, interval=0)


@pytest.mark.parametrize(
    ("interval", "ttl", "seconds"),
    [(30.0, None, 30.0), (30.0, 5.0, 5.0), (30.0, 0.0, 1.0), (30.0, 90.0, 30.0), (0.0, 5.0, 0.0)],
)
def test_a_records_own_time_counts_where_it_is_shorter(interval, ttl, seconds):
    assert next_look(interval, ttl) == seconds


def test_a_short_time_to_live_is_kept_to():
    async def scenario(watch):
        await watch.finds(TWO)

    watch_names(Names(answer("10.0.0.1", ttl=0.0), answer("10.0.0.1", "fd00::2")), scenario, interval=600.0)


def test_what_the_source_says_holds_for_each():
    async def scenario(watch):
        await watch.finds({"d-10.0.0.1-8000": "https://10.0.0.1:8000"})
        (backend,) = watch.configs
        assert (backend.kind, backend.api_key, backend.weight, backend.max_inflight) == ("vllm", key, 2.0, 4)

    key = Secret("k")
    watch_names(
        Names(answer("10.0.0.1")), scenario, tls=True, kind="vllm", api_key=key, weight=2.0, max_inflight=4
    )


def test_the_systems_resolver_is_asked():
    async def main():
        watch = Watch()
        config = DnsSource(name="d", host="localhost", port=9)
        async with running(DnsWatch(config, 1, watch.report), watch):
            await until(lambda: watch.found)
        assert "d-127.0.0.1-9" in watch.found[0] or "d-::1-9" in watch.found[0]

    loop.run(main())


# --- SRV


@pytest.mark.parametrize(
    ("records", "places"),
    [
        ([], []),
        ([(1, 0, 80, "a.")], [Place("a", 80)]),
        ([(2, 9, 80, "late."), (1, 10, 81, "b."), (1, 10, 80, "a.")], [Place("a", 80), Place("b", 81)]),
        ([(1, 30, 80, "a."), (1, 10, 80, "b.")], [Place("a", 80, 1.5), Place("b", 80, 0.5)]),
        ([(1, 0, 80, "a."), (1, 10, 80, "b.")], [Place("a", 80, 0.01), Place("b", 80, 2.0)]),
        ([(0, 0, 0, ".")], []),  # "decidedly not available" (RFC 2782)
    ],
)
def test_the_first_priority_counts_and_weights_are_relative(records, places):
    assert places_of(records) == places


class NameServer(asyncio.DatagramProtocol):
    """Answers SRV questions: `records` by name; a name that is not there does not exist."""

    def __init__(self, records, ttl):
        self.records = records
        self.ttl = ttl

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        question = query.question[0]
        name = question.name.to_text()
        if name not in self.records:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif self.records[name]:
            reply.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "SRV", *self.records[name]))
        self.transport.sendto(reply.to_wire(), peer)


@contextlib.asynccontextmanager
async def name_server(records, ttl=7):
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(records, ttl), local_addr=("127.0.0.1", 0)
    )
    try:
        yield {"nameservers": ["127.0.0.1"], "port": transport.get_extra_info("sockname")[1]}
    finally:
        transport.close()


def test_srv_records_are_read_from_the_wire():
    async def main():
        listed = {"_llm._tcp.example.": ["1 5 8000 gpu-1.example.", "2 6 8001 gpu-2.example."]}
        async with name_server(listed | {"none.example.": []}) as server:
            records, ttl = await lookup("_llm._tcp.example", **server)
            assert sorted(records) == [(1, 5, 8000, "gpu-1.example."), (2, 6, 8001, "gpu-2.example.")]
            assert ttl == 7.0
            assert await lookup("none.example", **server) == ([], None)
            with pytest.raises(OSError) as caught:
                await lookup("other.example", **server)
            assert caught.value.strerror == "there is no such name"

    loop.run(main())


def test_a_name_that_cannot_be_asked_for():
    async def main():
        async with name_server({}) as server:
            with pytest.raises(OSError) as caught:
                await lookup("x" * 70 + ".example", **server)
            assert caught.value.strerror.startswith("the lookup failed")

    loop.run(main())


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ghostllm.routing.discovery.srv", None)
    with pytest.raises(OSError) as caught:
        loop.run(by_srv(source(record="srv")))
    assert "pip install 'ghostllm[dns]'" in caught.value.strerror

"""Looks at backends over real connections: what is asked, when, with which key, and what is made of it."""

import asyncio
import contextlib
import random

import pytest

from ghostllm import backends
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import BackendConfig
from ghostllm.config.traffic import Health as Settings
from ghostllm.net import loop
from ghostllm.ports import Observed
from ghostllm.routing.prober import Prober
from ghostllm.routing.upstream import Upstream
from tests.fakes.fake import Fake
from tests.net import peers
from tests.net.peers import until

OFTEN = Settings(interval=0.03, timeout=5.0, load=0.02)
PROPS = b'{"total_slots":4,"is_sleeping":false}'
METRICS = b"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 2.0\nprocess_start_time_seconds 100\n"


NEVER = "never"
"""A page that is not answered until the client goes."""


class Server:
    """Answers with its pages: path -> (status, body), a coroutine function that gives them, or NEVER."""

    def __init__(self, pages):
        self.pages = pages
        self.heads = []
        self.open = 0

    @property
    def paths(self):
        return [head.split(b" ")[1].decode() for head in self.heads]

    def keyed(self, path):
        return [b"sk-key" in head for head in self.heads if head.startswith(b"GET %b " % path.encode())]

    async def handle(self, reader, writer, number):
        self.open += 1
        try:
            while True:
                head, _ = await peers.read_request(reader)
                self.heads.append(head)
                page = self.pages.get(head.split(b" ")[1].decode(), (404, b"not here"))
                if page is NEVER:
                    await reader.read()
                    return
                status, body = await page() if callable(page) else page
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        finally:
            self.open -= 1


def upstream_at(url, kind="vllm", *, name="b", **options):
    config = BackendConfig(
        name=name, kind=kind, url=url, api_key=Secret("sk-key"), headers={"x-extra": "sk-key"}
    )
    return Upstream(
        config, backends.base_url(config), backends.translator(config, 1 << 20), tls=None, **options
    )


class Scene:
    """A server, a backend that stands for it, and a prober with what it reported."""

    def __init__(self, server, upstream, settings):
        self.server = server
        self.upstream = upstream
        self.upstreams = {upstream.name: upstream}
        self.reports = []
        self.prober = Prober(
            self.upstreams, settings, lambda name, probe: self.reports.append((name, probe)), random.Random(5)
        )
        self.running = None

    def start(self):
        self.running = asyncio.get_running_loop().create_task(self.prober.run())

    async def stop(self):
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    @property
    def probes(self):
        return [probe for _, probe in self.reports if probe.passed is not None]

    @property
    def observed(self):
        return [probe.observed for _, probe in self.reports if probe.observed is not None]

    def asked(self, path):
        return self.server.paths.count(path)


def scene(pages, scenario, *, kind="vllm", settings=OFTEN, base="", **options):
    """Runs `scenario(scene)` on a loop of its own and leaves nothing open."""

    async def main():
        server = Server(pages)
        async with peers.upstream(server.handle) as port:
            here = Scene(server, upstream_at(f"http://127.0.0.1:{port}{base}", kind, **options), settings)
            try:
                await scenario(here)
            finally:
                if here.running is not None and not here.running.done():
                    await here.stop()
                for upstream in {*here.upstreams.values(), here.upstream}:
                    await upstream.close()
            await until(lambda: server.open == 0)

    loop.run(main())


@pytest.mark.parametrize("base", ["", "/v1", "/behind/a/proxy/v1"])
def test_presence_and_load_are_looked_at_at_the_root(base):
    root = base.removesuffix("/v1")
    pages = {f"{root}/health": (200, b""), f"{root}/metrics": (200, METRICS)}

    async def scenario(here):
        here.start()
        await until(lambda: len(here.probes) > 2 and len(here.observed) > 2)
        assert all(name == "b" == probe.backend for name, probe in here.reports)
        assert all(probe.passed and not probe.reason for probe in here.probes)
        assert here.observed[0] == Observed(running=1, waiting=2, started=100)
        assert here.probes[-1].started == 100
        assert set(here.server.paths) == set(pages)
        assert not any(here.server.keyed(path)[0] for path in pages)

    scene(pages, scenario, base=base)


def test_probe_now_looks_at_everything_at_once():
    async def scenario(here):
        probe = await here.prober.probe_now("b")
        assert probe.passed and probe.observed == Observed(running=1, waiting=2, started=100)
        assert here.reports == [("b", probe)]
        with pytest.raises(KeyError):
            await here.prober.probe_now("nobody")

    scene({"/health": (200, b""), "/metrics": (200, METRICS)}, scenario)


def test_one_question_at_a_time_and_no_connection_is_kept():
    busy = most = 0

    async def slow():
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.02)
        busy -= 1
        return 200, METRICS

    async def scenario(here):
        here.start()
        await asyncio.gather(*(here.prober.probe_now("b") for _ in range(5)))
        await until(lambda: len(here.server.heads) > 20)
        assert most == 1
        await here.stop()
        await until(lambda: here.server.open == 0)
        assert here.upstream.pool.idle == 0

    scene({"/health": slow, "/metrics": slow}, scenario)


@pytest.mark.parametrize("status", [200, 204, 401, 403, 404, 429, 501])
def test_whoever_answers_sensibly_is_there(status):
    async def scenario(here):
        assert (await here.prober.probe_now("b")).passed
        assert here.server.keyed("/health") == [False]

    scene({"/health": (status, b"")}, scenario)


def test_a_server_error_is_told_in_the_servers_words():
    async def scenario(here):
        probe = await here.prober.probe_now("b")
        assert probe.passed is False and "Loading model" in probe.reason
        assert not probe.refused and not probe.silent and probe.observed is None
        assert here.server.paths == ["/health"]

    loading = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
    scene({"/health": (503, loading)}, scenario, kind="llamacpp")


def test_silence_and_refusal_are_told_apart():
    async def scenario(here):
        probe = await here.prober.probe_now("b")
        assert (probe.passed, probe.silent, probe.refused) == (False, True, False)
        here.upstreams["gone"] = upstream_at("http://127.0.0.1:1", name="gone")
        probe = await here.prober.probe_now("gone")
        assert (probe.passed, probe.silent, probe.refused) == (False, False, True)
        assert "cannot be reached" in probe.reason
        here.upstreams["nowhere"] = upstream_at("http://host.invalid", name="nowhere")
        probe = await here.prober.probe_now("nowhere")
        assert (probe.passed, probe.refused) == (False, False)

    scene({"/health": NEVER}, scenario, settings=Settings(timeout=0.2))


def test_a_refusal_is_noticed_by_a_look_at_the_load_too():
    async def scenario(here):
        here.upstreams["gone"] = upstream_at("http://127.0.0.1:1", name="gone")
        here.start()
        await until(lambda: sum(probe.backend == "gone" and probe.refused for probe in here.probes) > 1)

    scene({}, scenario, settings=Settings(interval=1000, load=0.02))


def test_a_load_that_cannot_be_learned_is_no_failure():
    async def scenario(here):
        here.start()
        await until(lambda: here.asked("/metrics") > 2)
        assert here.reports == []

    scene({"/metrics": (503, b"")}, scenario, settings=Settings(interval=0, load=0.02))


@pytest.mark.parametrize("page", [(404, b"x"), (501, b"x"), (400, b"x"), (200, b"<html>")])
def test_a_page_that_is_not_there_is_not_asked_for_again(page):
    async def scenario(here):
        here.start()
        await until(lambda: len(here.probes) > 5)
        assert here.asked("/metrics") == 1
        here.server.pages |= {"/health": (503, b""), "/metrics": (200, METRICS)}
        await until(lambda: here.probes[-1].passed is False)
        await until(lambda: here.observed)  # who was away may have come back as another

    scene({"/health": (200, b""), "/metrics": page}, scenario)


@pytest.mark.parametrize("page", [(200, b""), (429, b"x"), (500, b"x")])
def test_a_page_that_says_nothing_just_now_is_asked_for_again(page):
    async def scenario(here):
        here.start()
        await until(lambda: here.asked("/metrics") > 2)

    scene({"/health": (200, b""), "/metrics": page}, scenario)


def test_a_key_is_sent_once_the_server_asks_for_one():
    async def locked():
        keyed = b"sk-key" in server.heads[-1]
        return (200, METRICS) if keyed else (401, b'{"error":"key"}')

    server = None

    async def scenario(here):
        nonlocal server
        server = here.server
        assert (await here.prober.probe_now("b")).observed is not None
        assert here.server.keyed("/metrics") == [False, True]
        here.start()
        await until(lambda: len(here.probes) > 2 and len(here.observed) > 2)
        assert here.server.keyed("/metrics")[2:4] == [False, True]  # by whoever looks from now on
        assert all(here.server.keyed("/metrics")[4:])
        assert not any(here.server.keyed("/health"))

    scene({"/health": (401, b""), "/metrics": locked}, scenario)


def test_another_process_is_looked_at_at_once():
    async def scenario(here):
        here.start()
        await until(lambda: here.observed)
        assert here.asked("/health") == 1
        here.server.pages["/metrics"] = (200, METRICS.replace(b"100", b"200"))
        await until(lambda: len(here.probes) == 2)
        assert [probe.started for probe in here.probes] == [None, 200]
        assert here.probes[1].passed and here.probes[1].observed.waiting == 2

    settings = Settings(interval=1000, load=0.02)
    scene({"/health": (200, b""), "/metrics": (200, METRICS)}, scenario, settings=settings)


def test_a_model_that_sleeps_is_left_asleep():
    async def scenario(here):
        here.start()
        await until(lambda: here.asked("/props") > 2)
        assert here.observed[0] == Observed(slots=4, sleeping=True)
        assert not {"/metrics", "/slots"} & set(here.server.paths)

    pages = {"/health": (200, b""), "/props": (200, PROPS.replace(b"false", b"true"))}
    scene(pages, scenario, kind="llamacpp")


def test_slots_are_counted_only_while_they_work_for_us():
    async def scenario(here):
        here.start()
        await until(lambda: here.asked("/props") > 4)
        assert here.asked("/metrics") == 1 and here.asked("/slots") == 0
        here.upstream.in_flight = 1
        await until(lambda: here.asked("/slots") > 1)
        assert Observed(running=1, slots=4, sleeping=False) in here.observed

    pages = {
        "/health": (200, b""),
        "/props": (200, PROPS),
        "/metrics": (501, b"x"),
        "/slots": (200, b'[{"id":0,"is_processing":true}]'),
    }
    scene(pages, scenario, kind="llamacpp")


def test_a_provider_is_asked_only_if_somebody_wants_to_know():
    async def scenario(here):
        translator = here.upstream.translator
        cloud = BackendConfig(name="b", kind="openai", url="https://x/v1", api_key=Secret("sk-key"))
        here.upstream.translator = backends.translator(cloud, 1 << 20)
        assert translator.looks().probe
        here.start()
        await asyncio.sleep(0.1)
        assert here.server.heads == [] and here.reports == []
        assert (await here.prober.probe_now("b")).passed
        assert here.server.paths == ["/v1/models"] and here.server.keyed("/v1/models") == [True]

    scene({"/v1/models": (200, b'{"data":[]}')}, scenario, kind="openai")


def test_who_sleeps_or_is_not_known_is_left_alone():
    async def wake():
        raise AssertionError("woken")

    async def learn():
        return None

    async def scenario(here):
        here.upstreams["asleep"] = upstream_at("http://127.0.0.1:1", "llamacpp", name="asleep", wake=wake)
        here.start()
        await until(lambda: len(here.prober._watches) == 2)
        await asyncio.sleep(0.1)
        assert here.server.heads == [] and here.reports == []
        for name, word in (("asleep", "asleep"), ("b", "identified")):
            probe = await here.prober.probe_now(name)
            assert probe.passed is None and word in probe.reason

    scene({"/v1/models": (200, b"{}")}, scenario, kind="auto", learn=learn)


def test_backends_come_and_go():
    async def scenario(here):
        here.start()
        await until(lambda: len(here.probes) > 1)
        second = here.upstreams["second"] = upstream_at(here.upstream.config.url, name="second")
        await until(lambda: any(name == "second" for name, _ in here.reports))
        del here.upstreams["b"]
        here.reports.clear()
        await until(lambda: len(here.reports) > 5)
        assert {name for name, _ in here.reports} == {"second"}
        del here.upstreams["second"]
        await until(lambda: not here.prober._watches)
        await second.close()

    scene({"/health": (200, b""), "/metrics": (200, METRICS)}, scenario)


def test_a_look_that_is_broken_off_leaves_nothing_open():
    async def scenario(here):
        here.start()
        await until(lambda: here.server.heads)
        await here.stop()
        await until(lambda: here.server.open == 0)
        assert here.reports == []

    scene({"/health": NEVER}, scenario)


def test_hostile_bytes_are_no_more_than_a_failed_look():
    async def handle(reader, writer, number):
        await peers.read_request(reader)
        writer.write(random.Random(number).randbytes(300) + b"\r\n\r\n")

    async def main():
        async with peers.upstream(handle) as port:
            here = Scene(None, upstream_at(f"http://127.0.0.1:{port}"), OFTEN)
            here.start()
            await until(lambda: len(here.probes) > 10)
            assert not any(probe.passed or probe.refused for probe in here.probes)
            await here.stop()
            await here.upstream.close()

    loop.run(main())


KINDS = {
    "vllm": Observed(running=0, waiting=0, kv_usage=0.25, cache_tokens=9168),
    "llamacpp": Observed(slots=4, sleeping=False),
    "ollama": Observed(loaded=frozenset()),
    "lmstudio": Observed(loaded=frozenset()),
    "transformers": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_server(kind):
    async def main(url):
        here = Scene(None, upstream_at(url, kind), OFTEN)
        probe = await here.prober.probe_now("b")
        await here.upstream.close()
        return probe

    with Fake(kind, "m") as fake:
        probe = loop.run(main(fake.url))
        assert probe.passed, probe.reason
        seen = probe.observed
        if seen is not None and seen.started is not None:
            assert seen.started > 1.7e9 and kind == "vllm"
            seen = Observed(
                running=seen.running,
                waiting=seen.waiting,
                kv_usage=seen.kv_usage,
                cache_tokens=seen.cache_tokens,
            )
        assert seen == KINDS[kind]
        fake.script({"path": fake.requests[0].target, "status": 503, "times": None})
        assert loop.run(main(fake.url)).passed is False

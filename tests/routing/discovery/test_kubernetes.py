"""A service's endpoints, watched at a fake API server over real connections."""

import asyncio
import contextlib

import pytest

from ghostllm.config.finding import KubernetesSource
from ghostllm.net import loop
from ghostllm.routing.discovery.kubernetes import Cluster, KubernetesWatch
from tests.fakes.kubernetes import Api, endpoint, endpoint_slice
from tests.net.peers import until
from tests.routing.discovery.watching import Watch, running

PATH = (
    "/apis/discovery.k8s.io/v1/namespaces/models/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dvllm"
)


def found(*hosts):
    return {f"k-{host}-8000": f"http://{f'[{host}]' if ':' in host else host}:8000" for host in hosts}


def one(address):
    return endpoint_slice(endpoint(address))


@pytest.fixture
def account(tmp_path):
    (tmp_path / "token").write_text("secret-1\n")
    (tmp_path / "namespace").write_text("models")
    return tmp_path


@contextlib.asynccontextmanager
async def watching(api, account, **more):
    watch = Watch()
    source = KubernetesSource(name="k", service="vllm", **more)
    cluster = Cluster(api.url, str(account), first_pause=0.01)
    async with running(KubernetesWatch(source, cluster, watch.report), watch):
        yield watch


def run(account, scenario, **more):
    async def main():
        async with Api() as api:
            api.slices["first"] = one("10.0.0.1")
            async with watching(api, account, **more) as watch:
                await scenario(api, watch)

    loop.run(main())


async def watched(api, number=1):
    await until(lambda: len(api.watches) == number)
    return api.watches[-1]


def test_listed_then_watched(account):
    async def scenario(api, watch):
        await watch.finds(found("10.0.0.1"))
        query = (await watched(api)).query
        assert query["resourceVersion"] == ["100"] and query["allowWatchBookmarks"] == ["true"]
        target, fields = api.requests[0]
        assert target == PATH and fields["authorization"] == "bearer secret-1"
        api.put("second", endpoint_slice(endpoint("10.0.0.2"), endpoint("10.0.0.3", ready=False)))
        await watch.finds(found("10.0.0.1", "10.0.0.2"))
        api.put("second", endpoint_slice(endpoint("10.0.0.2", ready=False), endpoint("fd00::3")))
        await watch.finds(found("10.0.0.1", "fd00::3"))
        api.delete("first")
        await watch.finds(found("fd00::3"))
        assert api.lists == 1 and watch.told == []

    run(account, scenario)


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_events_cut_anywhere_and_events_together(account, piece):
    async def scenario(api, watch):
        api.piece = piece
        await watched(api)
        for number in range(2, 6):
            api.put(f"s{number}", one(f"10.0.0.{number}"))
        await watch.finds(found(*(f"10.0.0.{number}" for number in range(1, 6))))

    run(account, scenario)


def test_the_next_watch_begins_where_the_last_one_was(account):
    async def scenario(api, watch):
        await watched(api)
        api.put("second", one("10.0.0.2"))
        api.bookmark()
        await watch.finds(found("10.0.0.1", "10.0.0.2"))
        api.end()
        await until(lambda: len(api.requests) == 3)
        assert (await watched(api)).query["resourceVersion"] == ["102"]
        assert api.lists == 1 and watch.told == []

    run(account, scenario)


def test_a_watch_that_is_cut_is_taken_up_again(account):
    async def scenario(api, watch):
        await watched(api)
        api.cut()
        await until(lambda: not api.watches)
        api.put("second", one("10.0.0.2"))  # nobody watches: the next one is told of it
        await watch.finds(found("10.0.0.1", "10.0.0.2"))
        assert api.lists == 1 and watch.told == []

    run(account, scenario)


def test_gone_is_listed_again(account):
    async def scenario(api, watch):
        await watched(api)
        api.slices = {"other": one("10.0.0.7")}  # what the watch did not hear of
        api.fail(410, "too old resource version")
        await watch.finds(found("10.0.0.7"))
        assert api.lists == 2 and watch.told == []
        await watched(api)
        api.put("second", one("10.0.0.8"))
        await watch.finds(found("10.0.0.7", "10.0.0.8"))

    run(account, scenario)


def test_an_error_in_the_watch_keeps_what_was_known(account):
    async def scenario(api, watch):
        await watched(api)
        api.fail(500, "etcd is away")
        assert await watch.tells(1) == "etcd is away"
        assert await watch.tells(2) is None
        assert watch.found[-1] == found("10.0.0.1")

    run(account, scenario)


@pytest.mark.parametrize("nonsense", [b"oops\n", b"[]\n", b'{"type":"ADDED"}\n'])
def test_nonsense_in_the_watch_is_told_and_listed_again(account, nonsense):
    async def scenario(api, watch):
        await watched(api)
        api.send(nonsense)
        assert await watch.tells(1)
        assert await watch.tells(2) is None
        assert watch.found[-1] == found("10.0.0.1")

    run(account, scenario)


def test_a_refusal_is_told_once_and_the_token_read_again(account):
    async def main():
        async with Api() as api:
            api.slices["first"] = one("10.0.0.1")
            api.refuse = (403, 'endpointslices is forbidden: User "x" cannot list')
            async with watching(api, account) as watch:
                await until(lambda: len(api.requests) >= 3)
                assert watch.told == [
                    'the Kubernetes API answers 403: endpointslices is forbidden: User "x" cannot list'
                ]
                (account / "token").write_text("secret-2")
                api.refuse = None
                await watch.finds(found("10.0.0.1"))
                assert api.requests[-1][1]["authorization"] == "bearer secret-2"
                assert watch.told[1:] == [None]

    loop.run(main())


def test_an_api_that_goes_away_and_comes_back(account):
    async def main():
        api = Api()
        async with api:
            api.slices["first"] = one("10.0.0.1")
            port = api.port
            async with watching(api, account) as watch:
                await watched(api)
                await api.__aexit__()
                assert "cannot be reached" in await watch.tells(1)
                again = Api()
                again.port = port
                again.slices["second"] = one("10.0.0.2")
                async with again:
                    await watch.finds(found("10.0.0.2"))
                    assert watch.told[-1] is None
                assert watch.found == [found("10.0.0.1"), found("10.0.0.2")]

    loop.run(main())


def test_no_ready_endpoint_is_told(account):
    async def scenario(api, watch):
        assert await watch.tells(1) == "service vllm has no ready endpoint with port grpc"
        assert watch.found == [{}]

    run(account, scenario, port="grpc", namespace="elsewhere")


def test_the_namespace_that_is_named(account):
    async def scenario(api, watch):
        await watch.finds(found("10.0.0.1"))
        assert "/namespaces/elsewhere/" in api.requests[0][0]

    run(account, scenario, namespace="elsewhere")


def test_outside_of_a_cluster_and_without_an_account(tmp_path):
    async def main():
        for cluster, reason in (
            (Cluster.around({}), "this is not a pod: KUBERNETES_SERVICE_HOST is not set"),
            (Cluster("http://127.0.0.1:1", str(tmp_path), 0.01), "No such file or directory"),
        ):
            watch = Watch()
            source = KubernetesWatch(KubernetesSource(name="k", service="s"), cluster, watch.report)
            async with running(source, watch):
                assert await watch.tells(1) == reason
                await asyncio.sleep(0.05)
            assert watch.told == [reason] and watch.found == []

    loop.run(main())


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "https://10.96.0.1:443"),
        (
            {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"},
            "https://[fd00::1]:6443",
        ),
    ],
)
def test_where_the_api_is(environ, url):
    assert Cluster.around(environ).url == url

"""The backends of a gateway whose Kubernetes service grows and shrinks: real connections, fake servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ghostllm.app.fleet_life import FleetLife
from ghostllm.config.finding import Discovery, KubernetesSource
from ghostllm.config.schema import Config
from ghostllm.net import loop
from ghostllm.observe.log import Logger
from ghostllm.observe.render import json_line
from ghostllm.routing.discovery import keep_running
from ghostllm.routing.discovery.kubernetes import Cluster, KubernetesWatch
from tests.fakes.fake import Fake
from tests.fakes.kubernetes import Api, endpoint, endpoint_slice
from tests.net.peers import until


class Life:
    """A fleet's life whose log and changes are kept."""

    def __init__(self, config: Config) -> None:
        self.records: list[dict[str, Any]] = []
        self.changes = 0
        self.tasks: list[asyncio.Task[None]] = []
        sink: Any = self  # all that a logger asks of one is `post`
        self.fleet = FleetLife(config, Logger(sink, json_line, "info"), self.own, self.changed)

    def post(self, line: bytes) -> None:
        self.records.append(json.loads(line))

    def own(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    def changed(self) -> None:
        self.changes += 1

    def models(self) -> dict[str, list[str]]:
        return {
            name: [target.backend for target in model.targets]
            for name, model in self.fleet.catalog.models.items()
        }

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.fleet.close()
        assert [error for error in ended if isinstance(error, Exception)] == []


def test_endpoints_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("n")

    async def scenario(port: int, one: Fake, two: Fake) -> None:
        ports = [{"name": "http", "port": port, "protocol": "TCP"}]
        first, second = f"k-127.0.0.2-{port}", f"k-127.0.0.3-{port}"
        async with Api() as api:
            api.slices["s"] = endpoint_slice(endpoint("127.0.0.2"), ports=ports)
            life = Life(Config(discovery=Discovery(local=False)))
            life.fleet.start(["127.0.0.1:1"])
            source = KubernetesSource(name="k", service="vllm", kind="openai")
            watch = KubernetesWatch(source, Cluster(api.url, str(tmp_path), 0.01), lambda *told: None)
            life.own(keep_running(watch, life.fleet.found, lambda *told: None))
            await until(lambda: life.models() == {"m": [first]})
            kept = life.fleet.upstreams[first]

            api.put("t", endpoint_slice(endpoint("127.0.0.3"), ports=ports))
            await until(lambda: life.models() == {"m": [first, second], "n": [second]})
            assert life.fleet.upstreams[first] is kept

            api.put("s", endpoint_slice(endpoint("127.0.0.2", ready=False, serving=True), ports=ports))
            await until(lambda: life.models() == {"m": [second], "n": [second]})
            assert set(life.fleet.upstreams) == set(life.fleet.inventory.known) == {second}

            api.delete("t")
            await until(lambda: life.models() == {})
            assert life.fleet.inventory.known == life.fleet.inventory.reachable == {}
            events = [record["event"] for record in life.records if record["event"].startswith("backend ")]
            assert events.count("backend added") == events.count("backend removed") == 2
            await until(lambda: one.open_connections == two.open_connections == 0)
            await life.close()

    with Fake("openai", "m", host="127.0.0.2") as one:
        port = int(one.address.rpartition(":")[2])
        with Fake("openai", "m", "n", host="127.0.0.3", port=port) as two:
            loop.run(scenario(port, one, two))

"""The seam between the configuration and the parts that follow it: all of them or none, and to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ghostllm.app.reload import Commit, Part, Reloader
from ghostllm.config.inputs import Inputs
from ghostllm.config.schema import Config
from ghostllm.config.shown import Change
from ghostllm.errors import ConfigError, NotFound
from ghostllm.net import loop
from ghostllm.observe.log import Logger
from ghostllm.observe.render import json_line
from ghostllm.state.configurations import COMPONENT, ConfigurationStore
from ghostllm.state.database import Database
from tests.net.peers import until


class World:
    """A reloader whose parts say what they do, and a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []
        self.records: list[dict[str, Any]] = []
        sink: Any = self  # all that a logger asks of one is `post`
        self.write("info")
        inputs = Inputs(str(path), environ={})
        source = inputs.read()
        self.database = Database(None, [COMPONENT])
        store = ConfigurationStore(self.database)
        log = Logger(sink, json_line, "info")
        self.reloader = Reloader(inputs, source, inputs.build(source), store, log)

    def post(self, line: bytes) -> None:
        self.records.append(json.loads(line))

    def write(self, level: str) -> None:
        self.path.write_text(f'[log]\nlevel = "{level}"\n')

    def part(self, name: str, refuse: str = "", crash: bool = False, later: Any = None) -> Part:
        def part(old: Config, new: Config, undo: ExitStack) -> Commit:
            if refuse and new.log.level == refuse:
                raise ConfigError([f"{name} refuses"])
            self.told.append(f"{name} prepares")
            undo.callback(self.told.append, f"{name} undoes")

            def commit() -> Coroutine[Any, Any, None] | None:
                if crash:
                    raise ValueError(name)
                self.told.append(f"{name} {old.log.level}->{new.log.level}")
                work: Coroutine[Any, Any, None] | None = later() if later is not None else None
                return work

            return commit

        return part

    def events(self) -> list[str]:
        return [record["event"] for record in self.records]


def run(path: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        world = World(path / "c.toml")
        try:
            await scenario(world)
        finally:
            await world.reloader.close()
            world.database.close()

    loop.run(main())


def test_one_part_refuses_and_none_follows(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.reloader.parts += [
            world.part("a"), world.part("b", refuse="error"), world.part("c", refuse="error"),
        ]  # fmt: skip
        world.write("error")
        with pytest.raises(ConfigError, match="b refuses\nc refuses"):
            await world.reloader.reload("test")
        assert world.told == ["a prepares", "a undoes"]
        assert world.reloader.config.log.level == "info"
        world.told.clear()
        world.write("debug")
        assert (await world.reloader.reload("test"))["applied"] is True
        assert world.told == [
            "a prepares", "b prepares", "c prepares", "a info->debug", "b info->debug", "c info->debug",
        ]  # fmt: skip
        assert world.events() == ["configuration not applied", "configuration applied"]

    run(tmp_path, scenario)


def test_a_mistake_in_one_part_keeps_no_other_from_following(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async def fails() -> None:
            raise ValueError("later")

        parts = [world.part("a", crash=True), world.part("b", later=fails), world.part("c")]
        world.reloader.parts += parts
        world.write("error")
        assert (await world.reloader.reload("test"))["applied"] is True
        assert world.told[-2:] == ["b info->error", "c info->error"]
        assert world.events().count("a part does not follow the configuration") == 2

    run(tmp_path, scenario)


def test_who_asked_may_leave(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        go = asyncio.Event()

        async def slow() -> None:
            await go.wait()
            world.told.append("done")

        world.reloader.parts.append(world.part("a", later=slow))
        world.write("error")
        asking = asyncio.create_task(world.reloader.reload("test"))
        await until(lambda: "a info->error" in world.told)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        second = asyncio.create_task(world.reloader.reload("again"))
        await asyncio.sleep(0.01)
        assert not second.done(), "one after the other"
        go.set()
        assert (await second)["applied"] is False
        assert world.told[-1] == "done"

    run(tmp_path, scenario)


def test_many_who_ask_at_once_are_heard_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for _ in range(5):
            world.reloader.ask("signal")
        await until(lambda: "configuration unchanged" in world.events())
        world.write("loud")
        world.reloader.ask("signal")
        await until(lambda: "configuration not applied" in world.events())
        await world.reloader.reload_if_new("watch")
        world.write("louder")
        await world.reloader.reload_if_new("watch")
        assert world.reloader.ended == {"applied": 0, "unchanged": 1, "refused": 2}

    run(tmp_path, scenario)


def test_what_has_changed_outside_the_file(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        found = [Change("backends.b.tls_ca", "changed", "x", "x (another content)")]
        world.reloader.parts.append(world.part("a"))
        world.reloader.outside.append(lambda new: found)
        assert (await world.reloader.difference())["changes"] == [found[0].told()]
        assert world.told == ["a prepares", "a undoes"]
        told = await world.reloader.reload("test")
        assert told["applied"] is True and told["number"] == 2
        assert world.told[-1] == "a info->info"
        found.clear()
        assert (await world.reloader.reload("test"))["applied"] is False

    run(tmp_path, scenario)


def test_back_to_what_can_no_longer_be_read(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        secret = tmp_path / "secret"
        secret.write_text("sk-0123456789")
        world.path.write_text(f'[[keys]]\nname = "k"\nkey = "file:{secret}"\n')
        await world.reloader.reload("test")
        world.write("debug")
        await world.reloader.reload("test")
        secret.unlink()
        with pytest.raises(ConfigError, match="No such file"):
            await world.reloader.rollback("test")
        assert world.reloader.config.log.level == "debug"
        assert (await world.reloader.rollback("test", 1))["applied"] is True
        with pytest.raises(NotFound):
            await world.reloader.rollback("test")
        assert [one["number"] for one in world.reloader.history()] == [4, 3, 2, 1]

    run(tmp_path, scenario)

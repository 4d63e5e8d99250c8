"""Another configuration for a running gateway.

    read ─ check ─ every part prepares ─ every part commits ─ what takes its time
                   └ raises: nothing has changed   └ in one turn of the loop: no request sees half of it

Whatever follows the configuration registers a *part*: `reloader.parts.append(part)`. A part is a function

    part(old: Config, new: Config, undo: ExitStack) -> commit

that does all that can fail, and raises ConfigError if it does: it checks, binds, makes; what it has opened it
gives to `undo`, which is unwound if another part refuses. `commit()` then makes `new` hold. It does not wait
and does not raise; what has to be waited for (closing, accepting) it returns as a coroutine. Parts commit in
the order in which they stand in the list. A part for which nothing has changed returns a commit that does
nothing: a reload is rare, a comparison costs nothing.

What has changed without the configuration saying so (the content of a file that it names) is told by a
function in `reloader.outside`; a reload that finds nothing else to do is then done for that.

Keys that cannot change while the gateway runs stand in `config.fixed`: they keep the value they have, and
every answer says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from typing import Any

from ghostllm.config.fixed import pinned
from ghostllm.config.inputs import Inputs, Source
from ghostllm.config.schema import Config
from ghostllm.config.shown import Change, changes, shown
from ghostllm.errors import ConfigError, NotFound
from ghostllm.observe.log import Logger
from ghostllm.observe.render import timestamp
from ghostllm.state.configurations import Applied, ConfigurationStore

Commit = Callable[[], Coroutine[Any, Any, None] | None]
Part = Callable[[Config, Config, ExitStack], Commit]
Outside = Callable[[Config], list[Change]]

CLOSING = 5.0
"""Seconds for a reload that is under way when the gateway ends."""

MOST_LOGGED = 50
"""Changes that one log record tells of."""


class Reloader:
    """Implements ports.Configurations. config: the one that holds. source: what `config` was made from.
    ended: told how many reloads ended how (applied, unchanged, refused). noted: takes how a reload came that
    no request asked for, what was wrong ("" for nothing), and what has changed.
    """

    def __init__(
        self, inputs: Inputs, source: Source, config: Config, store: ConfigurationStore, log: Logger
    ) -> None:
        self.config = config
        self.parts: list[Part] = []
        self.outside: list[Outside] = []
        self.noted: Callable[[str, str, Any], None] = lambda how, error, changed: None
        self.ended: Counter[str] = Counter(applied=0, unchanged=0, refused=0)
        self._inputs = inputs
        self._seen = source  # as read last, sound or not
        self._store = store
        self._log = log
        self._turn = asyncio.Lock()
        self._asked = False
        self._under_way: set[asyncio.Task[Any]] = set()
        self._current = self._begin(source)

    def __repr__(self) -> str:
        return f"<Reloader {self._current.number} {dict(self.ended)}>"

    def _begin(self, source: Source) -> Applied:
        """The configuration that the gateway was started with, which may be that of the last time."""
        newest = self._store.newest
        if newest is not None and (newest.name, newest.text) == source:
            return newest
        before = None if newest is None else newest.number
        return self._put(source, "start", before, [])

    # --- ports.Configurations

    def effective(self) -> dict[str, Any]:
        return {**_told(self._current), "config": shown(self.config)}

    def history(self) -> list[dict[str, Any]]:
        return [
            {**_told(one), "current": one is self._current, "changes": list(one.changes)}
            for one in self._store.all()
        ]

    async def difference(self) -> dict[str, Any]:
        async with self._turn:
            source, config = await asyncio.to_thread(self._read)
            config, waiting = pinned(self.config, config)
            with ExitStack() as undo:
                self._prepare(config, undo)
            found = self._changes(config)
        return {"file": source.name or None, "changes": found, "needs_restart": _paths(waiting)}

    async def reload(self, how: str) -> dict[str, Any]:
        return await self._to_its_end(self._reload(how, unread=False))

    async def rollback(self, how: str, to: int | None = None) -> dict[str, Any]:
        return await self._to_its_end(self._roll_back(how, to))

    # --- other ways to ask for it

    def ask(self, how: str) -> None:
        """Soon; of several that ask before it has begun, one is heard."""
        if not self._asked:
            self._asked = True
            self._start(self._alone(how, unread=False))

    async def reload_if_new(self, how: str) -> None:
        """Unless the file says what it said when it was read last. What is wrong with it has been logged."""
        try:
            await self._to_its_end(self._alone(how, unread=True))
        except ConfigError:
            return

    async def close(self) -> None:
        """Lets what is under way come to its end, for a while: whoever asked for it is to be told."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=CLOSING)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- the work

    def _start(self, work: Coroutine[Any, Any, dict[str, Any]]) -> asyncio.Task[dict[str, Any]]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, (ConfigError, NotFound)):
                self._log.exception("configuration not applied", error)

    async def _to_its_end(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Whoever asked for it may leave: a configuration that has begun to hold has to hold everywhere."""
        return await asyncio.shield(self._start(work))

    async def _alone(self, how: str, *, unread: bool) -> dict[str, Any]:
        """What no request of the admin API asked for, which would be in the audit log as such."""
        try:
            told = await self._reload(how, unread=unread)
        except ConfigError as error:
            self.noted(how, "; ".join(error.problems), None)
            raise
        if told.get("applied"):
            self.noted(how, "", told["changes"])
        return told

    async def _reload(self, how: str, *, unread: bool) -> dict[str, Any]:
        async with self._turn:
            self._asked = False
            try:
                source = await asyncio.to_thread(self._inputs.read)
                if unread and source == self._seen:
                    return {}
                self._seen = source
                config = await asyncio.to_thread(self._inputs.build, source)
                return await self._apply(config, source, how, self._current.number)
            except ConfigError as error:
                self._refused(how, error)
                raise

    async def _roll_back(self, how: str, to: int | None) -> dict[str, Any]:
        async with self._turn:
            wanted = self._store.find(self._current.previous if to is None else to)
            if wanted is None:
                kept = ", ".join(str(one.number) for one in self._store.all())
                reason = "there is none before this one" if to is None else f"number {to} is not kept"
                raise NotFound(f"no configuration to go back to: {reason}; kept are: {kept}")
            try:
                source = Source(wanted.name, wanted.text)
                config = await asyncio.to_thread(self._inputs.build, source)
                how = f"{how}, back to {wanted.number}"
                told = await self._apply(config, source, how, wanted.previous, back=True)
            except ConfigError as error:
                self._refused(how, error)
                raise
            told["note"] = "until the next reload or restart: the file is as it was"
            return told

    def _read(self) -> tuple[Source, Config]:
        source = self._inputs.read()
        return source, self._inputs.build(source)

    async def _apply(
        self, config: Config, source: Source, how: str, previous: int | None, *, back: bool = False
    ) -> dict[str, Any]:
        """previous: the number of the one that a rollback goes to from then on. back: this is a rollback,
        which is remembered even if it comes to the same. Raises ConfigError.
        """
        config, waiting = pinned(self.config, config)
        found = self._changes(config)
        later: list[Coroutine[Any, Any, None]] = []
        if found:
            with ExitStack() as undo:
                commits = self._prepare(config, undo)
                undo.pop_all()
            later = self._commit(commits, config)
        if found or back:
            self._current = self._put(source, how, previous, found)
        self._tell(how, found, waiting)
        for work in later:
            await self._finish(work)
        told = {**_told(self._current), "applied": bool(found), "changes": found}
        return {**told, "needs_restart": _paths(waiting)}

    def _prepare(self, config: Config, undo: ExitStack) -> list[Commit]:
        """Raises ConfigError with what every part has to say against it."""
        commits: list[Commit] = []
        problems: list[str] = []
        for part in self.parts:
            try:
                commits.append(part(self.config, config, undo))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return commits

    def _commit(self, commits: Iterable[Commit], config: Config) -> list[Coroutine[Any, Any, None]]:
        """A mistake of ours in one part must not keep the others from following."""
        self.config = config
        later = []
        for commit in commits:
            try:
                work = commit()
            except Exception as error:
                self._log.exception("a part does not follow the configuration", error)
            else:
                later += [work] if work is not None else []
        return later

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._log.exception("a part does not follow the configuration", error)

    def _changes(self, config: Config) -> list[dict[str, Any]]:
        found = changes(self.config, config)
        for look in self.outside:
            found += look(config)
        return [change.told() for change in found]

    # --- what is told of it

    def _put(self, source: Source, how: str, previous: int | None, found: list[dict[str, Any]]) -> Applied:
        return self._store.put(
            name=source.name, text=source.text, time=time.time(), how=how, previous=previous, changes=found
        )

    def _tell(self, how: str, found: list[dict[str, Any]], waiting: list[Change]) -> None:
        self.ended["applied" if found else "unchanged"] += 1
        if found:
            self._log.info(
                "configuration applied",
                how=how,
                number=self._current.number,
                changes=found[:MOST_LOGGED],
                more=max(0, len(found) - MOST_LOGGED),
            )
        else:
            self._log.info("configuration unchanged", how=how)
        if waiting:
            self._log.warning("changes that need a restart", keys=_paths(waiting))

    def _refused(self, how: str, error: ConfigError) -> None:
        self.ended["refused"] += 1
        self._log.error("configuration not applied", how=how, problems=error.problems)


def _paths(waiting: Iterable[Change]) -> list[str]:
    return [change.path for change in waiting]


def _told(one: Applied) -> dict[str, Any]:
    return {
        "number": one.number,
        "file": one.name or None,
        "time": timestamp(one.time),
        "how": one.how,
        "previous": one.previous,
    }

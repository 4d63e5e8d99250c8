"""A file with `[[backends]]`, read again whenever it changes.

Looked at once a second: a stat costs nothing and sees what a watch on the file itself misses, such as the
swapped links of a Kubernetes ConfigMap and changes on network file systems.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.config.load import build
from ghostllm.config.schema import BackendConfig
from ghostllm.config.sources import parse_text, suggestion
from ghostllm.config.tree import Raw, Table, TooDeep, located
from ghostllm.errors import ConfigError
from ghostllm.routing.discovery.source import Condition, Found, Report

PERIOD = 1.0
"""Most seconds between two looks."""

SETTLING = 0.1
"""Seconds that a changed file must stay as it is before it is read: it may still be being written."""

Stamp = tuple[int, int, int]
"""When it was changed in nanoseconds, its size, its inode."""


class FileSource:
    """environ: for values such as `env:NAME`. interval: seconds between two looks, if less than a second."""

    name = "file"

    def __init__(self, path: str, environ: Mapping[str, str], interval: float, report: Report) -> None:
        self._path = os.path.expanduser(path)
        self._environ = environ
        self._period = min(PERIOD, interval or PERIOD)
        self._condition = Condition(self.name, report)

    def __repr__(self) -> str:
        return f"<FileSource {self._path} {self._condition!r}>"

    async def run(self, found: Found) -> None:
        read: Stamp | None = None  # of the file as it was read last, sound or not
        while True:
            try:
                stamp = self._stamp()
                if stamp != read and await self._settled(stamp):
                    read = stamp
                    found(self.name, read_backends(self._path, self._environ))
                    self._condition.works()
            except OSError as error:
                read = None
                self._condition.fails(f"{self._path}: cannot be read: {error.strerror}")
            except ConfigError as error:
                self._condition.fails("; ".join(error.problems))
            await asyncio.sleep(self._period)

    async def _settled(self, stamp: Stamp) -> bool:
        await asyncio.sleep(min(SETTLING, self._period))
        return self._stamp() == stamp

    def _stamp(self) -> Stamp:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_size, status.st_ino


def read_backends(path: str, environ: Mapping[str, str]) -> tuple[BackendConfig, ...]:
    """The backends that a TOML, YAML or JSON file lists. Raises OSError, ConfigError with every mistake."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except ValueError:
        raise ConfigError([f"{path}: cannot be read: not UTF-8 text"]) from None
    if not text.strip():  # more likely half written than meant; no backends are `backends = []`
        raise ConfigError([f"{path}: is empty"])
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".json":
        tree = _json_tree(text, path)
    else:
        tree = parse_text(text, path, yaml=suffix in (".yaml", ".yml"))
    problems = [
        f"{tree.place_of(key)}: {ascii(key)[1:-1]}: only [[backends]] belongs here{suggestion(key, [_KEY])}"
        for key in tree
        if key != _KEY
    ]
    listed = Table(tree.place)
    if _KEY in tree:
        listed.put(_KEY, tree[_KEY], tree.place_of(_KEY))
    return build(listed, environ, problems).backends


_KEY = "backends"


def _json_tree(text: str, path: str) -> Table:
    """An object as in TOML, or a list as Prometheus reads it for its file-based discovery."""
    try:
        data = jsonx.loads(text)
        if isinstance(data, list):
            data = {_KEY: [backend for group in data for backend in _target_group(group, path)]}
        if not isinstance(data, dict):
            raise ConfigError([f"{path}: must be an object with backends, or a list of target groups"])
        tree: Table = located(data, {}, path)
    except jsonx.DecodeError as error:
        raise ConfigError([f"{path}: not valid JSON: {error}"]) from None
    except TooDeep as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return tree


def _target_group(group: Any, path: str) -> list[dict[str, Any]]:
    """`{"targets": ["10.0.0.5:8000"], "labels": {…}}`. Of the labels, those that mean something here count:
    __scheme__, job (a name's beginning), kind, weight, max_inflight, api_key.
    """
    targets = group.get("targets") if isinstance(group, dict) else None
    labels = group.get("labels") or {} if isinstance(group, dict) else {}
    if not isinstance(targets, list) or not isinstance(labels, dict):
        raise ConfigError([f"{path}: a target group must be an object with targets, a list, and labels"])
    given = {key: Raw(labels[key]) for key in _LABELS if isinstance(labels.get(key), str)}
    scheme, job = labels.get("__scheme__", "http"), labels.get("job", "file")
    return [
        {"name": f"{job}-{_dashed(str(target))}", "url": f"{scheme}://{target}", **given}
        for target in targets
    ]


def _dashed(target: str) -> str:
    """ADDRESS-PORT, as backends of other sources are called."""
    host, colon, port = target.rpartition(":")
    return f"{host.strip('[]')}-{port}" if colon and port.isdigit() else target


_LABELS = ("kind", "weight", "max_inflight", "api_key")

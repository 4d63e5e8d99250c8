"""The flags that say where settings come from and what they are, shared by `serve` and `check`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from ghostllm.config.fields import fields_of
from ghostllm.config.inputs import Inputs
from ghostllm.config.kinds import Kind
from ghostllm.config.schema import Config, Log
from ghostllm.config.sources import suggestion
from ghostllm.config.tree import Table, place_at
from ghostllm.errors import ConfigError


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """--config and what wins over it."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML or YAML file; without it, GHOSTLLM_CONFIG or a usual place")
    add("--profile", metavar="NAME", help="lay the file's [profile.NAME] tables over the rest of it")
    add(
        "--listen",
        metavar="ADDR",
        action="append",
        default=[],
        help="HOST:PORT; repeatable",
    )
    add("--backend", metavar="[KIND=]URL", action="append", default=[], help=f"an LLM server; KIND: {_KINDS}")
    add("--gguf", metavar="PATH", action="append", default=[], help="run this model file here; repeatable")
    add("--key", metavar="KEY", action="append", default=[], help="a key that clients may use; best env:NAME")
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any setting, such as log.access=false",
    )
    add("--insecure", action="store_true", help="listen beyond this machine although no key is set")
    add("--log-level", choices=_choices("level"), help="least severity that is logged")
    add("--log-format", choices=_choices("format"), help="how log records look")


def load_from(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> tuple[Config, str | None]:
    """The configuration that the flags ask for, and the file it came from, if any. Raises ConfigError."""
    inputs = inputs_of(args, environ)
    return inputs.build(inputs.read()), inputs.path


def inputs_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Inputs:
    """What the flags say a configuration is made of. Raises ConfigError."""
    overrides, problems = [], []
    for text in args.set:
        key, equals, value = text.partition("=")
        if equals:
            overrides.append((key.strip(), value))
        else:
            problems.append("--set: expected KEY=VALUE, such as log.level=debug")
    tree = flag_tree(args, problems)
    if problems:
        raise ConfigError(problems)
    return Inputs(args.config, profile=args.profile, environ=environ, overrides=overrides, flags=tree)


def flag_tree(args: argparse.Namespace, problems: list[str]) -> Table:
    """The settings behind the short flags, each with its flag as the place."""
    tree = Table()
    for flag, path, value in (
        ("--listen", ("server", "listen"), args.listen),
        ("--insecure", ("server", "insecure"), args.insecure),
        ("--log-level", ("log", "level"), args.log_level),
        ("--log-format", ("log", "format"), args.log_format),
    ):
        if value:
            place_at(tree, path, value, flag)
    backends = [backend for text in args.backend if (backend := _backend(text, problems)) is not None]
    backends += [_table("--gguf", name=_stem(path), kind="gguf", path=path) for path in args.gguf]
    _name_apart(backends)
    if backends:
        tree.put("backends", backends, "--backend")
    if args.key:
        keys = [_table("--key", name=f"key-{number}", key=key) for number, key in enumerate(args.key, 1)]
        tree.put("keys", keys, "--key")
    return tree


def _backend(text: str, problems: list[str]) -> Table | None:
    """`[KIND=]URL`. The kind is what stands before the first `=`, unless that is inside the URL."""
    kind, equals, url = text.partition("=")
    if not equals or "/" in kind:
        kind, url = "auto", text
    elif kind not in get_args(Kind):
        hint = suggestion(kind, list(get_args(Kind)))
        problems.append(f"--backend: {ascii(kind)} is no kind of backend{hint}")
        return None
    if kind == "gguf":
        return _table("--backend", name=_stem(url), kind=kind, path=url)
    try:
        name = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        name = ""
    return _table("--backend", name=_named(name), kind=kind, url=url)


def _table(place: str, **values: Any) -> Table:
    table = Table(place)
    for key, value in values.items():
        table.put(key, value, place)
    return table


def _stem(path: str) -> str:
    return _named(os.path.splitext(os.path.basename(path))[0])


def _named(text: str) -> str:
    """A backend's name out of any text."""
    return "".join(char if "!" <= char <= "~" else "-" for char in text) or "backend"


def _name_apart(backends: list[Table]) -> None:
    """Numbers the names that are there already: two servers on one host and port, two files of one name."""
    taken: set[str] = set()
    for backend in backends:
        name, number = backend["name"], 1
        while backend["name"] in taken:
            number += 1
            backend["name"] = f"{name}-{number}"
        taken.add(backend["name"])


def _choices(key: str) -> tuple[str, ...]:
    return get_args(get_args(fields_of(Log)[key].type)[0])


_KINDS = ", ".join(kind for kind in get_args(Kind) if kind != "gguf")

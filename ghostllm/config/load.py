"""Reads the configuration: defaults < file < its profile < environment < flags, then checks it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ghostllm.config.build import Builder, Rejected
from ghostllm.config.check import check
from ghostllm.config.schema import Config
from ghostllm.config.sources import (
    environment_tree,
    parse_file,
    read_text,
    referred_variables,
    set_path,
    take_profile,
    unknown_variables,
)
from ghostllm.config.tree import Raw, Table, TooDeep, located, merged, place_at
from ghostllm.errors import ConfigError


def load(
    path: str | None = None,
    *,
    profile: str | None = None,
    environ: Mapping[str, str],
    overrides: Sequence[tuple[str, str]] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration. Raises ConfigError with every mistake that was found.

    path: a TOML or YAML file, or None for none (`sources.find_file` looks in the usual places). profile: of
    that file; None: what GHOSTLLM_PROFILE says. overrides: dotted keys and values as text (`--set`). flags: a
    tree of settings, winning over the file and the environment, and won over by overrides.
    """
    text = read_text(path) if path else None
    return load_text(text, path or "", profile=profile, environ=environ, overrides=overrides, flags=flags)


def load_text(
    text: str | None,
    path: str,
    *,
    profile: str | None = None,
    environ: Mapping[str, str],
    overrides: Sequence[tuple[str, str]] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """As `load`, of a file that has been read. text: None for no file. path: what the text is called, and by
    its suffix what it is.
    """
    tree = parse_file(text, path) if text is not None else Table()
    profile = profile or environ.get("GHOSTLLM_PROFILE") or None
    if profile and text is None:
        raise ConfigError(
            [f"profile {ascii(profile)} is asked for, but there is no configuration file to hold it"]
        )
    tree = merged(tree, take_profile(tree, profile, path))
    try:
        flag_tree = located(flags or {}, {})
    except TooDeep as error:
        raise ConfigError([str(error)]) from None
    set_tree, problems = override_tree(overrides)
    tree = merged(merged(tree, environment_tree(environ)), merged(flag_tree, set_tree))
    unknown = unknown_variables(environ, referred_variables(tree))
    return build(tree, environ, [*unknown, *problems])


def build(tree: Any, environ: Mapping[str, str], problems: Sequence[str] = ()) -> Config:
    """A checked Config out of one tree. problems: those known before. Raises ConfigError."""
    builder = Builder(environ)
    builder.problems.extend(problems)
    try:
        config: Config = builder.section(Config, located(tree, {}), (), "")
    except TooDeep as error:
        raise ConfigError([str(error)]) from None
    except Rejected:
        raise ConfigError(builder.problems) from None
    check(config, builder)
    if builder.problems:
        raise ConfigError(builder.problems)
    return config


def override_tree(overrides: Sequence[tuple[str, str]]) -> tuple[Table, list[str]]:
    """The settings of `--set key=value`, and the problems with their keys."""
    tree, problems = Table(), []
    for key, value in overrides:
        place = f"--set {key}"
        try:
            place_at(tree, set_path(key), Raw(value), place)
        except ValueError as error:
            problems.append(f"{ascii(place)[1:-1]}: {error}")
    return tree, problems

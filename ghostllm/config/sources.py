"""Where settings come from: a file and its profile, environment variables, `--set`. Unchecked trees."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Set
from typing import Any

from ghostllm.config.fields import env_names
from ghostllm.config.toml_places import toml_lines
from ghostllm.config.tree import Path, Raw, Table, TooDeep, located, place_at
from ghostllm.config.yaml_file import parse_yaml
from ghostllm.errors import ConfigError

LEFT_ALONE = frozenset({
    "GHOSTLLM_CONFIG", "GHOSTLLM_PROFILE", "GHOSTLLM_PURE", "GHOSTLLM_KEY", "GHOSTLLM_URL",
})  # fmt: skip
"""Variables with a meaning of their own: the file, the profile, no native modules, two of ghostctl."""

_PREFIX = "GHOSTLLM_"
_CLUSTER = re.compile(
    r"GHOSTLLM_(?:SERVICE_(?:HOST|PORT)(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every container of a namespace that has a service called `ghostllm`."""


def find_file(environ: Mapping[str, str]) -> str | None:
    """GHOSTLLM_CONFIG, else the first that exists of the usual places, else None."""
    if named := environ.get("GHOSTLLM_CONFIG"):
        return named
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    usual = ("ghostllm.toml", os.path.join(home, "ghostllm", "ghostllm.toml"), "/etc/ghostllm/ghostllm.toml")
    return next((path for path in usual if os.path.isfile(path)), None)


def read_text(path: str) -> str:
    """Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None


def parse_file(text: str, path: str) -> Table:
    """The tree of a file's text, profiles included. TOML, or YAML by its suffix. Raises ConfigError."""
    return parse_text(text, path, yaml=path.lower().endswith((".yaml", ".yml")))


def parse_text(text: str, name: str, *, yaml: bool = False) -> Table:
    """As parse_file. name: what messages call the file."""
    places: dict[Path, str] = {}
    if yaml:
        data = parse_yaml(text, name)
        data = Table(name) if data is None else data
        if not isinstance(data, Table):
            raise ConfigError([f"{name}: must be a mapping of sections, such as `server:`"])
    else:
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([_toml_problem(name, str(error))]) from None
        except RecursionError:
            raise ConfigError([f"{name}: nested too deeply"]) from None
        places = {key: f"{name}:{line}" for key, line in toml_lines(text.replace("\r\n", "\n")).items()}
    try:
        tree: Table = located(data, places, name)
    except TooDeep as error:
        raise ConfigError([f"{name}: {error}"]) from None
    return tree


def _toml_problem(name: str, message: str) -> str:
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    return f"{name}:{match[2]}: not valid TOML: {match[1]}" if match else f"{name}: not valid TOML: {message}"


def take_profile(tree: Table, profile: str | None, name: str) -> Table:
    """Removes `profile` from the file's tree and returns the chosen one's. Raises ConfigError."""
    place = tree.place_of("profile")
    profiles = tree.pop("profile", Table(place))
    if not isinstance(profiles, Table) or not all(isinstance(value, Table) for value in profiles.values()):
        raise ConfigError([f"{place}: profile: must hold tables: [profile.NAME.server] and the like"])
    if profile is None:
        return Table(place)
    if profile in profiles:
        chosen: Table = profiles[profile]
        if "profile" in chosen:
            raise ConfigError(
                [f"{chosen.place_of('profile')}: profile.{profile}.profile: a profile holds no profiles"]
            )
        return chosen
    known = ", ".join(sorted(profiles)) or "none"
    raise ConfigError(
        [f"{name}: no profile {ascii(profile)}{suggestion(profile, profiles)}; there are: {known}"]
    )


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean "x"?`, or nothing."""
    close = difflib.get_close_matches(word[:100], list(known), n=1)
    return f'; did you mean "{prefix}{close[0]}"?' if close else ""


def environment_tree(environ: Mapping[str, str]) -> Table:
    """What GHOSTLLM_… variables set. An empty variable counts as not set."""
    tree = Table("environment")
    if not _ours(environ):
        return tree
    for name, path in env_names().items():
        if value := environ.get(name):
            place_at(tree, path, Raw(value), name)
    return tree


def _ours(environ: Mapping[str, str]) -> bool:
    """Whether any could be meant for us: going through all keys of the schema takes a while at the start."""
    return any(name.startswith(_PREFIX) for name in environ)


def unknown_variables(environ: Mapping[str, str], referred: Set[str]) -> list[str]:
    """Problems with GHOSTLLM_… variables that mean nothing.

    referred: those that settings name as env:NAME; they belong to the operator, whatever they are called.
    """
    if not _ours(environ):
        return []
    known = LEFT_ALONE | env_names().keys()
    ends = [name.removeprefix(_PREFIX) for name in known]
    return [
        f"environment: {ascii(name)[1:-1]}: unknown variable{suggestion(name[len(_PREFIX) :], ends, _PREFIX)}"
        for name in sorted(environ)
        if name.startswith(_PREFIX) and name not in known | referred and not _CLUSTER.fullmatch(name)
    ]


def referred_variables(tree: Any) -> Set[str]:
    """Variables that settings refer to as env:NAME, also inside the text of variables and `--set`."""
    if isinstance(tree, Mapping):
        return frozenset().union(*map(referred_variables, tree.values()))
    if isinstance(tree, list):
        return frozenset().union(*map(referred_variables, tree))
    if isinstance(tree, Raw):
        return frozenset(re.findall(r"env:(\w+)", tree))
    return frozenset([tree[4:]]) if isinstance(tree, str) and tree.startswith("env:") else frozenset()


def set_path(text: str) -> tuple[str, ...]:
    """The parts of a dotted key, as TOML reads it. Raises ValueError."""
    try:
        data: Any = tomllib.loads(f"{text} = 0") if "\n" not in text else {}
    except (tomllib.TOMLDecodeError, RecursionError):
        data = {}
    parts: list[str] = []
    while isinstance(data, dict) and len(data) == 1:
        key, data = next(iter(data.items()))
        parts.append(key)
    if not parts or data != 0 or len(parts) > 16:
        raise ValueError("is not a key such as server.limits.body_bytes")
    return tuple(parts)

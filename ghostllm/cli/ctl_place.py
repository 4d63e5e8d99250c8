"""Where the gateway is and with which key it is asked: flags, then variables, then the user's own file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT = ("the default", DEFAULT_URL)
SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "url": str,
    "key": str,
    "timeout": (int, float),
    "model": str,
}


class Misused(Exception):
    """What was asked for makes no sense; the message says what would."""


@dataclass(slots=True, frozen=True, repr=False)
class Place:
    """Each with the words for where it was said. timeout: seconds; None: what the command thinks right. file:
    the user's own, whether it is there or not; "" where there is no home.
    """

    url: str
    url_from: str
    key: str
    key_from: str
    timeout: float | None
    model: str
    file: str


def find(url: str | None, key: str | None, environ: Mapping[str, str]) -> Place:
    """url, key: of the flags. Raises Misused."""
    file = own_file(environ)
    told = read(file) if file else {}
    variable = environ.get
    url, url_from = _first(
        ("--url", url), ("GHOSTLLM_URL", variable("GHOSTLLM_URL")), (file, told.get("url")), DEFAULT
    )
    key, key_from = _first(
        ("--key", key), ("GHOSTLLM_KEY", variable("GHOSTLLM_KEY")), (file, told.get("key"))
    )
    if not sound_url(url):
        raise Misused(f"{url_from}: expected a URL such as {DEFAULT_URL}")
    if key and key_from == file:
        key = _secret(key, file, environ)
    if not sound_key(key):
        raise Misused(f"{key_from}: a key is visible ASCII without spaces")
    model, _ = _first(("GHOSTLLM_MODEL", variable("GHOSTLLM_MODEL")), (file, told.get("model")))
    return Place(url.rstrip("/"), url_from, key, key_from, told.get("timeout"), model, file)


def own_file(environ: Mapping[str, str]) -> str:
    if named := environ.get("GHOSTLLM_CTL_CONFIG"):
        return named
    home = environ.get("HOME") or environ.get("USERPROFILE")
    base = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    return f"{base}/ghostllm/ctl.toml" if base else ""


def read(file: str) -> dict[str, Any]:
    """The file's settings, none if it is not there. Raises Misused for one that is wrong, or that holds a key
    and can be read by others.
    """
    path = Path(file)
    try:
        mode = path.stat().st_mode
        told = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Misused(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    for name, value in told.items():
        kind = SETTINGS.get(name)
        if kind is None:
            raise Misused(f"{file}: no setting {name!r}; there are: {', '.join(SETTINGS)}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Misused(f"{file}: {name} is a {'number' if name == 'timeout' else 'string'}")
    if not 0 < told.get("timeout", 1) < 1e6:
        raise Misused(f"{file}: timeout is seconds above 0")
    if told.get("key") and os.name == "posix" and mode & 0o077:
        raise Misused(f"{file} holds a key and others can read it: chmod 600 {file}")
    return told


def sound_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return sound and "@" not in text and text.isprintable() and " " not in text


def sound_key(text: str) -> bool:
    return re.fullmatch("[!-~]*", text) is not None


def _first(*given: tuple[str, str | None]) -> tuple[str, str]:
    """The first that is not empty, and where it was said; twice "" if none is."""
    return next(((value, place) for place, value in given if value), ("", ""))


def _secret(text: str, file: str, environ: Mapping[str, str]) -> str:
    """`env:NAME` and `file:PATH`, as the gateway's own configuration has them."""
    kind, colon, rest = text.partition(":")
    if kind == "env" and colon:
        value = environ.get(rest)
        if not value:
            raise Misused(f"{file}: key: the variable {rest} is not set")
        return value
    if kind == "file" and colon:
        try:
            return Path(rest).expanduser().read_text("utf-8").strip()
        except (OSError, ValueError, RuntimeError) as error:
            raise Misused(f"{file}: key: {getattr(error, 'strerror', None) or error}: {rest}") from None
    return text

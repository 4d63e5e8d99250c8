"""`ghostctl keys`: API keys of a running gateway, listed, made, rotated, revoked."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ghostllm.cli.ctl_http import Gateway
from ghostllm.cli.ctl_show import Told, plain, table

KEYS = "/admin/api/keys"
COLUMNS = ("name", "id", "state", "roles", "team", "models", "expires", "last_used", "source")
TIMES = ("created", "expires", "revoked", "last_used")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_keys(commands: Any, add_common: Callable[[argparse.ArgumentParser], None]) -> None:
    """The commands, below `keys`. commands: the sub-parsers of the whole."""
    says = "the API keys: list, create, rotate, revoke"
    keys = commands.add_parser(
        "keys", help=says, description="The API keys of a gateway.", allow_abbrev=False
    )
    words = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[..., int], says: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = words.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", allow_abbrev=False
        )
        sub.set_defaults(command=command)
        add_common(sub)
        return sub

    add("list", _list, "all keys and how they stand; never the keys themselves")
    sub = add("create", _create, "make a key, which is shown this once")
    sub.add_argument("name", metavar="NAME", help="what logs and metrics show instead of the key")
    sub.add_argument("--role", action="append", metavar="ROLE", help="may be repeated; default user")
    sub.add_argument(
        "--model", action="append", metavar="PATTERN", help="a model it may use; may be repeated"
    )
    sub.add_argument("--team", help="whom its use is counted for as well")
    sub.add_argument("--limits", metavar="NAME", help="the name of its limits")
    sub.add_argument("--weight", type=float, help="its share of a queue; default 1")
    sub.add_argument("--priority", type=int, help="in a queue, higher ones go first; default 0")
    _add_expires(sub, "when it ends; default never")
    sub = add("rotate", _rotate, "make a new key under the name of one, which ends a while later")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument(
        "--overlap",
        type=_duration,
        metavar="TIME",
        help="how long the old key goes on: 0, 30m, 1d; default 1h",
    )
    _add_expires(sub, "when the new one ends; default as the old one")
    sub = add("revoke", _revoke, "end a key at once")
    sub.add_argument("which", metavar="NAME|ID", help="all keys of a name, or the one of an id")


def _add_expires(sub: argparse.ArgumentParser, says: str) -> None:
    sub.add_argument("--expires", type=_moment, metavar="TIME", help=f"30d, 12h, or 2027-01-31: {says}")


# --- commands


def _list(gateway: Gateway, args: argparse.Namespace) -> int:
    value, keys = gateway.listed(KEYS, "keys")
    return _print(args, value, rows(keys))


def _create(gateway: Gateway, args: argparse.Namespace) -> int:
    wanted = {
        "name": args.name, "roles": args.role, "models": args.model, "team": args.team, "limits": args.limits,
        "weight": args.weight, "priority": args.priority, "expires": args.expires,
    }  # fmt: skip
    return _handed_out(args, gateway.asked(KEYS, method="POST", body=_given(wanted)))


def _rotate(gateway: Gateway, args: argparse.Namespace) -> int:
    wanted = _given({"overlap": args.overlap, "expires": args.expires})
    return _handed_out(args, gateway.asked(KEYS, args.name, "rotate", method="POST", body=wanted))


def _revoke(gateway: Gateway, args: argparse.Namespace) -> int:
    value = gateway.asked(KEYS, args.which, method="DELETE")
    keys = value.get("keys")
    told = [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    code = _print(args, value, rows(told))
    if not all(key.get("kept", True) for key in told):
        _warn("the gateway has not written it down: started anew, it may take the key again")
    _warn_of_others(told)
    return code


def _handed_out(args: argparse.Namespace, told: dict[str, Any]) -> int:
    code = _print(args, told, [plain(told.get("key")), *rows([told])] if not args.json else [])
    _warn("this is the only time that the key is shown")
    if told.get("kept") is False:
        _warn("the gateway has no state.file, or cannot write to it: the key is gone when it stops")
    _warn_of_others([told])
    return code


def _warn_of_others(told: Sequence[Told]) -> None:
    shared = [key.get("shared") for key in told]
    if "no" in shared:
        _warn("this gateway only: for all of one redis to know the same keys, set the same state.key_secret")
    if "later" in shared:
        _warn("redis is away: the other gateways hear of it when it is back")


def rows(keys: Sequence[Told]) -> list[str]:
    head = [name.replace("_", " ").upper() for name in COLUMNS]
    return table([head, *([_cell(key, name) for name in COLUMNS] for key in keys)])


def _cell(key: Told, name: str) -> str:
    value = key.get(name)
    if name in TIMES and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%MZ")
        except (ValueError, OverflowError, OSError):
            return plain(value)
    return "all" if name == "models" and value == [] else plain(value)


def _given(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value is not None}


def _print(args: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    print(json.dumps(value, indent=2) if args.json else "\n".join(lines))
    return 0


def _warn(text: str) -> None:
    """Not among the lines that a script reads."""
    sys.stdout.flush()
    print(f"ghostctl: {text}", file=sys.stderr)


# --- the command line


def _duration(text: str) -> float:
    """Seconds of 90, 30m, 12h, 7d, 2w."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError("expected seconds, or a number with s, m, h, d or w: 30m, 7d")
    return float(int(match[1]) * UNITS[match[2] or "s"])


def _moment(text: str) -> float | str:
    """A time as the gateway takes it: from now on, or as it is written."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*", text):
        return text
    return time.time() + _duration(text)

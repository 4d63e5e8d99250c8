"""`ghostctl config`: the configuration of a running gateway."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ghostllm.cli.ctl_http import Gateway
from ghostllm.cli.ctl_show import Told, mapping, objects, plain, table

CONFIG = "/admin/api/config"
FAILED = 1
INVALID = 422
SIGNS = {"added": "+", "removed": "-", "changed": "~"}

Command = Callable[[Gateway, argparse.Namespace], int]


def add_config(commands: Any, common: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds `config` and what follows it. common: adds the flags that every command has."""
    says = "the configuration of the running gateway: see it, change it, go back"
    group = commands.add_parser("config", help=says, description=f"{says.capitalize()}.", allow_abbrev=False)
    group.set_defaults(command=lambda gateway, args: _usage(group))
    common(group)
    words = group.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Command, says: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = words.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", allow_abbrev=False
        )
        sub.set_defaults(command=command)
        common(sub)
        return sub

    add("show", _show, "every key as it holds; secrets by where they were read")
    add("diff", _diff, "check the file, and say what a reload would change; exit code 1 if it is wrong")
    add("reload", _reload, "read the file again and apply it; what is wrong changes nothing, exit code 1")
    sub = add("rollback", _rollback, "go back to the configuration before this one, until the next reload")
    sub.add_argument("--to", type=_number, help="or to this number of the history")
    add("history", _history, "the last ten that were applied")


def _usage(group: argparse.ArgumentParser) -> int:
    group.print_help(sys.stderr)
    return 2


def _show(gateway: Gateway, args: argparse.Namespace) -> int:
    told = gateway.asked(CONFIG)
    head = f"number {plain(told.get('number'))} ({plain(told.get('how'))}) of {plain(told.get('time'))}"
    lines = [f"# {head}, file: {plain(told.get('file'))}", *_section(mapping(told.get("config")), ())]
    return _print(args, told, lines)


def _diff(gateway: Gateway, args: argparse.Namespace) -> int:
    return _changing(gateway, args, "GET", f"{CONFIG}/diff", "a reload would change nothing")


def _reload(gateway: Gateway, args: argparse.Namespace) -> int:
    return _changing(gateway, args, "POST", f"{CONFIG}/reload", "nothing has changed")


def _rollback(gateway: Gateway, args: argparse.Namespace) -> int:
    path = f"{CONFIG}/rollback" + (f"?to={args.to}" if args.to else "")
    return _changing(gateway, args, "POST", path, "that is what holds already")


def _history(gateway: Gateway, args: argparse.Namespace) -> int:
    value, rows = gateway.listed(f"{CONFIG}/history", "configurations")
    lines = [["", "NUMBER", "TIME", "HOW", "CHANGES"]]
    for row in rows:
        changed = ", ".join(plain(change.get("path")) for change in objects(row.get("changes")))
        shown = changed if len(changed) <= 60 else changed[:57] + "..."
        mark = "*" if row.get("current") is True else ""
        lines.append([mark, plain(row.get("number")), plain(row.get("time")), plain(row.get("how")), shown])
    return _print(args, value, table(lines))


def _changing(gateway: Gateway, args: argparse.Namespace, method: str, path: str, same: str) -> int:
    answer = gateway.ask(method, path)
    problems = mapping(mapping(answer.value).get("error")).get("problems")
    if answer.status == INVALID and isinstance(problems, list):
        if args.json:
            print(json.dumps(answer.value, indent=2))
        count = len(problems)
        print(f"ghostctl: {count} mistake{'s' if count != 1 else ''}, nothing has changed:", file=sys.stderr)
        for problem in problems:
            print(f"  {plain(problem)}", file=sys.stderr)
        return FAILED
    told = gateway.good(answer, path)
    lines = [_change(change) for change in objects(told.get("changes"))] or [same]
    if told.get("applied") is True:
        lines.append(f"applied, number {plain(told.get('number'))}")
    if told.get("note"):
        lines.append(plain(told["note"]))
    if told.get("needs_restart"):
        lines.append(f"needs a restart: {plain(told['needs_restart'])}")
    return _print(args, told, lines)


def _change(change: Told) -> str:
    kind = plain(change.get("change"))
    line = f"{SIGNS.get(kind, '?')} {plain(change.get('path'))}"
    if kind == "changed":
        return f"{line}: {plain(change.get('before'))} -> {plain(change.get('after'))}"
    section = mapping(change.get("after") or change.get("before"))
    rest = [f"{plain(name)} {plain(value)}" for name, value in section.items() if name != "name"]
    return f"{line}: {', '.join(rest)}" if rest else line


def _section(section: Told, path: tuple[str, ...], *, one_of_many: bool = False) -> list[str]:
    """A table and those in it, as TOML has them, more or less."""
    inner = {name: value for name, value in section.items() if _is_section(value)}
    lines = [f"{plain(name)} = {json.dumps(value)}" for name, value in section.items() if name not in inner]
    if (lines or one_of_many) and path:
        title = f"[{'.'.join(map(plain, path))}]"
        lines.insert(0, f"[{title}]" if one_of_many else title)
    for name, value in inner.items():
        here = (*path, name)
        many = isinstance(value, list)
        for item in value if many else [value]:
            inside = _section(item, here, one_of_many=many)
            lines += ["", *inside] if inside[:1] != [""] else inside
    return lines


def _is_section(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and "name" in item for item in value)
    return isinstance(value, dict) and bool(value)


def _number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected a number of `ghostctl config history`")
    return int(text)


def _print(args: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    print(json.dumps(value, indent=2) if args.json else "\n".join(lines))
    return 0

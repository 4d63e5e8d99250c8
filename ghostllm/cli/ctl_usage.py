"""`ghostctl usage` and `ghostctl limits`: what was used and spent, and what is left."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ghostllm.cli.ctl_http import Gateway
from ghostllm.cli.ctl_show import milliseconds, objects, plain, table

USAGE, LIMITS = "/admin/api/usage", "/admin/api/limits"
GROUPS = ("key", "team", "model", "asked", "backend", "route", "outcome", "day", "month")
SUMS = ("requests", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "cost", "currency")
LIMIT_COLUMNS = ("kind", "name", "in_flight", "remaining_requests", "remaining_tokens")
BUDGET_COLUMNS = ("kind", "name", "day", "day_budget", "month", "month_budget", "held")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute. Clients choose some of the names."""

Add = Callable[[str, Callable[[Gateway, argparse.Namespace], int], str], argparse.ArgumentParser]


def add_to(add: Add) -> None:
    """add: makes a command of a name, a function and what it says."""
    sub = add("usage", _usage, "what was used and spent, by key or whatever else")
    sub.add_argument(
        "--by", type=_groups, default=["key"], metavar="GROUPS", help=f"of {','.join(GROUPS)}; default key"
    )
    sub.add_argument("--since", type=_moment, metavar="TIME", help="a month, a day, or a time with its zone")
    sub.add_argument("--until", type=_moment, metavar="TIME", help="likewise; not counted in itself")
    sub.add_argument(
        "--where", type=_filter, action="append", default=[], metavar="GROUP=VALUE", help="only those"
    )
    sub.add_argument("--csv", action="store_true", help="print comma-separated values")
    add("limits", _limits, "what is left of limits and budgets, of those who use them now")


def _usage(gateway: Gateway, args: argparse.Namespace) -> int:
    filters = {"by": ",".join(args.by), "since": args.since, "until": args.until, **dict(args.where)}
    value, rows = gateway.listed(USAGE, "usage", filters)
    if args.json:
        print(json.dumps(value, indent=2))
    elif args.csv:
        sys.stdout.write(_csv(args.by, rows))
    else:
        print("\n".join(_table(args.by, rows)))
        if value.get("lost"):
            print(f"{plain(value['lost'])} records could not be written since the start", file=sys.stderr)
    return 0


def _limits(gateway: Gateway, args: argparse.Namespace) -> int:
    value = gateway.asked(LIMITS)
    if args.json:
        print(json.dumps(value, indent=2))
        return 0
    limits = objects(value.get("limits"))
    print("\n".join(_rows(LIMIT_COLUMNS, limits)))
    budgets = objects(value.get("budgets"))
    if budgets:
        print("\n".join(["", *_rows(BUDGET_COLUMNS, budgets)]))
    return 0


def _rows(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    head = [name.replace("_", " ").upper() for name in names]
    return table([head, *([plain(row.get(name)) for name in names] for row in rows)])


def _table(by: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    head = [name.removesuffix("_tokens").upper() for name in (*by, *SUMS)]
    lines = [
        [*(plain(row.get(name)) for name in by), *(_sum(row, name) for name in SUMS), _mean(row)]
        for row in rows
    ]
    return table([[*head, "TOOK"], *lines])


def _sum(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else plain(value)


def _mean(row: Mapping[str, Any]) -> str:
    seconds = row.get("duration")
    return milliseconds(seconds * 1000) if isinstance(seconds, (int, float)) else "-"


def _csv(by: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [*by, *SUMS, "duration", "ttft"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = "" if value == "" else plain(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _groups(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"no group {name!r}; there are: {', '.join(GROUPS)}")
    return names


def _moment(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}(-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9:]+))?)?", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected 2026-03, 2026-03-01 or 2026-03-01T12:00:00Z")
    return text


def _filter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in GROUPS:
        raise argparse.ArgumentTypeError(f"expected GROUP=VALUE; groups are {', '.join(GROUPS)}")
    return name, value

"""`ghostctl audit`: what operators did."""

from __future__ import annotations

import argparse
from typing import Any

from ghostllm.cli import ctl_show as show
from ghostllm.cli.ctl_http import Gateway

PATH = "/admin/api/audit"
OUTCOMES = ("done", "refused", "failed")


def add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--who", help="only those of this key")
    sub.add_argument("--outcome", choices=OUTCOMES, help="only those that ended so")
    sub.add_argument("--before", metavar="NUMBER", type=_number, help="only those before this one")


def asked(gateway: Gateway, args: argparse.Namespace) -> tuple[Any, list[str]]:
    """The answer's JSON, and its lines for a terminal. Raises Unanswered."""
    filters = {"limit": args.limit, "who": args.who, "outcome": args.outcome, "before": args.before}
    value, rows = gateway.listed(PATH, "audit", filters)
    return value, show.audit(rows)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError("expected the number of an action")
    return int(text)

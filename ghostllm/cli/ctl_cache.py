"""`ghostctl cache`: the answers that a gateway keeps, and having them forgotten."""

from __future__ import annotations

import argparse
from typing import Any

from ghostllm.cli.ctl_http import Gateway, Unanswered
from ghostllm.cli.ctl_show import mapping, pairs, plain

PATH = "/admin/api/cache"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("action", nargs="?", choices=("show", "flush"), default="show", help="default: show")
    sub.add_argument("--model", help="flush: only answers of this model, or of those that match a pattern")
    whose = sub.add_mutually_exclusive_group()
    whose.add_argument("--of-key", metavar="NAME", help="flush: only answers to this key's requests")
    whose.add_argument("--of-team", metavar="NAME", help="flush: only answers to this team's requests")


def asked(gateway: Gateway, args: argparse.Namespace) -> dict[str, Any]:
    """Raises Unanswered."""
    given = {"model": args.model, "key": args.of_key, "team": args.of_team}
    body = {name: value for name, value in given.items() if value is not None}
    if args.action == "flush":
        return gateway.asked(f"{PATH}/flush", method="POST", body=body)
    if body:
        raise Unanswered("--model, --of-key and --of-team are for `ghostctl cache flush`")
    return gateway.asked(PATH)


def lines(told: dict[str, Any]) -> list[str]:
    if "flushed" in told:
        late = "" if told.get("complete") is True else "; the shared store is away and still has its own"
        return [f"{plain(told['flushed'])} answers forgotten{late}"]
    shared = mapping(told.get("redis"))
    own = pairs({name: value for name, value in told.items() if name != "redis"})
    return [*own, "", "REDIS", *pairs(shared)] if shared else own

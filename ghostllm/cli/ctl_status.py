"""`ghostctl status`: is it alive, is it ready, and for those who may know, how it stands as a whole."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from ghostllm.cli import ctl_show as show
from ghostllm.cli.ctl_http import Gateway, Unanswered
from ghostllm.cli.ctl_show import Told, mapping, milliseconds, objects, plain

FAILED = 1
PATH = "/admin/api/status"
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def status(gateway: Gateway, args: argparse.Namespace) -> int:
    """Exit code 0 only if the gateway is healthy and ready."""
    if args.watch is not None:
        return _watch(gateway, args)
    fine, told = look(gateway)
    print(json.dumps(told, indent=2) if args.json else "\n".join(lines(told)))
    return 0 if fine else FAILED


def _watch(gateway: Gateway, args: argparse.Namespace) -> int:
    """Until it is interrupted. A gateway that is away for a while is no reason to end."""
    while True:
        try:
            _, told = look(gateway)
            shown = [json.dumps(told)] if args.json else lines(told)
        except Unanswered as error:
            shown = [json.dumps({"url": gateway.url, "error": str(error)}) if args.json else str(error)]
        if not args.json:
            shown = [f"{time.strftime('%H:%M:%S')}  every {args.watch:g} s, Ctrl-C ends", "", *shown]
        clear = CLEAR if sys.stdout.isatty() and not args.json else ""
        print(clear + "\n".join(shown), flush=True)
        time.sleep(args.watch)


def look(gateway: Gateway) -> tuple[bool, dict[str, Any]]:
    """Whether it is healthy and ready, and all that it tells. Raises Unanswered."""
    answers = {name: gateway.ask("GET", f"/{name}") for name in ("health", "ready", "version")}
    fine = answers["health"].status == 200 and answers["ready"].status == 200
    told: dict[str, Any] = {"url": gateway.url}
    told |= {name: {"status": answer.status, "body": answer.value} for name, answer in answers.items()}
    try:
        told["status"] = gateway.asked(PATH)
    except Unanswered as error:
        told["status"], told["why"] = None, str(error)
    return fine, told


def lines(told: Told) -> list[str]:
    rows: dict[str, str] = {"url": plain(told.get("url"))}
    for name in ("health", "ready"):
        answer = mapping(told.get(name))
        rows[name] = f"{plain(mapping(answer.get('body')).get('status'))} ({plain(answer.get('status'))})"
    for name, value in mapping(mapping(told.get("version")).get("body")).items():
        rows[plain(name)] = plain(value)
    whole = mapping(told.get("status"))
    if not whole:
        return show.pairs(rows | {"more": f"not told: {plain(told.get('why'))}"})
    rows |= {
        "state": plain(whole.get("state")),
        "up": f"{_span(whole.get('uptime_s'))}, since {plain(whole.get('started'))}",
        "listening": plain(whole.get("listening")),
        "backends": _backends(mapping(whole.get("backends"))),
        "models": _models(mapping(whole.get("models"))),
        "requests": _requests(mapping(whole.get("requests"))),
        "rates": _rates(mapping(whole.get("rates"))),
        "process": _process(mapping(whole.get("process"))),
        "config": _few(mapping(whole.get("config"))),
    }
    return show.pairs(rows) + _queues(objects(whole.get("queues")))


def _backends(counts: Told) -> str:
    words = [
        f"{plain(counts[name])} {name}" for name in ("up", "down", "unknown", "draining") if counts.get(name)
    ]
    if counts.get("breaker_open"):
        words.append(f"{plain(counts['breaker_open'])} with an open breaker")
    return ": ".join([plain(counts.get("total")), *([", ".join(words)] if words else [])])


def _models(counts: Told) -> str:
    return f"{plain(counts.get('total'))}: {plain(counts.get('available'))} available"


def _requests(counts: Told) -> str:
    now = f"{plain(counts.get('in_flight'))} in flight, {plain(counts.get('waiting'))} waiting"
    names = ("requests", "failed", "cancelled", "prompt_tokens", "completion_tokens")
    so_far = [
        f"{plain(counts[name])} {name.replace('_', ' ')}" for name in names if counts.get(name) is not None
    ]
    return f"{now}; so far {', '.join(so_far)}" if so_far else now


def _rates(rates: Told) -> str:
    words = [
        f"{value:.4g} {plain(name).replace('_', ' ')}"
        for name, value in rates.items()
        if name != "window_s" and isinstance(value, (int, float))
    ]
    return f"{', '.join(words)} a second over {plain(rates.get('window_s'))} s" if words else "-"


def _process(facts: Told) -> str:
    words = []
    if isinstance(size := facts.get("resident_bytes"), (int, float)):
        words.append(f"{size / 1e6:.1f} MB")
    for name, unit in (("connections", "connections"), ("descriptors", "descriptors")):
        if facts.get(name) is not None:
            words.append(f"{plain(facts[name])} {unit}")
    if isinstance(lag := facts.get("loop_lag_max_s"), (int, float)):
        words.append(f"loop late by {milliseconds(lag * 1000)} at most")
    return ", ".join([f"pid {plain(facts.get('pid'))}", *words])


def _few(facts: Told) -> str:
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in facts.items() if value is not None)


def _queues(queues: list[Told]) -> list[str]:
    """Those before which somebody stands, or all if there are few."""
    busy = [one for one in queues if one.get("waiting") or one.get("running")]
    shown = queues if len(queues) <= 10 else busy
    if not shown:
        return []
    rows = [["QUEUE", "WAITING", "RUNNING"]]
    rows += [[plain(one.get(name)) for name in ("name", "waiting", "running")] for one in shown]
    return ["", *show.table(rows)]


def _span(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "-"
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])

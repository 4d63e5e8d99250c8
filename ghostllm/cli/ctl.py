"""`ghostctl`: asks a running gateway over HTTP, from anywhere; it shares no state with it."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ghostllm import __version__
from ghostllm.cli import ctl_audit
from ghostllm.cli import ctl_show as show
from ghostllm.cli.ctl_explain import explanation
from ghostllm.cli.ctl_http import Gateway, Unanswered

FAILED, MISUSED = 1, 2
DEFAULT_URL = "http://127.0.0.1:8080"
ADMIN = "/admin/api"

Command = Callable[[Gateway, argparse.Namespace], int]


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs one command and returns the exit code; SystemExit(2) on wrong usage is argparse's own."""
    parser = _parser(environ)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    command: Command = args.command
    _warn_of_key(sys.argv[1:] if argv is None else argv)
    try:
        code = command(Gateway(args.url.rstrip("/"), args.key, args.timeout), args)
        sys.stdout.flush()
        return code
    except Unanswered as error:
        print(f"ghostctl: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stdout = None
        return FAILED


def _warn_of_key(argv: Sequence[str]) -> None:
    """Whoever looks on: scripts know what they do, and have their output read."""
    if sys.stderr is not None and sys.stderr.isatty() and any(re.match("--key(=|$)", word) for word in argv):
        print("ghostctl: --key can be read in the list of processes: GHOSTLLM_KEY cannot", file=sys.stderr)


# --- commands


def _status(gateway: Gateway, args: argparse.Namespace) -> int:
    """Exit code 0 only if the gateway is healthy and ready."""
    answers = {name: gateway.ask("GET", f"/{name}") for name in ("health", "ready", "version")}
    fine = answers["health"].status == 200 and answers["ready"].status == 200
    bodies = {name: {"status": answer.status, "body": answer.value} for name, answer in answers.items()}
    shown = {"url": gateway.url}
    for name in ("health", "ready"):
        word = show.plain(show.mapping(answers[name].value).get("status"))
        shown[name] = f"{word} ({answers[name].status})"
    shown |= show.mapping(answers["version"].value)
    _print(args, {"url": gateway.url, **bodies}, show.pairs(shown))
    return 0 if fine else FAILED


def _models(gateway: Gateway, args: argparse.Namespace) -> int:
    value, models = gateway.listed("/v1/models", "data")
    return _print(args, value, show.models(models))


def _requests(gateway: Gateway, args: argparse.Namespace) -> int:
    filters = {"limit": args.limit, "outcome": "failed" if args.failed else None, "model": args.model}
    value, rows = gateway.listed(f"{ADMIN}/requests", "requests", filters)
    return _print(args, value, show.requests(rows))


def _explain(gateway: Gateway, args: argparse.Namespace) -> int:
    told = gateway.asked(f"{ADMIN}/requests", args.id)
    return _print(args, told, explanation(told))


def _audit(gateway: Gateway, args: argparse.Namespace) -> int:
    return _print(args, *ctl_audit.asked(gateway, args))


def _backends(gateway: Gateway, args: argparse.Namespace) -> int:
    value, backends = gateway.listed(f"{ADMIN}/backends", "backends")
    return _print(args, value, show.backends(backends))


def _drain(gateway: Gateway, args: argparse.Namespace) -> int:
    """Also `undrain`: the path's word is the command's."""
    backend = gateway.asked(f"{ADMIN}/backends", args.name, args.word, method="POST")
    return _print(args, backend, show.backends([backend]))


def _probe(gateway: Gateway, args: argparse.Namespace) -> int:
    found = gateway.asked(f"{ADMIN}/backends", args.name, "probe", method="POST")
    return _print(args, found, show.pairs(found))


def _print(args: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    print(json.dumps(value, indent=2) if args.json else "\n".join(lines))
    return 0


# --- the command line


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ghostctl",
        description="Ask a running GhostLLM gateway.",
        epilog="All but status and models use its admin API. Where it has keys, that takes one with "
        "manage = true. Keys, usage and configuration are still to come.",
    )
    parser.add_argument("--version", action="version", version=f"ghostctl {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Command, says: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", allow_abbrev=False
        )
        sub.set_defaults(command=command, word=name)
        _add_common(sub, environ)
        return sub

    add("status", _status, "is it alive, is it ready, what is it; exit code 1 if not")
    add("models", _models, "the models that it serves")
    sub = add("requests", _requests, "the last requests for a model, and those that failed; newest first")
    sub.add_argument("--failed", action="store_true", help="only those that ended in an error")
    sub.add_argument("--model", help="only those that asked for this model")
    sub.add_argument("--limit", type=_limit, default=20, help="how many; default 20")
    sub = add("explain", _explain, "what became of one request, and why")
    sub.add_argument("id", metavar="ID", type=_name, help="as x-request-id and the log have it")
    sub = add("audit", _audit, "what operators did, and what they were refused; newest first")
    ctl_audit.add_flags(sub)
    sub.add_argument("--limit", type=_limit, default=20, help="how many; default 20")
    add("backends", _backends, "the backends and how they stand")
    for name, command, says in (
        ("drain", _drain, "no new requests for a backend; those under way go on"),
        ("undrain", _drain, "requests for a backend again"),
        ("probe", _probe, "have the gateway look at a backend now"),
    ):
        add(name, command, says).add_argument("name", metavar="NAME", type=_name, help="a backend")
    return parser


def _add_common(sub: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    sub.add_argument(
        "--url",
        type=_url,
        default=environ.get("GHOSTLLM_URL") or DEFAULT_URL,
        help=f"where the gateway is; default GHOSTLLM_URL or {DEFAULT_URL}",
    )
    sub.add_argument(
        "--key",
        type=_key,
        default=environ.get("GHOSTLLM_KEY") or "",
        help="a key of the gateway; default GHOSTLLM_KEY, which keeps it out of the process list",
    )
    sub.add_argument("--timeout", type=_seconds, default=5.0, help="seconds to wait for an answer; default 5")
    sub.add_argument("--json", action="store_true", help="print the answers as JSON")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in text or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"expected a URL such as {DEFAULT_URL}")
    return text


def _key(text: str) -> str:
    if not re.fullmatch("[!-~]*", text):
        raise argparse.ArgumentTypeError("a key is visible ASCII without spaces")
    return text


def _name(text: str) -> str:
    if not re.fullmatch("[!-~]{1,200}", text):
        raise argparse.ArgumentTypeError("expected visible ASCII without spaces")
    return text


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("expected a number from 1 to 1000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("expected seconds above 0")
    return value

"""`ghostctl`: asks a running gateway over HTTP, from anywhere; it shares no state with it."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ghostllm import __version__
from ghostllm.cli import ctl_audit, ctl_complete, ctl_place, ctl_usage
from ghostllm.cli import ctl_cache as cache
from ghostllm.cli import ctl_show as show
from ghostllm.cli.ctl_chat import chat
from ghostllm.cli.ctl_config import add_config
from ghostllm.cli.ctl_explain import explanation
from ghostllm.cli.ctl_http import Gateway, Unanswered
from ghostllm.cli.ctl_keys import add_keys
from ghostllm.cli.ctl_place import DEFAULT_URL, Misused
from ghostllm.cli.ctl_status import status

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
ADMIN = "/admin/api"
PATIENCE, CHAT_PATIENCE = 5.0, 300.0
"""Seconds to wait for an answer, and for the next word of a chat's: a model may have to be loaded for it."""

Command = Callable[[Gateway, argparse.Namespace], int]


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs one command and returns the exit code; SystemExit(2) on wrong usage is argparse's own."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    _warn_of_key(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(args, environ)
        sys.stdout.flush()
        return code
    except Misused as error:
        print(f"ghostctl: {error}", file=sys.stderr)
        return MISUSED
    except Unanswered as error:
        print(f"ghostctl: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None
        return FAILED


def _run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Raises Unanswered and Misused."""
    if args.local:
        print(args.command(args), end="")
        return 0
    place = ctl_place.find(args.url, args.key, environ)
    gateway = Gateway(
        place.url,
        place.key,
        args.timeout or place.timeout or args.patience,
        url_from=place.url_from,
        key_from=place.key_from,
        file=place.file,
        model=place.model,
    )
    command: Command = args.command
    return command(gateway, args)


def _warn_of_key(argv: Sequence[str]) -> None:
    """Whoever looks on: scripts know what they do, and have their output read."""
    if sys.stderr is not None and sys.stderr.isatty() and any(re.match("--key(=|$)", word) for word in argv):
        print("ghostctl: --key can be read in the list of processes: GHOSTLLM_KEY cannot", file=sys.stderr)


# --- commands


def _models(gateway: Gateway, args: argparse.Namespace) -> int:
    if args.targets:
        value, models = gateway.listed(f"{ADMIN}/models", "models")
        return _print(args, value, show.targets(models))
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


def _cache(gateway: Gateway, args: argparse.Namespace) -> int:
    told = cache.asked(gateway, args)
    return _print(args, told, cache.lines(told))


def _print(args: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    print(json.dumps(value, indent=2) if args.json else "\n".join(lines))
    return 0


# --- the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ghostctl",
        description="Ask a running GhostLLM gateway.",
        epilog="All but chat and models use its admin API. Where it has keys, that takes one whose role "
        "permits it. Where it is and which key to send may stand in ~/.config/ghostllm/ctl.toml (url, key, "
        "timeout, model). Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"ghostctl {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Command, says: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", allow_abbrev=False
        )
        sub.set_defaults(command=command, word=name)
        _add_common(sub)
        return sub

    sub = add("status", status, "is it alive, is it ready, how does it stand; exit code 1 if not ready")
    sub.add_argument("--watch", type=_seconds, nargs="?", const=2.0, metavar="SECONDS",
                     help="again and again, until interrupted; every 2 seconds unless told")  # fmt: skip
    _add_chat(add("chat", chat, "talk with a model; without words, in turns"))
    sub = add("models", _models, "the models that it serves")
    sub.add_argument("--targets", action="store_true", help="and where, by the admin API")
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
    ctl_usage.add_to(add)
    add_config(commands, _add_common)
    add_keys(commands, _add_common)
    cache.add_arguments(add("cache", _cache, "the answers that are kept, or `flush`: have them forgotten"))
    _add_completion(commands, parser)
    return parser


def _add_common(sub: argparse.ArgumentParser) -> None:
    """What every command that asks a gateway takes."""
    sub.set_defaults(local=False, patience=PATIENCE)
    sub.add_argument("--url", type=_url, help=f"where the gateway is; default GHOSTLLM_URL or {DEFAULT_URL}")
    sub.add_argument(
        "--key",
        type=_key,
        help="a key of the gateway; default GHOSTLLM_KEY, which keeps it out of the process list",
    )
    sub.add_argument(
        "--timeout", type=_seconds, help="seconds to wait for an answer; default 5, in a chat 300"
    )
    sub.add_argument("--json", action="store_true", help="print the answers as JSON")


def _add_chat(sub: argparse.ArgumentParser) -> None:
    sub.set_defaults(patience=CHAT_PATIENCE)
    sub.add_argument("text", metavar="TEXT", nargs="*", help="one question; - is standard input")
    sub.add_argument("--model", help="default GHOSTLLM_MODEL, or the only one there is")
    sub.add_argument("--system", help="the system prompt")
    sub.add_argument("--temperature", type=_temperature, help="from 0 to 2")
    sub.add_argument(
        "--verbose", action="store_true", help="on standard error: reasoning, who answered, tokens, times"
    )


def _add_completion(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parser: argparse.ArgumentParser
) -> None:
    says = "a script for the shell that completes these commands"
    sub = commands.add_parser(
        "completion", help=says, description=f"A{says[1:]}: source <(ghostctl completion bash)."
    )
    sub.set_defaults(command=lambda args: ctl_complete.script(args.shell, parser), local=True)
    sub.add_argument("shell", choices=list(ctl_complete.SHELLS), help="which one")


def _url(text: str) -> str:
    if not ctl_place.sound_url(text):
        raise argparse.ArgumentTypeError(f"expected a URL such as {DEFAULT_URL}")
    return text


def _key(text: str) -> str:
    if not ctl_place.sound_key(text):
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


def _temperature(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII) or float(text) > 2:
        raise argparse.ArgumentTypeError("expected a number from 0 to 2")
    return float(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("expected seconds above 0")
    return value

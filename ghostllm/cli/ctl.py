"""`ghostctl`: asks a running gateway over HTTP, from anywhere; it shares no state with it."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ghostllm import __version__

FAILED, MISUSED = 1, 2
DEFAULT_URL = "http://127.0.0.1:8080"
LARGEST_ANSWER = 16 * 1024 * 1024


class Unanswered(Exception):
    """The gateway gave no usable answer; the message says what to do."""


@dataclass(slots=True, frozen=True)
class Answer:
    status: int
    value: Any
    """The decoded JSON body."""


@dataclass(slots=True, frozen=True, repr=False)
class Gateway:
    """One running gateway. timeout: seconds for connecting and for each wait on the answer."""

    url: str
    key: str
    timeout: float

    def get(self, path: str) -> Answer:
        """Raises Unanswered."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"accept": "application/json", "user-agent": f"ghostctl/{__version__}"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER)
            if response.length:
                raise Unanswered(f"the answer of {self.url}{path} was cut short, or is larger than 16 MiB")
        except TimeoutError:
            raise Unanswered(f"{self.url} did not answer within {self.timeout:g} s (--timeout)") from None
        except ConnectionRefusedError:
            hint = "is `ghostllm serve` running there? --url names another address"
            raise Unanswered(f"nothing listens at {self.url}: {hint}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unanswered(f"cannot talk to {self.url}: {_plain(reason.strip())}") from None
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(body))
        except (ValueError, RecursionError):
            raise Unanswered(
                f"{self.url}{path} answered {response.status} and no JSON: is it GhostLLM? (--url)"
            ) from None


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs one command and returns the exit code; SystemExit(2) on wrong usage is argparse's own."""
    parser = _parser(environ)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    command: Callable[[Gateway, bool], int] = args.command
    try:
        code = command(Gateway(args.url.rstrip("/"), args.key, args.timeout), args.json)
        sys.stdout.flush()
        return code
    except Unanswered as error:
        print(f"ghostctl: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stdout = None
        return FAILED


def _status(gateway: Gateway, as_json: bool) -> int:
    """Exit code 0 only if the gateway is healthy and ready."""
    answers = {name: gateway.get(f"/{name}") for name in ("health", "ready", "version")}
    fine = answers["health"].status == 200 and answers["ready"].status == 200
    if as_json:
        shown = {name: {"status": answer.status, "body": answer.value} for name, answer in answers.items()}
        print(json.dumps({"url": gateway.url, **shown}, indent=2))
        return 0 if fine else FAILED
    rows = [["url", gateway.url]]
    for name in ("health", "ready"):
        value = answers[name].value
        word = value.get("status") if isinstance(value, dict) else None
        rows.append([name, f"{_plain(word)} ({answers[name].status})"])
    version = answers["version"].value
    if isinstance(version, dict):
        rows += [[str(key), _plain(value)] for key, value in version.items()]
    _table(rows)
    return 0 if fine else FAILED


def _models(gateway: Gateway, as_json: bool) -> int:
    answer = gateway.get("/v1/models")
    if answer.status == 401:
        raise Unanswered(
            f"{gateway.url} wants a key, or another one: --key KEY, or the variable GHOSTLLM_KEY"
        )
    if answer.status != 200:
        raise Unanswered(f"{gateway.url} answered {answer.status}: {_message(answer.value)}")
    models = answer.value.get("data") if isinstance(answer.value, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise Unanswered(f"{gateway.url}/v1/models gave no list of models: is it GhostLLM? (--url)")
    if as_json:
        print(json.dumps(answer.value, indent=2))
        return 0
    _table(
        [["MODEL", "OWNER"], *([_plain(model.get("id")), _plain(model.get("owned_by"))] for model in models)]
    )
    return 0


def _message(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    return _plain(error.get("message") if isinstance(error, dict) else error)


def _plain(value: Any) -> str:
    """One line for a terminal, whatever the other side sent: no control characters."""
    if value is None or value == "":
        return "-"
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", value if isinstance(value, str) else json.dumps(value))


def _table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ghostctl",
        description="Ask a running GhostLLM gateway.",
        epilog="Keys, usage, configuration and explain will come with the gateway's admin API.",
    )
    parser.add_argument("--version", action="version", version=f"ghostctl {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command, says in (
        ("status", _status, "is it alive, is it ready, what is it; exit code 1 if not"),
        ("models", _models, "the models that it serves"),
    ):
        sub = commands.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", allow_abbrev=False
        )
        sub.set_defaults(command=command)
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
        sub.add_argument(
            "--timeout", type=_seconds, default=5.0, help="seconds to wait for an answer; default 5"
        )
        sub.add_argument("--json", action="store_true", help="print the answers as JSON")
    return parser


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


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("expected seconds above 0")
    return value

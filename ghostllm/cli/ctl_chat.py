"""`ghostctl chat`: an answer as it is made, once or in turns. Ctrl-C ends the answer, not the talk."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ghostllm.cli.ctl_http import Events, Gateway, Unanswered
from ghostllm.cli.ctl_place import Misused
from ghostllm.cli.ctl_show import mapping, milliseconds, objects, plain

FAILED, INTERRUPTED = 1, 130
PATH = "/v1/chat/completions"
LISTED = 20
DIM, BRIGHT = "\x1b[2m", "\x1b[0m"
HELP = """\
/new           begin anew
/model NAME    go on with another model
/system TEXT   begin anew with this system prompt
/help          this
/quit          or Ctrl-D: end;  Ctrl-C ends an answer"""


@dataclass(slots=True)
class Talk:
    """What has been said, and how to go on."""

    model: str
    system: str = ""
    temperature: float | None = None
    verbose: bool = False
    turns: list[dict[str, str]] = field(default_factory=list)

    def body(self, *, stream: bool) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {"model": self.model, "messages": [*system, *self.turns], "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return body


@dataclass(slots=True)
class Reply:
    """What has come of one. ended: seconds that it took. cancelled: by whoever asked."""

    text: str = ""
    usage: Any = None
    backend: str = ""
    first: float | None = None
    ended: float = 0.0
    cancelled: bool = False


def chat(gateway: Gateway, args: argparse.Namespace) -> int:
    """Raises Unanswered and Misused."""
    text = _asked(args.text)
    if not text and args.json:
        raise Misused("chat --json answers one question: give it as words, or on standard input")
    model = args.model or gateway.model or _only_model(gateway)
    talk = Talk(model, args.system or "", args.temperature, args.verbose)
    if not text:
        return _in_turns(gateway, talk)
    talk.turns.append({"role": "user", "content": text})
    if args.json:
        print(json.dumps(gateway.asked(PATH, method="POST", body=talk.body(stream=False)), indent=2))
        return 0
    return INTERRUPTED if _answer(gateway, talk).cancelled else 0


def _asked(words: list[str]) -> str:
    """The question; "" for a talk. `-` among the words is what comes on standard input."""
    if not words and not sys.stdin.isatty():
        words = ["-"]
        if not (text := _said(words)):
            raise Misused("nothing to ask: no words, and nothing on standard input")
        return text
    return _said(words)


def _said(words: list[str]) -> str:
    given = sys.stdin.read().strip() if "-" in words else ""
    lines = [given if word == "-" else word for word in words]
    return " ".join(lines) if "-" not in words else "\n\n".join(filter(None, lines))


def _only_model(gateway: Gateway) -> str:
    _, models = gateway.listed("/v1/models", "data")
    names = [plain(model.get("id")) for model in models]
    if len(names) == 1:
        return names[0]
    if not names:
        raise Unanswered(f"{gateway.url} serves no model now; `ghostctl backends` says what is away")
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    raise Misused(
        f"which model? --model NAME or GHOSTLLM_MODEL; there are: {', '.join(names[:LISTED])}{more}"
    )


# --- in turns


def _in_turns(gateway: Gateway, talk: Talk) -> int:
    try:
        import readline  # noqa: F401  line editing and history, where there is such a thing
    except ImportError:
        pass
    print(f"{talk.model} at {gateway.url}; /help says what else there is")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print("\n(Ctrl-D ends the talk)")
            continue
        if line.startswith("/"):
            if not _told(talk, line):
                return 0
        elif line:
            _turn(gateway, talk, line)


def _told(talk: Talk, line: str) -> bool:
    """Does what a line with a slash says. False: the end."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command == "/quit":
        return False
    if command == "/model" and rest:
        talk.model = rest
    elif command == "/new" and not rest:
        talk.turns.clear()
    elif command == "/system":
        talk.system = rest
        talk.turns.clear()
    else:
        print(HELP)
        return True
    print(f"({talk.model}, {len(talk.turns)} messages so far)")
    return True


def _turn(gateway: Gateway, talk: Talk, line: str) -> None:
    """One question and its answer. What failed has not been said; of a cancelled answer stays what came."""
    talk.turns.append({"role": "user", "content": line})
    try:
        reply = _answer(gateway, talk)
    except Unanswered as error:
        print(f"ghostctl: {error}", file=sys.stderr)
        talk.turns.pop()
        return
    if reply.text:
        talk.turns.append({"role": "assistant", "content": reply.text})
    else:
        talk.turns.pop()


# --- one answer


def _answer(gateway: Gateway, talk: Talk) -> Reply:
    """Prints it as it comes. Raises Unanswered, also when it breaks off."""
    reply, began = Reply(), time.monotonic()
    try:
        with gateway.stream(PATH, talk.body(stream=True)) as events:
            reply.backend = events.headers.get("x-ghostllm-backend", "")
            for text in _pieces(events, reply, talk.verbose):
                if reply.first is None:
                    reply.first = time.monotonic() - began
                reply.text += text
                print(_printable(text), end="", flush=True)
    except KeyboardInterrupt:
        reply.cancelled = True
    except Unanswered:
        if reply.text:
            print()
        raise
    reply.ended = time.monotonic() - began
    if reply.text and not reply.text.endswith("\n"):
        print()
    if reply.cancelled:
        print("(cancelled)", file=sys.stderr)
    if talk.verbose:
        print(_account(talk, reply), file=sys.stderr)
    return reply


def _pieces(events: Events, reply: Reply, verbose: bool) -> Iterator[str]:
    """The answer's text as it comes. Raises Unanswered for an error in it, or an end before its end."""
    done = False
    for line in events.lines:
        if line.startswith(":") and verbose and line.strip(": "):
            _aside(line.strip(": "))
        name, _, data = line.partition(":")
        if name != "data":
            continue
        if data.strip() == "[DONE]":
            done = True
            continue
        event = _event(data)
        reply.usage = event.get("usage") or reply.usage
        for choice in objects(event.get("choices"))[:1]:
            delta = mapping(choice.get("delta"))
            if verbose and isinstance(thought := delta.get("reasoning_content"), str) and thought:
                _aside(thought, end="")
            if isinstance(text := delta.get("content"), str) and text:
                yield text
    if not done:
        raise Unanswered("the stream ended before the answer did: it is not whole")


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise Unanswered("the stream has an event that is no JSON: is it GhostLLM? (--url)") from None
    if not isinstance(event, dict):
        raise Unanswered("the stream has an event that is no object: is it GhostLLM? (--url)")
    if error := event.get("error"):
        raise Unanswered(f"the answer broke off: {plain(mapping(error).get('message') or error)}")
    return event


def _aside(text: str, end: str = "\n") -> None:
    """Beside the answer: reasoning, and what the gateway remarks."""
    dim, bright = (DIM, BRIGHT) if sys.stderr.isatty() else ("", "")
    print(f"{dim}{_printable(text)}{bright}", end=end, file=sys.stderr, flush=True)


def _account(talk: Talk, reply: Reply) -> str:
    words = [f"{talk.model} from {plain(reply.backend)}"]
    usage = mapping(reply.usage)
    if usage:
        words.append(f"{plain(usage.get('prompt_tokens'))} + {plain(usage.get('completion_tokens'))} tokens")
    if reply.first is not None:
        words.append(f"first after {milliseconds(reply.first * 1000)}")
    words.append(f"{milliseconds(reply.ended * 1000)} in all")
    return f"[{', '.join(words)}]"


def _printable(text: str) -> str:
    """No model moves the cursor or renames the window: of the control characters only line ends and tabs."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)

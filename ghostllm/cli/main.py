"""`ghostllm`: serve, check, schema, version."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence

from ghostllm import __version__
from ghostllm.cli.flags import add_source_flags, inputs_of, load_from
from ghostllm.cli.summary import summary
from ghostllm.errors import ConfigError

FAILED, MISUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; SystemExit(2) on wrong usage is argparse's own."""
    _hold_standard_descriptors()
    if sys.argv[1:2] == ["gguf-child"]:  # how the single executable starts the process of a model file
        from ghostllm.backends.gguf_child import main as child

        child()
        return 0
    given = sys.argv[1:] if argv is None else list(argv)
    if given[:1] == ["ctl"]:
        from ghostllm.cli.ctl import main as ctl  # where the one file is all there is, `ghostctl` is not

        return ctl(given[1:])
    parser = _parser()
    args = parser.parse_args(given)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except ConfigError as error:
        _tell(error)
        return MISUSED
    except BrokenPipeError:
        # Whoever read our output has left; say nothing more, not even at exit.
        sys.stdout = None
        return FAILED
    return code


def _hold_standard_descriptors() -> None:
    """Started with standard input, output or error closed (as some supervisors do), the next file opened
    would get its number: a socket as standard error, or an event loop that aborts. So they are taken first.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return


def _serve(args: argparse.Namespace) -> int:
    gc.disable()  # nearly all that a start makes stays, and looking through it takes a quarter of the start
    try:
        return _run(args)
    finally:
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    inputs = inputs_of(args)
    source = inputs.read()
    config = inputs.build(source)
    _warn_of_keys(args)
    from ghostllm.app.process import serve  # late: the other commands need no server

    try:
        return serve(config, inputs, source)
    except OSError as error:
        print(f"ghostllm: {error}", file=sys.stderr)
        return FAILED


def _check(args: argparse.Namespace) -> int:
    config, path = load_from(args)
    if config.jwt:
        from ghostllm.app.access import check_issuers

        check_issuers(config)
    print("\n".join(summary(config, path)))
    return 0


def _warn_of_keys(args: argparse.Namespace) -> None:
    if any(not key.startswith(("env:", "file:")) for key in args.key):
        print(
            "ghostllm: a key after --key can be read in the list of processes: give it as --key env:NAME "
            "or --key file:PATH",
            file=sys.stderr,
        )


def _schema(args: argparse.Namespace) -> int:
    from ghostllm.config.jsonschema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


def _version(args: argparse.Namespace) -> int:
    print(f"ghostllm {__version__}")
    return 0


def _tell(error: ConfigError) -> None:
    count = len(error.problems)
    print(f"ghostllm: {count} mistake{'s' if count != 1 else ''} in the configuration:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ghostllm",
        description="An LLM gateway: any LLM client in front, any LLM server behind.",
        epilog="Settings: defaults < file < its profile < GHOSTLLM_SECTION_KEY variables < flags < --set. "
        "ghostllm.example.toml documents every key. `ghostllm ctl …` is ghostctl: it asks a running gateway.",
    )
    parser.add_argument("--version", action="version", version=f"ghostllm {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command, says in (
        ("serve", _serve, "run the gateway; without any configuration, find the LLM servers on this machine"),
        ("check", _check, "check the configuration and say what would be served"),
        ("schema", _schema, "print the JSON Schema of the configuration"),
        ("version", _version, "print the version"),
    ):
        described = f"{says[0].upper()}{says[1:]}."
        sub = commands.add_parser(name, help=says, description=described, allow_abbrev=False)
        sub.set_defaults(command=command)
        if name in ("serve", "check"):
            add_source_flags(sub)
    return parser

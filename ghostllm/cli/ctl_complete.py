"""Completion scripts for shells, made from the parser: what it takes is what they offer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Place:
    """One point of the command line. path: the commands up to it, with spaces between. commands, options:
    what each means. values: of an option that takes one, the words that it may be; none: any word. words:
    what the command takes beside options.
    """

    path: str
    commands: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


def places(parser: argparse.ArgumentParser, path: str = "") -> Iterator[Place]:
    """Of the parser and those of its commands. argparse has no public way to ask what it knows."""
    place = Place(path)
    deeper: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            says = {told.dest: _line(told.help) for told in action._choices_actions}
            place.commands |= {name: says.get(name, "") for name in action.choices}
            deeper += action.choices.items()
        elif action.option_strings:
            for name in action.option_strings:
                place.options[name] = _line(action.help)
                if action.nargs != 0:
                    place.values[name] = [str(choice) for choice in action.choices or ()]
        elif action.choices:
            place.words += [str(choice) for choice in action.choices]
    yield place
    for name, sub in deeper:
        yield from places(sub, f"{path} {name}".strip())


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """shell: one of SHELLS."""
    return SHELLS[shell](parser.prog, list(places(parser)))


def _bash(prog: str, known: Sequence[Place]) -> str:
    lines = [
        f"# Completion of {prog} for bash: source it, or put it into a folder of bash-completion.",
        f"_{prog}() {{",
        '  local at="" next i words="" cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"',
        "  COMPREPLY=()",
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        '    next="${at:+$at }${COMP_WORDS[i]}"',
        f'    case "$next" in {_alternatives(known)}) at="$next" ;; esac',
        "  done",
        '  case "$at" in',
    ]
    for place in known:
        words = " ".join([*place.commands, *place.words, *place.options])
        lines += [f"    {_quoted(place.path)})", '      case "$prev" in']
        for option, values in place.values.items():
            found = f"words={_quoted(' '.join(values))}" if values else "return"
            lines.append(f"        {option}) {found} ;;")
        lines += [f"        *) words={_quoted(words)} ;;", "      esac ;;"]
    lines += [
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        f"complete -o default -F _{prog} {prog}",
    ]
    return "\n".join(lines) + "\n"


def _zsh(prog: str, known: Sequence[Place]) -> str:
    lines = [
        f"#compdef {prog}",
        f"# Completion of {prog} for zsh: source it after compinit, or put it as _{prog} into $fpath.",
        f"_{prog}() {{",
        '  local at="" next i prev="${words[CURRENT-1]}"',
        "  local -a offers options",
        "  for ((i = 2; i < CURRENT; i++)); do",
        '    next="${at:+$at }${words[i]}"',
        f'    case "$next" in {_alternatives(known)}) at="$next" ;; esac',
        "  done",
        '  case "$at" in',
    ]
    for place in known:
        offers = place.commands | dict.fromkeys(place.words, "")
        lines += [f"    {_quoted(place.path)})", '      case "$prev" in']
        for option, values in place.values.items():
            found = f"compadd -- {' '.join(map(_quoted, values))}" if values else "_default"
            lines.append(f"        {option}) {found}; return ;;")
        lines += [
            "      esac",
            f"      offers=({' '.join(_described(*item) for item in offers.items())})",
            f"      options=({' '.join(_described(*item) for item in place.options.items())}) ;;",
        ]
    lines += [
        "  esac",
        '  if [[ "${words[CURRENT]}" == -* ]]; then',
        "    _describe -o option options",
        "  elif (( ${#offers} )); then",
        "    _describe word offers",
        "  else",
        "    _default",
        "  fi",
        "}",
        f'if [[ "${{funcstack[1]}}" == _{prog} ]]; then _{prog} "$@"; else compdef _{prog} {prog}; fi',
    ]
    return "\n".join(lines) + "\n"


def _fish(prog: str, known: Sequence[Place]) -> str:
    commands = [_under(place, name) for place in known for name in place.commands]
    lines = [
        f"# Completion of {prog} for fish: put it as {prog}.fish into ~/.config/fish/completions.",
        f"function __{prog}_at",
        '  set -l at ""',
        "  for word in (commandline -opc)[2..-1]",
        '    set -l next (string trim -- "$at $word")',
        f'    contains -- "$next" {" ".join(map(_quoted, commands))}; and set at "$next"',
        "  end",
        '  test "$at" = "$argv[1]"',
        "end",
        f"complete -c {prog} -f",
    ]
    for place in known:
        at = f"complete -c {prog} -n {_quoted(f'__{prog}_at {_quoted(place.path)}')}"
        for word, says in (place.commands | dict.fromkeys(place.words, "")).items():
            lines.append(f"{at} -a {_quoted(word)} -d {_quoted(says)}")
        for option, says in place.options.items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = place.values.get(option)
            takes = "" if values is None else f" -x -a {_quoted(' '.join(values))}" if values else " -r -F"
            lines.append(f"{at} {kind}{takes} -d {_quoted(says)}")
    return "\n".join(lines) + "\n"


SHELLS: Mapping[str, Callable[[str, Sequence[Place]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _under(place: Place, name: str) -> str:
    return f"{place.path} {name}".strip()


def _alternatives(known: Sequence[Place]) -> str:
    """A pattern of the shells: all paths of commands."""
    return "|".join(_quoted(_under(place, name)) for place in known for name in place.commands)


def _described(word: str, says: str) -> str:
    return _quoted(word.replace(":", "\\:") + (f":{says}" if says else ""))


def _line(text: str | None) -> str:
    """A help text on one line; argparse has its per cent signs twice."""
    return " ".join((text or "").replace("%%", "%").split())


def _quoted(text: str) -> str:
    """All three shells take it literally."""
    return "'" + text.replace("'", "'\\''") + "'"

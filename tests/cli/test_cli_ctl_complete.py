"""The completion scripts, asked by the shells that they are for."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess

import pytest

from ghostllm.cli.ctl import _parser, main
from ghostllm.cli.ctl_complete import SHELLS, places, script
from tests.cli.terminal import Terminal

COMMANDS = set(next(places(_parser())).commands)
LINES = {
    "ghostctl ": COMMANDS,
    "ghostctl st": {"status"},
    "ghostctl status --w": {"--watch"},
    "ghostctl requests --f": {"--failed"},
    "ghostctl status --url st": set(),
    "ghostctl completion ": {"bash", "zsh", "fish"},
    "nest ": {"keys", "show"},
    "nest keys ": {"create", "revoke"},
    "nest keys cr": {"create"},
    "nest keys create --fo": {"--format", "--force"},
    "nest keys create --format ": {"json", "csv"},
    "nest show --format js": set(),
}
"""What is typed -> what is offered of commands, options and their values."""


def nest():
    """Commands in two steps, and texts that shells must not take for their own."""
    parser = argparse.ArgumentParser(prog="nest")
    commands = parser.add_subparsers()
    keys = commands.add_parser("keys", help='what\'s $HOME; `id`: "keys" 100%% of them').add_subparsers()
    create = keys.add_parser("create", help="make one")
    create.add_argument("--format", choices=["json", "csv"], help="how: it's said")
    create.add_argument("--force", "-f", action="store_true")
    keys.add_parser("revoke")
    commands.add_parser("show", help="show").add_argument("--format", help="any")
    return parser


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The path of a shell's script of both programs."""
    folder = tmp_path_factory.mktemp("completion")

    def path(shell, capsys):
        assert main(["completion", shell], {"HOME": "/nowhere"}) == 0
        file = folder / shell
        file.write_text(capsys.readouterr().out + script(shell, nest()))
        return file

    return path


def shell(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def asked(command):
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return {line.partition("\t")[0] for line in done.stdout.split("\n") if line}


def offered(line, found):
    """Without what every command has."""
    assert ("-h" in found) == (line.endswith("-")) or "--" not in line
    return {word for word in found if not word.startswith("-") or line.rpartition(" ")[2].startswith("-")}


def test_bash(scripts, capsys):
    """-o default offers files where nothing else fits; compgen is asked without it."""
    path, bash = scripts("bash", capsys), shell("bash")
    for line, expected in LINES.items():
        words = line.split(" ")
        ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _$1; printf "%s\\n" "${COMPREPLY[@]}"'
        found = asked([bash, "--norc", "-c", ask, str(path), *words])
        assert offered(line, found) == expected, line


def test_fish(scripts, capsys):
    path, fish = scripts("fish", capsys), shell("fish")
    for line, expected in LINES.items():
        found = asked([fish, "--no-config", "-c", f"source {path}; complete -C '{line}'"])
        if not expected:  # files, then
            found = set()
        assert offered(line, found) == expected, line


def test_zsh(scripts, capsys, tmp_path):
    path, zsh = scripts("zsh", capsys), shell("zsh")
    asked([zsh, "-f", "-n", str(path)])
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PS1": "start> ", "LANG": "C"}
    with Terminal([zsh, "-f", "-i"], environ) as terminal:
        terminal.see("start> ")
        terminal.type(f"PS1='ready> '; autoload -U compinit && compinit -D -u && source {path}\n")
        terminal.see(r"[\n\r]ready> ")
        for line, rest in {
            "ghostctl sta": "status", "ghostctl status --wa": "--watch", "ghostctl completion ba": "bash",
            "nest keys cr": "create", "nest keys create --format js": "json",
        }.items():  # fmt: skip
            terminal.type(f"{line}\t\x01: \x05; echo '<'$?'>'\n")
            shown = terminal.see("<0>")
            assert f"{line.rpartition(' ')[0]} {rest}" in shown.replace("\x08", ""), shown
            terminal.see("ready> ")


def test_the_places_of_the_command_line():
    found = {place.path: place for place in places(nest())}
    assert list(found) == ["", "keys", "keys create", "keys revoke", "show"]
    assert found[""].commands["keys"] == 'what\'s $HOME; `id`: "keys" 100% of them'
    assert found["keys create"].values == {"--format": ["json", "csv"]}
    assert set(found["keys create"].options) == {"-h", "--help", "--format", "--force", "-f"}


@pytest.mark.parametrize("name", SHELLS)
def test_a_broken_file_of_ones_own_does_not_matter(name, tmp_path, capsys):
    (tmp_path / "ctl.toml").write_text("nonsense")
    assert main(["completion", name], {"GHOSTLLM_CTL_CONFIG": str(tmp_path / "ctl.toml")}) == 0
    assert "ghostctl" in capsys.readouterr().out

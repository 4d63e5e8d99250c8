"""ghostllm.example.toml: loads, changes nothing as it is, and says everything that the schema knows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ghostllm.config.fields import REQUIRED, fields_of, is_section, unwrapped
from ghostllm.config.load import load
from ghostllm.config.schema import Config

EXAMPLE = Path(__file__).parents[2] / "ghostllm.example.toml"
SETTING = re.compile(r"^#(?=\[|[a-z_]+ = )")


def schema_keys(cls=Config, path=()):
    """Path -> field, of all keys; lists of tables by their name."""
    for field in fields_of(cls).values():
        inner, _ = unwrapped(field.type)
        if getattr(inner, "__origin__", None) is tuple and is_section(inner.__args__[0]):
            yield from schema_keys(inner.__args__[0], (*path, field.name))
        elif is_section(inner) and field.name != "api_key":
            yield from schema_keys(inner, (*path, field.name))
        else:
            yield (*path, field.name), field


def example_keys():
    """Each setting of the example: path, value, what its line says after the value, prose above it."""
    header, prose = (), []
    for line in EXAMPLE.read_text().splitlines():
        line, is_setting = SETTING.subn("", line, count=1)
        if match := re.fullmatch(r"\[+([a-z_.]+)\]+", line):
            header, prose = tuple(match[1].split(".")), []
        elif is_setting:
            match = re.fullmatch(
                r'([a-z_]+) = (.*?)(?:  # (required|default: (\S+?|"[^"]*")(?:; .*)?))?', line
            )
            yield (
                (*header, match[1]),
                tomllib.loads(f"v = {match[2]}")["v"],
                match[3],
                match[4],
                " ".join(prose),
            )
            prose = []
        else:
            prose = [*prose, line.removeprefix("# ")] if line.startswith("# ") else []


def test_as_it_is_it_changes_nothing():
    assert load(str(EXAMPLE), environ={}) == Config()


def test_uncommented_it_is_sound(uncommented_example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.toml").write_text(uncommented_example)
    (tmp_path / "model.gguf").touch()
    environ = {
        "UPSTREAM_KEY": "u",
        "ALICE_KEY": "a",
        "JWT_SECRET": "s" * 32,
        "KEY_SECRET": "k" * 32,
        "REDIS_PASSWORD": "r",
    }
    config = load("all.toml", environ=environ)
    assert [backend.kind for backend in config.backends] == ["ollama", "gguf"]
    assert [key.name for key in config.keys] == ["alice", "bob"]
    assert [issuer.name for issuer in config.jwt] == ["corp", "scripts"]
    assert load("all.toml", environ=environ, profile="production").backends[0].kind == "vllm"


def test_every_key_is_there_and_no_other():
    there = {path for path, *_ in example_keys() if path[0] != "profile"}
    assert there == {path for path, _ in schema_keys()}


def test_every_key_has_its_meaning_above_it():
    meanings = {}
    for path, _, _, _, prose in example_keys():
        meanings.setdefault(path, prose)
    for path, field in schema_keys():
        assert field.meaning and field.meaning in meanings[path], path


SETTINGS = [entry for entry in example_keys() if entry[0][0] != "profile"]


@pytest.mark.parametrize("entry", SETTINGS, ids=lambda entry: ".".join(entry[0]))
def test_every_default_is_the_schema_s(entry):
    """A line shows the default, or says it: `# required`, `# default: VALUE` with "unset" for none at all."""
    path, value, said, shown, _ = entry
    fields = dict(schema_keys())
    default = fields[path].default
    if path[0] == "timeouts":
        default = getattr(Config().timeouts, path[1])
    if default is REQUIRED:
        assert said == "required"
        return
    if said is not None:
        value = None if shown == "unset" else tomllib.loads(f"v = {shown}")["v"]
    assert (tuple(value) if isinstance(value, list) else value) == default
    assert type(value) is not bool or default is value

"""YAML says the same as TOML, with places of its own, and no surprises."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ghostllm.config.load import build, load
from ghostllm.config.sources import parse_text
from ghostllm.errors import ConfigError

TEXT = """
server:
  listen: ["127.0.0.1:1"]
  limits: &limits {head_bytes: 1000}
backends:
  - name: a
    url: http://a
    timeouts: {idle: null, total: 5}
  - name: b
    url: http://b
models:
  - {name: m, targets: [{backend: a}, {backend: b}], forced: {stop: null, n: 1}}
profile:
  p:
    log: {level: debug}
"""


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YAML"])
def test_a_file(tmp_path, suffix):
    file = tmp_path / f"c.{suffix}"
    file.write_text(TEXT)
    config = load(str(file), profile="p", environ={})
    assert config.server.limits.head_bytes == 1000
    assert config.log.level == "debug"
    assert config.backends[0].timeouts.idle is None and config.backends[0].timeouts.total == 5.0
    assert config.models[0].forced == {"stop": None, "n": 1}


def test_an_empty_file_and_merge_keys():
    assert parse_text("", "c", yaml=True) == {}
    text = "a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\n"
    assert parse_text(text, "c", yaml=True)["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "c: must be a mapping of sections, such as `server:`"),
        ("1", "c: must be a mapping of sections, such as `server:`"),
        ("log:\n  level: debug\n  level: info\n", "c:3: not valid YAML: this key stands twice"),
        ("log:\n  1: x\n", "c:2: not valid YAML: keys must be strings"),
        ("log:\n  [a]: x\n", "c:2: not valid YAML: keys must be strings"),
        ("log:\n  on: x\n", "c:2: not valid YAML: keys must be strings"),
        ("log: {", "c:1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("log: !!python/name:os.system x\n", "c:1: not valid YAML: could not determine a constructor"),
        ("a: &a [*a]\n", "c:1: not valid YAML: found unconstructable recursive node"),
        ("a: \x00\n", "c: not valid YAML (ReaderError)"),
        ("a: 2026-99-99\n", "c: not valid YAML (ValueError)"),
        ("a: " + "[" * 3000, "c: nested too deeply"),
        ("a: " + "[" * 70 + "]" * 70, "c: nested more than 64 levels deep"),
    ],
)
def test_mistakes(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse_text(text, "c", yaml=True)
    (found,) = caught.value.problems
    assert found.startswith(problem)


def test_places_and_types():
    text = "log:\n  access: maybe\n  level: no\nserver:\n  listen:\n    - 1\nbackends:\n  - url: http://a\n"
    with pytest.raises(ConfigError) as caught:
        build(parse_text(text, "c.yaml", yaml=True), {})
    assert caught.value.problems == [
        "c.yaml:5: server.listen[0]: must be text, not a whole number",
        'c.yaml:3: log.level: must be one of "debug", "info", "warning", "error"',
        "c.yaml:2: log.access: must be true or false, not text",
        "c.yaml:8: backends[0].name: missing: this key is required",
    ]


def test_without_the_extra(tmp_path):
    """In a process that cannot import yaml; TOML must not need it, and YAML must say what does."""
    (tmp_path / "c.yaml").write_text("log: {}\n")
    (tmp_path / "c.toml").write_text("[log]\n")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from ghostllm.cli.main import main\n"
        "sys.exit(main(['check', '--config', sys.argv[1]]))"
    )
    toml, yaml = (
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True)
        for name in ("c.toml", "c.yaml")
    )
    assert toml.returncode == 0, toml.stderr
    assert yaml.returncode == 2
    assert "YAML needs an extra: pip install 'ghostllm[yaml]'" in yaml.stderr

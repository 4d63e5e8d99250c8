"""Every kind of mistake: found, all at once, with its path, its place and what to do; never with a secret."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ghostllm.config.load import build, load
from ghostllm.config.sources import parse_text
from ghostllm.errors import ConfigError

MISTAKES = Path(__file__).with_name("mistakes.txt")

BACKEND = '[[backends]]\nname = "b"\nurl = "http://b"\n'


def problems(text, environ=None):
    with pytest.raises(ConfigError) as caught:
        build(parse_text(text, "c.toml"), environ or {})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def mistakes():
    for block in MISTAKES.read_text().split("\n\n")[1:]:
        text, arrow, expected = block.partition("\n=> ")
        if arrow:
            yield pytest.param(text + "\n", expected.strip(), id=expected.strip().split(": ")[1])


@pytest.mark.parametrize(("text", "expected"), list(mistakes()))
def test_one_mistake(text, expected):
    assert problems(text) == [expected]


def test_all_mistakes_are_told_at_once():
    text = """[server]
listen = ["x"]
[log]
level = "loud"
[[backends]]
name = "a"
url = "ftp://a"
kind = "olama"
[[models]]
name = "m"
targets = [{backend = "zz"}, {}]
[[keys]]
name = "k"
key = "env:ABSENT"
"""
    found = problems(text)
    assert [problem.split(": ")[1] for problem in found] == [
        "server.listen[0]",
        "log.level",
        "backends[0].kind",
        "backends[0].url",
        "models[0].targets[1].backend",
        "keys[0].key",
        "models[0].targets[0].backend",
    ]


def test_a_mistake_is_blamed_once():
    """No "url is missing" for a URL that is wrong, no "key and hash" for a key that could not be read."""
    text = BACKEND.replace("http://b", "nonsense") + '[[keys]]\nname = "k"\nkey = "env:ABSENT"\n'
    assert len(problems(text)) == 2


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", ":1", "192.168.1.5:1", "gateway.example:1"])
def test_open_addresses_need_keys(listen):
    text = f'[server]\nlisten = ["127.0.0.1:1", "{listen}"]\n'
    (problem,) = problems(text)
    assert problem.startswith(f"c.toml:2: server.listen: {listen} can be reached from other machines")
    assert "[[keys]]" in problem and "--insecure" in problem
    assert build(parse_text(text + "insecure = true\n", "c"), {}).server.insecure
    assert build(parse_text(text + '[[keys]]\nname = "k"\nkey = "s"\n', "c"), {}).keys


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_none(listen):
    assert build(parse_text(f'[server]\nlisten = ["{listen}"]\n', "c"), {}).server.listen == (listen,)


def test_the_same_key_as_text_and_as_hash():
    digest = hashlib.sha256(b"a").hexdigest().upper()
    text = f'[[keys]]\nname = "k"\nkey = "a"\n[[keys]]\nname = "l"\nhash = "sha256:{digest}"\n'
    assert problems(text) == ['c.toml:6: keys[1].hash: is the same key as that of "k"']


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = \n", "c.toml:1: not valid TOML: Invalid value"),
        (b"[a]\nb = 1\nb = 2\n", "c.toml:3: not valid TOML: Cannot overwrite a value"),
        (b"\xff\xfe", "c.toml: cannot be read: not UTF-8 text"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "c.toml: nested too deeply"),
        (b"a = " + b"[" * 80 + b"]" * 80, "c.toml: nested more than 64 levels deep"),
    ],
)
def test_files_that_are_no_toml(tmp_path, monkeypatch, content, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load("c.toml", environ={})
    assert caught.value.problems == [expected]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="absent.toml: cannot be read: No such file"):
        load(str(tmp_path / "absent.toml"), environ={})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(str(tmp_path), environ={})


def test_windows_text_is_fine(tmp_path):
    file = tmp_path / "c.toml"
    file.write_bytes(b'\xef\xbb\xbf[log]\r\nlevel = "debug"\r\n')
    assert load(str(file), environ={}).log.level == "debug"
    file.write_bytes(b'\xef\xbb\xbf\r\n[log]\r\nlevel = "x"\r\n')
    with pytest.raises(ConfigError, match="c.toml:3: log.level"):
        load(str(file), environ={})


def test_places_of_variables_and_sets():
    with pytest.raises(ConfigError) as caught:
        load(environ={"GHOSTLLM_LOG_LEVEL": "x"}, overrides=[("routing.attempts", "x"), ("a.b", "1")])
    assert [problem.split(" must")[0] for problem in caught.value.problems] == [
        "--set a.b: a: unknown key",
        "GHOSTLLM_LOG_LEVEL: log.level:",
        "--set routing.attempts: routing.attempts:",
    ]


def test_a_choice_that_may_be_unset_takes_only_its_words():
    text = BACKEND + '[[models]]\nname = "m"\nbalance = false\ntargets = [{backend = "b"}]\n'
    assert "balance" in problems(text)[0]

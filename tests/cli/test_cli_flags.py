"""The flags of `serve` and `check`: which settings they become."""

from __future__ import annotations

import argparse

import pytest

from ghostllm.cli.flags import add_source_flags, load_from
from ghostllm.config.kinds import Secret
from ghostllm.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(*args, **environ):
    parser = argparse.ArgumentParser()
    add_source_flags(parser)
    return load_from(parser.parse_args(args), {"XDG_CONFIG_HOME": "/nonexistent", **environ})[0]


def problems(*args, **environ):
    with pytest.raises(ConfigError) as caught:
        config(*args, **environ)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:11434", ("127.0.0.1:11434", "auto", "http://127.0.0.1:11434")),
        ("ollama=http://box:11434", ("box:11434", "ollama", "http://box:11434")),
        ("openai=https://api.example/v1", ("api.example", "openai", "https://api.example/v1")),
        ("http://box/a=b", ("box", "auto", "http://box/a=b")),
        ("vllm=http://[::1]:8000", ("[::1]:8000", "vllm", "http://[::1]:8000")),
    ],
)
def test_backends(text, expected):
    (backend,) = config("--backend", text).backends
    assert (backend.name, backend.kind, backend.url) == expected


def test_names_stay_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x y.gguf").touch()
    args = [
        "--backend",
        "http://h:1",
        "--backend",
        "http://h:1/base",
        "--gguf",
        "a/x y.gguf",
        "--gguf",
        "b/x y.gguf",
    ]
    backends = config(*args).backends
    assert [backend.name for backend in backends] == ["h:1", "h:1-2", "x-y", "x-y-2"]
    assert [(backend.kind, backend.path) for backend in backends[2:]] == [
        ("gguf", "a/x y.gguf"),
        ("gguf", "b/x y.gguf"),
    ]
    (backend,) = config("--backend", "gguf=a/x y.gguf").backends
    assert (backend.kind, backend.path, backend.url) == ("gguf", "a/x y.gguf", "")


def test_keys_listen_and_log(tmp_path):
    (tmp_path / "key").write_text("three\n")
    given = config(
        "--key",
        "one",
        "--key",
        "env:TWO",
        "--key",
        "file:key",
        "--listen",
        "0.0.0.0:1",
        "--listen",
        "[::]:1",
        "--log-level",
        "debug",
        "--log-format",
        "json",
        TWO="two",
    )
    assert [(key.name, key.key) for key in given.keys] == [
        ("key-1", Secret("one")),
        ("key-2", Secret("two")),
        ("key-3", Secret("three")),
    ]
    assert given.server.listen == ("0.0.0.0:1", "[::]:1")
    assert (given.log.level, given.log.format) == ("debug", "json")


def test_insecure():
    assert config("--listen", ":1", "--insecure").server.insecure
    assert problems("--listen", ":1")


def test_flags_beside_a_file(tmp_path):
    (tmp_path / "ghostllm.toml").write_text(
        '[server]\nlisten = ["127.0.0.1:1"]\n[[backends]]\nname = "f"\nurl = "http://f"\n'
        '[profile.p.log]\nlevel = "error"\n'
    )
    given = config("--profile", "p", "--backend", "http://g", "--set", "server.limits.head_bytes = 5")
    assert [backend.name for backend in given.backends] == ["f", "g"]
    assert given.server.listen == ("127.0.0.1:1",)
    assert (given.log.level, given.server.limits.head_bytes) == ("error", 5)
    assert config("--log-level", "info", GHOSTLLM_LOG_LEVEL="debug").log.level == "info"
    assert config("--log-level", "info", "--set", "log.level=error").log.level == "error"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--backend", "olama=http://a"],
            "--backend: 'olama' is no kind of backend; did you mean \"ollama\"?",
        ),
        (["--backend", "localhost:1"], "--backend: backends[0].url: must start with http:// or https://"),
        (["--backend", "http://u:sk-1@a"], "--backend: backends[0].url: must not hold credentials"),
        (["--backend", "http://[::1"], "--backend: backends[0].url: is not a URL"),
        (["--backend", ""], "--backend: backends[0].url: missing"),
        (["--gguf", "absent.gguf"], "--gguf: backends[0].path: no such file: 'absent.gguf'"),
        (["--key", "sk 1"], "--key: keys[0].key: holds spaces"),
        (["--key", "env:ABSENT"], "--key: keys[0].key: environment variable ABSENT is not set"),
        (["--key", "same", "--key", "same"], '--key: keys[1].key: is the same key as that of "key-1"'),
        (["--set", "sk-1"], "--set: expected KEY=VALUE, such as log.level=debug"),
        (["--set", "=1"], "--set : is not a key"),
        (["--profile", "p"], "profile 'p' is asked for, but there is no configuration file"),
    ],
)
def test_mistakes(args, expected):
    (problem,) = problems(*args)
    assert problem.startswith(expected)
    assert "sk-" not in problem and "sk 1" not in problem

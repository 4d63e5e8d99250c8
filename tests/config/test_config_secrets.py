"""Secrets: read from variables and files, and shown nowhere."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from ghostllm.config.kinds import Secret
from ghostllm.config.load import build, load
from ghostllm.config.schema import KeyConfig
from ghostllm.config.sources import parse_text
from ghostllm.errors import ConfigError

VALUE = "sk-Qz7-hidden"

FULL = f"""
[[backends]]
name = "b"
url = "http://b"
api_key = "{VALUE}"
headers = {{ x-secret = "{VALUE}" }}
[[keys]]
name = "k"
key = "env:K"
"""


def test_never_in_any_text():
    secret = Secret(VALUE)
    config = build(parse_text(FULL, "c.toml"), {"K": VALUE})
    assert config.backends[0].api_key.reveal() == VALUE
    assert config.backends[0].headers == {"x-secret": VALUE}
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>30}",
        repr([secret]),
        repr(config),
    ):
        assert VALUE not in shown
    assert "env:K" in repr(config.keys[0])


def test_copies_and_comparison():
    one, same, other = Secret(VALUE), Secret(VALUE, "env:K"), Secret("else")
    assert one == same and hash(one) == hash(same) and one != other and one != VALUE
    assert Secret("é") != Secret("\udce9")
    assert dataclasses.asdict(KeyConfig(name="k", key=one))["key"] is one
    assert copy.deepcopy(one) == one


def test_from_files(tmp_path):
    file = tmp_path / "key"
    for content in (VALUE, VALUE + "\n", VALUE + "\r\n"):
        file.write_text(content, newline="")
        config = load(environ={}, flags={"keys": [{"name": "k", "key": f"file:{file}"}]})
        assert config.keys[0].key == Secret(VALUE)
        assert config.keys[0].key.origin == f"file:{file}"


def test_header_values_by_reference():
    config = build(
        parse_text(FULL.replace(f'x-secret = "{VALUE}"', 'x = "env:H"'), "c"), {"K": "k", "H": "two words"}
    )
    assert config.backends[0].headers == {"x": "two words"}


@pytest.mark.parametrize(
    ("reference", "content", "fault"),
    [
        ("env:ABSENT", None, "environment variable ABSENT is not set"),
        ("env:", None, "env: needs a variable's name after the colon"),
        ("env:EMPTY", None, "the value from env:EMPTY is empty"),
        ("env:SPACED", None, "the value from env:SPACED holds spaces or characters other than visible ASCII"),
        ("file:absent", None, "cannot read absent: No such file or directory"),
        ("file:.", None, "cannot read .: Is a directory"),
        ("file:a\0b", None, "cannot read a\\x00b: not a file name"),
        ("file:key", b"", "the value from file:key is empty"),
        ("file:key", b"x" * 70_000, "key is larger than 65536 bytes: not a secret"),
        ("file:key", b"\xff", "key is not UTF-8 text"),
        (
            "file:key",
            b"two\nlines",
            "the value from file:key holds spaces or characters other than visible ASCII",
        ),
        ("", None, "is empty"),
        ("a b", None, "holds spaces or characters other than visible ASCII"),
    ],
)
def test_what_cannot_be_read(tmp_path, monkeypatch, reference, content, fault):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    environ = {"EMPTY": "", "SPACED": "a " + VALUE}
    with pytest.raises(ConfigError) as caught:
        load(environ=environ, flags={"keys": [{"name": "k", "key": reference}]})
    assert caught.value.problems == [f"keys[0].key: {fault}"]


@pytest.mark.parametrize(
    "text",
    [
        FULL.replace(f'api_key = "{VALUE}"', f'api_key = ["{VALUE}"]'),
        FULL.replace(f'api_key = "{VALUE}"', f'api_key = "{VALUE} \\u0000"'),
        FULL.replace(f'x-secret = "{VALUE}"', f'x-secret = "{VALUE}\\n"'),
        FULL.replace("http://b", f"http://user:{VALUE}@b"),
        FULL.replace("http://b", f"http://b?key={VALUE}"),
        FULL + f'hash = "{VALUE}"\n',
        FULL + f'[[keys]]\nname = "l"\nkey = "{VALUE}"\n',
        FULL + f"[[keys]]\nname = 'l'\nkey = {VALUE}\n",
        FULL + f"[[keys]]\nname = 'l'\nkey = '{VALUE}\n",
        FULL + f"[[keys]]\nname = 'l'\nkey = '{VALUE}' '{VALUE}'\n",
        FULL + f"[log]\naccess = '{VALUE}'\nlevel = '{VALUE}'\n",
    ],
)
def test_never_in_messages(text):
    with pytest.raises(ConfigError) as caught:
        build(parse_text(text, "c.toml"), {"K": VALUE})
    assert VALUE not in str(caught.value)
    assert "hidden" not in repr(caught.value.problems)


@pytest.mark.parametrize(
    "text", [f"keys: [{{name: k, key: {VALUE}: x", f"key: '{VALUE}\n", f"{VALUE}: [1\n", f"a: b: {VALUE}"]
)
def test_never_in_messages_about_yaml(text):
    with pytest.raises(ConfigError) as caught:
        parse_text(text, "c.yaml", yaml=True)
    assert VALUE not in str(caught.value)

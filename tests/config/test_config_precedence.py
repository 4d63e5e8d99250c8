"""defaults < file < profile < environment < flags < --set, and how each of them is read."""

from __future__ import annotations

import pytest

from ghostllm.config.fields import env_names
from ghostllm.config.kinds import Secret
from ghostllm.config.load import load
from ghostllm.config.schema import Config
from ghostllm.config.sources import LEFT_ALONE, find_file, set_path
from ghostllm.errors import ConfigError

FILE = """
[server]
listen = ["127.0.0.1:1000"]
[server.limits]
head_bytes = 1000
header_count = 10
[log]
level = "warning"

[[backends]]
name = "one"
url = "http://one"
weight = 2
[[backends]]
name = "two"
url = "http://two"

[profile.test.server.limits]
head_bytes = 2000
[profile.test.log]
level = "error"
[[profile.test.backends]]
name = "two"
kind = "vllm"
url = "http://other"
[[profile.test.backends]]
name = "three"
url = "http://three"
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(FILE)
    return str(file)


def test_nothing_gives_the_defaults():
    assert load(environ={}) == Config()


def test_file_over_defaults(path):
    config = load(path, environ={})
    assert config.server.listen == ("127.0.0.1:1000",)
    assert config.server.limits.head_bytes == 1000
    assert config.server.limits.body_bytes == Config().server.limits.body_bytes
    assert [backend.name for backend in config.backends] == ["one", "two"]


def test_profile_over_file(path):
    config = load(path, profile="test", environ={})
    assert config.server.limits.head_bytes == 2000
    assert config.server.limits.header_count == 10
    assert config.log.level == "error"


def test_profile_replaces_list_entries_by_name_and_adds_others(path):
    config = load(path, profile="test", environ={})
    assert [(b.name, b.kind, b.url) for b in config.backends] == [
        ("one", "auto", "http://one"),
        ("two", "vllm", "http://other"),
        ("three", "auto", "http://three"),
    ]
    assert config.backends[0].weight == 2


def test_profile_from_the_environment_and_the_argument_wins(path, tmp_path):
    assert load(path, environ={"GHOSTLLM_PROFILE": "test"}).log.level == "error"
    assert load(path, environ={"GHOSTLLM_PROFILE": ""}).log.level == "warning"
    assert load(path, profile="test", environ={"GHOSTLLM_PROFILE": "absent"}).log.level == "error"


def test_environment_over_profile(path):
    config = load(
        path,
        profile="test",
        environ={"GHOSTLLM_LOG_LEVEL": "debug", "GHOSTLLM_SERVER_LIMITS_HEAD_BYTES": "3"},
    )
    assert config.log.level == "debug"
    assert config.server.limits.head_bytes == 3
    assert config.server.limits.header_count == 10


def test_flags_over_environment_and_set_over_flags(path):
    environ = {"GHOSTLLM_LOG_LEVEL": "debug", "GHOSTLLM_LOG_FORMAT": "text"}
    flags = {"log": {"level": "info"}, "backends": [{"name": "one", "url": "http://flag"}]}
    config = load(path, environ=environ, flags=flags)
    assert (config.log.level, config.log.format) == ("info", "text")
    assert [backend.url for backend in config.backends] == ["http://flag", "http://two"]
    config = load(path, environ=environ, flags=flags, overrides=[("log.level", "error")])
    assert config.log.level == "error"


def test_the_last_set_wins():
    assert load(environ={}, overrides=[("log.level", "debug"), ("log.level", "error")]).log.level == "error"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("GHOSTLLM_SERVER_LISTEN", "127.0.0.1:1, [::1]:2", ("127.0.0.1:1", "[::1]:2")),
        ("GHOSTLLM_SERVER_LISTEN", '["127.0.0.1:1"]', ("127.0.0.1:1",)),
        ("GHOSTLLM_SERVER_LISTEN", "[::1]:2", ("[::1]:2",)),
        ("GHOSTLLM_SERVER_INSECURE", "yes", True),
        ("GHOSTLLM_SERVER_INSECURE", "False", False),
        ("GHOSTLLM_SERVER_LIMITS_BODY_BYTES", "1_000", 1000),
        (
            "GHOSTLLM_SERVER_CORS_ORIGINS",
            "https://a.example,https://b.example",
            ("https://a.example", "https://b.example"),
        ),
        ("GHOSTLLM_ROUTING_BACKOFF", "1", 1.0),
        ("GHOSTLLM_ROUTING_BALANCE", "round_robin", "round_robin"),
        ("GHOSTLLM_ROUTING_BALANCE", '"weighted"', "weighted"),
        ("GHOSTLLM_TIMEOUTS_FIRST_TOKEN", "2.5", 2.5),
    ],
)
def test_words_mean_what_their_key_wants(variable, text, expected):
    key = env_names()[variable]

    def value(config):
        for part in key:
            config = getattr(config, part)
        return config

    assert value(load(environ={variable: text})) == expected
    assert value(load(environ={}, overrides=[(".".join(key), text)])) == expected


def test_tables_from_a_variable_and_a_set():
    text = '[\n  {name = "a", url = "http://a", api_key = "env:A"},\n  {name = "b", url = "http://b"}\n]'
    for given in (
        {"environ": {"GHOSTLLM_BACKENDS": text, "A": "k"}},
        {"environ": {"A": "k"}, "overrides": [("backends", text)]},
    ):
        config = load(**given)
        assert [backend.name for backend in config.backends] == ["a", "b"]
        assert config.backends[0].api_key == Secret("k")


def test_set_takes_quoted_keys():
    assert set_path('a."b.c".d') == ("a", "b.c", "d")
    assert load(environ={}, overrides=[('"log"."level"', "debug")]).log.level == "debug"


@pytest.mark.parametrize("key", ["", "a b", "a.", "a\nb", "[x]", "a=1", "=", "." * 40, "a." * 20 + "a"])
def test_a_key_that_is_none(key):
    with pytest.raises(ConfigError, match="--set .*is not a key"):
        load(environ={}, overrides=[(key, "1")])


def test_a_set_below_a_single_value():
    with pytest.raises(ConfigError, match="--set log.level.x: log.level.x: level has been set"):
        load(environ={}, overrides=[("log.level", "info"), ("log.level.x", "1")])


def test_a_variable_does_not_hide_a_wrong_section(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("log = 5\n")
    with pytest.raises(ConfigError, match="c.toml:1: log: must be a table, not a whole number"):
        load(str(file), environ={"GHOSTLLM_LOG_LEVEL": "debug"})


def test_unknown_variables_are_told_and_others_left_alone():
    with pytest.raises(ConfigError) as caught:
        load(environ={"GHOSTLLM_SERVER_LISTN": "x", "GHOSTLLM_ZZZZZZ": "x", "HOME": "/"})
    assert caught.value.problems == [
        'environment: GHOSTLLM_SERVER_LISTN: unknown variable; did you mean "GHOSTLLM_SERVER_LISTEN"?',
        "environment: GHOSTLLM_ZZZZZZ: unknown variable",
    ]
    left = dict.fromkeys(LEFT_ALONE - {"GHOSTLLM_PROFILE"}, "x")
    assert load(environ=left | {"GHOSTLLM_LOG_LEVEL": ""}) == Config()


def test_what_kubernetes_sets_for_a_service_called_ghostllm_is_no_setting():
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP"]
    names += ["PORT_8080_TCP_PROTO", "PORT_8080_TCP_PORT", "PORT_8080_TCP_ADDR"]
    assert load(environ={f"GHOSTLLM_{name}": "10.0.0.1" for name in names}) == Config()


def test_a_variable_that_holds_a_secret_may_be_called_anything():
    keys = '[{name = "k", key = "env:GHOSTLLM_MY_OWN"}]'
    config = load(
        environ={"GHOSTLLM_MY_OWN": "s3cret"}, flags={"keys": [{"name": "k", "key": "env:GHOSTLLM_MY_OWN"}]}
    )
    assert config.keys[0].key == Secret("s3cret")
    config = load(environ={"GHOSTLLM_MY_OWN": "s3cret", "GHOSTLLM_KEYS": keys})
    assert config.keys[0].key == Secret("s3cret")


def test_unknown_profile(path):
    with pytest.raises(ConfigError, match="no profile 'tst'; did you mean \"test\"\\?; there are: test"):
        load(path, profile="tst", environ={})
    with pytest.raises(ConfigError, match="no configuration file to hold it"):
        load(profile="test", environ={})


def test_profiles_must_be_tables(tmp_path):
    file = tmp_path / "c.toml"
    for text in ("profile = 1\n", "profile.a = 1\n"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="c.toml:1: profile: must hold tables"):
            load(str(file), environ={})
    file.write_text("[profile.a.profile.b]\n")
    with pytest.raises(ConfigError, match="a profile holds no profiles"):
        load(str(file), profile="a", environ={})


def test_usual_places(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "ghostllm").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    environ = {"XDG_CONFIG_HOME": str(home)}
    in_home = home / "ghostllm" / "ghostllm.toml"
    in_home.write_text("")
    assert find_file(environ) == str(in_home)
    (here / "ghostllm.toml").write_text("")
    assert find_file(environ) == "ghostllm.toml"
    assert find_file(environ | {"GHOSTLLM_CONFIG": "absent.toml"}) == "absent.toml"

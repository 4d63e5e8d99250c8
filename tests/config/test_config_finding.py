"""How backends are found: what the checks say of it, and which backends targets may name then."""

import pytest

from ghostllm.config.check import seeks_backends
from ghostllm.config.load import build
from ghostllm.config.patterns import backend_matches, is_pattern
from ghostllm.config.sources import parse_text
from ghostllm.errors import ConfigError

BACKEND = '[[backends]]\nname = "gpu-1"\nurl = "http://b"\n'


def config(text):
    return build(parse_text(text, "c.toml"), {})


def model(backend):
    return f'[[models]]\nname = "m"\ntargets = [{{backend = "{backend}"}}]\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            model("gpu-2") + BACKEND,
            'c.toml:3: models[0].targets[0].backend: no backend is called "gpu-2"; did you mean "gpu-1"?',
        ),
        (
            model("cpu-*") + BACKEND,
            'c.toml:3: models[0].targets[0].backend: no backend\'s name matches "cpu-*"',
        ),
        (
            '[discovery]\ndns = [{name = "d", host = "h"}]\nkubernetes = [{name = "d", service = "s"}]\n',
            'c.toml:3: discovery.kubernetes[0].name: "d" is the name of another one already',
        ),
        (
            '[[discovery.dns]]\nname = "d"\nhost = "h"\nkind = "gguf"\n',
            'c.toml:4: discovery.dns[0].kind: "gguf" is a file of this machine, no server to be found',
        ),
        (
            '[[discovery.dns]]\nname = "d"\nhost = "h"\nport = 0\n',
            "c.toml:4: discovery.dns[0].port: must be at least 1",
        ),
    ],
)
def test_mistakes(text, problem):
    with pytest.raises(ConfigError) as caught:
        config(text)
    assert caught.value.problems == [problem]


@pytest.mark.parametrize(
    "source",
    [
        '[discovery]\nfile = "b.toml"\n',
        '[discovery]\nnetwork = ["10.0.0.0/24"]\n',
        '[[discovery.dns]]\nname = "d"\nhost = "h"\nrecord = "srv"\nport = 0\n',
        '[[discovery.kubernetes]]\nname = "k"\nservice = "s"\n',
    ],
)
def test_what_may_yet_be_found_may_be_named(source):
    found = config(model("gpu-7") + source)
    assert found.models[0].targets[0].backend == "gpu-7"
    assert seeks_backends(found.discovery)


def test_a_pattern_that_matches_is_sound():
    assert config(model("gpu-?") + BACKEND).models[0].targets[0].backend == "gpu-?"
    assert not seeks_backends(config("").discovery)


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [
        ("gpu-1", "gpu-*", True),
        ("gpu-1", "GPU-*", False),
        ("gpu-10", "gpu-?", False),
        ("k-fd00::1-80", "k-*-80", True),
        ("a[1]", "a[1]*", True),
        ("a1", "a[1]*", False),
    ],
)
def test_patterns(name, pattern, matches):
    assert is_pattern(pattern) and backend_matches(name, pattern) is matches

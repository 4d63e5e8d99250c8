"""The watched file: formats, changes, mistakes."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import ConfigError
from ghostllm.net import loop
from ghostllm.routing.discovery.file import FileSource, read_backends
from tests.routing.discovery.watching import Watch, running

ONE = '[[backends]]\nname = "one"\nurl = "http://127.0.0.1:1"\n'
TWO = '[[backends]]\nname = "two"\nurl = "http://127.0.0.1:2"\n'
FIRST, SECOND = {"one": "http://127.0.0.1:1"}, {"two": "http://127.0.0.1:2"}


def replace(path, text):
    """As editors and configuration tools do it."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


def run(path, scenario):
    async def main():
        watch = Watch()
        async with running(FileSource(str(path), {}, 0.02, watch.report), watch):
            await scenario(watch)

    loop.run(main())


def read(path, text, environ=None):
    path.write_text(text)
    return read_backends(str(path), environ or {})


def problems(path, text):
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    return [problem.replace(str(path), path.name) for problem in caught.value.problems]


def test_changes_are_seen_however_they_are_written(tmp_path):
    path = tmp_path / "b.toml"

    async def scenario(watch):
        assert await watch.tells(1) == f"{path}: cannot be read: No such file or directory"
        path.write_text(ONE)
        await watch.finds(FIRST)
        assert await watch.tells(2) is None
        replace(path, ONE + TWO)
        await watch.finds(FIRST | SECOND)
        path.write_text(TWO)
        await watch.finds(SECOND)
        replace(path, "backends = []\n")
        await watch.finds({})
        assert len(watch.told) == 2

    run(path, scenario)


def test_the_swapped_link_of_a_config_map(tmp_path):
    for name, text in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.toml").write_text(text)
        os.utime(tmp_path / name / "b.toml", (1e9, 1e9))  # the same size and time: another inode is enough
    data = tmp_path / "data"
    data.symlink_to("old")

    async def scenario(watch):
        await watch.finds(FIRST)
        (tmp_path / "link").symlink_to("new")
        os.replace(tmp_path / "link", data)
        await watch.finds(SECOND)

    run(data / "b.toml", scenario)


def test_a_mistake_keeps_what_was_known_and_is_told_once(tmp_path):
    path = tmp_path / "b.toml"
    path.write_text(ONE)

    async def scenario(watch):
        await watch.finds(FIRST)
        path.write_text(ONE + '[[backends]]\nname = "b c"\nport = 1')
        assert set((await watch.tells(1)).split("; ")) == {
            f"{path}:5: backends[1].name: must be a name of printable ASCII characters without spaces",
            f"{path}:6: backends[1].port: unknown key",
        }
        path.unlink()
        assert "No such file" in await watch.tells(2)
        assert watch.found == [FIRST]
        path.write_text(ONE)
        assert await watch.tells(3) is None
        path.write_text("")
        assert (await watch.tells(4)).endswith("is empty")
        assert watch.found[-1] == FIRST and all(found == FIRST for found in watch.found)

    run(path, scenario)


def test_every_format(tmp_path):
    by_toml = read(tmp_path / "b.toml", ONE + "weight = 2\nmax_inflight = 3")
    listed = [{"name": "one", "url": "http://127.0.0.1:1", "weight": 2, "max_inflight": 3}]
    by_json = read(tmp_path / "b.json", json.dumps({"backends": listed}))
    by_yaml = read(tmp_path / "b.yaml", f"backends:\n- {json.dumps(listed[0])}\n")
    assert by_toml == by_json == by_yaml
    assert (by_toml[0].name, by_toml[0].weight, by_toml[0].max_inflight) == ("one", 2.0, 3)


def test_secrets_are_looked_up(tmp_path):
    (backend,) = read(tmp_path / "b.toml", ONE + 'api_key = "env:KEY"', {"KEY": "sk-1"})
    assert backend.api_key.reveal() == "sk-1"


def test_target_groups_as_prometheus_has_them(tmp_path):
    groups = [
        {"targets": ["10.0.0.5:8000", "[fd00::5]:8000"], "labels": {"job": "vllm", "kind": "vllm", "x": "y"}},
        {"targets": ["gpu.example:443"], "labels": {"__scheme__": "https", "weight": "2.5"}},
        {"targets": []},
    ]
    found = read(tmp_path / "b.json", json.dumps(groups))
    assert [(one.name, one.kind, one.url, one.weight) for one in found] == [
        ("vllm-10.0.0.5-8000", "vllm", "http://10.0.0.5:8000", 1.0),
        ("vllm-fd00::5-8000", "vllm", "http://[fd00::5]:8000", 1.0),
        ("file-gpu.example-443", "auto", "https://gpu.example:443", 2.5),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("b.toml", "[server]\nlisten = []\n", ["b.toml:1: server: only [[backends]] belongs here"]),
        (
            "b.toml",
            "[[backend]]\n",
            ['b.toml:1: backend: only [[backends]] belongs here; did you mean "backends"?'],
        ),
        ("b.toml", ONE + ONE, ['b.toml:5: backends[1].name: "one" is the name of another one already']),
        ("b.toml", "[[backends]]\nname =\n", ["b.toml:2: not valid TOML: Invalid value"]),
        ("b.toml", " \n", ["b.toml: is empty"]),
        ("b.json", "[1]", ["b.json: a target group must be an object with targets, a list, and labels"]),
        ("b.json", "7", ["b.json: must be an object with backends, or a list of target groups"]),
        ("b.json", '{"backends": 7}', ["b.json: backends: must be a list, not a whole number"]),
        (
            "b.json",
            '[{"targets": ["a b:1"]}]',
            [
                "b.json: backends[0].name: must be a name of printable ASCII characters without spaces",
                "b.json: backends[0].url: must be plain ASCII without spaces and backslashes; "
                "write other characters as %XX or xn--",
            ],
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, name, text, expected):
    assert problems(tmp_path / name, text) == expected


def test_what_is_no_text(tmp_path):
    path = tmp_path / "b.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read_backends(str(path), {})


shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["backends", "targets", "labels", "name", "url", "job", "__scheme__"]), inner
        )
    ),
    max_leaves=12,
)


@given(shapes)
def test_any_json_is_backends_or_a_mistake(tmp_path_factory, shape):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(shape))
    try:
        found = read_backends(str(path), {})
    except ConfigError as error:
        assert error.problems
    else:
        assert all(backend.name and backend.url for backend in found)

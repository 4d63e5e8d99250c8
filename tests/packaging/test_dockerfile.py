"""The Dockerfile builds, and its image serves: with keys, as nobody in particular, checking its health."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import raw
from tests.fakes.fake import ROOT, Fake, until
from tests.packaging import debian

IMAGE = "localhost/ghostllm"

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(debian.lacking()), reason=debian.lacking()),
]


@pytest.fixture(scope="module")
def store() -> Iterator[debian.Store]:
    """With the image in it. Not below pytest's temporary folder, which is kept: it is large."""
    with tempfile.TemporaryDirectory(prefix="ghostllm-images-") as folder:
        store = debian.Store(Path(folder))
        store.make_base()
        store.build(IMAGE, pip_options(store), wheels(store))
        yield store
        store.call("rm", "--all")


def wheels(store: debian.Store) -> Path:
    """What pip needs inside: dependencies for the Python in there, and setuptools to build ours."""
    container = store.start(debian.BASE)
    version = store.run(
        container, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    ).stdout
    folder = store.folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    options = ["--only-binary=:all:", "--python-version", version.strip(), "--dest", str(folder)]
    needs = ["uvloop", "h11", "orjson", "nvidia-ml-py", "pyyaml", "setuptools>=77"]
    subprocess.run([*pip, *options, *needs], check=True)
    return folder


def pip_options(store: debian.Store) -> Path:
    path = store.folder / "pip.conf"
    path.write_text("[install]\nno-index = true\nfind-links = /wheels\n")
    return path


@pytest.fixture
def container(store: debian.Store) -> str:
    return store.start(IMAGE)


def test_it_refuses_to_serve_strangers(store: debian.Store, container: str) -> None:
    done = store.run(container, *store.settings(IMAGE)["Entrypoint"], check=False)
    assert done.returncode == 2
    assert "0.0.0.0:8080 can be reached from other machines, and no key is set" in done.stderr


def test_it_is_nobody_in_particular_and_small(store: debian.Store, container: str) -> None:
    code = "import os, orjson, uvloop, importlib.util as u; print(os.getuid(), u.find_spec('pip'))"
    assert store.run(container, "python3", "-c", code).stdout.split() == ["65532", "None"]


def test_it_serves_from_a_mounted_configuration(store: debian.Store, container: str, tmp_path: Path) -> None:
    config = tmp_path / "ghostllm.toml"
    mount = ("--volume", f"{config}:/etc/ghostllm/ghostllm.toml:ro")
    settings = store.settings(IMAGE)
    command = ["run", "--env", "ALICE_KEY=alices-own-key", *mount, container, "--"]
    with Fake("openai", "contained") as fake:
        config.write_text(
            f'[[backends]]\nname = "fake"\nkind = "openai"\nurl = "{fake.url}"\n'
            '[[keys]]\nname = "alice"\nkey = "env:ALICE_KEY"\n'
        )
        with debian.Contained(store.command(*command, *settings["Entrypoint"]), ROOT) as gateway:
            address = gateway.address
            until(lambda: raw.ask(address, "GET", "/ready").status == 200, "the container is ready")
            assert raw.ask(address, "GET", "/v1/models").status == 401
            mine = {"Authorization": "Bearer alices-own-key"}
            models = json.loads(raw.ask(address, "GET", "/v1/models", headers=mine).body)
            assert [model["id"] for model in models["data"]] == ["contained"]
            kind, *check = settings["Healthcheck"]["Test"]
            there = ("--env", f"GHOSTLLM_URL=http://{address}")
            assert kind == "CMD"
            assert store.run(container, *check, options=there).returncode == 0
        assert store.run(container, *check, options=there, check=False).returncode != 0

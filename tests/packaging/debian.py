"""Container images without a registry: buildah as root, on a base put together from Debian's packages.

The base is a tar file under .cache/, made once. Steps run chrooted and share this machine's network.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes.fake import ROOT
from tests.packaging.launch import BARE, Launched

PACKAGES = ("libc6", "libc-bin", "dash", "coreutils", "python3-minimal", "python3-venv")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE = "localhost/base"


def lacking() -> str:
    """What keeps us from building images here, in words; empty if nothing does."""
    if os.name != "posix" or os.geteuid() != 0:
        return "building images needs root here"
    if absent := [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]:
        return f"no {' and no '.join(absent)} on this machine (Debian's packages of these names)"
    return ""


def base_tar() -> Path:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    target = ROOT / ".cache" / "container" / f"{suite}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}")  # mmdebstrap tells the format by the suffix
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--include={','.join(PACKAGES)}",
            suite,
            part,
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        part.replace(target)
    return target


class Store:
    """Images and containers in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buildah = ["buildah", "--storage-driver", "vfs"]
        self._buildah += ["--root", str(folder / "images"), "--runroot", str(folder / "run")]

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [*self._buildah, *arguments]

    def call(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**BARE, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            self.command(*arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def make_base(self) -> None:
        container = self.call("from", "scratch").stdout.strip()
        self.call("add", container, base_tar(), "/")
        self.call("config", "--env", f"PATH={SYSTEM_PATH}", container)
        self.call("commit", "--rm", container, BASE)

    def build(self, tag: str, pip_options: Path, wheels: Path) -> None:
        """The repository's Dockerfile. Its pip gets what it needs from a folder of wheels."""
        mounts = ("--volume", f"{wheels}:/wheels:ro", "--volume", f"{pip_options}:/etc/pip.conf:ro")
        argument = ("--build-arg", f"BASE={BASE}")
        self.call("build", "--format", "docker", "--layers=false", *argument, *mounts, "--tag", tag, ROOT)

    def start(self, image: str) -> str:
        """A new container of the image; its name. Nothing runs in it yet."""
        return self.call("from", image).stdout.strip()

    def settings(self, image: str) -> dict[str, Any]:
        return json.loads(self.call("inspect", "--type", "image", image).stdout)["Docker"]["config"]

    def run(
        self, container: str, *command: str, options: Sequence[str] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.call("run", *options, container, "--", *command, check=check)


class Contained(Launched):
    """A gateway inside a container. buildah hands no signals on: they go to the process that it started."""

    def pid(self) -> int:
        pid = self.process.pid
        while children := [one for task in Path(f"/proc/{pid}/task").iterdir() for one in _children(task)]:
            pid = int(children[0])
        return pid


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()

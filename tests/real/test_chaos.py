"""Real servers killed under load, for a short while: nobody is lied to, nobody hangs, and streams go on."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.fakes.fake import ROOT
from tests.real.local import require

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

COMMAND = (sys.executable, "-m", "bench.chaos", "--minutes", "0.3", "--clients", "10", "--seed", "3")


def test_clients_are_told_the_truth_while_servers_die() -> None:
    require()
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=360)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    killed = re.search(r"kill (\d+).*hit by kills: (\d+)", done.stdout)
    assert killed is not None and int(killed[1]) > 0 and int(killed[2]) > 0, told
    total = re.search(r"^all +(\d+) +(\d+) +(\d+) +0 +0$", done.stdout, re.MULTILINE)
    assert total is not None and int(total[1]) > 0 and int(total[2]) > 0, told

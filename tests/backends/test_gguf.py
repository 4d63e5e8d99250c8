"""The life of a local model's process: real child processes, with a fake llama-server for the faults."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from ghostllm.backends.gguf import GgufRunner, Pace
from ghostllm.config.schema import BackendConfig
from ghostllm.errors import UpstreamConnectError, UpstreamTimeout
from ghostllm.net import loop
from ghostllm.net.fetch import fetch
from tests.backends.gguf_files import gguf

FAKE = Path(__file__).with_name("llama_server.py")
ROOT = Path(__file__).parents[2]
QUICK = Pace(pause=0.05, poll=0.01, probe=0.05, probe_timeout=0.2, grace=0.3)


class Bench:
    """A model file, a llama-server to run it, and what both wrote down."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.model = folder / "tiny.gguf"
        self.model.write_bytes(gguf())
        self.engine = folder / "llama-server"
        self.engine.write_text(f"#!{sys.executable}\n" + FAKE.read_text())
        self.engine.chmod(self.engine.stat().st_mode | stat.S_IXUSR)
        self.hangs = folder / "hangs"
        self.log: list[tuple[str, str]] = []
        self._setenv = monkeypatch.setenv
        self.behave()

    def behave(self, **behaviour: object) -> None:
        known = {"starts": str(self.folder / "starts"), "hangs": str(self.hangs)}
        self._setenv("FAKE_LLAMA", json.dumps(known | behaviour))

    def runner(self, pace: Pace = QUICK, **config: object) -> GgufRunner:
        settings = {"name": "tiny", "kind": "gguf", "path": str(self.model), "load_timeout": 20.0} | config
        return GgufRunner(BackendConfig(**settings), self._note, pace, str(self.engine))

    def _note(self, level: str, line: str) -> None:
        self.log.append((level, line))

    def starts(self) -> list[dict[str, object]]:
        file = self.folder / "starts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def logged(self, words: str) -> list[str]:
        return [level for level, line in self.log if words in line]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


def seen_by_ps(pid: int) -> bytes:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], stdout=subprocess.PIPE, check=True).stdout


def run(runner: GgufRunner, body) -> None:
    async def main() -> None:
        try:
            await body()
        finally:
            await runner.stop()
            assert runner.pid is None and runner.state == "stopped"

    loop.run(main())


# --- starting


def test_nothing_runs_before_first_use_and_callers_share_one_start(bench):
    runner = bench.runner()

    async def body():
        assert runner.state == "stopped" and runner.pid is None and bench.starts() == []
        urls = await asyncio.gather(*(runner.ensure() for _ in range(5)))
        assert len(set(urls)) == 1 and runner.state == "ready"
        assert await runner.ensure() == urls[0]
        assert [start["pid"] for start in bench.starts()] == [runner.pid]
        root = urls[0].removesuffix("/v1")
        assert (await fetch(root, "/health", seconds=5)).status == 200

    run(runner, body)


def test_it_answers_only_below_a_secret_path_that_no_argument_shows(bench):
    runner = bench.runner()

    async def body():
        url = await runner.ensure()
        origin, secret = url.removesuffix("/v1").rsplit("/", 1)
        assert len(secret) >= 32
        assert (await fetch(origin, "/health", seconds=5)).status == 404
        assert secret.encode() not in await asyncio.to_thread(seen_by_ps, runner.pid)
        assert not bench.logged(secret)

    run(runner, body)


def test_the_settings_reach_the_server(bench):
    runner = bench.runner(context=1000, parallel=3, threads=2, gpu_layers=0, max_connections=50)

    async def body():
        await runner.ensure()
        given = bench.starts()[0]["arguments"]
        for pair in (
            ("--model", str(bench.model)), ("--alias", "tiny"), ("--ctx-size", "3000"), ("--parallel", "3"),
            ("--threads", "2"), ("--n-gpu-layers", "0"), ("--threads-http", "58"), ("--pooling", "mean"),
        ):  # fmt: skip
            assert given[given.index(pair[0]) + 1] == pair[1]

    run(runner, body)


def test_an_embedding_model_keeps_its_own_pooling_and_gets_its_context_as_batch(bench):
    bench.model.write_bytes(
        gguf({
            "general.architecture": ("str", "bert"),
            "bert.context_length": ("u32", 2048),
            "bert.pooling_type": ("u32", 1),
        })
    )  # fmt: skip
    runner = bench.runner()

    async def body():
        await runner.ensure()
        given = bench.starts()[0]["arguments"]
        assert "--pooling" not in given
        assert given[given.index("--ubatch-size") + 1] == "2048"

    run(runner, body)


def test_a_caller_that_leaves_does_not_end_the_start(bench):
    bench.behave(loading=0.3)
    runner = bench.runner()

    async def body():
        leaves, stays = asyncio.create_task(runner.ensure()), asyncio.create_task(runner.ensure())
        await until(lambda: bench.starts())
        leaves.cancel()
        assert await stays
        assert leaves.cancelled() and len(bench.starts()) == 1

    run(runner, body)


def test_the_start_goes_on_when_the_last_caller_leaves(bench):
    bench.behave(loading=0.2)
    runner = bench.runner()

    async def body():
        only = asyncio.create_task(runner.ensure())
        await until(lambda: runner.state == "starting")
        only.cancel()
        await until(lambda: runner.state == "ready")
        assert len(bench.starts()) == 1

    run(runner, body)


def test_503_is_still_loading(bench):
    bench.behave(loading=0.4)
    runner = bench.runner()

    async def body():
        began = time.monotonic()
        await runner.ensure()
        assert time.monotonic() - began >= 0.4

    run(runner, body)


# --- starts that fail


@pytest.mark.parametrize("behaviour", [{"silent": True}, {"loading": 600}, {"hangs": __file__}])
def test_a_load_that_takes_too_long_is_a_timeout_and_leaves_no_process(bench, behaviour):
    bench.behave(**behaviour)
    runner = bench.runner(load_timeout=1.5)

    async def body():
        with pytest.raises(UpstreamTimeout, match="tiny was not loaded within 1.5 s") as caught:
            await runner.ensure()
        assert caught.value.limit == "load" and caught.value.status == 504
        assert runner.state == "failed"
        assert all(not alive(start["pid"]) for start in bench.starts())

    run(runner, body)


def test_a_child_that_dies_while_loading_is_quoted_and_tried_again_after_a_pause(bench):
    bench.behave(last_words="0.01 E load_model: failed to load", status=7)
    runner = bench.runner(Pace(pause=0.2, patience=0.05, grace=0.3, poll=0.01))

    async def body():
        with pytest.raises(UpstreamConnectError, match="exit status 7: .* failed to load") as caught:
            await asyncio.gather(runner.ensure(), runner.ensure())
        assert caught.value.retryable and caught.value.repeatable
        assert runner.state == "failed" and len(bench.starts()) == 1
        with pytest.raises(UpstreamConnectError, match="failed to load.*next try in") as caught:
            await runner.ensure()
        assert 0 < caught.value.retry_after <= 0.2 and len(bench.starts()) == 1
        bench.behave()
        await asyncio.sleep(0.2)
        assert await runner.ensure()
        assert len(bench.starts()) == 2

    run(runner, body)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "cannot read .*tiny.gguf: No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot read .*tiny.gguf: Is a directory"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "tiny.gguf is not a GGUF file"),
        (lambda path: path.write_bytes(b""), "tiny.gguf is not a GGUF file"),
    ],
)
def test_a_file_that_cannot_be_a_model_is_named(bench, spoil, words):
    spoil(bench.model)
    runner = bench.runner()

    async def body():
        for _ in range(3):  # every time, with no pause in between: looking costs nothing
            with pytest.raises(UpstreamConnectError, match=words) as caught:
                await runner.ensure()
            assert caught.value.retryable and not caught.value.repeatable
        assert runner.state == "failed" and bench.starts() == []
        if bench.model.is_dir():
            bench.model.rmdir()
        bench.model.write_bytes(gguf())
        assert await runner.ensure()

    run(runner, body)


def test_a_broken_header_is_told_by_the_child(bench):
    bench.model.write_bytes(gguf()[:-3])
    runner = bench.runner()

    async def body():
        with pytest.raises(UpstreamConnectError, match="exit status 2: .*tiny.gguf: .*cut short"):
            await runner.ensure()

    run(runner, body)


def test_a_server_that_cannot_hide_is_refused(bench):
    bench.behave(prefixless=True)
    runner = bench.runner()

    async def body():
        with pytest.raises(UpstreamConnectError, match="too old"):
            await runner.ensure()
        assert not alive(bench.starts()[0]["pid"])

    run(runner, body)


# --- trouble after the start


def test_a_crash_is_made_good_without_anybody_asking(bench):
    runner = bench.runner()

    async def body():
        first, pid = await runner.ensure(), runner.pid
        os.kill(pid, signal.SIGSEGV)
        await until(lambda: runner.state == "backoff")
        await until(lambda: runner.state == "ready")
        assert await runner.ensure() != first and runner.pid != pid
        assert bench.logged("ended unexpectedly: signal 11") == ["error"]

    run(runner, body)


def test_callers_wait_out_a_short_pause_and_are_told_of_a_long_one(bench):
    runner = bench.runner(Pace(pause=0.3, patience=0.4, poll=0.01, grace=0.3))

    async def body():
        await runner.ensure()
        os.kill(runner.pid, signal.SIGKILL)
        await until(lambda: runner.state == "backoff")
        assert await runner.ensure() and len(bench.starts()) == 2
        os.kill(runner.pid, signal.SIGKILL)
        await until(lambda: runner.state == "backoff")
        with pytest.raises(UpstreamConnectError, match="signal 9; next try") as caught:
            await runner.ensure()
        assert 0.4 < caught.value.retry_after <= 0.6

    run(runner, body)


@pytest.mark.parametrize(("healthy", "pauses"), [(60.0, ["0.05", "0.1", "0.1"]), (0.0, ["0.05"] * 3)])
def test_the_pause_doubles_to_its_limit_and_is_forgotten_in_health(bench, healthy, pauses):
    runner = bench.runner(
        Pace(pause=0.05, longest_pause=0.1, healthy=healthy, probe=0.05, poll=0.01, grace=0.3)
    )

    async def body():
        for _ in pauses:
            await runner.ensure()
            await asyncio.sleep(0.15)
            os.kill(runner.pid, signal.SIGKILL)
            await until(lambda: runner.state == "backoff")
        said = [line.rpartition("next start in ")[2] for level, line in bench.log if level == "error"]
        assert said == [f"{pause} s" for pause in pauses]

    run(runner, body)


def test_a_child_that_hangs_is_killed_and_replaced(bench):
    runner = bench.runner()

    async def body():
        await runner.ensure()
        pid = runner.pid
        bench.hangs.touch()
        await until(lambda: runner.state == "backoff")
        bench.hangs.unlink()
        await until(lambda: runner.state == "ready")
        assert runner.pid != pid and not alive(pid)
        assert bench.logged("did not answer 3 probes and was killed") == ["error"]

    run(runner, body)


def test_a_short_silence_is_forgiven(bench):
    runner = bench.runner(Pace(probe=0.05, probe_timeout=0.4, poll=0.01, misses=3, grace=0.3))

    async def body():
        await runner.ensure()
        for _ in range(2):
            bench.hangs.touch()
            await asyncio.sleep(0.5)
            bench.hangs.unlink()
            await asyncio.sleep(0.5)
        assert runner.state == "ready" and len(bench.starts()) == 1

    run(runner, body)


# --- the end


@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_leaves_no_process_even_of_a_child_that_ignores_sigterm(bench, stubborn):
    bench.behave(stubborn=stubborn)
    runner = bench.runner()

    async def main():
        await runner.ensure()
        pid = runner.pid
        await runner.stop()
        assert not alive(pid) and runner.pid is None and runner.state == "stopped"
        with pytest.raises(UpstreamConnectError, match="shut down"):
            await runner.ensure()
        await runner.stop()

    loop.run(main())


def test_stop_in_the_middle_of_a_start_tells_who_waits(bench):
    bench.behave(loading=600)
    runner = bench.runner()

    async def main():
        waits = asyncio.create_task(runner.ensure())
        await until(lambda: bench.starts())
        await runner.stop()
        with pytest.raises(UpstreamConnectError, match="shut down"):
            await waits
        assert not alive(bench.starts()[0]["pid"])

    loop.run(main())


GATEWAY = """
import asyncio, sys
from ghostllm.backends.gguf import GgufRunner
from ghostllm.config.schema import BackendConfig

async def main():
    config = BackendConfig(name="orphan", kind="gguf", path=sys.argv[1])
    runner = GgufRunner(config, lambda level, line: None, None, sys.argv[2])
    print(await runner.ensure(), runner.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def dies_with_its_gateway(model: str, engine: str, path: str = str(ROOT)) -> None:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-P", "-c", GATEWAY, model, engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as gateway:
        url, pid = gateway.stdout.readline().split()
        assert url.startswith(b"http://127.0.0.1:") and alive(int(pid))
        gateway.kill()
    deadline = time.monotonic() + 20
    while alive(int(pid)):
        assert time.monotonic() < deadline, "the child outlives the gateway"
        time.sleep(0.01)


def test_the_child_is_gone_when_the_gateway_is_killed(bench):
    dies_with_its_gateway(str(bench.model), str(bench.engine))


def test_it_works_out_of_a_zip(bench):
    archive = bench.folder / "ghostllm.pyz"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in (ROOT / "ghostllm").rglob("*.py"):
            zipped.write(file, file.relative_to(ROOT))
    dies_with_its_gateway(str(bench.model), str(bench.engine), str(archive))


GUARD = """
import os, sys
from ghostllm.backends.gguf_child import run_guarded
run_guarded(sys.argv[1:], {**os.environ})
"""


@pytest.mark.parametrize("end", ["stdin closes", "SIGTERM"])
def test_where_no_kernel_helps_a_guard_ends_the_server(bench, end):
    command = [sys.executable, "-c", GUARD, str(bench.engine)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as guard:
        assert b"listening on" in guard.stdout.readline()
        (server,) = bench.starts()
        assert alive(server["pid"])
        guard.stdin.close() if end == "stdin closes" else guard.terminate()
        guard.wait(20)
    assert not alive(server["pid"])


# --- output


def test_output_goes_to_the_log_with_levels_and_bounded_lines(bench):
    lines = ["0.00.001.735 I srv init: fine", "0.00.001.735 W srv: hm", "1.00.001.735 E srv: bad"]
    bench.behave(output="\n".join(lines), shout=1_000_000)
    runner = bench.runner()

    async def body():
        await runner.ensure()
        await until(lambda: bench.logged("end"))
        assert bench.logged("srv init: fine") == ["debug"]
        assert bench.logged("srv: hm") == ["debug"]
        assert bench.logged("srv: bad") == ["warning"]
        assert max(len(line) for _, line in bench.log) == 2_000

    run(runner, body)


# --- engines

CHOOSE = "from ghostllm.backends.gguf_child import choose_engine; print(choose_engine())"


@pytest.mark.parametrize("there", [True, False])
def test_without_xllamacpp_a_llama_server_on_the_path_is_taken(bench, there):
    path = str(bench.folder) if there else "/nonexistent"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", CHOOSE]  # -S: without the environment's packages
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=50)
    assert said.stdout.strip() == (str(bench.engine) if there else "None")


def test_without_any_engine_the_remedy_is_named(bench, monkeypatch):
    monkeypatch.setattr("ghostllm.backends.gguf.choose_engine", lambda: None)
    runner = GgufRunner(BackendConfig(name="tiny", kind="gguf", path=str(bench.model)), lambda *_: None)

    async def body():
        with pytest.raises(
            UpstreamConnectError, match=r"pip install 'ghostllm\[local\]', or .* llama-server"
        ):
            await runner.ensure()

    run(runner, body)

"""The process that holds one model: `gguf.py` starts it, this module is what runs in it.

What to do comes as one JSON line on stdin (not as arguments, which every user of the machine can read); where
it listens goes out as a line `listening on URL`, with llama.cpp's own output around it. It must never outlive
the gateway: a model that nobody can reach would hold gigabytes. So it asks the kernel to be killed with its
parent (Linux), and ends when its stdin does (everywhere).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn, NotRequired, TypedDict

from ghostllm.backends.cpu import choose_threads
from ghostllm.backends.gguf_header import Header, read_header

COMMAND = "gguf-child"
"""First argument of a frozen ghostllm that is to run `main` instead of its command line."""
INSTALL = "pip install 'ghostllm[local]', or put a llama-server on the PATH"
_ROOT = str(Path(__file__).parents[2])  # the folder, or the zipapp, that holds the package
_RUN = "import sys; sys.path.insert(0, sys.argv[1]); from ghostllm.backends.gguf_child import main; main()"
_PR_SET_PDEATHSIG = 1
_MICRO_BATCH = 512


class Spec(TypedDict):
    """engine: "xllamacpp", or the path of a llama-server. context: tokens for each of `parallel` requests.
    threads: 0 = choose. gpu_layers: -1 = as many as fit. connections: that may be open at the same time.
    prefix: path below which everything is served. parent: the gateway's process id. port: to listen on; any
    without it.
    """

    engine: str
    path: str
    alias: str
    context: int
    parallel: int
    threads: int
    gpu_layers: int
    connections: int
    prefix: str
    parent: int
    port: NotRequired[int]


def choose_engine() -> str | None:
    """xllamacpp, which is found without being imported; else the path of a llama-server; else None."""
    if importlib.util.find_spec("xllamacpp") is not None:
        return "xllamacpp"
    return shutil.which("llama-server")


def command() -> tuple[str, ...]:
    """What runs `main` in a process of its own."""
    if getattr(sys, "frozen", False):  # no interpreter: the program's own command line knows the word
        return (sys.executable, COMMAND)
    return (sys.executable, "-P", "-c", _RUN, _ROOT)


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:  # the gateway has gone already
        sys.exit(1)
    spec: Spec = json.loads(line)
    tied = die_with(spec["parent"])
    try:
        header = read_header(spec["path"])
    except (OSError, ValueError) as error:
        fail(f"{spec['path']}: {error.strerror if isinstance(error, OSError) else error}")
    if not spec["threads"]:
        spec["threads"] = choose_threads()
    if spec["engine"] == "xllamacpp":
        run_embedded(spec, header)
    elif tied:
        os.execvpe(spec["engine"], server_arguments(spec, header), server_environment(spec))
    else:
        run_guarded(server_arguments(spec, header), server_environment(spec))


def fail(message: str) -> NoReturn:
    print(f"error: {message}", flush=True)
    sys.exit(2)


def die_with(parent: int) -> bool:
    """Linux: SIGKILL when the parent's thread that started us ends, also after an exec. False: not possible
    here (the parent of a frozen program is its own boot loader).
    """
    if sys.platform != "linux" or getattr(sys, "frozen", False):
        return False
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we had asked
        sys.exit(1)
    return True


def run_embedded(spec: Spec, header: Header) -> NoReturn:
    """Serves until stdin ends. The constructor returns when the model is loaded; its threads do the work."""
    try:
        import xllamacpp
    except ImportError as error:
        fail(f"xllamacpp does not load: {error}")
    server = xllamacpp.Server(_parameters(xllamacpp, spec, header))
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # no waiting for generations that nobody will read


def _parameters(xllamacpp: Any, spec: Spec, header: Header) -> Any:
    p = xllamacpp.CommonParams()
    p.model.path = spec["path"]
    p.model_alias = [spec["alias"]]
    p.hostnames, p.port, p.api_prefix = ["127.0.0.1"], spec.get("port", 0), spec["prefix"]
    p.cors_origins, p.cors_credentials, p.ui = "", False, False
    p.n_parallel, p.n_ctx = spec["parallel"], spec["context"] * spec["parallel"]
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = spec["threads"]
    p.n_threads_http = spec["connections"]
    p.n_gpu_layers = spec["gpu_layers"]
    p.use_jinja = p.endpoint_metrics = p.endpoint_slots = p.embedding = True
    if header.pooling is None:
        p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    p.n_ubatch = micro_batch(spec, header)
    p.n_batch = max(p.n_batch, p.n_ubatch)
    return p


def micro_batch(spec: Spec, header: Header) -> int:
    """An embedding is computed in one micro-batch, so embedding models get one as long as their context.

    Generating models keep llama.cpp's size: scores over the whole vocabulary for each of its tokens take room
    (SmolLM2 with 2048: 580 MB more). Their embeddings are limited to that many tokens.
    """
    if header.pooling is None:
        parallel = spec["parallel"]  # with mean pooling on, it asserts a multiple of this
        return -(-_MICRO_BATCH // parallel) * parallel
    return max(_MICRO_BATCH, min(spec["context"], header.context or spec["context"]))


def server_arguments(spec: Spec, header: Header) -> list[str]:
    threads, batch = str(spec["threads"]), micro_batch(spec, header)
    return [
        *(spec["engine"], "--model", spec["path"], "--alias", spec["alias"]),
        *("--host", "127.0.0.1", "--port", str(spec.get("port", 0))),
        *("--ctx-size", str(spec["context"] * spec["parallel"]), "--parallel", str(spec["parallel"])),
        *("--threads", threads, "--threads-batch", threads, "--threads-http", str(spec["connections"])),
        *("--n-gpu-layers", str(spec["gpu_layers"] if spec["gpu_layers"] >= 0 else 999)),
        *("--batch-size", str(max(2048, batch)), "--ubatch-size", str(batch)),
        *("--jinja", "--metrics", "--slots", "--embeddings"),
        *(() if header.pooling is not None else ("--pooling", "mean")),
    ]


def server_environment(spec: Spec) -> dict[str, str]:
    """The prefix is a secret, and other users see arguments but not the environment."""
    return {**os.environ, "LLAMA_ARG_API_PREFIX": spec["prefix"]}


def run_guarded(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Stands between gateway and server where the kernel kills nobody for us: ends it when stdin ends."""
    with subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL) as server:
        _end_with_stdin(server)
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        status = server.wait()
    os._exit(status if status >= 0 else 128 - status)


def _end_with_stdin(server: subprocess.Popen[bytes]) -> None:
    def watch() -> None:
        sys.stdin.buffer.read()
        server.kill()

    threading.Thread(target=watch, daemon=True).start()

"""What a child process may know of our environment."""

from __future__ import annotations

import asyncio
import json
import sys

from ghostllm.backends.child import Child, without_secrets


def test_names_of_secrets_are_left_out():
    given = {"PATH": "/bin", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "0", "LANG": "C", "OPENAI_API_KEY": "x",
             "HF_TOKEN": "x", "GHOSTLLM_SERVER_LISTEN": "x", "DB_PASSWORD": "x", "aws_secret_access_key": "x",
             "GOOGLE_APPLICATION_CREDENTIALS": "x", "LLAMA_API_KEY": "x"}  # fmt: skip
    assert without_secrets(given) == {
        "PATH": "/bin",
        "HOME": "/root",
        "CUDA_VISIBLE_DEVICES": "0",
        "LANG": "C",
    }


def test_a_child_gets_no_secret_by_argument_or_environment(monkeypatch):
    import os

    monkeypatch.setenv("CANARY_KEY", "canary-4711")
    lines = []
    look = "import json, os, sys; print(json.dumps([sys.argv, sorted(os.environ.items())]))"

    async def main():
        child = await Child.spawn(
            [sys.executable, "-c", look], b"", lines.append, without_secrets(os.environ)
        )
        await child.exited

    asyncio.run(main())
    assert json.loads(lines[0])[0] == ["-c"]
    assert "canary" not in lines[0] and "PATH" in lines[0]

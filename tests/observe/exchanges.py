"""Exchanges as the gateway leaves them, for what looks at them afterwards."""

from __future__ import annotations

from ghostllm.message import Attempt, Call, Exchange, Identity, Request, Usage


def exchange(
    path="/v1/chat/completions", *, method="POST", headers=None, route="chat", status=200, outcome="ok"
):
    """Over: began at 100 s, ended at 100.25 s; no call to a model."""
    request = Request(method, path, headers or {})
    request.peer = "203.0.113.7"
    made = Exchange(request, "req_1", 100.0)
    made.route, made.status, made.outcome = route, status, outcome
    made.identity = Identity("team-a")
    made.finished = 100.25
    made.bytes_out = 1234
    return made


def chat(model="m", *, stream=True, backend="one", usage=None, attempts=None, **more):
    """A call: first content at 100.1 s, answered by `backend` at the first try."""
    made = exchange(**more)
    made.call = Call("openai", "chat", model, b'{"secret prompt"}', {"messages": "secret prompt"}, stream)
    made.backend = backend
    made.attempts = (
        [Attempt(backend, model, 100.0, status=200, outcome="ok")] if attempts is None else attempts
    )
    made.usage = usage or Usage(11, 6)
    made.committed = 100.1
    return made

"""Stand-ins for what the admin API is handed: a gateway's operations with two backends, and a client."""

from __future__ import annotations

import asyncio
import json

from ghostllm.admin.routes import routes
from ghostllm.errors import GhostError, NotFound
from ghostllm.gateway.routes import Routes
from ghostllm.message import Exchange, Identity, Request
from ghostllm.observe.recorder import Recorder

MANAGER = Identity("ops", manage=True)


class Fleet:
    """Implements ports.Operations."""

    def __init__(self):
        self.rows = {
            name: {"name": name, "kind": "openai", "state": "up", "breaker": "closed", "in_flight": 0}
            for name in ("one", "team/two")
        }
        self.probed = []

    def status(self):
        return {"state": "ready", "version": "9.9"}

    def backends(self):
        return list(self.rows.values())

    def models(self):
        return [{"name": "m", "balance": "smart", "targets": [{"backend": "one", "model": "m"}]}]

    def splits(self):
        return [{"model": "m", "by": "key", "arms": [], "canary": None}]

    def drain(self, name, on):
        self.rows[name]["state"] = "draining" if on else "up"

    async def probe(self, name):
        await asyncio.sleep(0)
        if name not in self.rows:
            raise NotFound(f"no backend {name!r}")
        self.probed.append(name)
        return {"name": name, "passed": True}


class Client:
    """Answers come back as status and JSON; work that is begun is run to its end."""

    def __init__(self, *, keep=10):
        self.fleet = Fleet()
        self.recorder = Recorder(keep)
        self.routes = Routes(routes(self.fleet, self.recorder))
        self.labels = []

    def __call__(self, method, target, headers=None, identity=MANAGER):
        request = Request(method, target, {b"host": b"gw:8080", **(headers or {})})
        exchange = Exchange(request, "req_admin", 1.0)
        route = self.routes.find(request.path)
        assert route is not None and not route.open, target
        self.labels.append(route.name)
        exchange.identity = identity
        answer = Answer()
        try:
            self.routes.handler(route, method)(exchange, answer)
            if answer.work is not None:
                asyncio.run(answer.work)
        except GhostError as error:
            return error.status, error.message
        assert exchange.outcome == ("ok" if answer.status == 200 else "error")
        assert dict(answer.headers)[b"cache-control"] == b"no-store"
        return answer.status, json.loads(answer.body)


class Answer:
    """The part of ports.Responder that these handlers use."""

    work = None

    def respond(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def run(self, work):
        self.work = work
        return work

"""The ready endpoints of a Kubernetes service: listed once, then watched.

After the API's own rules for clients: the watch begins where the list ended, bookmarks move that place on, an
end of the watch is ordinary, and 410 Gone means to list again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ghostllm import jsonx
from ghostllm.config.finding import KubernetesSource
from ghostllm.errors import GhostError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import UpstreamRequest
from ghostllm.net.address import parse_origin
from ghostllm.net.client import Client, TimeLimits
from ghostllm.net.fetch import fetch_by
from ghostllm.net.tls import client_context
from ghostllm.routing.discovery.endpoints import Gone, Slices, WatchFailed, reason_of
from ghostllm.routing.discovery.source import Condition, Found, Report, backend_at
from ghostllm.wire.h1 import ResponseHead

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
LIST_SECONDS = 30.0
WATCH_SECONDS = 240
"""The API ends a watch after this."""

LARGEST_LIST = 64 << 20
LARGEST_EVENT = 8 << 20
"""Bytes."""


@dataclass(slots=True, frozen=True)
class Cluster:
    """Where the API is, and who asks. url: empty outside of a cluster. account: the folder with token, ca.crt
    and namespace; read again each time, since tokens rotate. first_pause: seconds after the first failure.
    """

    url: str
    account: str = ACCOUNT
    first_pause: float = 0.5

    @classmethod
    def around(cls, environ: Mapping[str, str]) -> Cluster:
        """The one that this process runs in."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            return cls("")
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")

    def read(self, name: str) -> str:
        """A file of the account. Raises OSError."""
        with open(os.path.join(self.account, name), encoding="ascii") as file:
            return file.read().strip()

    def client(self) -> Client:
        """Raises OSError (also SSLError) where the certificate authority cannot be read."""
        origin = parse_origin(self.url)
        tls = client_context(ca_file=os.path.join(self.account, "ca.crt")) if origin.tls else None
        return Client(origin, "Kubernetes API", tls=tls)


class KubernetesWatch:
    """One service, watched."""

    def __init__(self, source: KubernetesSource, cluster: Cluster, report: Report) -> None:
        self.name = f"kubernetes {source.name}"
        self._source = source
        self._cluster = cluster
        self._condition = Condition(self.name, report)
        self._backoff = Backoff(cluster.first_pause)
        self._slices = Slices(source.port)

    def __repr__(self) -> str:
        return f"<KubernetesWatch {self._source.service} {self._condition!r}>"

    async def run(self, found: Found) -> None:
        while True:
            try:
                await self._follow(found)
            except Gone:
                pass  # ordinary, after a long silence: list again
            except OSError as error:
                self._condition.fails(error.strerror or str(error))
            except GhostError as error:
                self._condition.fails(error.message)
                error.forget()
            except (WatchFailed, ValueError) as error:
                self._condition.fails(str(error))
            await self._backoff.wait()

    async def _follow(self, found: Found) -> None:
        """Lists, then watches until that fails. Raises what `run` knows."""
        if not self._cluster.url:
            raise OSError(None, "this is not a pod: KUBERNETES_SERVICE_HOST is not set")
        client = self._cluster.client()
        try:
            self._slices.listed(await self._list(client))
            self._publish(found)
            while True:
                await self._watch(client, found)
                await self._backoff.wait()
        finally:
            await client.close()

    async def _list(self, client: Client) -> Any:
        answer = await fetch_by(client, self._request({}), seconds=LIST_SECONDS, limit=LARGEST_LIST)
        if answer.status != 200:
            raise UpstreamError(_reason(answer.status, answer.body))
        return jsonx.loads(answer.body)

    async def _watch(self, client: Client, found: Found) -> None:
        """Takes events until the API ends the watch."""
        request = self._request({
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._slices.version,
            "timeoutSeconds": str(WATCH_SECONDS),
        })  # fmt: skip
        lines = Lines()
        longest = WATCH_SECONDS + LIST_SECONDS
        began = client.now()
        call = client.start(request, b"", lines, TimeLimits(LIST_SECONDS, LIST_SECONDS, 0, 0, longest))
        try:
            while (line := await lines.next()) is not None:
                self._backoff.reset()
                if self._slices.event(jsonx.loads(line)):
                    self._publish(found)
        except UpstreamCut:
            pass  # balancers on the way cut what is silent for long: the next watch begins where this was
        finally:
            call.cancel()
            if client.now() - began >= Backoff.LONGEST:
                self._backoff.reset()

    def _publish(self, found: Found) -> None:
        places = self._slices.places()
        if places:
            self._condition.works()
        else:
            port = f" with port {self._source.port}" if self._source.port else ""
            self._condition.fails(f"service {self._source.service} has no ready endpoint{port}")
        found(self.name, [backend_at(self._source, host, port) for host, port in places])

    def _request(self, query: dict[str, str]) -> UpstreamRequest:
        """Raises OSError where the account cannot be read."""
        query = {"labelSelector": f"kubernetes.io/service-name={self._source.service}", **query}
        namespace = self._source.namespace or self._cluster.read("namespace")
        token = self._cluster.read("token")
        return UpstreamRequest(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{urlencode(query)}",
            (
                (b"accept", b"application/json"),
                (b"user-agent", b"ghostllm"),
                (b"authorization", b"Bearer " + token.encode("ascii")),
            ),
        )


class Lines:
    """A sink that gives the lines of an answer as they come."""

    def __init__(self) -> None:
        self._status = 0
        self._pending = b""
        self._ready: asyncio.Queue[bytes | GhostError | None] = asyncio.Queue()

    def whole(self, head: ResponseHead, body: bytes) -> bool:
        return False

    def head(self, head: ResponseHead) -> None:
        self._status = head.status

    def data(self, data: bytes) -> None:
        data = self._pending + data
        *lines, self._pending = data.split(b"\n") if self._status == 200 else (data,)
        if len(self._pending) > LARGEST_EVENT:
            raise UpstreamProtocolError(f"an event of more than {LARGEST_EVENT} bytes")
        for line in lines:
            if line.strip():
                self._ready.put_nowait(line)

    def end(self) -> None:
        if self._status != 200:
            self.fail(UpstreamError(_reason(self._status, self._pending)))
        else:
            self._ready.put_nowait(None)

    def fail(self, error: GhostError) -> None:
        self._ready.put_nowait(error)

    async def next(self) -> bytes | None:
        """None: the answer is over. Raises Gone, GhostError."""
        item = await self._ready.get()
        if isinstance(item, GhostError):
            if self._status == 410:
                raise Gone
            raise item
        return item


class Backoff:
    """Pauses that double from `first` seconds to half a minute, with jitter, until `reset`."""

    LONGEST = 30.0

    def __init__(self, first: float) -> None:
        self._first = self._next = first

    def __repr__(self) -> str:
        return f"<Backoff {self._next:g} s>"

    def reset(self) -> None:
        self._next = self._first

    async def wait(self) -> None:
        pause, self._next = self._next, min(self.LONGEST, self._next * 2)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))


def _reason(status: int, body: bytes) -> str:
    try:
        return reason_of(status, jsonx.loads(body))
    except jsonx.DecodeError:
        return reason_of(status, None)

"""What the tests of routing share: configurations in few words, requests under way, what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse

from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer, Raw, request

CHAT = "/v1/chat/completions"

Headers = dict[str, str]


def backend(name: str, fake: Fake, **more: Any) -> dict[str, Any]:
    """One entry of [[backends]]. Several may be one fake: what the gateway knows of each is its own."""
    return {"name": name, "kind": fake.kind, "url": fake.url, **more}


def model(name: str, *targets: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """One entry of [[models]]. targets: names of backends, or whole ones."""
    places = [target if isinstance(target, dict) else {"backend": target} for target in targets]
    return {"name": name, "targets": places, **more}


@contextmanager
def serving(settings: Settings, headers: Headers | None = None) -> Iterator[Gateway]:
    """A gateway that has seen all its backends: none is unknown to it any more."""
    with Gateway(settings) as gateway:
        until(lambda: all(one["state"] == "up" for one in backends(gateway, headers)), "all are there")
        yield gateway


def body(name: str, text: str = "Hi", *, stream: bool = True, **members: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": name, "messages": messages, "stream": stream, **members}).encode()


class Crowd:
    """Requests under way, each on a connection of its own. Use as a context manager."""

    def __init__(self, gateway: Gateway, target: str = CHAT) -> None:
        self._gateway = gateway
        self._target = target
        self._stack = ExitStack()
        self.members: list[Raw] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, data: bytes, headers: Headers | None = None) -> Raw:
        raw = self._stack.enter_context(self._gateway.open())
        raw.send(request("POST", self._target, data, headers))
        self.members.append(raw)
        return raw

    def answers(self) -> list[Answer]:
        """Of all that are still there, in the order in which they were sent."""
        return [raw.answer() for raw in self.members]


def whole(answer: Answer) -> str:
    """The text of an answer, checked to be complete."""
    assert answer.status == 200, answer.body
    assert answer.complete, answer.body
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.events[-1] == "[DONE]", answer.body
        return answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def said(fake: Fake) -> list[str]:
    """What the calls that a fake got were about, in their order."""
    return [call.json()["messages"][-1]["content"] for call in fake.calls]


def by(answers: Sequence[Answer]) -> list[str]:
    """The backends that gave the answers."""
    return [answer.headers["x-ghostllm-backend"] for answer in answers]


def counted(gateway: Gateway, name: str, headers: Headers | None = None, **labels: str) -> float:
    """The sum of the samples of that name whose labels include `labels`."""
    answer = gateway.ask("GET", "/metrics", None, {"Accept": "text/plain", **(headers or {})})
    assert answer.status == 200, answer.body
    return sum(
        sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def backends(gateway: Gateway, headers: Headers | None = None) -> list[dict[str, Any]]:
    answer = gateway.ask("GET", "/admin/api/backends", None, headers)
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json()["backends"]
    return rows


def row(gateway: Gateway, name: str, headers: Headers | None = None) -> dict[str, Any]:
    """How one backend stands."""
    answer = gateway.ask("GET", f"/admin/api/backends/{name}", None, headers)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json()
    return told


def act(gateway: Gateway, name: str, action: str, headers: Headers | None = None) -> Answer:
    """drain, undrain or probe a backend."""
    target = f"/admin/api/backends/{name}/{action}"
    return gateway.ask("POST", target, None, {"x-ghostllm-admin": "1", **(headers or {})})

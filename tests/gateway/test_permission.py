"""Who is refused is told why; who has to be found out first is waited for, and not longer than the client."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm.errors import Forbidden, InvalidKey
from ghostllm.gateway.permission import Admission, refused, refused_model
from ghostllm.message import Exchange, Identity, Request
from ghostllm.policy.keyless import STRANGER
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook

USER = Principal("ann", roles=("user",), grants=RoleBook().grants(("user",)))


def test_words():
    assert "'ann'" in str(refused(USER, "metrics")) and "(user) permits 'metrics'" in str(
        refused(USER, "metrics")
    )
    assert "http://127.0.0.1:8080" in str(refused(STRANGER, "admin:read"))
    assert "[[keys]]" in str(refused(STRANGER, "admin:read"))
    error = refused_model(USER, "m" * 1000)
    assert error.param == "model" and len(str(error)) < 300


class Asked:
    """Implements ports.Pending."""

    def __init__(self, found):
        self.found = found
        self.gate = asyncio.Event()
        self.cancelled = False

    async def settle(self):
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Client:
    """The part of ports.Responder that is used."""

    def __init__(self):
        self.failed = []

    def run(self, work):
        async def watch():
            try:
                await work
            except (Forbidden, InvalidKey) as error:
                self.failed.append(error)

        self.task = asyncio.get_running_loop().create_task(watch())
        return self.task


class Begun:
    """Implements ports.Work."""

    cancelled = False

    def cancel(self):
        self.cancelled = True


def admission(found, group="chat"):
    exchange = Exchange(Request("POST", "/x", {}), "req_1", 1.0)
    exchange.group = group
    begun, handled = Begun(), []

    def handler(exchange, responder):
        handled.append(exchange.identity)
        return begun

    pending, client = Asked(found), Client()
    return Admission(pending, handler, exchange, client), pending, client, begun, handled


def test_the_request_goes_on_when_its_sender_is_known():
    async def inside():
        one, pending, client, begun, handled = admission(USER)
        one.start()
        await asyncio.sleep(0)
        assert handled == []
        pending.gate.set()
        await client.task
        assert handled == [USER] and client.failed == []
        one.cancel()
        one.cancel()
        assert begun.cancelled, "the client leaves while its request is answered"

    asyncio.run(inside())


def test_a_client_that_leaves_before_is_not_waited_for():
    async def inside():
        one, pending, client, begun, handled = admission(USER)
        one.start()
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task
        assert pending.cancelled and handled == [] and not begun.cancelled

    asyncio.run(inside())


@pytest.mark.parametrize(
    ("found", "group", "kind"), [(InvalidKey("no"), "chat", InvalidKey), (USER, "admin:keys", Forbidden)]
)
def test_who_may_not_is_told(found, group, kind):
    async def inside():
        one, pending, client, _, handled = admission(found, group)
        pending.gate.set()
        one.start()
        await client.task
        assert [type(error) for error in client.failed] == [kind] and handled == []

    asyncio.run(inside())


def test_an_identity_without_roles_is_one_of_a_gateway_without_keys():
    assert not Identity("anonymous").roles and not STRANGER.roles

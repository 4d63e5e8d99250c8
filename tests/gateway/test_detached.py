"""Ways back without a client."""

import asyncio

import pytest

from ghostllm.api.openai import door
from ghostllm.errors import GhostError, Overloaded
from ghostllm.gateway.detached import FAILED, Unseen
from ghostllm.gateway.signs import sign_of_life, told_rescue
from ghostllm.message import Attempt, Exchange, Request
from ghostllm.routing.admission import Outlook
from tests.gateway.clock import run


def unseen():
    ended = []
    return Unseen(Exchange(Request("POST", "/", {}), "r1", 1.0), ended.append), ended


def test_a_copy_s_answer_ends_in_the_books_and_nowhere_else():
    one, ended = unseen()
    one.begin(200, ())
    one.write(b"12345")
    one.write(b"678")
    one.attach(one)
    assert ended == []
    one.end()
    assert ended == [one.exchange] and one.exchange.bytes_out == 8 and one.exchange.status == 200
    whole, ended = unseen()
    whole.respond(200, (), b"{}")
    assert ended == [whole.exchange]


def test_its_failure_is_an_outcome():
    one, ended = unseen()
    error = Overloaded("full")
    one.fail(error)
    assert ended == [one.exchange] and one.exchange.outcome == "error" and one.exchange.error is error


@pytest.mark.parametrize("error", [Overloaded("full"), ValueError("a fault of ours")])
def test_work_that_fails_is_told_once(error):
    async def work():
        await asyncio.sleep(1)
        raise error

    async def scenario():
        one, ended = unseen()
        crashes = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: crashes.append(told["exception"]))
        one.run(work())
        await asyncio.sleep(2)
        assert ended == [one.exchange]
        if isinstance(error, GhostError):
            assert one.exchange.error is error and crashes == []
        else:
            assert one.exchange.error.message == FAILED and crashes == [error], "the log says why"
        assert one._tasks == set()

    run(scenario)


def test_work_that_is_cancelled_tells_nobody():
    async def scenario():
        one, ended = unseen()
        work = one.run(asyncio.sleep(99))
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ended == [] and one._tasks == set()

    run(scenario)


def test_a_sign_of_life_says_what_is_waited_for():
    call = door.read_call("chat", b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
    assert sign_of_life(call, None) == b": waiting\n\n"
    assert sign_of_life(call, Outlook(3, None)) == b": waiting, position 3\n\n"
    assert sign_of_life(call, Outlook(1, 12.4)) == b": waiting, position 1, about 12 s\n\n"


def test_a_rescue_is_remarked_on_where_the_dialect_knows_remarks():
    class Client:
        sent = b""

        def write(self, data):
            assert data
            self.sent += data

    call = door.read_call("chat", b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
    for door_name, expected in (("openai", b": x-ghostllm-backend: b (rescue)\n\n"), ("ollama", b"")):
        client = Client()
        call.door = door_name
        told_rescue(call, Attempt("b", "m", 1.0), client)
        assert client.sent == expected

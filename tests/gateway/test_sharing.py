"""One call, several clients: all get every byte, none holds up another."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import Overloaded
from ghostllm.gateway.sharing import JOINABLE, Shared
from ghostllm.message import Attempt, Call, Exchange, Request, Usage

HEADERS = ((b"content-type", b"text/event-stream"),)


class Client:
    """The way back to one. room: writes that it takes before it asks to wait, None: any number."""

    def __init__(self, shared, exchange=None, room=None):
        self.exchange = exchange or Exchange(Request("POST", "/", {}), "r2", 5.0)
        self.room, self.begun, self.body, self.ends, self.source = room, [], b"", [], None
        self.work = shared.join(self.exchange, self)

    def attach(self, source):
        self.source = source

    def begin(self, status, headers):
        self.begun.append((status, headers, self.exchange.fields))

    def write(self, data):
        assert self.begun and not self.ends and data
        self.body += data
        if self.room is not None:
            self.room -= 1
            if self.room == 0 and self.source is not None:
                self.source.pause()

    def respond(self, status, headers, body):
        self.body += body
        self.ends.append(("respond", status, headers))

    def end(self, *, close=False):
        self.ends.append(("end", close))

    def fail(self, error):
        self.ends.append(("fail", error))

    def read(self, more=None):
        """It reads on."""
        self.room = more
        self.source.resume()

    def leave(self):
        self.work.cancel()


class Source:
    paused = False
    calls = 0

    def pause(self):
        self.calls += 1
        self.paused = True

    def resume(self):
        self.calls += 1
        self.paused = False


class Work:
    cancelled = 0

    def cancel(self):
        self.cancelled += 1


class Play:
    """A shared call with its first client."""

    def __init__(self, **first):
        request = Request("POST", "/v1/chat/completions", {})
        own = Exchange(request, "r1", 1.0)
        own.call = Call("openai", "chat", "m", b"", {})
        self.closed, self.source = 0, Source()
        self.shared = Shared(own, self._close)
        self.shared.work = self.work = Work()
        self.own = own
        self.first = Client(self.shared, Exchange(request, "r1", 1.0), **first)

    def _close(self):
        self.closed += 1

    def begin(self):
        self.own.attempts.append(Attempt("b", "m", 2.0, "because"))
        self.own.backend, self.own.committed = "b", 3.0
        self.shared.begin(200, HEADERS)
        self.shared.attach(self.source)
        return self

    def end(self):
        self.own.outcome = "ok"
        self.own.usage = Usage(prompt=7, completion=3)
        self.shared.end()


def test_who_joins_late_gets_it_from_the_beginning():
    play = Play().begin()
    play.shared.write(b"one ")
    play.shared.write(b"two ")
    late = Client(play.shared)
    assert late.body == b"one two " and play.first.body == b"one two "
    play.shared.write(b"three")
    play.end()
    for client in (play.first, late):
        assert client.body == b"one two three" and client.ends == [("end", False)]
        [(status, headers, fields)] = client.begun
        assert (status, headers) == (200, HEADERS) and b"x-ghostllm-backend: b\r\n" in fields
    assert play.closed == 1 and play.work.cancelled == 0


def test_who_joins_before_it_has_begun_waits_with_the_first():
    play = Play()
    early = Client(play.shared)
    assert early.begun == []
    play.begin()
    play.shared.write(b"x")
    assert early.body == play.first.body == b"x" and early.source is not None


def test_an_answer_that_comes_whole_goes_to_all():
    play = Play()
    other = Client(play.shared)
    play.own.attempts.append(Attempt("b", "m", 2.0))
    play.own.outcome, play.own.usage = "ok", Usage(prompt=7)
    play.shared.respond(200, HEADERS, b"{}")
    for client in (play.first, other):
        assert client.body == b"{}" and client.ends == [("respond", 200, HEADERS)]
        assert client.exchange.outcome == "ok" and b"x-ghostllm-backend" in client.exchange.fields
    assert play.closed == 1


def test_what_was_spent_stands_in_the_books_of_one():
    play = Play().begin()
    other = Client(play.shared)
    play.end()
    assert play.first.exchange.usage.prompt == 7 and other.exchange.usage == Usage(prompt=0, completion=0)
    assert other.exchange.outcome == "ok" and other.exchange.backend == "b"
    assert other.exchange.committed == 5.0, "not before it came"


def test_the_books_are_passed_on_when_the_first_leaves():
    play = Play().begin()
    second, third = Client(play.shared), Client(play.shared)
    play.first.leave()
    play.end()
    assert second.exchange.usage.prompt == 7 and third.exchange.usage == Usage(prompt=0, completion=0)


def test_one_leaving_does_not_end_it_but_the_last_does():
    play = Play().begin()
    other = Client(play.shared)
    play.shared.write(b"one ")
    play.first.leave()
    play.first.leave()
    assert play.work.cancelled == 0 and play.closed == 0
    play.shared.write(b"two")
    assert other.body == b"one two" and play.first.body == b"one "
    play.own.usage = Usage(prompt=7)
    other.leave()
    assert play.work.cancelled == 1 and play.closed == 1
    assert other.exchange.usage.prompt == 7 and other.exchange.usage.partial


def test_an_error_goes_to_all():
    play, error = Play(), Overloaded("full")
    other = Client(play.shared)
    play.own.error, play.own.outcome = error, "error"
    play.shared.fail(error)
    for client in (play.first, other):
        assert client.ends == [("fail", error)] and client.exchange.error is error
        assert client.exchange.outcome == "error"
    assert play.closed == 1
    other.leave()
    assert play.work.cancelled == 0


def test_a_stream_that_breaks_is_broken_for_all():
    play = Play().begin()
    other = Client(play.shared)
    play.shared.write(b"error")
    play.own.outcome = "broken"
    play.shared.end(close=True)
    for client in (play.first, other):
        assert client.body == b"error" and client.ends == [("end", True)]
        assert client.exchange.outcome == "broken"


def test_a_slow_one_loses_nothing_and_holds_nobody_up():
    play = Play(room=1).begin()
    quick = Client(play.shared)
    for word in (b"one ", b"two ", b"three "):
        play.shared.write(word)
    assert play.first.body == b"one " and quick.body == b"one two three "
    assert not play.source.paused
    play.first.read(1)
    assert play.first.body == b"one two "
    play.first.read()
    assert play.first.body == b"one two three "


def test_the_call_waits_only_while_all_are_behind():
    play = Play(room=1).begin()
    other = Client(play.shared, room=2)
    play.shared.write(b"1")
    assert not play.source.paused
    play.shared.write(b"2")
    assert play.source.paused
    play.first.read(5)
    assert not play.source.paused and play.first.body == b"12"
    play.first.room = 1
    play.shared.write(b"3")
    assert play.source.paused
    third = Client(play.shared)
    assert third.body == b"123"
    third.leave()
    assert play.source.paused
    other.leave()
    play.first.read()
    assert not play.source.paused


def test_who_joins_while_all_others_are_behind_does_not_wait_for_them():
    play = Play(room=1).begin()
    play.shared.write(b"1")
    assert play.source.paused
    late = Client(play.shared)
    assert late.body == b"1" and not play.source.paused


def test_when_the_only_one_that_keeps_up_leaves_the_others_are_waited_for():
    play = Play(room=1).begin()
    quick = Client(play.shared)
    play.shared.write(b"1")
    quick.leave()
    assert play.source.paused
    play.first.leave()
    assert play.work.cancelled == 1


def test_at_the_end_the_slow_one_is_given_all_and_the_source_is_left_alone():
    play = Play(room=1).begin()
    Client(play.shared)
    for word in (b"one ", b"two ", b"three"):
        play.shared.write(word)
    play.end()
    assert play.first.body == b"one two three" and play.first.ends == [("end", False)]
    calls = play.source.calls
    play.first.source.resume()  # its socket drains later
    play.first.source.pause()
    assert play.source.calls == calls


def test_a_long_answer_can_no_longer_be_joined_and_what_all_have_is_let_go():
    play = Play().begin()
    piece = bytes(JOINABLE // 4)
    for _ in range(4):
        play.shared.write(piece)
    assert play.closed == 0 and len(play.shared.pieces) == 4
    play.shared.write(piece)
    assert play.closed == 1 and play.shared.pieces == []
    play.shared.write(piece)
    assert play.shared.pieces == [] and len(play.first.body) == 6 * len(piece)
    play.end()
    assert play.closed == 1 and play.own.bytes_out == 6 * len(piece)


def test_what_a_slow_one_has_not_had_is_kept():
    play = Play().begin()
    slow = Client(play.shared, room=2)
    pieces = [bytes([number]) * (JOINABLE // 4) for number in range(8)]
    for piece in pieces:
        play.shared.write(piece)
    assert len(play.shared.pieces) == 6
    slow.read()
    play.shared.write(b"end")
    assert play.shared.pieces == [] and slow.body == play.first.body == b"".join(pieces) + b"end"


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 4)),
    st.tuples(st.sampled_from(("join", "pause", "read", "leave")), st.integers(0, 9)),
)


@pytest.mark.parametrize("size", [7, JOINABLE // 3])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_client_gets_every_byte_whatever_the_others_do(size, data):
    play = Play().begin()
    clients, sent, number = [play.first], b"", 0
    for action, value in data.draw(st.lists(steps, max_size=16)):
        if action == "write":
            for _ in range(value):
                number += 1
                piece = bytes([number % 251]) * size
                sent += piece
                play.shared.write(piece)
        elif action == "join":
            if not play.closed:
                clients.append(Client(play.shared, room=value or None))
        elif clients:
            client = clients[value % len(clients)]
            if action == "pause":
                client.source.pause()
            elif action == "read":
                client.read(value or None)
            elif len(clients) > 1:
                clients.remove(client)
                client.leave()
        assert play.source.paused == all(client.work.paused for client in clients)
        for client in clients:
            assert sent.startswith(client.body)
            assert client.work.paused or client.body == sent
        assert play.closed == (len(sent) > JOINABLE)
    play.end()
    for client in clients:
        assert client.body == sent and client.ends == [("end", False)]
    assert play.closed == 1 and play.work.cancelled == 0
    assert sum(client.exchange.usage.prompt == 7 for client in clients) == 1

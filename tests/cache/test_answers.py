"""The cache as the gateway uses it, its shared store among it."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm import jsonx
from ghostllm.api.canonical import Finish, Start, TextDelta, UsageEvent
from ghostllm.api.doors import DOORS
from ghostllm.cache.answers import Answers
from ghostllm.cache.key import Scope
from ghostllm.cache.refusals import NotCached
from ghostllm.config.remember import Cache, ModelCache
from ghostllm.message import Attempt, Exchange, Identity, Request, Usage

USAGE = Usage(5, 2)
SCOPE = Scope("alice", "m", ("vllm",))


class Shelf:
    """A store that any number of nodes share."""

    def __init__(self):
        self.rows = {}

    async def get(self, key):
        return self.rows.get(key, (None, 0))[0]

    def put(self, key, value, ttl):
        self.rows[key] = value, ttl

    async def flush(self, pattern="*", tenant="*"):
        count = len(self.rows)
        self.rows.clear()
        return count


def call_of(text="Hi", stream=False, **more):
    fields = {
        "model": "m",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "stream": stream,
        **more,
    }
    return DOORS["openai"].read_call("chat", jsonx.dumps(fields))


def ask(answers, call=None, control=None, model=None):
    return answers.question(call or call_of(), SCOPE, {b"cache-control": control} if control else {}, model)


def answer(answers, question, call=None, now=100.0, outcome="ok"):
    """What happens after a miss."""
    call = call or call_of()
    writer = DOORS["openai"].writer(call, 1, lambda prefix: prefix)
    events = [Start(), TextDelta("Hello"), Finish("stop"), UsageEvent(USAGE)]
    recorder = answers.recorder()
    recorder.take(b"".join(map(writer.event, events)) + writer.end())
    exchange = Exchange(Request("POST", "/", {}), "r", 0.0)
    exchange.call, exchange.usage, exchange.outcome = call, USAGE, outcome
    exchange.attempts = [Attempt("b", "m", 0.0, outcome="ok")]
    return answers.keep(question, exchange, recorder, now)


STREAM = {"stream": True}


def test_a_miss_and_then_a_hit():
    answers = Answers(Cache(backend="memory"))
    first = ask(answers, call_of(**STREAM))
    assert answers.find(first, 100.0) is None and first.state == "miss" and not answers.shared
    assert answer(answers, first, call_of(**STREAM))
    again = ask(answers)
    found = answers.find(again, 130.0)
    assert again.state == "hit" and found.age == 30.0
    body = jsonx.loads(found.value.replay(call_of(), 7, lambda prefix: prefix + "x"))
    assert body["choices"][0]["message"]["content"] == "Hello" and body["id"] == "chatcmpl-x"
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    assert answers.stats()["hits"] == 1 and answers.stats()["misses"] == 1


@pytest.mark.parametrize(
    ("control", "found", "state"),
    [
        (None, True, "hit"),
        (b"max-age=30", True, "hit"),
        (b"max-age=29", False, "miss"),
        (b"no-cache", False, "miss"),
        (b"no-store", False, "bypass"),
        (b"only-if-cached", True, "hit"),
        (b"max-age=0", False, "miss"),
    ],
)
def test_what_the_client_may_say(control, found, state):
    answers = Answers(Cache(backend="memory"))
    answer(answers, ask(answers, call_of(**STREAM)), call_of(**STREAM))
    question = ask(answers, control=control)
    assert (answers.find(question, 130.0) is not None) is found
    assert question.state == state and question.keep == (control != b"no-store")


def test_a_fresh_answer_takes_the_place_of_the_old_one():
    answers = Answers(Cache(backend="memory"))
    answer(answers, ask(answers, call_of(**STREAM)), call_of(**STREAM), now=100.0)
    answer(answers, ask(answers, call_of(**STREAM), b"no-cache"), call_of(**STREAM), now=150.0)
    assert answers.find(ask(answers), 160.0).age == 10.0 and len(answers.memory) == 1


@pytest.mark.parametrize("text", ["Hi", "other"])
@pytest.mark.parametrize("more", [{}, {"temperature": 1}])
def test_only_if_cached_is_an_error_where_nothing_is(text, more):
    answers = Answers(Cache(backend="memory"))
    with pytest.raises(NotCached):
        answers.find(ask(answers, call_of(text, **more), b"only-if-cached"), 0.0)


def test_other_requests_are_passed_by():
    answers = Answers(Cache(backend="memory"))
    question = ask(answers, call_of(temperature=1))
    assert (question.state, question.look, question.keep) == ("bypass", False, False)
    assert answers.find(question, 0.0) is None and question.state == "bypass"
    assert not answer(answers, question) and answers.stats()["bypassed"] == 1


def test_a_models_own_rules_win():
    answers = Answers(Cache(backend="memory", ttl=10.0))
    assert ask(answers, model=ModelCache(requests="off")).state == "bypass"
    assert ask(answers, call_of(temperature=1), model=ModelCache(requests="all")).state == "miss"
    assert ask(answers).ttl == 10.0 and ask(answers, model=ModelCache(ttl=99.0)).ttl == 99.0
    assert ask(answers, model=ModelCache(ttl=0.0)).ttl == 0.0


@pytest.mark.parametrize("outcome", ["error", "broken", "cancelled", "open"])
def test_what_was_not_finished_is_not_kept(outcome):
    answers = Answers(Cache(backend="memory"))
    assert not answer(answers, ask(answers, call_of(**STREAM)), call_of(**STREAM), outcome=outcome)
    assert len(answers.memory) == 0


def test_an_answer_that_is_too_long_is_not_kept():
    answers = Answers(Cache(backend="memory", answer_bytes=20))
    assert not answer(answers, ask(answers, call_of(**STREAM)), call_of(**STREAM))
    assert answers.stats()["refused"] == 1


def test_a_reload_keeps_what_there_is():
    answers = Answers(Cache(backend="memory"))
    answer(answers, ask(answers, call_of(**STREAM)), call_of(**STREAM))
    answers.configure(Cache(backend="memory", bytes=1 << 20))
    assert answers.find(ask(answers), 101.0) is not None
    answers.configure(Cache(backend="memory", bytes=1))
    assert answers.find(ask(answers), 101.0) is None


# --- several nodes


def nodes(count=2, **config):
    shelf, clock = Shelf(), [1000.0]
    return (
        shelf,
        clock,
        [Answers(Cache(backend="redis", **config), shelf, lambda: clock[0]) for _ in range(count)],
    )


def fetched(answers, question, now=500.0):
    assert answers.find(question, now) is None
    return asyncio.run(answers.fetch(question, now))


def test_another_nodes_answer_is_found_and_kept():
    _, clock, (one, two) = nodes()
    answer(one, ask(one, call_of(**STREAM)), call_of(**STREAM))
    clock[0] += 20
    question = ask(two)
    found = fetched(two, question)
    assert found.age == 20.0 and question.state == "hit"
    assert jsonx.loads(found.value.replay(call_of(), 7, str))["choices"][0]["message"]["content"] == "Hello"
    again = ask(two)
    assert two.find(again, 505.0).age == 25.0 and again.state == "hit"
    assert two.stats()["remote_hits"] == 1


def test_what_is_too_old_for_the_client_or_the_model_is_not_taken():
    _, clock, (one, two) = nodes(ttl=60.0)
    answer(one, ask(one, call_of(**STREAM)), call_of(**STREAM))
    clock[0] += 30
    assert fetched(two, ask(two, control=b"max-age=29")) is None
    assert fetched(two, ask(two, model=ModelCache(ttl=30.0))) is None
    assert fetched(two, ask(two, control=b"no-cache")) is None
    with pytest.raises(NotCached):
        fetched(two, ask(two, call_of("other"), b"only-if-cached"))
    assert fetched(two, ask(two, control=b"only-if-cached")) is not None


def test_a_clock_that_is_behind_makes_no_answer_older_or_younger_than_new():
    _, clock, (one, two) = nodes()
    answer(one, ask(one, call_of(**STREAM)), call_of(**STREAM))
    clock[0] -= 5
    assert fetched(two, ask(two)).age == 0.0


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 8, b"\0" * 8 + b"\0\0\0\5[1,2]"])
def test_what_cannot_be_read_is_a_miss(data):
    shelf, _, (one, _) = nodes()
    question = ask(one)
    shelf.rows[question.key] = data, 0
    assert fetched(one, question) is None and question.state == "miss"
    assert one.stats()["unreadable"] == 1


def test_flushing_clears_both():
    shelf, _, (one, _) = nodes()
    answer(one, ask(one, call_of(**STREAM)), call_of(**STREAM))
    assert asyncio.run(one.flush()) == 1 and not shelf.rows and not len(one.memory)


def test_an_answer_begun_before_a_flush_is_not_kept():
    answers = Answers(Cache(backend="memory"))
    question = ask(answers)
    answers.find(question, 100.0)
    assert answers.forget("another") == 0
    assert not answer(answers, question, call_of(**STREAM))
    assert answer(answers, ask(answers), call_of(**STREAM)) and answers.stats()["entries"] == 1


def test_whose_answers_are_flushed():
    answers = Answers(Cache(backend="memory", tenant="team"))
    alone, member = Identity("alice"), Identity("bob", team="ops")
    assert answers.tenant(alone) == "key:alice" and answers.tenant(member) == "team:ops"
    for identity in (alone, member):
        exchange = Exchange(Request("POST", "/", {}), "r", 0.0)
        exchange.identity, exchange.call = identity, call_of()
        assert answer(answers, answers.ask(exchange, "m", ("vllm m",), None), call_of(**STREAM))
    assert answers.forget("*", "key:bob") == 0
    assert answers.forget("*", "team:ops") == 1 and answers.forget("m", "key:alice") == 1


def test_other_operations_are_not_asked_about():
    exchange = Exchange(Request("POST", "/", {}), "r", 0.0)
    assert Answers(Cache(backend="memory")).ask(exchange, "m", (), None) is None
    exchange.call = DOORS["anthropic"].read_call(
        "count_tokens", b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    )
    assert Answers(Cache(backend="memory")).ask(exchange, "m", (), None) is None

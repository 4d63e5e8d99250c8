"""`ghostctl chat` against a peer that answers what a test tells it to, in bytes."""

from __future__ import annotations

import io
import json

import pytest

from ghostllm.cli.ctl import main
from tests.cli.peer import peer

CHAT = "/v1/chat/completions"


def stream(*events, done=True, close=True):
    lines = [event if isinstance(event, str) else "data: " + json.dumps(event) for event in events]
    body = "".join(f"{line}\n\n" for line in [*lines, *(["data: [DONE]"] if done else [])])
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-ghostllm-backend: one\r\n"
        b"connection: close\r\n\r\n" + body.encode()
    )


def said(text, **more):
    return {"choices": [{"index": 0, "delta": {"content": text, **more}}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 6}}
FINE = stream(said(""), ": keep-alive", said("Hel"), said("lo.\x1b[2J"), USAGE)


@pytest.fixture
def run(capsys, monkeypatch):
    """Exit code, output, errors, and the bodies that were sent."""

    def run(answers, *args, environ=None, stdin=None):
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", stdin if isinstance(stdin, Typed) else io.StringIO(stdin))
        with peer(answers if isinstance(answers, dict) else {CHAT: answers}) as (url, requests):
            code = main(["chat", "--url", url, *args], environ or {})
        shown = capsys.readouterr()
        bodies = [json.loads(text.partition("\r\n\r\n")[2]) for text in requests if text.startswith("POST")]
        return code, shown.out, shown.err, bodies

    return run


def test_one_question(run):
    code, out, err, bodies = run(FINE, "--model", "m", "What", "is", "it?")
    assert (code, out, err) == (0, "Hello.[2J\n", "")
    assert bodies == [{
        "model": "m", "messages": [{"role": "user", "content": "What is it?"}], "stream": True,
        "stream_options": {"include_usage": True}}]  # fmt: skip


def test_what_may_be_said_with_it(run):
    args = ("--model", "m", "--system", "Be brief.", "--temperature", "0.5", "Hi")
    _, _, _, [body] = run(FINE, *args)
    assert body["temperature"] == 0.5
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


def test_standard_input(run):
    _, _, _, [body] = run(FINE, "--model", "m", stdin="From a pipe.\n")
    assert body["messages"][0]["content"] == "From a pipe."
    _, _, _, [body] = run(FINE, "--model", "m", "Sum up:", "-", stdin="a\nb\n")
    assert body["messages"][0]["content"] == "Sum up:\n\na\nb"
    code, _, err, bodies = run(FINE, "--model", "m", stdin=" \n")
    assert code == 2 and "nothing to ask" in err and not bodies


def test_verbose(run):
    answer = stream(
        said("", reasoning_content="hmm"), ": x-ghostllm-backend: two (rescue)", said("Hi"), USAGE
    )
    code, out, err, _ = run(answer, "--model", "m", "--verbose", "Hi")
    assert (code, out) == (0, "Hi\n")
    assert "hmm" in err and "x-ghostllm-backend: two (rescue)" in err
    assert "[m from one, 11 + 6 tokens, first after " in err


def test_the_whole_answer_as_json(run):
    whole = {"choices": [{"message": {"content": "Hi"}}]}
    code, out, _, [body] = run((200, whole), "--model", "m", "--json", "Hi")
    assert code == 0 and json.loads(out) == whole and body["stream"] is False
    code, _, err, _ = run(FINE, "--model", "m", "--json", stdin=Typed())
    assert code == 2 and "answers one question" in err


class Typed:
    """Standard input that is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("names", "model", "says"),
    [
        (["only"], "only", ""),
        ([], None, "serves no model now"),
        (["a", "b"], None, "which model? --model NAME or GHOSTLLM_MODEL; there are: a, b"),
        ([f"m{n}" for n in range(25)], None, "m19 and 5 more"),
    ],
)
def test_which_model(run, names, model, says):
    answers = {"/v1/models": (200, {"data": [{"id": name} for name in names]}), CHAT: FINE}
    code, _, err, bodies = run(answers, "Hi")
    assert [body["model"] for body in bodies] == ([model] if model else [])
    assert (code == 0) == (model is not None) and says in err
    _, _, _, [body] = run(answers, "Hi", environ={"GHOSTLLM_MODEL": "mine"})
    assert body["model"] == "mine"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (stream(said("Hel"), done=False), "ended before the answer did"),
        (stream(said("Hel"), {"error": {"message": "the backend\nleft"}}), "broke off: the backend left"),
        (stream(said("Hel"), {"error": "gone"}), "broke off: gone"),
        (stream(said("Hel"), "data: {"), "no JSON"),
        (stream(said("Hel"), "data: 3"), "no object"),
        (stream(said("Hel"), done=False)[:-2] + b"\ndata: x", "inside a line"),
    ],
)
def test_an_answer_that_is_not_whole(run, answer, says):
    code, out, err, _ = run(answer, "--model", "m", "Hi")
    assert (code, out) == (1, "Hel\n") and says in err


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {"error": {"message": "no backend serves the model 'm'"}}), "no backend serves the model 'm'"),
        ((429, {"error": {"message": "slow down"}}), "answered 429: slow down"),
        ((401, {"error": {"message": "no"}}), "wants a key and none was given"),
        ((200, {}), "gave no stream: is it GhostLLM?"),
    ],
)
def test_no_answer(run, answer, says):
    code, out, err, _ = run(answer, "--model", "m", "Hi")
    assert (code, out) == (1, "") and says in err


@pytest.mark.parametrize("event", [said(None), said(3), {"choices": 3}, {"choices": [3]}, {"usage": 3}, {}])
def test_events_of_whatever_kind(run, event):
    code, out, _, _ = run(stream(event, said("Hi")), "--model", "m", "--verbose", "Hi")
    assert (code, out) == (0, "Hi\n")


@pytest.mark.parametrize("value", ["-1", "2.1", "x", "1e9", "nan"])
def test_a_temperature_that_is_none(value):
    with pytest.raises(SystemExit) as left:
        main(["chat", "--temperature", value, "Hi"], {})
    assert left.value.code == 2

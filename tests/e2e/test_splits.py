"""Models whose requests are shared between variants: A/B, a canary on trial, a shadow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.test_explain import explained, rows
from tests.e2e.traffic import CHAT, Crowd, backend, body, counted, model, said, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)


@pytest.fixture(scope="module")
def split(started: Fakes) -> Iterator[Gateway]:
    arms = [{"model": "old", "weight": 3}, {"model": "new", "weight": 1}]
    trial = {"steps": [0.5], "few": 5, "answers": 12, "seconds": 0}
    shadow = {"model": "new", "inflight": 2}
    settings = {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01},
        "backends": [backend("primary", started.primary), backend("second", started.second)],
        "models": [
            model("old", "primary"),
            model("new", "second"),
            model("ab", "primary", split={"arms": arms}),
            model("ab-request", "primary", split={"arms": arms, "by": "request"}),
            model("ab-key", "primary", split={"arms": arms, "by": "key"}),
            model("failing", "primary", split={"canary": {"model": "new", **trial}}),
            # How fast two fakes on a busy machine are is no matter of this test.
            model("passing", "primary", split={"canary": {"model": "new", **trial, "slower": 1000.0}}),
            model("mirrored", "primary", split={"shadow": shadow}),
            model("to-nobody", "primary", split={"shadow": {"model": "new", "inflight": 99}}),
            model("half", "primary", split={"shadow": {"model": "new", "share": 0.5}}),
        ],
    }
    with serving(settings) as gateway:
        yield gateway


def told(gateway: Gateway, name: str) -> dict[str, Any]:
    """What the admin API says of a split."""
    splits = gateway.ask("GET", "/admin/api/splits").json()["splits"]
    [found] = [one for one in splits if one["model"] == name]
    return dict(found)


def arm_of(gateway: Gateway, name: str, text: str) -> str:
    answer = gateway.ask("POST", CHAT, body(name, text))
    assert whole(answer) == WHOLE
    return answer.headers["x-ghostllm-arm"]


# --- A/B


@pytest.mark.parametrize("name", ["ab", "ab-request"])
def test_arms_get_their_shares(split: Gateway, fakes: Fakes, name: str) -> None:
    """Three to one; outside of these bounds it is once in a hundred thousand runs."""
    arms = Counter(arm_of(split, name, f"conversation {number}") for number in range(200))
    assert 0.61 < arms["old"] / 200 < 0.89 and set(arms) == {"old", "new"}
    assert (len(fakes.primary.calls), len(fakes.second.calls)) == (arms["old"], arms["new"])
    for arm, times in arms.items():
        labels = {"model": name, "arm": arm}
        assert counted(split, "ghostllm_split_requests_total", outcome="ok", **labels) == times
        assert counted(split, "ghostllm_split_first_tokens_total", **labels) == times
        assert counted(split, "ghostllm_split_first_token_seconds_total", **labels) > 0
    shown = {arm["model"]: arm for arm in told(split, name)["arms"]}
    assert [shown[arm]["share"] for arm in ("old", "new")] == [0.75, 0.25]
    assert [shown[arm]["outcomes"] for arm in arms] == [{"ok": times} for times in arms.values()]
    assert shown["old"]["mean_first_token_s"] > 0


def test_a_conversation_keeps_its_arm(split: Gateway, fakes: Fakes) -> None:
    seen = set()
    for number in range(12):
        messages = [{"role": "user", "content": f"opening {number}"}]
        arms = set()
        for turn in range(3):
            data = json.dumps({"model": "ab", "messages": messages}).encode()
            arms.add(split.ask("POST", CHAT, data).headers["x-ghostllm-arm"])
            messages += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"turn {turn}"}]
        assert len(arms) == 1
        seen |= arms
    assert seen == {"old", "new"}


def test_a_key_keeps_its_arm(split: Gateway, fakes: Fakes) -> None:
    assert len({arm_of(split, "ab-key", f"text {number}") for number in range(20)}) == 1


def test_explain_and_the_answer_say_which_arm(split: Gateway, fakes: Fakes) -> None:
    answer = split.ask("POST", CHAT, body("ab", "Which one?"))
    story = explained(split, answer)
    assert story["arm"] == answer.headers["x-ghostllm-arm"] in ("old", "new")
    assert story["model"] == "ab" and story["plan"]["model"] == story["arm"]


# --- a canary


def test_a_canary_that_fails_is_rolled_back_by_itself(split: Gateway, fakes: Fakes) -> None:
    assert told(split, "failing")["canary"]["state"] == "running"
    fakes.second.script({"status": 500, "times": None})
    statuses: list[int] = []

    def rolled_back() -> bool:
        number = len(statuses)
        statuses.append(split.ask("POST", CHAT, body("failing", f"conversation {number}")).status)
        return bool(told(split, "failing")["canary"]["state"] == "rolled_back")

    until(rolled_back, "it has been seen to fail")
    assert statuses.count(502) == 5, "as few as it takes"
    shown = told(split, "failing")
    assert "100.0% of its answers failed, against 0.0%" in shown["canary"]["why"]
    shares = {arm["model"]: arm["share"] for arm in shown["arms"]}
    assert shares == {"failing": 1.0, "new": 0.0}
    before = len(fakes.second.calls)
    assert {arm_of(split, "failing", f"later {number}") for number in range(20)} == {"failing"}
    assert len(fakes.second.calls) == before
    labels = {"model": "failing", "arm": "new"}
    assert counted(split, "ghostllm_split_requests_total", outcome="error", **labels) == 5


def test_a_canary_that_does_well_takes_over(split: Gateway, fakes: Fakes) -> None:
    def promoted() -> bool:
        split.ask("POST", CHAT, body("passing", f"conversation {next(numbers)}"))
        return bool(told(split, "passing")["canary"]["state"] == "promoted")

    numbers = iter(range(10**6))
    until(promoted, "it has answered often enough", 30)
    assert {arm_of(split, "passing", f"later {number}") for number in range(10)} == {"new"}


def test_faults_of_requests_say_nothing_of_a_canary(started: Fakes, fakes: Fakes) -> None:
    trial = {"model": "new", "steps": [0.5], "few": 3, "answers": 10**6, "seconds": 0}
    settings = {
        "routing": {**FORGIVING, "balance": "failover"},
        "backends": [backend("primary", started.primary), backend("second", started.second)],
        "models": [model("new", "second"), model("trial", "primary", split={"canary": trial})],
    }
    with serving(settings) as gateway:
        fakes.second.script({"status": 400, "times": None})
        for number in range(30):
            gateway.ask("POST", CHAT, body("trial", f"conversation {number}"))
        assert len(fakes.second.calls) > 5
        shown = told(gateway, "trial")
        assert shown["canary"]["state"] == "running"
        outcomes = {arm["model"]: arm["outcomes"] for arm in shown["arms"]}
        assert outcomes["new"] == {"refused": len(fakes.second.calls)}


# --- a shadow


def test_copies_go_to_the_shadow_and_nobody_notices(split: Gateway, fakes: Fakes) -> None:
    def tokens() -> list[float]:
        return [
            counted(split, "ghostllm_tokens_total", direction="prompt", backend="primary"),
            counted(split, "ghostllm_tokens_total", backend="second"),
            counted(split, "ghostllm_requests_total", backend="second"),
        ]

    before = tokens()
    fakes.second.script({"gate": "go", "times": 2})
    answers = [split.ask("POST", CHAT, body("mirrored", f"text {number}")) for number in range(5)]
    assert [whole(answer) for answer in answers] == [WHOLE] * 5, "although the shadow has said nothing yet"
    assert {answer.headers["x-ghostllm-backend"] for answer in answers} == {"primary"}
    assert sorted(said(fakes.second)) == ["text 0", "text 1"], "as many at one time as may be"
    assert fakes.second.calls[0].json()["model"] == "new"
    fakes.second.release("go")

    def shadow() -> dict[str, Any]:
        arms = {arm["model"]: arm for arm in told(split, "mirrored")["arms"]}
        return dict(arms["shadow:new"]["outcomes"])

    until(lambda: shadow() == {"ok": 2}, "the copies have been answered")
    assert counted(split, "ghostllm_split_requests_total", model="mirrored", arm="shadow:new") == 2
    assert whole(split.ask("POST", CHAT, body("mirrored", "text 5"))) == WHOLE
    until(lambda: shadow() == {"ok": 3}, "there is room for copies again")
    after = tokens()
    assert [now - then for now, then in zip(after, before, strict=True)] == [6 * 11, 0, 0]
    for answer in answers:
        name = answer.headers["x-request-id"]
        record = split.record(name)
        assert (record["backend"], record["attempts"], record["prompt_tokens"]) == ("primary", 1, 11)
    assert not [line for line in split.lines if "-shadow" in line]
    assert not [one for one in rows(split, "?limit=1000") if "shadow" in one["id"]]


def test_a_shadow_that_fails_is_nobodys_trouble(split: Gateway, fakes: Fakes) -> None:
    fakes.second.script({"status": 500, "times": None})
    assert {whole(split.chat("to-nobody", stream=True)) for _ in range(3)} == {WHOLE}
    fakes.second.listen(False)
    with Crowd(split) as crowd:
        for number in range(12):
            crowd.send(body("to-nobody", f"text {number}", stream=False))
        assert {whole(answer) for answer in crowd.answers()} == {WHOLE}
    labels = {"model": "to-nobody", "arm": "shadow:new", "outcome": "error"}
    until(lambda: counted(split, "ghostllm_split_requests_total", **labels) == 15, "all copies have failed")


def test_a_share_of_the_requests_is_copied(split: Gateway, fakes: Fakes) -> None:
    def copies() -> float:
        return counted(split, "ghostllm_split_requests_total", model="half", arm="shadow:new", outcome="ok")

    before = copies()
    for number in range(60):
        assert whole(split.ask("POST", CHAT, body("half", f"share {number}"))) == WHOLE
        until(lambda: len(fakes.second.calls) == copies() - before, "no copy is under way")
    assert 12 <= len(fakes.second.calls) <= 48

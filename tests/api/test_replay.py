"""What of a new answer goes on in a stream that has begun."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import Finish, ReasoningDelta, Start, TextDelta, ToolCallDelta
from ghostllm.api.replay import Repetition, Rest
from ghostllm.api.told import Said
from ghostllm.errors import UpstreamProtocolError

STOP = Finish("stop")
OLD = "The quick brown fox"


def rest(sent, blank, *texts):
    course = Rest(sent, blank)
    events = course.take([Start(), ReasoningDelta("hm"), *map(TextDelta, texts), STOP])
    assert events[-1] == STOP
    return "".join(event.text for event in events[:-1])


@pytest.mark.parametrize(
    ("blank", "texts", "new"),
    [
        ("", [" jumps"], " jumps"),
        (" ", [" ", "jumps"], "jumps"),
        (" ", ["jumps"], "jumps"),
        ("\n\n", ["\n", "jumps"], "jumps"),
        (" \n", ["\njumps"], "jumps"),
        ("\n", ["\n\njumps"], "\njumps"),
        (" ", ["\njumps"], "\njumps"),
        (" ", [" "], ""),
        ("", [OLD, " jumps"], " jumps"),
        (" ", [OLD[:3], OLD[3:] + " ", "jumps"], "jumps"),
        ("", [OLD[:9]], OLD[:9]),
        ("", [OLD[:9], "s"], OLD[:9] + "s"),
        ("", [OLD + OLD], OLD),
    ],
)
def test_nothing_is_repeated_and_nothing_lost(blank, texts, new):
    assert rest(OLD, blank, *texts) == new


def test_a_short_text_may_well_be_said_again():
    assert rest("no, ", "", "no, ", "never") == "no, never"


def test_what_could_be_an_echo_waits():
    course = Rest(OLD, "")
    assert course.take([TextDelta(OLD[:-1])]) == []
    assert course.take([TextDelta(OLD[-1])]) == [] and course.take([TextDelta("!")]) == [TextDelta("!")]


events = st.lists(
    st.one_of(
        st.text("ab", min_size=1, max_size=3).map(TextDelta),
        st.text("ab", min_size=1, max_size=3).map(ReasoningDelta),
        st.builds(
            ToolCallDelta,
            st.integers(0, 2),
            st.text("ab", max_size=3),
            id=st.text("xy", min_size=1, max_size=2),
            name=st.just("f"),
        ),
    ),
    max_size=8,
)


def said(given):
    whole = Said()
    whole.add(given)
    spoken = [(run.sort, run.text) for run in whole.runs if run.text]
    return spoken, {index: (call.name, call.text) for index, call in whole.calls.items()}


@given(events, st.integers(0, 8))
def test_the_same_answer_goes_on_where_it_was_cut(answer, cut):
    told = Said()
    told.add(answer[:cut])
    course = Repetition(told, "it")
    out = [event for one in [Start(), *answer, STOP] for event in course.take([one])]
    assert out[-1] == STOP
    assert said([*answer[:cut], *out]) == said(answer)


@given(events, events)
def test_another_answer_never_passes_for_the_same(first, second):
    told = Said()
    told.add(first)
    try:
        out = Repetition(told, "it").take([*second, STOP])
    except UpstreamProtocolError:
        return
    assert said([*first, *out]) == said(second)


def test_nothing_comes_before_all_calls_have_been_repeated():
    told = Said()
    told.add([ToolCallDelta(0, '{"a"', "1", "f"), ToolCallDelta(1, "{", "2", "g")])
    course = Repetition(told, "it")
    assert course.take([ToolCallDelta(0, '{"a":1}', "3", "f")]) == []
    assert course.take([ToolCallDelta(1, "{}", "4", "g")]) == [
        ToolCallDelta(0, ":1}"), ToolCallDelta(1, "}")
    ]  # fmt: skip

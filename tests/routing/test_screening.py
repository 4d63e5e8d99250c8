"""Who may take a request, and that somebody may whenever somebody can."""

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.catalog import Target
from ghostllm.routing.health import State
from ghostllm.routing.screening import Standing, screen

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
UP = Standing()


def screened(*stands, pin=None):
    targets = (A, B, C)[: len(stands)]
    return screen(targets, dict(zip(targets, stands, strict=True)).__getitem__, pin=pin)


stands = st.builds(
    Standing,
    health=st.sampled_from(State),
    open_until=st.none() | st.floats(0, 100),
    draining=st.booleans(),
    unfit=st.sampled_from(("", "context too small")),
    full=st.booleans(),
)


@given(st.lists(stands, min_size=1, max_size=3), st.sampled_from(("a", "b", "zzz", None)))
def test_a_plan_is_empty_only_when_nobody_could_serve(known, pin):
    result = screened(*known, pin=pin)
    by = dict(zip((A, B, C), known, strict=False))
    good = {
        target
        for target, one in by.items()
        if not one.unfit and one.health is State.UP and one.open_until is None and not one.draining
    }
    free = {target for target in good if not by[target].full}
    if free:
        pinned = {target for target in free if target.backend == pin}
        assert set(result.allowed) == (pinned or free) and not result.forced
    assert not {target for target in result.allowed if by[target].full or by[target].unfit}
    if any(not one.unfit for one in known):
        assert result.allowed or result.waiting
    else:
        assert not result.allowed and not result.waiting
    assert len(result.allowed) == 1 or not result.forced
    assert all(word for _, word in result.refused)
    assert sorted([*result.allowed, *(target for target, _ in result.refused)], key=str) == sorted(
        by, key=str
    )


def test_reasons():
    result = screened(Standing(unfit="context too small"), Standing(open_until=3.0), UP)
    assert result.allowed == (C,)
    assert result.refused == ((A, "context too small"), (B, "breaker open"))


def test_unknown_before_waiting_and_draining_only_when_nothing_else_is_left():
    unknown, draining, full = Standing(health=State.UNKNOWN), Standing(draining=True), Standing(full=True)
    assert screened(UP, unknown).allowed == (A,)
    assert screened(full, unknown, draining).allowed == (B,)
    result = screened(full, draining)
    assert result.allowed == () and result.waiting == (A,)
    assert screened(draining, Standing(open_until=1.0)).allowed == (A,)


def test_the_breaker_alone_never_takes_the_last_target():
    late, soon = Standing(open_until=9.0), Standing(open_until=5.0)
    result = screened(late, soon, Standing(health=State.DOWN))
    assert result.allowed == (B,) and result.forced
    assert screened(Standing(open_until=5.0, full=True)).waiting == (A,)
    assert not screened(Standing(open_until=5.0, full=True)).forced


def test_a_pin_wins_only_if_its_backend_passed():
    assert screened(UP, UP, pin="b").allowed == (B,)
    assert screened(UP, Standing(open_until=1.0), pin="b").allowed == (A,)
    assert screened(UP, UP, pin="b2").allowed == (A, B)

"""Presence by probes, restarts, and the slow start of a backend that returns."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.health import TRANSITIONS, Event, Health, Settings, State, slow_start


def test_the_table_is_complete():
    assert set(TRANSITIONS) == set(product(State, Event))


def test_one_look_is_enough_at_the_start_and_some_in_a_row_later():
    health = Health(Settings(rise=2, fall=3))
    assert health.state is State.UNKNOWN
    assert not health.probed(True, 0.0) and health.state is State.UP and health.returned is None
    for passed, state in [(False, State.UP), (False, State.UP), (True, State.UP)]:
        health.probed(passed, 1.0)
        assert health.state is state
    for _ in range(3):
        health.probed(False, 2.0)
    assert health.state is State.DOWN
    assert not health.probed(True, 3.0) and health.state is State.DOWN
    assert health.probed(True, 4.0)  # its cache is taken to be lost
    assert (health.state, health.returned) == (State.UP, 4.0)


def test_a_refused_connection_and_an_answer_need_no_row():
    health = Health()
    health.refused(0.0)
    assert health.state is State.DOWN
    assert health.answered(1.0)
    assert (health.state, health.returned) == (State.UP, 1.0)
    assert not health.answered(2.0) and health.returned == 1.0


def test_another_process_at_the_same_address_has_lost_its_cache():
    health = Health()
    assert not health.probed(True, 0.0, started=111.0)
    assert not health.probed(True, 1.0, started=111.0)
    assert health.probed(True, 2.0, started=222.0)
    assert health.returned == 2.0 and health.warmth(2.0) == 0.1


def test_what_restarts_again_and_again_stays_down():
    health = Health()
    health.refused(0.0)
    for start in range(5):
        health.probed(True, start, started=float(start))
        health.refused(start + 0.5)
        assert health.state is State.DOWN


def test_weight_returns_step_by_step():
    settings = Settings(slow_start=30.0, first_weight=0.1)
    assert slow_start(None, 5.0, settings) == 1.0
    assert slow_start(100.0, 100.0, settings) == 0.1
    assert abs(slow_start(100.0, 115.0, settings) - 0.55) < 1e-9
    assert slow_start(100.0, 130.0, settings) == slow_start(100.0, 1e9, settings) == 1.0
    assert slow_start(100.0, 100.0, Settings(slow_start=0.0)) == 1.0


@given(st.lists(st.sampled_from(("pass", "fail", "refused", "answered", "restart")), max_size=60))
def test_down_exactly_after_enough_failures_since_the_last_rise(events):
    health, settings, row, down, started, known = Health(), Settings(), 0, False, 0.0, False
    for now, event in enumerate(events):
        if event == "restart":
            started += 1
        if event in ("pass", "restart"):
            lost = health.probed(True, now, started=started)
            row = 1 if event == "restart" and known else max(row, 0) + 1
            assert lost or not (event == "restart" and known)
            known = True
        elif event == "fail":
            health.probed(False, now)
            row = min(row, 0) - 1
        elif event == "refused":
            health.refused(now)
            row = -settings.fall
        else:
            health.answered(now)
            row = max(row, settings.rise)
        down = row <= -settings.fall or (down and row < settings.rise)
        assert (health.state is State.DOWN) == down
        assert 0.1 <= health.warmth(now) <= 1.0

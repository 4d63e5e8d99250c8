"""When a client is too slow to wait for."""

from ghostllm.net.pace import Drain, Pace


def test_silence_ends_it_however_fast_it_was_before():
    pace = Pace(100.0)
    pace.note(101.0, 10_000_000)
    assert not pace.slow(111.0, 10, 1024)
    assert pace.slow(111.1, 10, 1024)


def test_a_byte_now_and_then_is_not_enough():
    pace = Pace(0.0)
    for second in range(1, 11):
        pace.note(second, second)
        assert not pace.slow(second, 10, 1024)
    pace.note(10.5, 11)
    assert pace.slow(10.5, 10, 1024)
    assert not pace.slow(10.5, 10, 0), "where no rate is asked for, it is"


def test_who_keeps_the_rate_may_take_for_ever():
    pace = Pace(0.0)
    for second in range(1, 1000):
        pace.note(second, second * 1024)
        assert not pace.slow(second, 10, 1024)


def test_no_limit():
    assert not Pace(0.0).slow(1e9, 0, 1024)


def test_what_is_added_to_the_rest_is_neither_progress_nor_a_step_back():
    drain = Drain(0.0, 1000)
    drain.note_left(1.0, 500)
    drain.note_left(2.0, 90_000)
    assert not drain.slow(11.0, 10, 0)
    assert drain.slow(11.1, 10, 0), "nothing has been taken since second 1"
    drain.note_left(12.0, 89_999)
    assert not drain.slow(21.0, 10, 0)

"""The circuit: every way through it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ghostllm.cluster.circuit import Circuit


def test_after_a_failure_it_is_not_asked_for_a_moment_and_then_once():
    circuit = Circuit(2.0)
    assert circuit.admits(0.0) and circuit.admits(0.0) and circuit.closed
    assert circuit.failed(10.0) and not circuit.failed(10.0)
    assert not circuit.admits(11.9)
    assert circuit.admits(12.0) and not circuit.admits(12.0)
    assert circuit.worked() and not circuit.worked()
    assert circuit.admits(12.0) and circuit.admits(12.0)


def test_a_trial_that_fails_opens_it_again():
    circuit = Circuit(2.0)
    circuit.failed(0.0)
    assert circuit.admits(2.0) and not circuit.failed(3.0)
    assert not circuit.admits(4.9) and circuit.admits(5.0)


def test_a_trial_that_nobody_finished_is_made_again():
    circuit = Circuit(2.0)
    circuit.failed(0.0)
    assert circuit.admits(2.0)
    circuit.abandoned()
    assert not circuit.closed and circuit.admits(2.0)


class Life(RuleBasedStateMachine):
    """However it goes, there is one trial at most, none within the pause, and no way to be shut for ever."""

    def __init__(self):
        super().__init__()
        self.circuit = Circuit(1.0)
        self.now = 0.0
        self.failed_at = None
        self.trial = False

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def ask(self):
        admitted = self.circuit.admits(self.now)
        if self.failed_at is None:
            assert admitted
        else:
            assert admitted == (not self.trial and self.now >= self.failed_at + 1.0)
            self.trial = self.trial or admitted

    @rule()
    def fails(self):
        self.circuit.failed(self.now)
        self.failed_at, self.trial = self.now, False

    @precondition(lambda self: self.trial)
    @rule(works=st.booleans())
    def trial_ends(self, works):
        if works:
            assert self.circuit.worked()
            self.failed_at = None
        else:
            self.circuit.abandoned()
        self.trial = False

    @invariant()
    def closed(self):
        assert self.circuit.closed == (self.failed_at is None)


TestLife = Life.TestCase

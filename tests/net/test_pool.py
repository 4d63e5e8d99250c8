"""The pool's decisions, as a state machine against a plain model."""

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ghostllm.net.pool import Pool

LIMIT = 3


class PoolMachine(RuleBasedStateMachine):
    """Calls come, connections open, break, are kept and expire; nothing is lost or handed out twice."""

    def __init__(self):
        super().__init__()
        self.pool = Pool(LIMIT)
        self.clock = 0.0
        self.serial = 0
        self.busy = []  # connections in use
        self.idle = []
        self.waiting = []

    @rule()
    def call(self):
        connection = self.pool.take()
        self.serial += 1
        if connection is not None:
            assert connection == self.idle.pop(), "the most recently used comes first"
            self.busy.append(connection)
        elif self.pool.reserve():
            self.busy.append(f"c{self.serial}")
        else:
            assert len(self.busy) + len(self.idle) == LIMIT
            self.pool.wait(self.serial)
            self.waiting.append(self.serial)

    @precondition(lambda self: self.busy)
    @rule()
    def answer_ends(self):
        connection = self.busy.pop(0)
        self.clock += 1
        call = self.pool.free(connection, self.clock)
        if call is not None:
            assert call == self.waiting.pop(0), "first come, first served"
            self.busy.append(connection)
        else:
            self.idle.append(connection)

    @precondition(lambda self: self.busy)
    @rule()
    def connection_breaks(self):
        self.busy.pop()
        call = self.pool.free(None, self.clock)
        if call is not None:
            assert call == self.waiting.pop(0)
            self.busy.append(f"new for {call}")

    @precondition(lambda self: self.waiting)
    @rule()
    def caller_gives_up(self):
        self.pool.leave(self.waiting.pop())

    @precondition(lambda self: self.idle)
    @rule()
    def idle_connection_is_lost(self):
        assert self.pool.drop(self.idle.pop(0))
        assert not self.pool.drop("never seen")

    @rule()
    def old_ones_expire(self):
        half = len(self.idle) // 2
        before = self.clock - len(self.idle) + half + 1
        gone = self.pool.expired(before)
        assert gone == self.idle[: len(gone)]
        self.idle = self.idle[len(gone) :]

    @invariant()
    def counts_agree(self):
        stats = self.pool.stats
        assert (stats.idle, stats.active, stats.waiting) == (
            len(self.idle),
            len(self.busy),
            len(self.waiting),
        )
        assert stats.idle + stats.active <= LIMIT


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_without_a_limit_nobody_waits():
    pool = Pool()
    assert all(pool.reserve() for _ in range(1000))


def test_its_repr_shows_its_state():
    pool = Pool(2)
    pool.reserve()
    assert repr(pool) == "<Pool idle=0 active=1 waiting=0>"

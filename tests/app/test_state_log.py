"""What the log says of a state file that cannot be written."""

from __future__ import annotations

from ghostllm.app.state_log import SECONDS, StateLog


class Log:
    """The part of a Logger that is used."""

    def __init__(self):
        self.lines = []

    def error(self, event, **fields):
        self.lines.append((event, fields["reason"], fields["records"]))


def test_at_once_and_then_in_sums():
    log, now = Log(), [100.0]
    told = StateLog(log, lambda: now[0])
    told("disk full", 3)
    told("disk full", 256)
    told("disk full", 1)
    assert log.lines == [("state not written", "disk full", 3)]
    now[0] += SECONDS
    told("disk full", 2)
    assert log.lines[1:] == [("state not written", "disk full", 259)]
    now[0] += SECONDS
    told("unreadable", 0)
    assert log.lines[2:] == [("state not read", "unreadable", 0)]

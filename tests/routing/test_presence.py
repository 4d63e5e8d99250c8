"""What follows from a look at a backend: for its health, its backlog and its prefix index."""

import pytest

from ghostllm.ports import Observed
from ghostllm.routing.catalog import Target
from ghostllm.routing.health import Health, State
from ghostllm.routing.ledger import Ledger, Prompt
from ghostllm.routing.prefix import BLOCK
from ghostllm.routing.presence import LARGEST_CACHE, Probe, merged, note

TARGET = Target("b", "m")
PROMPT = Prompt("m", 3 * BLOCK, (1, 2, 3))


def probe(passed=None, **more):
    return Probe(backend="b", at=0.0, passed=passed, **more)


def held(ledger):
    return ledger.index.match(PROMPT.blocks)["b"]


@pytest.fixture
def ledger():
    """With one request that has ended, so that its prompt is cached."""
    ledger = Ledger()
    ledger.ended(ledger.dispatched(ledger.seat(TARGET), PROMPT, 0.0))
    assert held(ledger) == 3
    return ledger


def test_probes_move_the_health(ledger):
    health = Health()
    note(probe(True), health, ledger, 1.0, busy=False)
    assert health.state is State.UP and held(ledger) == 3
    for _ in range(3):
        note(probe(False), health, ledger, 2.0, busy=False)
    assert health.state is State.DOWN
    note(probe(True), health, ledger, 3.0, busy=False)
    note(probe(True), health, ledger, 4.0, busy=False)
    assert (health.state, health.returned) == (State.UP, 4.0)
    assert held(ledger) == 0  # who was away has lost its cache


def test_a_refused_connection_counts_at_once(ledger):
    health = Health()
    note(probe(True), health, ledger, 1.0, busy=False)
    note(probe(False, refused=True), health, ledger, 2.0, busy=False)
    assert health.state is State.DOWN


def test_a_look_at_the_load_says_nothing_of_presence(ledger):
    health = Health()
    note(probe(observed=Observed(waiting=1)), health, ledger, 1.0, busy=False)
    assert health.state is State.UNKNOWN


def test_silence_is_no_failure_while_it_streams_to_us(ledger):
    health = Health()
    note(probe(True), health, ledger, 0.0, busy=False)
    sent = ledger.dispatched(ledger.seat(TARGET), PROMPT, 0.0)
    ledger.first_token(sent, 1.0)
    for _ in range(5):
        note(probe(False, silent=True), health, ledger, 2.0, busy=True)
    assert health.state is State.UP
    note(probe(False), health, ledger, 2.0, busy=False)  # an answer of 503 is another matter
    ledger.ended(sent)
    for _ in range(2):
        note(probe(False, silent=True), health, ledger, 3.0, busy=False)
    assert health.state is State.DOWN


def test_another_process_has_lost_its_cache(ledger):
    health = Health()
    note(probe(True, started=100.0), health, ledger, 1.0, busy=False)
    note(probe(True, started=100.0), health, ledger, 2.0, busy=False)
    assert held(ledger) == 3
    note(probe(True, started=200.0), health, ledger, 3.0, busy=False)
    assert held(ledger) == 0 and health.returned == 3.0


def test_its_own_queue_counts_beyond_what_we_sent(ledger):
    before = ledger.backlog("b").wait(1.0)
    note(probe(observed=Observed(waiting=5)), Health(), ledger, 1.0, busy=False)
    assert ledger.backlog("b").wait(1.0) > before == 0.0
    note(probe(observed=Observed(running=9)), Health(), ledger, 1.5, busy=False)
    assert ledger.backlog("b").wait(1.5) > 0.0


@pytest.mark.parametrize(("tokens", "blocks"), [(512, 2), (0, 1), (10**12, LARGEST_CACHE // 256)])
def test_the_index_gets_the_size_of_the_cache(ledger, tokens, blocks):
    note(probe(observed=Observed(cache_tokens=tokens)), Health(), ledger, 1.0, busy=False)
    ledger.ended(ledger.dispatched(ledger.seat(TARGET), Prompt("m", 0, range(LARGEST_CACHE // 256 + 5)), 2.0))
    assert len(ledger.index.blocks("b")) == blocks


def test_without_a_model_in_memory_there_is_no_cache(ledger):
    note(probe(observed=Observed(loaded=frozenset({"x"}), sleeping=False)), Health(), ledger, 1.0, busy=False)
    assert held(ledger) == 3
    sent = ledger.dispatched(ledger.seat(TARGET), PROMPT, 1.0)
    note(probe(observed=Observed(loaded=frozenset())), Health(), ledger, 1.0, busy=False)
    assert held(ledger) == 3  # it is being loaded for this request
    ledger.ended(sent)
    note(probe(observed=Observed(loaded=frozenset())), Health(), ledger, 2.0, busy=False)
    assert held(ledger) == 0


def test_a_server_that_sleeps_has_lost_its_cache(ledger):
    note(probe(observed=Observed(sleeping=True)), Health(), ledger, 1.0, busy=False)
    assert held(ledger) == 0


def test_pages_are_merged():
    parts = [Observed(slots=4), Observed(running=2, slots=9), Observed(running=0, waiting=0)]
    assert merged(parts) == Observed(slots=4, running=2, waiting=0)
    assert merged([]) == Observed()

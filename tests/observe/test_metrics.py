"""The metrics page, read by the reference parsers: exact counts, bounded labels, both formats."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from ghostllm.errors import FramingError, ModelNotFound, UpstreamAnswered, UpstreamCut, UpstreamTimeout
from ghostllm.message import Attempt, Identity, Usage
from ghostllm.observe.exposition import (
    CLASSIC,
    OPENMETRICS,
    Counters,
    Histograms,
    Readings,
    page,
    prefers_classic,
)
from ghostllm.observe.metrics import Metrics
from tests.observe.exchanges import chat, exchange


def read(metrics, accept=b""):
    """Sample name and labels -> value; both formats must say the same."""
    kind, text = metrics.render(accept)
    assert kind == OPENMETRICS
    found = samples(parse_openmetrics(text.decode()))
    kind, text = metrics.render(b"text/plain")
    assert kind == CLASSIC
    classic = samples(parse_classic(text.decode()))
    moving = {key for key in found if key[0].startswith("process_")}
    assert {k: v for k, v in classic.items() if k not in moving} == {
        k: v for k, v in found.items() if k not in moving
    }
    return found


def samples(families):
    found = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found, name, **labels):
    return found.get((name, *sorted(labels.items())))


CHAT = {"route": "chat", "model": "m", "backend": "one"}


def run(metrics, made):
    metrics.in_flight += 1
    metrics.in_flight -= 1
    metrics.finished(made)


def test_counts_are_exact():
    metrics = Metrics()
    for _ in range(3):
        run(metrics, chat(usage=Usage(11, 6, 4)))
    run(metrics, chat(usage=Usage(100, None)))
    run(metrics, chat(usage=Usage(), stream=False))
    found = read(metrics)
    assert value(found, "ghostllm_requests_total", status="200", **CHAT) == 5
    tokens = {"model": "m", "backend": "one", "key": "team-a"}
    assert value(found, "ghostllm_tokens_total", direction="prompt", **tokens) == 133
    assert value(found, "ghostllm_tokens_total", direction="completion", **tokens) == 18
    assert value(found, "ghostllm_tokens_total", direction="cached", **tokens) == 12
    assert value(found, "ghostllm_upstream_attempts_total", backend="one", outcome="ok") == 5
    assert value(found, "ghostllm_request_duration_seconds_count", **CHAT) == 5
    assert value(found, "ghostllm_request_duration_seconds_sum", **CHAT) == 5 * 0.25
    assert value(found, "ghostllm_request_duration_seconds_bucket", le="0.1", **CHAT) == 0
    assert value(found, "ghostllm_request_duration_seconds_bucket", le="0.25", **CHAT) == 5, (
        "upper bounds belong"
    )
    assert value(found, "ghostllm_request_duration_seconds_bucket", le="+Inf", **CHAT) == 5
    assert value(found, "ghostllm_time_to_first_token_seconds_count", **CHAT) == 4, "streams only"
    assert not [key for key in found if "error" in key[0] or "cancelled" in key[0]]


def test_how_requests_fail():
    metrics = Metrics()
    left = chat(
        status=0, outcome="cancelled", attempts=[Attempt("one", "m", 100.0, status=None, outcome="cancelled")]
    )
    left.committed = None
    run(metrics, left)
    broken = chat(
        outcome="broken", attempts=[Attempt("one", "m", 100.0, status=200, outcome="upstream_incomplete")]
    )
    broken.error = UpstreamCut("cut")
    run(metrics, broken)
    late = chat(
        status=504,
        outcome="error",
        attempts=[Attempt("one", "m", 100.0, status=None, outcome="upstream_timeout")],
    )
    late.error = UpstreamTimeout("late", limit="head")
    run(metrics, late)
    odd = chat(
        status=400,
        outcome="error",
        attempts=[Attempt("one", "m", 100.0, status=400, outcome="made_up_by_backend")],
    )
    odd.error = UpstreamAnswered(
        "?", upstream_status=400, status=400, code="made_up_by_backend", retryable=False
    )
    run(metrics, odd)
    nonsense = exchange("-", route="", status=400, outcome="error")
    nonsense.error = FramingError("nonsense")
    run(metrics, nonsense)
    found = read(metrics)
    assert value(found, "ghostllm_cancelled_total", **CHAT) == 1
    assert value(found, "ghostllm_requests_total", status="none", **CHAT) == 1
    error = "ghostllm_request_errors_total"
    assert value(found, error, outcome="broken", code="upstream_incomplete", **CHAT) == 1
    assert value(found, error, outcome="error", code="upstream_timeout", **CHAT) == 1
    assert value(found, error, outcome="error", code="other", **CHAT) == 1
    assert value(found, error, outcome="error", code="http_400", route="other", model="", backend="") == 1
    assert value(found, "ghostllm_requests_total", status="400", route="other", model="", backend="") == 1
    for outcome in ("cancelled", "upstream_incomplete", "upstream_timeout", "other"):
        assert value(found, "ghostllm_upstream_attempts_total", backend="one", outcome=outcome) == 1, outcome


def refused(name):
    made = chat(name, status=404, outcome="error", attempts=[], usage=Usage(), backend=None)
    made.error, made.committed = ModelNotFound("?"), None
    return made


def test_models_that_clients_make_up_are_other():
    metrics = Metrics()
    metrics.model_name = {"m": "m", "also-m": "m"}.get
    run(metrics, refused("invented"))
    before = len(read(metrics))
    for number in range(500):
        run(metrics, refused(f"invented-{number}"))
    found = read(metrics)
    assert len(found) == before and "invented" not in str(found)
    assert "combinations=0" in repr(metrics), "nor do they fill our memory"
    assert (
        value(found, "ghostllm_requests_total", route="chat", model="other", backend="", status="404") == 501
    )
    run(metrics, refused("also-m"))
    run(metrics, refused("m"))
    assert (
        value(read(metrics), "ghostllm_requests_total", route="chat", model="m", backend="", status="404")
        == 2
    )


def test_a_model_that_was_tried_exists():
    metrics = Metrics()
    run(metrics, chat("loaded-by-a-backend"))
    found = read(metrics)
    labels = {"route": "chat", "model": "loaded-by-a-backend", "backend": "one", "status": "200"}
    assert value(found, "ghostllm_requests_total", **labels) == 1


def test_families_are_bounded_whatever_happens():
    metrics = Metrics()
    for number in range(5000):
        made = chat(f"m{number}", backend=f"b{number}", route=f"r{number}", usage=Usage(1, 1))
        made.identity = Identity(f"key{number}")
        run(metrics, made)
    found = read(metrics)
    assert len(found) < 20_000
    assert sum(v for k, v in found.items() if k[0] == "ghostllm_requests_total") == 5000, "none is lost"
    assert sum(v for k, v in found.items() if k[0] == "ghostllm_tokens_total") == 10_000
    assert value(
        found, "ghostllm_requests_total", route="other", model="other", backend="other", status="other"
    )


def test_in_flight():
    metrics = Metrics()
    metrics.in_flight = 3
    assert value(read(metrics), "ghostllm_requests_in_flight") == 3


def test_what_others_know_is_read_when_asked():
    metrics = Metrics()
    pools = {"one": (1, 2, 3)}
    metrics.gauge(
        "ghostllm_upstream_connections",
        "Connections to backends.",
        lambda: [
            ({"backend": name, "state": state}, count)
            for name, pool in pools.items()
            for state, count in zip(("idle", "active", "waiting"), pool, strict=True)
        ],
    )
    metrics.counter("ghostllm_things", "Things.", lambda: [({}, 7)])
    metrics.gauge("ghostllm_size_bytes", "Size.", lambda: [({}, float("inf"))], unit="bytes")
    pools["two"] = (0, 0, 9)
    found = read(metrics)
    assert value(found, "ghostllm_upstream_connections", backend="one", state="active") == 2
    assert value(found, "ghostllm_upstream_connections", backend="two", state="waiting") == 9
    assert value(found, "ghostllm_things_total") == 7
    assert value(found, "ghostllm_size_bytes") == float("inf")


def test_facts_of_this_process():
    found = read(Metrics())
    assert value(found, "process_resident_memory_bytes") > 5_000_000
    assert 0 < value(found, "process_open_fds") < value(found, "process_max_fds")
    assert 0 < value(found, "process_cpu_seconds_total") <= time.process_time()
    assert time.time() - 3600 < value(found, "process_start_time_seconds") <= time.time()
    assert [key for key in found if key[0] == "ghostllm_build_info"]


def test_open_descriptors_are_counted():
    metrics = Metrics()
    before = value(read(metrics), "process_open_fds")
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    after = value(read(metrics), "process_open_fds")
    for fd in opened:
        os.close(fd)
    assert after - before == 5


def test_the_page_has_its_frame():
    _, text = Metrics().render(b"")
    assert text.endswith(b"\n# EOF\n") and text.count(b"# EOF") == 1
    assert b"# TYPE ghostllm_requests counter\n" in text
    assert b"# UNIT ghostllm_request_duration_seconds seconds\n" in text
    assert b"# HELP ghostllm_tokens " in text and b"# UNIT ghostllm_tokens tokens\n" in text
    _, text = Metrics().render(b"text/plain")
    assert b"# EOF" not in text and b"# UNIT" not in text and text.endswith(b"\n")
    assert (
        b"# TYPE ghostllm_requests_total counter\n" in text and b"# TYPE ghostllm_build_info gauge\n" in text
    )


@given(st.text(st.characters(), max_size=30))
def test_label_values_survive(text):
    """But for what no text format can hold: half a surrogate pair, a bare carriage return."""
    counters = Counters("things", 'With "quotes", a \\ and a\nbreak.', ("label",))
    counters.series((text,)).value += 2
    histograms = Histograms("waits_seconds", "Waits.", ("label",), (0.1, 1.0))
    histograms.series((text,)).observe(0.5)
    readings = Readings("level", "Level.", lambda: [({"label": text}, 1.5)])
    expected = text.encode("utf-8", "replace").decode().replace("\r", " ")
    for accept, parse in ((b"", parse_openmetrics), (b"text/plain", parse_classic)):
        _, made = page([counters, histograms, readings], accept)
        for family in parse(made.decode()):
            for sample in family.samples:
                assert sample.labels["label"] == expected


@given(st.lists(st.floats(0, 10), max_size=50))
def test_histograms_count_as_told(values):
    histograms = Histograms("waits_seconds", "Waits.", (), (0.5, 1.0, 5.0))
    for one in values:
        histograms.series(()).observe(one)
    found = samples(parse_openmetrics(page([histograms], b"")[1].decode()))
    if not values:
        assert not found
        return
    for bound in (0.5, 1.0, 5.0):
        assert found["waits_seconds_bucket", ("le", str(bound))] == sum(one <= bound for one in values)
    assert found["waits_seconds_bucket", ("le", "+Inf")] == found[("waits_seconds_count",)] == len(values)
    assert found[("waits_seconds_sum",)] == pytest.approx(sum(values))


PROMETHEUS = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    b"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    b"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "classic"),
    [
        (b"", False),
        (b"*/*", False),
        (PROMETHEUS, False),
        (b"text/plain", True),
        (b"text/*", True),
        (b"text/plain;version=0.0.4, */*;q=0.1", True),
        (b"text/html, application/xhtml+xml, */*;q=0.8", False),
        (b"application/openmetrics-text; version=1.0.0", False),
        (b"application/openmetrics-text;q=0.2, text/plain;q=0.9", True),
        (b"APPLICATION/OpenMetrics-Text, Text/Plain;Q=0.9", False),
        (b"application/openmetrics-text;q=0, */*", True),
        (b"text/plain;q=nonsense", True),
        (b",;,=;q", False),
    ],
)
def test_which_format_is_preferred(accept, classic):
    assert prefers_classic(accept) is classic


@given(st.binary(max_size=60))
def test_any_accept_header_gets_a_page(accept):
    assert prefers_classic(accept) in (True, False)

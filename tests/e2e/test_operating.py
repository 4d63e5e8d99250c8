"""What those who run the gateway see: health, readiness, metrics, the log, the end."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.e2e.conftest import Fakes, settings
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Raw, request

pytestmark = pytest.mark.smoke

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def metrics(gateway: Gateway, accept: str = "application/openmetrics-text; version=1.0.0") -> Samples:
    answer = gateway.ask("GET", "/metrics", None, {"Accept": accept})
    assert answer.status == 200
    parse = parse_openmetrics if "openmetrics" in answer.headers["content-type"] else parse_text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
    }


def total(samples: Samples, *words: str, **labels: str) -> float:
    """The sum of the samples whose name has all `words` and whose labels include `labels`."""
    return sum(
        value
        for (name, pairs), value in samples.items()
        if all(word in name for word in words) and labels.items() <= set(pairs)
    )


def test_health_ready_version(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/health").json() == {"status": "ok"}
    assert gateway.ask("GET", "/ready").status == 200
    version = gateway.ask("GET", "/version").json()
    assert version["name"] == "ghostllm" and version["version"]


def test_ready_follows_the_backends(fakes: Fakes) -> None:
    backend = {"name": "b", "kind": "openai", "url": fakes.second.url}
    fakes.second.listen(False)
    with Gateway({"backends": [backend], "routing": {"refresh": 0.2}}, wait=False) as gateway:
        until(lambda: gateway.addresses, "it listens")
        assert gateway.ask("GET", "/health").status == 200
        until(lambda: gateway.ask("GET", "/ready").status == 503, "nothing to serve")
        fakes.second.listen(True)
        until(lambda: gateway.ask("GET", "/ready").status == 200, "able to serve")
        assert gateway.chat("pair").status == 200


def test_models_without_any_configured_are_the_backends_own_pooled(fakes: Fakes) -> None:
    fakes.primary.models("shared", "a/b:c")
    fakes.second.models("shared", "other")
    backends = [
        {"name": "one", "kind": "openai", "url": fakes.primary.url},
        {"name": "two", "kind": "openai", "url": fakes.second.url},
    ]
    with Gateway({"backends": backends}) as gateway:

        def listed() -> list[str]:
            return [item["id"] for item in gateway.ask("GET", "/v1/models").json()["data"]]

        until(lambda: sorted(listed()) == ["a/b:c", "other", "shared"], "merged, each once")
        for target in ("/v1/models/a/b:c", "/v1/models/a%2Fb%3Ac"):
            assert gateway.ask("GET", target).json()["id"] == "a/b:c"
        fakes.primary.script({"status": 500, "model": "shared"})
        assert gateway.chat("shared").status == 200
        assert gateway.chat("other").status == 200
        assert len(fakes.second.calls) == 2
    fakes.primary.models("m")
    fakes.second.models("pair")


def test_a_failed_refresh_keeps_the_models(fakes: Fakes) -> None:
    backend = {"name": "b", "kind": "openai", "url": fakes.primary.url}
    with Gateway({"backends": [backend], "routing": {"refresh": 0.1}}) as gateway:
        until(lambda: gateway.ask("GET", "/v1/models").json()["data"], "the models are known")
        fakes.primary.script({"path": "/v1/models", "status": 500, "times": 4})
        until(lambda: sum(seen.method == "GET" for seen in fakes.primary.requests) > 5, "it has asked again")
        assert [item["id"] for item in gateway.ask("GET", "/v1/models").json()["data"]] == ["m"]


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain", "*/*"])
def test_metrics_parse(gateway: Gateway, accept: str) -> None:
    gateway.chat("m", stream=True)
    samples = metrics(gateway, accept)
    assert samples
    for words in (("requests",), ("tokens",), ("first_token",), ("duration",), ("memory",), ("lag",)):
        assert [name for name, _ in samples if all(word in name for word in words)], words


def test_metrics_count(gateway: Gateway, fakes: Fakes) -> None:
    def count(samples: Samples) -> list[float]:
        tokens = [
            total(samples, "tokens_total", direction=way, model="m") for way in ("prompt", "completion")
        ]
        return [total(samples, "requests_total", model="m", status="200"), *tokens]

    before = count(metrics(gateway))
    gateway.chat("m", stream=True)
    gateway.chat("m")
    after = count(metrics(gateway))
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 22, 2 * len(TEXT)]


def test_metrics_are_bounded_against_made_up_names(gateway: Gateway) -> None:
    gateway.chat("first-unknown")
    gateway.ask("GET", "/first/unknown")
    gateway.ask("FIRSTUNKNOWN", "/")
    before = len(metrics(gateway))
    for number in range(30):
        gateway.chat(f"made-up-{number}")
        gateway.ask("GET", f"/made/up/{number}")
        gateway.ask(f"MADE{'X' * number}UP", "/")
    samples = metrics(gateway)
    assert "made" not in str(samples).lower()
    assert len(samples) <= before + 20


def test_in_flight_returns_to_zero(gateway: Gateway, fakes: Fakes) -> None:
    stall, hang = {"fault": "stall", "at": 1}, {"hang": True}
    fakes.primary.script(stall, {"status": 400}, {"status": 500, "times": 3}, hang)
    with gateway.open() as one, gateway.open() as two:
        one.send(request("POST", CHAT, STREAM))
        one.read_until(b"Hello")
        gateway.chat("m")
        gateway.chat("m", stream=True)
        two.send(request("POST", CHAT, BODY))
        fakes.primary.call(5)
        assert _busy(metrics(gateway)) >= 2

    def idle() -> bool:
        return _busy(metrics(gateway)) <= 1  # the request for the metrics itself may count

    until(idle, "nothing in flight")


def _busy(samples: Samples) -> float:
    names = {name for name, _ in samples if "in_flight" in name or "inflight" in name}
    assert names, "a gauge of what is in flight"
    return max(total(samples, name) for name in names)


# --- the log


def fields(record: dict[str, Any]) -> str:
    return " ".join(record)


def test_the_access_log_says_who_what_where_and_how_long(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500})
    answer = gateway.chat("pair", stream=True)
    record = gateway.record(answer.headers["x-request-id"])
    assert {"pair", "second", "anonymous", 200, 11, len(TEXT)} <= {
        v for v in record.values() if not isinstance(v, (list, dict))
    }
    assert "primary" in str(record["attempts"]) or record["attempts"] == 2
    for word in ("ttft", "duration", "tokens", "status", "model", "backend", "key"):
        assert word in fields(record), word


def test_every_request_has_exactly_one_record(gateway: Gateway, fakes: Fakes) -> None:
    ids = []
    with gateway.open() as raw:
        raw.send(request("POST", CHAT, BODY) + request("GET", "/nowhere") + request("POST", CHAT, b"{"))
        ids += [raw.answer().headers["x-request-id"] for _ in range(3)]
    with gateway.open() as raw:
        ids.append(raw.ask(b"nonsense\r\n\r\n").headers["x-request-id"])
    for identity in ids:
        gateway.record(identity)
    assert [gateway.record(identity)["status"] for identity in ids] == [200, 404, 400, 400]


def test_a_broken_stream_is_not_logged_as_fine(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"done": False, "finish": None})
    record = gateway.record(gateway.chat("m", stream=True).headers["x-request-id"])
    assert "broken" in record.values()


def test_the_log_is_json_lines(gateway: Gateway) -> None:
    assert len(gateway.records) == len([line for line in gateway.lines if line.strip()])


# --- the end


@pytest.fixture
def mortal(fakes: Fakes) -> Any:
    with Gateway({**settings(fakes), "server": {"timeouts": {"drain": 20.0}}}) as gateway:
        yield gateway


def test_sigterm_lets_streams_finish(mortal: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with mortal.open() as idle, mortal.open() as raw:
        assert idle.ask(request("GET", "/health"), "GET").status == 200
        raw.send(request("POST", CHAT, STREAM))
        raw.read_until(b"Hello")
        mortal.terminate()
        assert idle.at_end(), "idle connections are closed at once"
        until(lambda: _refused(mortal.address), "new connections are refused")
        assert not mortal.over
        fakes.primary.release("go")
        answer = raw.answer()
        assert answer.complete and answer.text == "".join(TEXT) and answer.events[-1] == "[DONE]"
        assert raw.at_end()
    assert mortal.wait() == 0


def _refused(address: str) -> bool:
    try:
        Raw(address).close()
    except OSError:
        return True
    return False


def test_the_drain_has_an_end(fakes: Fakes) -> None:
    with Gateway({**settings(fakes), "server": {"timeouts": {"drain": 0.3}}}) as gateway:
        fakes.primary.script({"fault": "stall", "at": 1})
        with gateway.open() as raw:
            raw.send(request("POST", CHAT, STREAM))
            raw.read_until(b"Hello")
            gateway.terminate()
            rest = raw.rest()
            assert b"[DONE]" not in rest
            assert b'"error"' in rest or not rest.endswith(b"0\r\n\r\n"), "cut, and seen to be"
        assert gateway.wait() == 0
        assert fakes.primary.ended().outcome == "gone"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_ends_at_once_and_cleanly(mortal: Gateway, number: int) -> None:
    assert mortal.chat("m").status == 200
    mortal.process.send_signal(number)
    assert mortal.wait() == 0
    assert "Traceback" not in mortal.log


def test_sighup_does_not_end_it(mortal: Gateway) -> None:
    mortal.process.send_signal(signal.SIGHUP)
    assert mortal.chat("m").status == 200


def test_a_port_that_is_taken_is_a_clear_error(gateway: Gateway, fakes: Fakes) -> None:
    taken = {**settings(fakes), "server": {"listen": [gateway.address]}}
    with Gateway(taken, wait=False) as second:
        assert second.wait() != 0
        assert gateway.address in second.log and "Traceback" not in second.log

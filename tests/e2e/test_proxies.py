"""Behind proxies: whose request it is, in log and limits; and what browsers are told with every answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer, Raw, request

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
TRUSTED = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/24"]}


def behind(fakes: Fakes, **server: Any) -> Settings:
    return {
        "server": {**TRUSTED, **server},
        "routing": FORGIVING,
        "backends": [{"name": "primary", "kind": "openai", "url": fakes.primary.url}],
        "models": [{"name": "m", "targets": [{"backend": "primary"}]}],
    }


def peer_of(gateway: Gateway, answer: Answer) -> str:
    return str(gateway.record(answer.headers["x-request-id"])["peer"])


@pytest.fixture(scope="module")
def started_proxied(started: Fakes) -> Iterator[Gateway]:
    with Gateway(behind(started, limits={"streams_per_address": 2})) as gateway:
        yield gateway


@pytest.fixture
def proxied(started_proxied: Gateway, fakes: Fakes) -> Gateway:
    return started_proxied


@pytest.mark.parametrize(
    ("sent", "peer"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7, 10.0.0.3", "198.51.100.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("unknown", "127.0.0.1"),
    ],
)
def test_the_client_that_a_trusted_proxy_names(proxied: Gateway, sent: str, peer: str) -> None:
    headers = {"X-Forwarded-For": sent, "Forwarded": "for=6.6.6.6"}
    assert peer_of(proxied, proxied.ask("GET", "/v1/models", None, headers)) == peer


def test_nobody_is_believed_without_being_trusted(gateway: Gateway) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
    assert peer_of(gateway, gateway.ask("GET", "/v1/models", None, headers)) == "127.0.0.1"
    with gateway.open() as raw:
        answer = raw.ask(b"PROXY TCP4 6.6.6.6 192.0.2.2 1 2\r\n" + request("GET", "/v1/models"), "GET")
        assert answer.status == 400 and raw.at_end()


def test_forwarded_where_that_is_what_the_proxies_write(started: Fakes) -> None:
    with Gateway(behind(started, forwarded="forwarded")) as gateway:
        headers = {
            "X-Forwarded-For": "6.6.6.6",
            "Forwarded": 'for="_x, for=6.6.6.6, for="[2001:db8::1]:1";proto=https',
        }
        assert peer_of(gateway, gateway.ask("GET", "/v1/models", None, headers)) == "2001:db8::1"


def test_requests_in_flight_of_one_address(proxied: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go", "times": 2})
    one, other = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
    with proxied.open() as first, proxied.open() as second:
        first.send(request("POST", CHAT, BODY, one))
        second.send(request("POST", CHAT, BODY, one))
        fakes.primary.call(1)
        refused = proxied.ask("POST", CHAT, BODY, one)
        assert refused.status == 429 and "limit 2" in refused.error["message"]
        assert refused.error["code"] == "address_limit" and refused.headers["retry-after"] == "1"
        assert peer_of(proxied, refused) == "198.51.100.7"
        assert proxied.ask("POST", CHAT, BODY, other).status == 200
        fakes.primary.release("go")
        assert first.answer().status == second.answer().status == 200
        assert proxied.ask("POST", CHAT, BODY, one).status == 200


def preface(address: str, version: int) -> bytes:
    source = ip_address(address)
    if version == 1:
        return f"PROXY TCP{source.version} {source} {source} 4711 8080\r\n".encode()
    ends = source.packed * 2 + struct.pack("!HH", 4711, 8080)
    family = 0x11 if source.version == 4 else 0x21
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x21, family, len(ends)) + ends


def introduced(gateway: Gateway, address: str, version: int = 1) -> Raw:
    raw = gateway.open()
    raw.send(preface(address, version))
    return raw


def test_the_proxy_protocol(started: Fakes) -> None:
    """The ready gateway cannot be waited for by asking it: whoever asks has to introduce itself."""
    settings = behind(started, proxy_protocol=True, limits={"connections_per_address": 3})
    with Gateway(settings, wait=False) as gateway:
        until(lambda: gateway.addresses, "the gateway listens")
        for version in (1, 2):
            for address in ("198.51.100.7", "2001:db8::1"):
                with introduced(gateway, address, version) as raw:
                    assert peer_of(gateway, raw.ask(request("GET", "/v1/models"), "GET")) == address
        with introduced(gateway, "10.0.0.3") as raw:  # a proxy behind a proxy
            headers = {"X-Forwarded-For": "198.51.100.9"}
            answer = raw.ask(request("GET", "/v1/models", headers=headers), "GET")
            assert peer_of(gateway, answer) == "198.51.100.9"
        with gateway.open() as raw:
            answer = raw.ask(request("GET", "/health"), "GET")
            assert answer.status == 400 and "PROXY" in answer.error["message"] and raw.at_end()
        too_many_connections(gateway)


def too_many_connections(gateway: Gateway) -> None:
    inside = [introduced(gateway, f"2001:db8:0:9::{n}") for n in range(1, 4)]
    try:
        for raw in inside:
            assert raw.ask(request("GET", "/health"), "GET").status == 200
        with introduced(gateway, "2001:db8:0:9::ffff") as late:
            answer = late.answer()
            assert answer.status == 429 and "limit 3" in answer.error["message"]
            assert answer.headers["connection"] == "close" and late.at_end()
        with introduced(gateway, "198.51.100.8") as other:
            assert other.ask(request("GET", "/health"), "GET").status == 200
    finally:
        for raw in inside:
            raw.close()


GUARDS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def test_what_browsers_are_told_with_every_answer(gateway: Gateway) -> None:
    answers = [
        gateway.ask(method, target)
        for method, target in (
            ("GET", "/health"), ("GET", "/ready"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/"),
            ("GET", "/nowhere"), ("DELETE", "/health"), ("OPTIONS", CHAT), ("GET", "/admin/api/backends"),
            ("POST", CHAT),
        )
    ]  # fmt: skip
    answers += [gateway.chat("m"), gateway.chat("m", stream=True)]
    with gateway.open() as raw:
        answers.append(raw.ask(b"rubbish\r\n\r\n"))
    for answer in answers:
        names = [name.lower() for name, _ in answer.fields]
        assert len(set(names)) == len(names), names
        assert answer.headers.items() >= GUARDS.items(), answer.headers
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert answer.headers["server"] == "ghostllm", "no version of anything"

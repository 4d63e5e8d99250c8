"""Addresses to listen on, and origins of backends."""

import pytest

from ghostllm.net.address import Origin, is_loopback, parse_origin, peer_name, split_listen


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://127.0.0.1:11434", Origin(False, "127.0.0.1", 11434), "127.0.0.1:11434"),
        ("http://gpu-box/v1/", Origin(False, "gpu-box", 80, "/v1"), "gpu-box"),
        (
            "https://api.example.com/api/v1",
            Origin(True, "api.example.com", 443, "/api/v1"),
            "api.example.com",
        ),
        ("http://[::1]:8000", Origin(False, "::1", 8000), "[::1]:8000"),
    ],
)
def test_origins(url, origin, authority):
    assert parse_origin(url) == origin
    assert parse_origin(url).authority == authority


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host", "scheme"),
        ("host:8000", "scheme"),
        ("http://", "no host"),
        ("http://user:secret@host", "api_key"),
        ("http://host/?q=1", "query"),
        ("http://host:99999", "out of range"),
    ],
)
def test_bad_origins_say_what_is_wrong(url, complaint):
    with pytest.raises(ValueError, match=complaint) as raised:
        parse_origin(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        (":9000", ("", 9000)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_listen_addresses(address, expected):
    assert split_listen(address) == expected


@pytest.mark.parametrize("address", ["8080", "host:", "host:http", "::1:8080", "host:70000", "host:８０"])
def test_bad_listen_addresses(address):
    with pytest.raises(ValueError, match="expected HOST:PORT|brackets"):
        split_listen(address)


def test_loopback_is_known_by_address():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "192.168.1.2", "example.com"]))


def test_peers_are_named_for_logs():
    assert peer_name(("::ffff:10.1.2.3", 5, 0, 0)) == "10.1.2.3"
    assert peer_name(("fe80::1%eth0", 5, 0, 0)) == "fe80::1"
    assert peer_name(None) == "local"

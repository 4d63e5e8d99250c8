"""URLs, listen addresses, origins: what is taken and what is not."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.forms import (
    is_loopback,
    listen_fault,
    origin_fault,
    reach_fault,
    split_listen,
    url_fault,
)


@pytest.mark.parametrize(
    "text",
    [
        "http://a",
        "https://a.example:8443",
        "http://127.0.0.1:11434",
        "http://[::1]:8080/v1",
        "http://a_b.example/base/path/",
        "https://a.example/v1%20x/~y",
        "HTTPS://A.example",
        "http://a.example.",
    ],
)
def test_urls(text):
    assert url_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:80",
        "localhost:11434",
        "ftp://a",
        "http:/a",
        "http:a",
        "http://",
        "http:///x",
        "http://:80",
        "http://a:",
        "http://a:0",
        "http://a:65536",
        "http://a:x",
        "http://a:+1",
        "http://a b",
        "http://a/b c",
        " http://a",
        "http://a\n",
        "http://a\x00",
        "http://ü.example",
        "http://u:p@a",
        "http://u@a",
        "http://a?",
        "http://a?x=1",
        "http://a#f",
        "http://a\\b",
        "http://[::1",
        "http://[::zz]",
        "http://[127.0.0.1]",
        "http://256.1.1.1",
        "http://1.2.3",
        "http://-a",
        "http://a,b",
        "http://a;b",
    ],
)
def test_no_urls(text):
    assert url_fault(text)


@given(st.text())
def test_url_checks_never_crash(text):
    for prefix in ("", "http://", "https://["):
        if url_fault(prefix + text) is None:
            assert urlsplit(prefix + text).hostname


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", "8080")),
        ("[::1]:8080", ("::1", "8080")),
        (":8080", ("", "8080")),
        ("localhost:0", ("localhost", "0")),
        ("[::]:65535", ("::", "65535")),
        ("gateway.example:80", ("gateway.example", "80")),
    ],
)
def test_listen_addresses(text, pair):
    assert listen_fault(text) is None
    assert split_listen(text) == pair


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "127.0.0.1",
        "::1:8080",
        "::1",
        "[::1]",
        "[]:80",
        "[a]:80",
        "[127.0.0.1]:80",
        "a:b",
        "a:65536",
        "1.2.3:80",
        "256.0.0.1:80",
        "a b:80",
        "a:80 ",
        "a:80\n",
        "a:٣",
        "http://a:80",
        "[::1%eth0 ]:80",
    ],
)
def test_no_listen_addresses(text):
    assert listen_fault(text)


@given(st.text())
def test_listen_checks_never_crash(text):
    is_loopback(text)
    listen_fault(text)
    listen_fault(text + ":80")


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "LOCALHOST:1"])
def test_loopback(text):
    assert is_loopback(text)


@pytest.mark.parametrize(
    "text", [":1", "0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.example:1", "nonsense"]
)
def test_not_loopback(text):
    assert not is_loopback(text)


@pytest.mark.parametrize(
    "text",
    ["*", "null", "https://a.example", "http://localhost:3000", "app://obsidian.md", "http://[::1]:3000"],
)
def test_origins(text):
    assert origin_fault(text) is None


@pytest.mark.parametrize(
    "text", ["", "a.example", "https://a.example/", "https://*.example", "https://a/b", "x://a/"]
)
def test_no_origins(text):
    assert origin_fault(text)


@pytest.mark.parametrize(
    "text", ["10.1.0.0/16", "::1/128", "127.0.0.1", "fd00::/8", "images.lan", "*.lan", "a", "localhost"]
)
def test_places_that_may_be_reached(text):
    assert reach_fault(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.", "*.*.lan", "a.*", "10.1.0.1/16", "10.1.0.0/33", "1.2.3", "http://a", "a:80", "[::1]",
     "a b", "ü"],
)  # fmt: skip
def test_places_that_are_none(text):
    assert reach_fault(text)

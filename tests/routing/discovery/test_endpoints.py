"""What EndpointSlices come to."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.discovery.endpoints import Gone, Slices, WatchFailed, is_ready, port_of
from tests.fakes.kubernetes import endpoint, endpoint_slice


def slices(*items, port=""):
    found = Slices(port)
    named = [{"metadata": {"name": f"s{number}"}, **item} for number, item in enumerate(items)]
    found.listed({"metadata": {"resourceVersion": "5"}, "items": named})
    return found


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ({"ready": True}, True),
        ({"ready": False}, False),
        ({"ready": None}, True),  # the API: "nil should be interpreted as true"
        ({}, True),
        (None, True),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": True, "serving": True, "terminating": True}, False),  # publishNotReadyAddresses
    ],
)
def test_only_what_is_ready(conditions, ready):
    assert is_ready({"addresses": ["10.0.0.1"], "conditions": conditions}) is ready


HTTP = {"name": "http", "port": 8000, "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 9090}
QUIC = {"name": "quic", "port": 443, "protocol": "UDP"}


@pytest.mark.parametrize(
    ("ports", "wanted", "port"),
    [
        ([HTTP], "", 8000),
        ([{"port": 8000}], "", 8000),
        ([QUIC, METRICS, HTTP], "", 9090),
        ([METRICS, HTTP], "http", 8000),
        ([METRICS, HTTP], "8000", 8000),
        ([METRICS], "http", None),
        ([METRICS], "7000", 7000),
        (None, "", None),
        (None, "7000", 7000),
        ([QUIC], "quic", None),
        ([{"name": "x", "port": 0}, {"name": "x", "port": True}, {"name": "x", "port": "80"}], "x", None),
        ([], "99999", None),
    ],
)
def test_the_port_by_name_or_number(ports, wanted, port):
    assert port_of(ports, wanted) == port


def test_a_pod_with_two_families_is_one_and_one_in_two_slices_too():
    found = slices(
        endpoint_slice(endpoint("fd00::1", uid="a"), endpoint("fd00:0::2", uid="b"), family="IPv6"),
        endpoint_slice(endpoint("10.0.0.1", uid="a"), endpoint("10.0.0.9", ready=False, uid="c")),
        endpoint_slice(endpoint("10.0.0.1", uid="a"), endpoint("10.0.0.4")),
    )
    assert found.places() == [("10.0.0.1", 8000), ("10.0.0.4", 8000), ("fd00::2", 8000)]


def test_events():
    found = slices(endpoint_slice(endpoint("10.0.0.1")))
    more = {"metadata": {"name": "new", "resourceVersion": "6"}, **endpoint_slice(endpoint("10.0.0.2"))}
    assert found.event({"type": "ADDED", "object": more}) and found.version == "6"
    assert [host for host, _ in found.places()] == ["10.0.0.1", "10.0.0.2"]
    assert not found.event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    assert found.version == "9"
    assert found.event({"type": "DELETED", "object": {"metadata": {"name": "s0", "resourceVersion": "10"}}})
    assert [host for host, _ in found.places()] == ["10.0.0.2"]
    with pytest.raises(Gone):
        found.event({"type": "ERROR", "object": {"code": 410}})
    with pytest.raises(WatchFailed, match="too many requests"):
        found.event({"type": "ERROR", "object": {"code": 429, "message": "too many requests"}})


words = st.sampled_from(
    ["type", "object", "metadata", "name", "resourceVersion", "addressType", "endpoints", "addresses",
     "ports", "conditions", "ready", "targetRef", "uid", "port", "items", "ADDED", "10.0.0.1", "fe80::1%eth0"]
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)


@given(anything, anything)
def test_any_json_is_taken_or_refused(listed, event):
    json.dumps([listed, event])
    found = Slices("http")
    for take in (
        lambda: found.listed(listed),
        lambda: found.event({"type": "ADDED", "object": event} if isinstance(event, dict) else event),
    ):
        with contextlib.suppress(Gone, WatchFailed):
            take()
    for host, port in found.places():
        assert "%" not in host and 0 < port < 65536

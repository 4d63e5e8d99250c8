"""What a source is made from: by its name, so that a reload leaves alone what is the same."""

from __future__ import annotations

import pytest

from ghostllm.config.load import build as configured
from ghostllm.routing.discovery import Means, build, sections

MEANS = Means(
    identify=None, find_local=None, ports=(8000,), own=lambda url: False, environ={}, seen=print, report=print
)
DNS = {"name": "d", "host": "llm.test"}
SERVICE = {"name": "k", "service": "vllm"}
BACKEND = {"name": "b", "url": "http://h:1"}


@pytest.mark.parametrize(
    ("discovery", "backends"),
    [
        ({}, []),
        ({}, [BACKEND]),
        ({"local": False}, []),
        ({"file": "x.toml"}, []),
        ({"file": "x.toml", "dns": [DNS, {**DNS, "name": "e"}]}, [BACKEND]),
        ({"kubernetes": [SERVICE], "network": ["10.0.0.0/30"]}, []),
    ],
)
def test_one_for_each_source(discovery, backends):
    config = configured({"discovery": discovery, "backends": backends}, {})
    assert [source.name for source in build(config, MEANS)] == list(sections(config))


def test_what_makes_it_another():
    def of(**discovery):
        return sections(configured({"discovery": discovery}, {}))

    assert of(dns=[DNS]) == of(dns=[DNS], timeout=3)
    assert of(dns=[DNS]) != of(dns=[{**DNS, "port": 9}])
    assert of(dns=[DNS], interval=3) != of(dns=[DNS])
    assert of(network=["10.0.0.0/30"]) != of(network=["10.0.0.0/30"], ports=[1])
    assert of(file="a") != of(file="b")

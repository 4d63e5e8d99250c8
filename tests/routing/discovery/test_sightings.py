"""Servers that are seen, missed, and taken for something else."""

from dataclasses import dataclass

from ghostllm.routing.discovery.sightings import Sightings


@dataclass(frozen=True)
class Server:
    url: str
    kind: str = "ollama"
    label: str = ""
    usable: bool = True


A, B = Server("http://a:1"), Server("http://b:1")
OTHER = Server("http://a:1", "openai")


def test_new_servers_are_given_once():
    sightings = Sightings()
    assert sightings.look([A, B]) == [A, B]
    assert sightings.look([A, B]) == []
    assert sightings.servers == [A, B]


def test_one_that_misses_a_look_stays_and_one_that_misses_three_in_a_row_goes():
    sightings = Sightings(misses=3)
    sightings.look([A, B])
    for seen in ([B], [B], [A, B], [B], [B]):
        sightings.look(seen)
        assert sightings.servers == [A, B]
    sightings.look([B])
    assert sightings.servers == [B]
    assert sightings.look([A]) == [A]


def test_another_kind_is_believed_the_third_time():
    sightings = Sightings(misses=3)
    sightings.look([A])
    assert sightings.look([OTHER]) == [] and sightings.servers == [A]
    assert sightings.look([OTHER]) == []
    assert sightings.look([A]) == []
    assert sightings.look([OTHER]) == sightings.look([OTHER]) == []
    assert sightings.look([OTHER]) == [OTHER] and sightings.servers == [OTHER]

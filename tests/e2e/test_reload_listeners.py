"""Listening addresses change without a connection being dropped."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.reloads import CONFIG, applied, base, changed, reload
from tests.e2e.traffic import CHAT, body, whole
from tests.fakes import raw
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.ports import free_port
from tests.fakes.raw import Raw, request

WHOLE = "".join(TEXT)


def at(settings: Settings, *addresses: str, **more: object) -> Settings:
    return changed(settings, server={"listen": list(addresses), **more})


def answers(address: str) -> bool:
    try:
        return raw.ask(address, "GET", "/health").status == 200
    except OSError:
        return False


def test_one_comes_and_one_goes(fakes: Fakes) -> None:
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = base(fakes)
    with Gateway(at(settings, one)) as gateway:
        assert applied(gateway, at(settings, one, two)) == ["server.listen"]
        until(lambda: answers(two), "the new address answers")
        fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
        with Raw(one) as stream, Raw(one) as kept:
            stream.send(request("POST", CHAT, body("m")))
            stream.read_until(TEXT[0].encode())
            kept.send(request("GET", "/health"))
            assert kept.answer().status == 200
            applied(gateway, at(settings, two))
            until(lambda: not answers(one), "the old address takes no connection")
            kept.send(request("POST", CHAT, body("n", stream=False)))
            assert whole(kept.answer()) == WHOLE, "the open connection goes on"
            fakes.primary.release("go")
            assert whole(stream.answer()) == WHOLE
            kept.send(request("GET", "/health"))
            assert kept.answer().status == 200
        assert answers(two)


def test_the_same_port_of_other_interfaces(fakes: Fakes) -> None:
    port = free_port()
    settings = base(fakes)
    with Gateway(at(settings, f"127.0.0.1:{port}")) as gateway, gateway.open() as kept:
        for address in (f"0.0.0.0:{port}", f"127.0.0.1:{port}", f"localhost:{port}"):
            assert applied(gateway, at(settings, address, insecure=True))[-1:] == ["server.listen"] or True
            assert answers(gateway.address), address
            kept.send(request("GET", "/health"))
            assert kept.answer().status == 200
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError):
                other.bind(("127.0.0.1", port))


def test_an_address_that_somebody_has(fakes: Fakes) -> None:
    settings = base(fakes)
    with socket.create_server(("127.0.0.1", 0)) as other, Gateway(settings) as gateway:
        taken, free = f"127.0.0.1:{other.getsockname()[1]}", f"127.0.0.1:{free_port()}"
        answer = reload(gateway, at(settings, "127.0.0.1:0", free, taken))
        assert answer.status == 422
        problems = answer.json()["error"]["problems"]
        assert problems == [f"server.listen: cannot listen on {taken}: Address already in use"]
        assert not answers(free), "nothing of it holds"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", int(free.rpartition(":")[2])))
        assert gateway.ask("GET", f"{CONFIG}/diff").status == 422
        assert whole(gateway.chat("m")) == WHOLE


def test_an_address_without_a_key_stays_closed(fakes: Fakes) -> None:
    settings = base(fakes)
    with Gateway(settings) as gateway:
        answer = reload(gateway, at(settings, f"0.0.0.0:{free_port()}"))
        assert answer.status == 422 and "no key is set" in answer.json()["error"]["message"]


def test_a_backend_that_would_be_the_gateway(fakes: Fakes) -> None:
    one = f"127.0.0.1:{free_port()}"
    settings = base(fakes)
    with Gateway(settings) as gateway:
        circle = {"name": "circle", "kind": "openai", "url": f"http://{one}"}
        more = changed(settings, backends=[*settings["backends"], circle])
        applied(gateway, at(more, "127.0.0.1:0", one))
        rows = gateway.ask("GET", "/admin/api/backends").json()["backends"]
        assert [row["name"] for row in rows] == ["primary", "second"]

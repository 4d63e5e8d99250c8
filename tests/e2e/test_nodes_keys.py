"""Keys made at run time, on two gateways with one real Redis: what one makes or ends, both know."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.redis_server import RedisServer, redis_server
from tests.e2e.conftest import Fakes
from tests.e2e.test_cache_redis import CALM, said
from tests.e2e.test_made_keys import BOSS, KEYS, bearer, chat, configured, made
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import request

SECRET = "s" * 16 + "0123456789abcdef"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def settings(fakes: Fakes, server: RedisServer, state: Path | None = None, **more: Any) -> Settings:
    return configured(
        fakes,
        redis={"url": server.url, "timeout": CALM, "pause": 0.05},
        state={"key_secret": SECRET, **({"file": str(state)} if state else {}), **more},
    )


@contextmanager
def node(chosen: Settings) -> Iterator[Gateway]:
    with Gateway(chosen) as gateway:
        until(lambda: said(gateway, "redis answers") == 1, "redis answers")
        yield gateway


def ended(gateway: Gateway) -> None:
    """With its state file written: what a killed node heard of others a moment ago is not in it."""
    gateway.terminate()
    assert gateway.wait() == 0


def revoke(gateway: Gateway, name: str) -> dict[str, Any]:
    answer = gateway.ask("DELETE", f"{KEYS}/{name}", {}, bearer(BOSS))
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json()["keys"][0]
    return told


def told(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """What a node knows of the one key of a name."""
    listed = gateway.ask("GET", KEYS, None, bearer(BOSS)).json()["keys"]
    return next((key for key in listed if key["name"] == name), None)


def commanded(server: RedisServer, *words: str) -> bytes:
    """What the server says to a command, as it comes over the wire."""
    with socket.create_connection(("127.0.0.1", server.port), 5.0) as raw:
        lines = [f"*{len(words)}", *(line for word in words for line in (f"${len(word)}", word))]
        raw.sendall("".join(f"{line}\r\n" for line in [*lines, "*1", "$4", "QUIT"]).encode())
        raw.settimeout(5.0)
        whole = b""
        while data := raw.recv(65_536):
            whole += data
        return whole


def test_what_is_made_at_one_opens_the_other_and_what_is_ended_there_opens_neither(
    started: Fakes, fakes: Fakes, server: RedisServer
) -> None:
    chosen = settings(started, server)
    with node(chosen) as one, node(chosen) as two:
        key = made(one, "ann", roles=["user"], models=["m"])
        until(lambda: chat(two, key) == 200, "the other knows it")
        assert chat(two, key, "pair") == 403, "and what it may"
        with two.open() as raw:
            models = request("GET", "/v1/models", None, bearer(key))
            raw.send(models)
            assert raw.answer().status == 200
            assert revoke(one, "ann")["shared"] == "yes"
            assert chat(one, key) == 401
            until(lambda: chat(two, key) == 401, "the other has heard of it")
            raw.send(models)
            assert raw.answer().status == 401, "on connections that are open, too"
        rotated = made(two, "bob")
        until(lambda: chat(one, rotated) == 200, "it goes both ways")
        answer = one.ask("POST", f"{KEYS}/bob/rotate", {"overlap": 0}, bearer(BOSS))
        assert answer.status == 200 and answer.json()["shared"] == "yes"
        until(lambda: chat(two, answer.json()["key"]) == 200, "the new one is known")
        until(lambda: chat(two, rotated) == 401, "and that the old one has ended")
        dump = b"".join(
            commanded(server, *words)
            for words in (["HGETALL", "{ghostllm}:news:keys:entries"], ["KEYS", "*"])
        )
        assert b'"name":"ann"' in dump and b"news:keys:version" in dump
        for secret in (key, rotated, answer.json()["key"], SECRET):
            assert secret.encode() not in dump and secret not in one.log + two.log


def test_what_is_made_and_ended_while_redis_is_away_is_heard_when_it_is_back(
    started: Fakes, fakes: Fakes, server: RedisServer
) -> None:
    chosen = settings(started, server)
    with node(chosen) as one, node(chosen) as two:
        early = made(one, "early")
        until(lambda: chat(two, early) == 200, "the other knows it")
        server.kill()
        answer = one.ask("POST", KEYS, {"name": "late"}, bearer(BOSS))
        late = answer.json()["key"]
        assert answer.json()["shared"] == "later" and chat(one, late) == 200
        gone = made(one, "gone")
        assert revoke(one, "early")["shared"] == revoke(one, "gone")["shared"] == "later"
        assert [chat(one, key) for key in (early, late, gone)] == [401, 200, 401]
        assert [chat(two, key) for key in (early, late, gone)] == [200, 401, 401]
        server.start()
        until(lambda: [chat(two, key) for key in (early, late, gone)] == [401, 200, 401], "it has heard")
        until(lambda: (told(two, "gone") or {}).get("state") == "revoked", "of all of them")


def test_who_comes_late_knows_all_and_an_empty_redis_opens_nothing_again(
    started: Fakes, fakes: Fakes, server: RedisServer, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.db" for number in range(3)]
    chosen = [settings(started, server, file) for file in files]
    with node(chosen[0]) as one:
        with node(chosen[2]) as three:
            lasting, gone = made(one, "lasting"), made(one, "gone")
            until(lambda: chat(three, gone) == chat(three, lasting) == 200, "a third node takes it over")
            ended(three)
        revoke(one, "gone")
        with node(chosen[1]) as two:
            until(lambda: chat(two, lasting) == 200 and told(two, "gone") is not None, "it knows all")
            assert chat(two, gone) == 401
            commanded(server, "FLUSHALL")
            fresh = made(two, "fresh")
            until(lambda: chat(one, fresh) == 200, "it is used again")
            # Its own file still has the key as one that opens: it learns better of those that know.
            with node(chosen[2]) as three:
                until(lambda: chat(three, gone) == 401, "the third is told")
                until(lambda: chat(three, fresh) == 200, "everything")
                assert [chat(gateway, gone) for gateway in (one, two)] == [401, 401]
                assert [chat(gateway, lasting) for gateway in (one, two, three)] == [200] * 3
                assert all(
                    (told(gateway, "gone") or {})["state"] == "revoked" for gateway in (one, two, three)
                )
                ended(three)
    # And that is in its file: without any Redis and any other node it still holds.
    server.kill()
    with Gateway(chosen[2]) as three:
        assert [chat(three, key) for key in (lasting, fresh, gone)] == [200, 200, 401]


def test_without_one_secret_keys_are_each_nodes_own(
    started: Fakes, fakes: Fakes, server: RedisServer, tmp_path: Path
) -> None:
    file = tmp_path / "one.db"
    own = settings(started, server, file)
    del own["state"]["key_secret"]
    with node(own) as one:
        answer = one.ask("POST", KEYS, {"name": "ann"}, bearer(BOSS))
        key = answer.json()["key"]
        assert answer.json()["shared"] == "no" and chat(one, key) == 200
        assert b"keys" not in commanded(server, "KEYS", "*")
    with node(settings(started, server, file)) as one:
        assert said(one, "keys of another state file's secret open nothing") == 1
        assert chat(one, key) == 401
    with node(own) as one:
        assert chat(one, key) == 200, "with the secret of the file it is known again"


def test_nodes_with_another_secret_take_nothing_over(
    started: Fakes, fakes: Fakes, server: RedisServer
) -> None:
    with (
        node(settings(started, server)) as one,
        node(settings(started, server, key_secret="t" * 32)) as two,
    ):
        key = made(one, "ann")
        until(lambda: said(two, "keys in redis refused") == 1, "it says so")
        assert "not sealed with this gateway's state.key_secret" in two.log
        assert chat(two, key) == 401 and told(two, "ann") is None

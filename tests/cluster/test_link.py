"""The way to a real server: batches, what happens while it is slow, gone or new; no answer is another's."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time

import pytest

from ghostllm.cluster.away import Away
from ghostllm.cluster.link import Link, Script, connect
from ghostllm.config.kinds import Secret
from ghostllm.config.remember import Redis
from ghostllm.errors import ConfigError
from tests.cluster.redis_server import MISSING, PROGRAM, RedisServer

ECHO = Script("return {KEYS[1], ARGV[1]}")
PATIENCE = 20.0
CALM = 5.0  # seconds of timeout where the test is not about it: the machine may be busy


def linked(server, told=lambda up, why: None, **more) -> Link:
    return connect(Redis(**{"url": server.url, "timeout": CALM, "pause": 0.05, **more}), told)


async def until(condition):
    """Waits for something that has to come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.01)


async def back(link):
    """Waits until the server answers again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await link.ask("PING")
        except Away:
            assert time.monotonic() < end, "it never came back"
            await asyncio.sleep(0.02)


def test_commands_and_scripts(server: RedisServer):
    async def main():
        link = linked(server)
        assert await link.ask("SET", "a", b"1") == b"OK"
        assert await link.ask("GET", "a") == b"1"
        assert await link.run(ECHO, ["k"], "v") == [b"k", b"v"]
        assert await link.run(ECHO, ["k"], "w") == [b"k", b"w"]
        assert link.send("SET", "b", b"2") and link.post(ECHO, ["k"], "x")
        await link.close()
        again = linked(server)
        assert await again.ask("GET", "b") == b"2"
        await again.close()

    asyncio.run(main())


def test_many_at_one_time_go_in_few_batches(server: RedisServer):
    async def main():
        link = linked(server)
        answers = await asyncio.gather(*(link.ask("ECHO", str(number)) for number in range(1000)))
        assert answers == [str(number).encode() for number in range(1000)]
        assert link.stats()["sent"] == 1000 and link.stats()["batches"] < 20
        scripts = await asyncio.gather(*(link.run(ECHO, ["k"], number) for number in range(300)))
        assert [int(answer[1]) for answer in scripts] == list(range(300))
        await link.close()

    asyncio.run(main())


def test_a_server_that_was_started_anew_is_given_its_scripts(server: RedisServer):
    told = []

    async def main():
        link = linked(server, lambda up, why: told.append(up))
        assert await link.run(ECHO, ["k"], "1") == [b"k", b"1"]
        server.kill()
        with pytest.raises(Away):
            await link.run(ECHO, ["k"], "2")
        assert told == [False] and not link.up and link.stats()["why"]
        server.start()
        await back(link)
        assert await link.run(ECHO, ["k"], "3") == [b"k", b"3"]
        assert told == [False, True] and link.up and link.stats()["why"] == ""
        await link.close()

    asyncio.run(main())


def test_while_it_is_away_it_is_not_asked(server: RedisServer):
    async def main():
        link = linked(server, pause=60.0)
        server.kill()
        with pytest.raises(Away):
            await link.ask("PING")
        sent = link.stats()["sent"]
        for _ in range(100):
            with pytest.raises(Away):
                await link.ask("PING")
            assert not link.send("PING")
        assert link.stats()["sent"] == sent and link.stats()["skipped"] == 200
        await link.close()

    asyncio.run(main())


def test_a_slow_server_keeps_nobody_waiting_and_mixes_up_no_answers(server: RedisServer):
    """The answers to what was given up must not be given to those who ask next."""

    async def main():
        link = linked(server, timeout=0.1)
        await back(link)
        server.stop()
        asked = [asyncio.create_task(link.ask("ECHO", f"old {number}")) for number in range(50)]
        done, waiting = await asyncio.wait(asked, timeout=PATIENCE)
        assert not waiting and all(isinstance(task.exception(), Away) for task in done)
        server.resume()
        await back(link)
        for number in range(200):
            text = f"new {number}"
            try:
                assert await link.ask("ECHO", text) == text.encode()
            except Away:
                await back(link)
        await link.close()

    asyncio.run(main())


def test_who_leaves_takes_nobody_elses_answer_along(server: RedisServer):
    async def main():
        link = linked(server)
        await link.ask("PING")
        for number in range(100):
            gone = asyncio.create_task(link.ask("ECHO", "gone"))
            stays = asyncio.create_task(link.ask("ECHO", f"stays {number}"))
            await asyncio.sleep(0)
            gone.cancel()
            assert await stays == f"stays {number}".encode()
            with pytest.raises(asyncio.CancelledError):
                await gone
        await link.close()

    asyncio.run(main())


def test_more_than_may_wait_is_refused(server: RedisServer):
    async def main():
        link = linked(server, queue=10)
        answers = await asyncio.gather(*(link.ask("PING") for _ in range(30)), return_exceptions=True)
        assert [answer for answer in answers if not isinstance(answer, Away)] == [b"PONG"] * 10
        assert link.up and await link.ask("PING") == b"PONG"
        await link.close()

    asyncio.run(main())


def test_an_error_of_the_server_is_one_of_its_absence(server: RedisServer):
    async def main():
        link = linked(server)
        await link.ask("SET", "a", b"1")
        wrong, right = await asyncio.gather(
            link.ask("LPUSH", "a", "x"), link.ask("GET", "a"), return_exceptions=True
        )
        assert isinstance(wrong, Away) and "WRONGTYPE" in str(wrong) and right == b"1"
        await link.close()

    asyncio.run(main())


def test_killed_and_started_again_under_load(server: RedisServer):
    """Every request is answered, one way or the other; those by the server with what they asked for."""
    told = []

    async def main():
        link = linked(server, lambda up, why: told.append(up), timeout=0.5)
        stop = asyncio.Event()
        counts = {"answered": 0, "away": 0}

        async def client(number):
            turn = 0
            while not stop.is_set():
                turn += 1
                text = f"{number} {turn}"
                try:
                    assert await link.ask("ECHO", text) == text.encode()
                    counts["answered"] += 1
                except Away:
                    counts["away"] += 1
                    await asyncio.sleep(0.005)

        clients = [asyncio.create_task(client(number)) for number in range(20)]
        for _ in range(3):
            seen = counts["answered"]
            await until(lambda seen=seen: counts["answered"] > seen + 100)
            seen = counts["away"]
            server.kill()
            await until(lambda seen=seen: counts["away"] > seen)
            server.start()
        seen = counts["answered"]
        await until(lambda: counts["answered"] > seen + 100)
        stop.set()
        await asyncio.gather(*clients)
        assert told.count(False) >= 3 and told[-1] is True
        await link.close()

    asyncio.run(main())


def test_a_password_and_a_user(tmp_path):
    if PROGRAM is None:
        pytest.skip(MISSING)
    pytest.importorskip("redis")
    server = RedisServer(
        tmp_path, "--requirepass", "s3cret", "--user", "gate", "on", ">other", "~*", "&*", "+@all"
    )
    server.start()

    async def ask(**more):
        link = linked(server, pause=0.0, **more)
        try:
            return await link.ask("PING")
        finally:
            assert "s3cret" not in f"{link!r}{link.stats()}{link._server!r}"
            await link.close()

    try:
        assert asyncio.run(ask(password=Secret("s3cret"))) == b"PONG"
        assert asyncio.run(ask(password=Secret("other"), user="gate")) == b"PONG"
        for wrong in ({}, {"password": Secret("no")}):
            with pytest.raises(Away):
                asyncio.run(ask(**wrong))
    finally:
        server.kill()


def test_tls(tmp_path):
    """Its certificate is checked, name and signer; or not, where the configuration says so."""
    pytest.importorskip("redis")
    if PROGRAM is None or shutil.which("openssl") is None:
        pytest.skip(f"{MISSING}, or no openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = RedisServer(tmp_path)
    options = ("--tls-port", str(server.port), "--port", "0", "--tls-cert-file", str(certificate))
    server.options = (*options, "--tls-key-file", str(key), "--tls-auth-clients", "no")
    try:
        server.start()
    except AssertionError:
        pytest.skip("this redis-server is built without TLS")

    async def reached(link, command):
        return await back(link)  # it may still be busy with the look whether it is there

    async def ask(asked=Link.ask, **more):
        link = linked(server, pause=0.0, **{"url": f"rediss://127.0.0.1:{server.port}", **more})
        try:
            return await asked(link, "PING")
        finally:
            await link.close()

    try:
        assert asyncio.run(ask(reached, tls_ca=str(certificate))) == b"PONG"
        assert asyncio.run(ask(reached, tls_verify=False)) == b"PONG"
        with pytest.raises(Away):
            asyncio.run(ask())
        with pytest.raises(Away):  # it is 127.0.0.1's
            asyncio.run(ask(tls_ca=str(certificate), url=f"rediss://localhost:{server.port}"))
    finally:
        server.kill()


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "ghostllm.cluster.redis_client", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"ghostllm\[redis\]"):
        connect(Redis(url="redis://127.0.0.1:1"))

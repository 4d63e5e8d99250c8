"""The configuration changes while the gateway runs: backends, models, keys, splits, limits, time limits."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Fakes, some_fakes
from tests.e2e.reloads import CONFIG, applied, base, changed, event, logged, reload, rollback
from tests.e2e.test_explain import ctl
from tests.e2e.traffic import CHAT, Crowd, act, backend, backends, body, by, counted, model, row, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake, until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import request

WHOLE = "".join(TEXT)
OLD, NEW = "sk-old-0123456789abcdef", "sk-new-0123456789abcdef"


@pytest.fixture(scope="module")
def started() -> Iterator[Fakes]:
    """Of this module's own, so that connections to them are those of the gateway under test."""
    with some_fakes() as fakes:
        yield fakes


@pytest.fixture
def settings(fakes: Fakes) -> Settings:
    return base(fakes)


@pytest.fixture
def running(settings: Settings) -> Iterator[Gateway]:
    with Gateway(settings) as gateway:
        yield gateway


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- backends


def test_backends_come_and_go(running: Gateway, settings: Settings) -> None:
    with Fake("vllm", "vllm") as own:
        extra = backend("extra", own)
        more = changed(
            settings,
            backends=[*settings["backends"], extra],
            models=[*settings["models"], model("vllm", "extra")],
        )
        assert applied(running, more) == ["backends.extra", "models.vllm"]
        assert whole(running.chat("vllm")) == WHOLE
        assert applied(running, settings) == ["backends.extra", "models.vllm"]
        assert [one["name"] for one in backends(running)] == ["primary", "second"]
        assert running.chat("vllm").status == 404
        until(lambda: own.open_connections == 0, "the removed backend's connections are closed")


def test_a_backend_that_is_as_it_was_keeps_everything(
    running: Gateway, settings: Settings, fakes: Fakes
) -> None:
    assert act(running, "second", "drain").status == 200
    running.chat("m")
    before = fakes.primary.calls[-1].connection
    more = changed(settings, backends=[*settings["backends"], backend("extra", fakes.vllm)])
    applied(running, more)
    running.chat("m")
    assert fakes.primary.calls[-1].connection == before, "the pooled connection is used again"
    assert row(running, "second")["state"] == "draining"


def test_a_breaker_stays_open(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    strict = {**settings["routing"], "breaker": {"failures": 1, "period": 60}}
    assert applied(running, changed(settings, routing=strict)), "the breaker goes by its new settings"
    fakes.primary.script({"status": 500, "times": 3})
    assert running.chat("m").status >= 500
    assert row(running, "primary")["breaker"] == "open"
    applied(running, changed(settings, routing=strict, models=[*settings["models"], model("x", "second")]))
    assert row(running, "primary")["breaker"] == "open"


def test_a_changed_backend_is_replaced_and_streams_end_on_the_old_one(
    running: Gateway, settings: Settings, fakes: Fakes
) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with running.open() as raw:
        raw.send(request("POST", CHAT, body("m")))
        raw.read_until(TEXT[0].encode())
        moved = changed(settings, backends=[backend("primary", fakes.vllm), settings["backends"][1]])
        assert applied(running, moved) == ["backends.primary.kind", "backends.primary.url"]
        assert whole(running.chat("m")) == WHOLE
        assert len(fakes.vllm.calls) == 1
        fakes.primary.release("go")
        assert whole(raw.answer()) == WHOLE
    until(lambda: fakes.primary.open_connections == 0, "and then its connections are closed")


def test_the_model_of_a_stream_goes(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2})
    with running.open() as raw:
        raw.send(request("POST", CHAT, body("m")))
        raw.read_until(TEXT[0].encode())
        applied(running, changed(settings, backends=settings["backends"][1:], models=[model("n", "second")]))
        assert running.chat("m").status == 404
        fakes.primary.release("go")
        assert whole(raw.answer()) == WHOLE


def test_who_waits_for_a_backend_that_changes(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    narrow = changed(
        settings, backends=[backend("primary", fakes.primary, max_inflight=1), settings["backends"][1]]
    )
    applied(running, narrow)
    fakes.primary.script({"gate": "go", "times": None})
    with Crowd(running) as crowd:
        for _ in range(4):
            crowd.send(body("m"))
        until(lambda: row(running, "primary")["waiting"] == 3, "three wait")
        assert applied(running, settings) == ["backends.primary.max_inflight"]
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 4


def test_the_queue_of_a_model_gets_more_room(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    def limited(slots: int) -> Settings:
        models = [model("m", "primary", max_inflight=slots), *settings["models"][1:]]
        return changed(settings, models=models)

    applied(running, limited(1))
    fakes.primary.script({"gate": "go", "times": None})
    with Crowd(running) as crowd:
        for _ in range(4):
            crowd.send(body("m"))
        until(lambda: counted(running, "ghostllm_queue_waiting", queue="m") == 3, "three wait")
        applied(running, limited(3))
        until(lambda: len(fakes.primary.calls) == 3, "two of them have begun")
        applied(running, limited(0))
        until(lambda: len(fakes.primary.calls) == 4, "and the last")
        fakes.primary.release("go")
        assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * 4


def test_a_backend_that_cannot_be_made(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    broken = running.path.with_name("broken.pem")
    broken.write_text("no certificate")
    bad = {"name": "tls", "kind": "openai", "url": "https://127.0.0.1:1", "tls_ca": str(broken)}
    answer = reload(running, changed(settings, backends=[*settings["backends"], bad]))
    assert answer.status == 422
    assert answer.json()["error"]["problems"][0].startswith("backends.tls: cannot be used: ")
    assert [one["name"] for one in backends(running)] == ["primary", "second"]


# --- models


def test_balance_splits_and_time_limits(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    pair = [model("m", "primary", "second")]
    applied(running, changed(settings, models=pair))
    assert by([running.chat("m") for _ in range(4)]) == ["primary"] * 4
    in_turn = [model("m", "primary", "second", balance="round_robin")]
    assert applied(running, changed(settings, models=in_turn)) == ["models.m.balance"]
    assert sorted(by([running.chat("m") for _ in range(4)])) == ["primary"] * 2 + ["second"] * 2

    def split(arm: str) -> Settings:
        arms = {"by": "request", "arms": [{"model": arm}]}
        return changed(settings, models=[model("m", "primary", split=arms), *others])

    others = [model("one", "primary"), model("two", "second")]
    applied(running, split("one"))
    assert by([running.chat("m")]) == ["primary"]
    assert applied(running, split("two")) == ["models.m.split.arms"]
    assert by([running.chat("m")]) == ["second"]

    hasty = [model("m", "primary", timeouts={"total": 0.2})]
    applied(running, changed(settings, models=hasty))
    fakes.primary.script({"gate": "never", "times": None})
    assert running.chat("m").status == 504
    fakes.primary.release("never")


def test_a_canary_goes_on_where_it_was(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    canary = {"by": "request", "canary": {"model": "n", "steps": [1.0]}}
    trial = [model("m", "primary", split=canary), settings["models"][1]]
    applied(running, changed(settings, models=trial))
    running.chat("m")
    applied(running, changed(settings, models=[*trial, model("x", "second")]))
    told = running.ask("GET", "/admin/api/splits").json()["splits"][0]
    assert sum(sum(arm["outcomes"].values()) for arm in told["arms"]) == 1


# --- keys


def test_keys(settings: Settings, fakes: Fakes) -> None:
    def keyed(*keys: str) -> Settings:
        return changed(settings, keys=[{"name": key[3:6], "key": key, "manage": True} for key in keys])

    with Gateway(keyed(OLD)) as gateway, gateway.open() as kept:
        for _ in range(2):  # on one connection
            kept.send(request("POST", CHAT, body("m", stream=False), bearer(OLD)))
            assert kept.answer().status == 200
        assert applied(gateway, keyed(NEW), bearer(OLD)) == ["keys.old", "keys.new"]
        kept.send(request("POST", CHAT, body("m", stream=False), bearer(OLD)))
        assert kept.answer().status == 401, "the old key opens nothing any more"
        kept.send(request("POST", CHAT, body("m", stream=False), bearer(NEW)))
        assert kept.answer().status == 200
        answer = reload(gateway, keyed(NEW, OLD), bearer(NEW))
        everything = [answer.body, gateway.log.encode()]
        for page in ("", "/history", "/diff"):
            everything.append(gateway.ask("GET", CONFIG + page, None, bearer(NEW)).body)
        assert all(OLD.encode() not in text and NEW.encode() not in text for text in everything)
        assert b"***" in everything[0]


def test_a_secret_of_another_value(settings: Settings, fakes: Fakes) -> None:
    with Gateway(settings) as gateway:
        secret = gateway.path.with_name("key")
        secret.write_text("first-secret")
        keyed = changed(settings, backends=[backend("primary", fakes.primary, api_key=f"file:{secret}")])
        keyed["models"] = [model("m", "primary")]
        applied(gateway, keyed)
        gateway.chat("m")
        assert fakes.primary.calls[-1].headers["authorization"] == "Bearer first-secret"
        secret.write_text("second-secret")
        told = reload(gateway).json()
        assert [change["path"] for change in told["changes"]] == ["backends.primary.api_key"]
        assert told["changes"][0]["after"] == f"file:{secret} (another value)"
        gateway.chat("m")
        assert fakes.primary.calls[-1].headers["authorization"] == "Bearer second-secret"


# --- what is wrong


def test_what_is_wrong_changes_nothing(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    wrong = changed(settings, models=[model("m", "nobody")], log={"level": "loud"})
    answer = reload(running, wrong)
    assert answer.status == 422 and answer.json()["error"]["code"] == "invalid_configuration"
    problems = answer.json()["error"]["problems"]
    assert len(problems) == 2 and all("ghostllm.toml:" in problem for problem in problems)
    assert logged(running, "configuration not applied")[0]["problems"] == problems
    assert whole(running.chat("m")) == whole(running.chat("n")) == WHOLE
    assert running.ask("GET", f"{CONFIG}/diff").json()["error"]["problems"] == problems
    shown = ctl(running, "config", "reload")
    assert shown.returncode == 1 and "2 mistakes, nothing has changed" in shown.stderr
    assert problems[0] in shown.stderr
    assert ctl(running, "config", "diff").returncode == 1
    assert counted(running, "ghostllm_config_reloads_total", outcome="refused") == 2

    running.path.write_text("[server\n")
    assert "not valid TOML" in reload(running).json()["error"]["message"]
    running.path.unlink()
    assert "cannot be read" in reload(running).json()["error"]["message"]
    assert whole(running.chat("m")) == WHOLE


def test_what_needs_a_restart(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    other = changed(settings, state={"file": str(running.path.with_name("state.db"))}, log={"access": False})
    told = reload(running, other).json()
    assert [change["path"] for change in told["changes"]] == ["log.access"]
    assert told["needs_restart"] == ["state.file"]
    assert logged(running, "changes that need a restart")[0]["keys"] == ["state.file"]
    assert running.ask("GET", CONFIG).json()["config"]["state"]["file"] == ""
    assert not running.path.with_name("state.db").exists()


# --- ways to ask for it, and back


def test_sighup(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    running.configure(changed(settings, models=[model("renamed", "primary")]))
    running.process.send_signal(signal.SIGHUP)
    assert logged(running, "configuration applied")[0]["how"] == "SIGHUP"
    assert running.chat("m").status == 404 and whole(running.chat("renamed")) == WHOLE
    running.process.send_signal(signal.SIGHUP)
    logged(running, "configuration unchanged")


def test_the_file_is_watched_by_choice(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    watching = {"reload": {"watch": 0.02}}
    applied(running, changed(settings, **watching))
    running.configure(changed(settings, **watching, models=[model("renamed", "primary")]))
    found = until(lambda: event(running, "configuration applied")[1:], "it is read")
    assert found[0]["how"] == "the file has changed"
    running.path.write_text("oops")
    logged(running, "configuration not applied")
    rollback(running)
    assert whole(running.chat("m")) == WHOLE
    running.path.unlink()
    logged(running, "configuration file is gone")
    running.configure(settings)
    logged(running, "configuration applied", 4)
    assert running.ask("GET", CONFIG).json()["config"]["reload"]["watch"] == 0.0
    assert len(event(running, "configuration not applied")) == 1, "a rollback is not undone by the file"


def test_back_and_back_again(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    for number in (1, 2):
        applied(running, changed(settings, models=[model(f"m{number}", "primary")]))
    first = rollback(running).json()
    assert (first["applied"], first["number"], first["previous"]) == (True, 4, 1)
    assert "the file is as it was" in first["note"]
    assert whole(running.chat("m1")) == WHOLE and running.chat("m2").status == 404
    assert rollback(running).json()["applied"] is True
    assert whole(running.chat("m")) == WHOLE
    answer = rollback(running)
    assert answer.status == 404 and "none before this one" in answer.error["message"]
    assert rollback(running, "?to=3").json()["applied"] is True
    assert whole(running.chat("m2")) == WHOLE
    assert rollback(running, "?to=77").status == 404
    for query in ("?to=x", "?to=-1", "?to=", "?from=1"):
        assert rollback(running, query).status == 400
    assert reload(running).json()["applied"] is False, "the file says the same"
    rows = running.ask("GET", f"{CONFIG}/history").json()["configurations"]
    assert [one["number"] for one in rows] == [6, 5, 4, 3, 2, 1]
    assert [one["current"] for one in rows] == [True] + [False] * 5
    assert rows[-1]["how"] == "start" and rows[0]["how"] == "admin API, anonymous, back to 3"


def test_history_is_of_the_last_ten_and_outlives_the_process(settings: Settings, fakes: Fakes) -> None:
    with Gateway(settings) as place:
        file = place.path.with_name("state.db")
        kept = changed(
            settings, state={"file": str(file)}, keys=[{"name": "boss", "key": NEW, "manage": True}]
        )
        with Gateway(kept) as gateway:
            for number in range(12):
                applied(gateway, changed(kept, models=[model(f"m{number}", "primary")]), bearer(NEW))
            rows = gateway.ask("GET", f"{CONFIG}/history", None, bearer(NEW)).json()["configurations"]
            assert [one["number"] for one in rows] == list(range(13, 3, -1))
            last = changed(kept, models=[model("m11", "primary")])
            gateway.terminate()
            assert gateway.wait() == 0
        assert file.stat().st_mode & 0o777 == 0o600
        with Gateway(last) as gateway:
            rows = gateway.ask("GET", f"{CONFIG}/history", None, bearer(NEW)).json()["configurations"]
            assert [one["how"] for one in rows[:2]] == ["start", "admin API, boss"]
            assert rollback(gateway, headers=bearer(NEW)).json()["applied"] is False, (
                "the same text by another name"
            )
            assert rollback(gateway, headers=bearer(NEW)).json()["applied"] is True
            assert gateway.chat("m10").status == 401
            answer = gateway.ask("POST", CHAT, json.loads(body("m10", stream=False)), bearer(NEW))
            assert whole(answer) == WHOLE


# --- the command


def test_ghostctl(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    shown = ctl(running, "config", "show")
    assert shown.returncode == 0
    assert "[server.limits]" in shown.stdout and f'url = "{fakes.primary.url}"' in shown.stdout
    running.configure(
        changed(settings, models=[*settings["models"], model("x", "second")], log={"access": False})
    )
    lines = ctl(running, "config", "diff").stdout.splitlines()
    assert lines[0] == "~ log.access: true -> false" and lines[1].startswith("+ models.x: targets ")
    assert running.chat("x").status == 404
    lines = ctl(running, "config", "reload").stdout.splitlines()
    assert lines[-1] == "applied, number 2" and whole(running.chat("x")) == WHOLE
    assert ctl(running, "config", "reload").stdout == "nothing has changed\n"
    lines = ctl(running, "config", "rollback").stdout.splitlines()
    assert lines[-1].startswith("until the next reload") and running.chat("x").status == 404
    lines = ctl(running, "config", "history").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:2]] == [["*", "3"]] and len(lines) == 4
    assert json.loads(ctl(running, "config", "show", "--json").stdout)["number"] == 3
    assert ctl(running, "config", "rollback", "--to", "2").returncode == 0
    assert ctl(running, "config", "rollback", "--to", "99").returncode == 1
    assert ctl(running, "config", "rollback", "--to", "x").returncode == 2


def test_pages_of_other_sites_change_nothing(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    running.configure(changed(settings, models=[]))
    for path in ("reload", "rollback"):
        assert running.ask("POST", f"{CONFIG}/{path}").status == 403
    assert whole(running.chat("m")) == WHOLE


def test_time_of_the_log_and_the_recorder(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    applied(running, changed(settings, log={"level": "error", "access": True}))
    quiet = running.chat("m").headers["x-request-id"]
    routing = {**settings["routing"], "explain": 0}
    applied(running, changed(settings, routing=routing))
    assert running.ask("GET", f"/admin/api/requests/{quiet}").status == 404
    loud = running.chat("m").headers["x-request-id"]
    assert running.record(loud)["status"] == 200
    assert not [record for record in running.records if record.get("request_id") == quiet]
    applied(running, settings)
    kept = running.chat("m").headers["x-request-id"]
    assert running.ask("GET", f"/admin/api/requests/{kept}").status == 200


def test_limits_of_the_server(running: Gateway, settings: Settings, fakes: Fakes) -> None:
    long = {"X-Long": "x" * 3000}
    assert running.ask("GET", "/health", None, long).status == 200
    server = {"limits": {"head_bytes": 1000, "body_bytes": 100}, "timeouts": {"idle": 0.2}}
    with running.open() as kept:
        kept.send(request("GET", "/health"))
        kept.answer()
        applied(running, changed(settings, server=server))
        assert kept.at_end(), "it has been idle for too long by now"
    assert running.ask("GET", "/health", None, long).status == 431
    assert running.ask("POST", CHAT, {"x": "x" * 200}).status == 413
    cors = {"cors": {"origins": ["https://app.test"]}}
    applied(running, changed(settings, server=cors))
    answer = running.ask("GET", "/health", None, {"Origin": "https://app.test", **long})
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "https://app.test"
    applied(running, changed(settings, server={"limits": {"event_bytes": 4000}}))
    fakes.primary.script({"fault": "oversized", "size": 2_000_000, "times": None})
    assert "an event larger than 4000 bytes" in running.chat("m", stream=True).error["message"]

"""Keys made at run time, in memory and in a real state file."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ghostllm.config.identity import Role
from ghostllm.errors import InvalidKey, NotFound, RequestError
from ghostllm.policy import issued as module
from ghostllm.policy.issued import IssuedKeys, KeyExists
from ghostllm.policy.keyhash import KeyHash
from ghostllm.policy.keys import KeyRing
from ghostllm.policy.roles import RoleBook
from ghostllm.state.database import Database
from ghostllm.state.keys import COMPONENT, KeyTable, KeyTerms

NOW = 1_900_000_000.0


class House:
    """A gateway's keys: those made at run time, and the ring that asks for them."""

    def __init__(self, database, clock, secret=b"secret", book=None):
        self.clock = clock
        self.hasher = KeyHash(secret)
        self.keys = IssuedKeys(KeyTable(database), self.hasher, book or RoleBook(), clock)
        self.ring = KeyRing([], hasher=self.hasher, made=self.keys.made, clock=clock)

    def __call__(self, key):
        """The name behind a key, or why it opens nothing."""
        try:
            return self.ring.identify({b"x-api-key": key.encode()}).key
        except InvalidKey as error:
            return error.message


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def run(speak, path=None, clock=None, **more):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            house = House(database, clock or Clock(), **more)
            house.foreign = await house.keys.load()
            return await speak(house)
        finally:
            assert database.close()

    return asyncio.run(inside())


WRONG = "this API key is not known here"
EXPIRED = "this API key has expired"


def test_a_key_is_made_and_opens_the_door():
    async def speak(house):
        terms = KeyTerms(
            roles=("viewer",), team="red", models=("q*",), limits="small", weight=2.0, priority=3
        )
        record, key = house.keys.create("ann", terms, expires=NOW + 10)
        identity = house.ring.identify({b"authorization": f"Bearer {key}".encode()})
        assert (identity.key, identity.models, identity.team, identity.limits) == (
            "ann",
            ("q*",),
            "red",
            "small",
        )
        assert (identity.weight, identity.priority, identity.id) == (2.0, 3, record.id)
        assert identity.may("metrics") and not identity.may("chat") and not identity.manage
        assert house(key[:-1]) == house(key + "x") == house(record.digest.hex()) == WRONG
        house.clock.now += 10
        assert house(key) == EXPIRED

    run(speak)


def test_the_key_is_nowhere_afterwards(tmp_path):
    async def speak(house):
        record, key = house.keys.create("ann")
        assert await house.keys.saved()
        told = f"{record!r} {record.shown(NOW)} {house.keys!r} {house.ring!r} {house.keys.records()!r}"
        return key, told + str(vars(house.keys))

    key, told = run(speak, path=tmp_path / "state.db")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for part in (key, key[3:], key[:20], key[-20:]):
        assert part.encode() not in kept and part not in told


def test_everything_is_there_after_a_restart(tmp_path):
    clock = Clock()

    async def first(house):
        made = {
            name: house.keys.create(name, KeyTerms(team=name, models=("m",))) for name in ("a", "b", "c", "d")
        }
        house.keys.revoke("b")
        _, new = house.keys.rotate("c", 100)
        house.keys.rotate("d", 100, expires=NOW + 50)
        return {name: key for name, (_, key) in made.items()} | {"c2": new}

    async def second(house):
        found = {name: house(key) for name, key in keys.items()}
        records = [record.shown(clock()) for record in house.keys.records()]
        clock.now += 100
        return found, records, house(keys["c"]), house(keys["c2"])

    keys = run(first, path=tmp_path / "s.db", clock=clock)
    found, records, old, new = run(second, path=tmp_path / "s.db", clock=clock)
    assert found == {"a": "a", "b": WRONG, "c": "c", "d": "d", "c2": "c"}
    assert (old, new) == (EXPIRED, "c")
    assert [(one["name"], one["state"], one["expires"]) for one in records] == [
        ("a", "active", None), ("b", "revoked", None), ("c", "active", NOW + 100), ("d", "active", NOW + 100),
        ("c", "active", None), ("d", "active", NOW + 50),
    ]  # fmt: skip
    assert records[0]["team"] == "a" and records[0]["models"] == ["m"] and records[1]["revoked"] == NOW


def test_rotation_overlaps_for_as_long_as_it_is_told():
    async def speak(house):
        _, first = house.keys.create("ann", KeyTerms(roles=("operator",)))
        record, second = house.keys.rotate("ann", 60)
        assert house(first) == house(second) == "ann" and record.terms.roles == ("operator",)
        house.clock.now += 30
        _, third = house.keys.rotate("ann", 60)  # what was to end is not given longer
        house.clock.now += 30
        assert (house(first), house(second), house(third)) == (EXPIRED, "ann", "ann")
        house.clock.now += 30
        assert (house(second), house(third)) == (EXPIRED, "ann")
        _, fourth = house.keys.rotate("ann")
        assert (house(third), house(fourth)) == (EXPIRED, "ann")
        with pytest.raises(NotFound):
            house.keys.rotate("bob")
        with pytest.raises(RequestError, match="overlap"):
            house.keys.rotate("ann", -1)

    run(speak)


def test_a_rotated_key_ends_when_the_first_one_would_have():
    async def speak(house):
        _, first = house.keys.create("ann", expires=NOW + 10)
        record, _ = house.keys.rotate("ann", 100)
        assert record.expires == NOW + 10
        house.clock.now += 10
        assert house(first) == EXPIRED

    run(speak)


def test_revocation_works_at_once_and_for_good():
    async def speak(house):
        record, first = house.keys.create("ann")
        _, second = house.keys.rotate("ann", 60)
        assert [one.id for one in house.keys.revoke(record.id)] == [record.id]
        assert (house(first), house(second)) == (WRONG, "ann")
        house.keys.apply(record)  # as an older word of another node would have it
        assert house(first) == WRONG
        assert len(house.keys.revoke("ann")) == 1 and house(second) == WRONG
        with pytest.raises(NotFound):
            house.keys.revoke("ann")
        with pytest.raises(InvalidKey):  # the last one is gone, and the gateway is not open for that
            house.ring.identify({})
        _, again = house.keys.create("ann")
        assert house(again) == "ann"

    run(speak)


@pytest.mark.parametrize(
    "name", ["", "a b", "corp:ann", "ä", "a" * 101, "-a", "a\n", "key_0123456789abcdef", "a/b", "a'b"]
)
def test_names_that_a_key_cannot_have(name):
    async def speak(house):
        with pytest.raises(RequestError, match="a key's name") as caught:
            house.keys.create(name)
        assert caught.value.param == "name"

    run(speak)


def test_names_that_are_taken():
    async def speak(house):
        house.keys.create("ann")
        house.keys.reserve(["bob"])
        for name in ("ann", "bob", "anonymous"):
            with pytest.raises(KeyExists) as caught:
                house.keys.create(name)
            assert caught.value.status == 409

    run(speak)


def test_what_cannot_be_made(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 1)

    async def speak(house):
        with pytest.raises(RequestError, match="no role is called 'root'; there are: admin, operator"):
            house.keys.create("ann", KeyTerms(roles=("user", "root")))
        with pytest.raises(RequestError, match="in the past"):
            house.keys.create("ann", expires=NOW)
        house.keys.create("ann")
        with pytest.raises(RequestError, match="no more"):
            house.keys.create("bob")

    run(speak)


def test_the_first_key_of_a_gateway_without_any_has_to_manage():
    async def speak(house):
        house.keys.keyless = True
        with pytest.raises(RequestError, match="has to be one that may manage"):
            house.keys.create("ann")
        house.keys.create("root", KeyTerms(roles=("admin",)))
        house.keys.create("ann")

    run(speak)


def test_keys_hashed_under_another_secret_are_counted_and_open_nothing(tmp_path):
    async def first(house):
        house.keys.create("gone", expires=NOW + 1)
        return house.keys.create("ann")[1]

    async def second(house):
        with pytest.raises(KeyExists):
            house.keys.create("ann")
        return house.foreign, house(key), len(house.keys.revoke("ann"))

    clock = Clock()
    key = run(first, path=tmp_path / "s.db", clock=clock)
    clock.now += 5
    assert run(second, path=tmp_path / "s.db", clock=clock, secret=b"other") == (1, WRONG, 1)


def test_use_is_written_down_coarsely(tmp_path):
    clock = Clock()

    async def first(house):
        for name in ("ann", "bob"):
            key = house.keys.create(name)[1]
            house(key)
        clock.now += 30
        house(key)
        assert [record.used for record in house.keys.records()] == [NOW, NOW + 30]
        house.keys.note_uses()
        clock.now += 30
        house(key)
        house.keys.note_uses()  # too soon to write it again
        house.keys.rotate("bob", 5)
        return None

    async def second(house):
        return [record.used for record in house.keys.records()]

    run(first, path=tmp_path / "s.db", clock=clock)
    assert run(second, path=tmp_path / "s.db", clock=clock) == [NOW, NOW + 30, None]


def test_a_revoked_key_keeps_its_last_use(tmp_path):
    async def speak(house):
        house(house.keys.create("ann")[1])
        [record] = house.keys.revoke("ann")
        assert record.used == NOW
        return [one.used for one in house.keys.records()]

    assert run(speak) == [NOW]


def test_other_roles_count_from_the_moment_they_are_set():
    async def speak(house):
        key = house.keys.create("ann", KeyTerms(roles=("own",)))[1]
        headers = {b"x-api-key": key.encode()}
        assert house.ring.identify(headers).may("metrics")
        house.keys.set_roles(RoleBook([Role(name="own", allow=("chat",))]))
        assert not house.ring.identify(headers).may("metrics") and house.ring.identify(headers).may("chat")
        house.keys.set_roles(RoleBook())  # the role is gone: nothing is left of it
        assert not house.ring.identify(headers).may("chat")

    run(speak, book=RoleBook([Role(name="own", allow=("metrics",))]))


def test_old_keys_are_forgotten_but_not_that_there_were_some(tmp_path):
    clock = Clock()

    async def first(house):
        for name in ("a", "b", "c"):
            house.keys.create(name)
            house.keys.revoke(name)

    async def second(house):
        assert not house.ring.keyless
        return [record.name for record in house.keys.records()]

    run(first, path=tmp_path / "s.db", clock=clock)
    clock.now += module.KEPT_SECONDS + 1
    assert run(second, path=tmp_path / "s.db", clock=clock) == ["c"]


def test_what_is_heard_of_a_key_only_ever_ends_it(tmp_path):
    async def speak(house):
        record, key = house.keys.create("ann")
        ends = replace(record, expires=NOW + 50)
        assert house.keys.hear(ends).expires == NOW + 50
        assert house.keys.hear(record) == house.keys.hear(replace(record, expires=NOW + 99)) == ends
        assert house(key) == "ann"
        gone = replace(record, revoked=NOW + 2)
        assert house.keys.hear(gone) == replace(ends, revoked=NOW + 2)
        assert house.keys.hear(record).revoked == house.keys.hear(replace(gone, revoked=NOW + 3)).revoked
        assert house.keys.hear(replace(gone, revoked=NOW + 1)).revoked == NOW + 1
        assert house(key) == WRONG and house.keys.record(record.id).expires == NOW + 50
        assert await house.keys.saved()
        return key

    async def later(house):
        return [(record.expires, record.revoked) for record in house.keys.records()]

    run(speak, path=tmp_path / "s.db")
    assert run(later, path=tmp_path / "s.db") == [(NOW + 50, NOW + 1)]


def test_what_cannot_be_true_is_not_taken():
    async def speak(house):
        record, key = house.keys.create("ann")
        for other in (
            replace(record, terms=KeyTerms(roles=("admin",))),
            replace(record, digest=bytes(32)),
            replace(record, name="bob"),
            replace(record, id="key_0123456789abcdef", terms=KeyTerms(roles=("admin",))),
        ):
            with pytest.raises(ValueError, match="another key has this id|its digest is that of"):
                house.keys.hear(other)
        assert house(key) == "ann" and len(house.keys.records()) == 1
        unknown = replace(record, id="key_0123456789abcdef", digest=bytes(32), terms=KeyTerms(roles=("x",)))
        house.keys.hear(unknown)
        assert not house.keys.made.held[bytes(32)].identity.may("chat")

    run(speak)


def test_there_is_a_most_for_what_is_heard(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 1)

    async def speak(house):
        record, _ = house.keys.create("ann")
        with pytest.raises(ValueError, match="there are 1 keys"):
            house.keys.hear(replace(record, id="key_0123456789abcdef", digest=bytes(32)))
        assert house.keys.hear(replace(record, revoked=NOW)).revoked == NOW

    run(speak)


def test_where_others_may_have_a_key_its_end_is_never_forgotten(tmp_path):
    async def speak(house):
        house.keys.create("ann")
        house.keys.revoke("ann")
        house.keys.create("bob")
        house.clock.now += 2 * module.KEPT_SECONDS
        await house.keys.saved()
        await house.keys.load(purge=False)
        return len(house.keys.records())

    assert run(speak, path=tmp_path / "s.db") == 2


def test_changes_of_this_node_are_told_and_no_others():
    async def speak(house):
        told = []
        house.keys.told = told.append
        record, _ = house.keys.create("ann")
        house.keys.rotate("ann", 60.0)
        house.keys.revoke("ann")
        assert len(told) == 5 and [one.revoked for one in told[-2:]] == [NOW, NOW]
        house.keys.hear(replace(record, id="key_0123456789abcdef", digest=bytes(32)))
        assert len(told) == 5

    run(speak)

"""People: emails, roles, owners, passwords, sessions, one-time links, how often one may try, and the commands for all that."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dashboard import PASSWORD
from tallycast import apps, db, invitations, passwords, roles, sessions, signins, staff
from tallycast.cli import main
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.limiter import Limiter
from tallycast.roles import ROLES, OpenApp

pytestmark = pytest.mark.anyio


def email() -> str:
    return f"{apps.random_text(12)}@example.com".lower()


def eid() -> str:
    return f"E{apps.random_text(12)}"


async def age_sessions(connection: db.Connection, staff_id: str, column: str, by: timedelta) -> None:
    query = f"update staff_sessions set {column} = {column} - %s where staff_id = %s"
    await connection.execute(query.encode(), [by, staff_id])


async def test_an_email_is_taken_in_any_case_and_found_in_any_case(connection: db.Connection) -> None:
    address = email()
    made = await staff.create(connection, f" {address.upper()} ", "  Mei   Chan ", eid())
    assert (made.email, made.name, made.has_password, made.is_owner) == (address, "Mei Chan", False, False)
    assert (await staff.find(connection, address.title())).staff_id == made.staff_id
    with pytest.raises(BadQuery, match="belongs to somebody already"):
        await staff.create(connection, address.title(), "Mei", eid())


async def test_an_eid_is_one_person_s_alone_in_any_case(connection: db.Connection) -> None:
    taken = await staff.create(connection, email(), "Mei", eid())
    with pytest.raises(
        BadQuery, match=f"^Bad query: eid {taken.eid.swapcase()} belongs to somebody already$"
    ):
        await staff.create(connection, email(), "Bo", f" {taken.eid.swapcase()} ")


async def test_of_many_who_would_have_one_eid_at_once_one_gets_it(database_url: str) -> None:
    wanted = eid()

    async def join() -> str:
        async with db.connect(database_url) as connection:
            try:
                return (await staff.create(connection, email(), "Mei", wanted)).eid
            except BadQuery as refused:
                return refused.message

    found = await asyncio.gather(*(join() for _ in range(8)))
    assert sorted(found) == [*[f"Bad query: eid {wanted} belongs to somebody already"] * 7, wanted]


@pytest.mark.parametrize(
    ("address", "name", "eid"),
    [("", "Mei", "E7"), ("mei", "Mei", "E7"), ("a@b@c", "Mei", "E7"), ("a b@c", "Mei", "E7"), ("a@" + "b" * 300, "Mei", "E7"),
     ("a\0@b", "Mei", "E7"), ("a@b", "", "E7"), ("a@b", "x" * 101, "E7"), ("a@b", "Mei\0", "E7"), ("a@b", "Mei", " "),
     ("a@b", "Mei", "x" * 65)],
)  # fmt: skip
async def test_what_cannot_be_shown_is_no_email_name_or_eid(
    connection: db.Connection, address: str, name: str, eid: str
) -> None:
    with pytest.raises(BadQuery, match=r"^Bad query: (email|name|eid) must be"):
        await staff.create(connection, address, name, eid)


@given(st.sampled_from(ROLES), st.sampled_from(ROLES))
def test_each_role_may_do_what_those_before_it_may(held: roles.Role, needed: roles.Role) -> None:
    order = ["viewer", "editor", "approver", "admin"]
    app = OpenApp("a", "A", "UTC", held)
    assert app.allows(needed) == (order.index(held) >= order.index(needed))


async def test_a_role_is_one_per_app_and_owners_are_admins_of_all(connection: db.Connection) -> None:
    app = await apps.create_app(connection, "Shop")
    member = await staff.create(connection, email(), "Mei", eid())
    owner = await staff.create(connection, email(), "Ada", eid(), is_owner=True)
    for role in (*ROLES, "editor"):
        await staff.set_role(connection, app.app_id, member.staff_id, role)
        assert (await staff.find(connection, member.staff_id)).roles == {app.app_id: role}
    listed = {
        one.staff_id: (one.is_owner, one.roles) for one in await staff.list_of_app(connection, app.app_id)
    }
    assert listed[member.staff_id] == (False, {app.app_id: "editor"})
    assert listed[owner.staff_id] == (True, {})
    [mine] = await staff.list_open_apps(connection, member.staff_id, False, 10)
    assert (mine.app_id, mine.name, mine.time_zone, mine.role) == (app.app_id, "Shop", "UTC", "editor")
    [found] = await staff.list_open_apps(connection, owner.staff_id, True, 10, app.app_id)
    assert found.role == "admin"
    await staff.set_role(connection, app.app_id, member.staff_id, None)
    assert await staff.list_open_apps(connection, member.staff_id, False, 10) == []
    with pytest.raises(NotFound, match="no app nope"):
        await staff.set_role(connection, "nope", member.staff_id, "viewer")


async def test_the_last_owner_can_be_neither_disabled_nor_made_less(connection: db.Connection) -> None:
    async with connection.transaction(force_rollback=True):
        await connection.execute(b"update staff set is_owner = false")
        only = await staff.create(connection, email(), "Ada", eid(), is_owner=True)
        for take_away in (
            staff.disable(connection, only.staff_id),
            staff.set_owner(connection, only.staff_id, False),
        ):
            with pytest.raises(Unprocessable, match="the last owner"):
                await take_away
        second = await staff.create(connection, email(), "Bo", eid(), is_owner=True)
        await staff.disable(connection, only.staff_id)
        with pytest.raises(Unprocessable, match="the last owner"):
            await staff.disable(connection, second.staff_id)
        await staff.enable(connection, only.staff_id)
        await staff.set_owner(connection, second.staff_id, False)


@pytest.mark.parametrize("plain", ["", "short", "x" * 11, "x" * 1001])
async def test_a_password_has_a_length_and_no_other_rule(plain: str) -> None:
    with pytest.raises(BadQuery, match="password must have 12 to 1000 characters"):
        await passwords.hash_password(plain)


async def test_a_password_is_kept_as_argon2id_and_is_the_same_from_every_keyboard() -> None:
    known = await passwords.hash_password("Ame\u0301lie knows")
    assert known.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await passwords.verify("Am\u00e9lie knows", known)
    assert not await passwords.verify("Amelie knows", known)
    assert not await passwords.verify("x" * 5000, known)
    assert not await passwords.verify("Am\u00e9lie knows", "not a hash")
    assert not await passwords.verify("Am\u00e9lie knows", None)


async def test_a_session_is_known_by_its_token_alone_and_the_token_is_not_stored(
    connection: db.Connection,
) -> None:
    app = await apps.create_app(connection, "Shop")
    member = await staff.create(connection, email(), "Mei", eid())
    await staff.set_role(connection, app.app_id, member.staff_id, "approver")
    token = await sessions.start(connection, member.staff_id, "Firefox\0")
    assert len(token) == 43
    found = await sessions.find(connection, token, app.app_id)
    assert found is not None
    assert (found.person.actor, found.app and found.app.role) == (f"staff {member.eid} (Mei)", "approver")
    elsewhere = await sessions.find(connection, token, "nope")
    assert elsewhere is not None
    assert elsewhere.app is None
    assert await sessions.find(connection, token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    rows = await db.fetch_rows(connection, b"select t::text from staff_sessions t", {})
    assert not any(token in row[0] for row in rows)
    assert [one.user_agent for one in await sessions.list_all(connection, member.staff_id)] == ["Firefox"]


@pytest.mark.parametrize(
    ("column", "by", "lives"),
    [("last_seen_at", timedelta(hours=11), True), ("last_seen_at", timedelta(hours=13), False),
     ("expires_at", timedelta(days=6), True), ("expires_at", timedelta(days=8), False)],
)  # fmt: skip
async def test_a_session_ends_when_it_is_idle_or_old(
    connection: db.Connection, column: str, by: timedelta, lives: bool
) -> None:
    member = await staff.create(connection, email(), "Mei", eid())
    token = await sessions.start(connection, member.staff_id, "")
    await age_sessions(connection, member.staff_id, column, by)
    assert len(await sessions.list_all(connection, member.staff_id)) == lives
    await sessions.forget_old(connection)
    assert (await sessions.find(connection, token) is not None) == lives
    found = await sessions.find(connection, token)
    assert found is None or not found.is_stale, "the first use was noted"


async def test_disabling_and_a_new_password_end_all_sessions(connection: db.Connection) -> None:
    member = await staff.create(connection, email(), "Mei", eid())
    first, second = [await sessions.start(connection, member.staff_id, "") for _ in range(2)]
    await staff.set_password(connection, member.staff_id, "x", but=first)
    assert await sessions.find(connection, first) is not None
    assert await sessions.find(connection, second) is None
    await staff.disable(connection, member.staff_id)
    assert await sessions.find(connection, first) is None
    again = await sessions.start(connection, member.staff_id, "")
    assert await sessions.find(connection, again) is None, "disabled, whatever sessions there are"
    await staff.enable(connection, member.staff_id)
    assert await sessions.find(connection, again) is not None


async def test_a_link_opens_once_and_a_new_one_ends_the_old(connection: db.Connection) -> None:
    member = await staff.create(connection, email(), "Mei", eid())
    old = await invitations.invite(connection, member.staff_id)
    link = await invitations.invite(connection, member.staff_id)
    with pytest.raises(NotFound):
        await invitations.accept(connection, old, PASSWORD)
    with pytest.raises(NotFound):
        await invitations.found_house(connection, link, "a@b", "A", "E1", PASSWORD)
    with pytest.raises(BadQuery, match="12 to 1000"):
        await invitations.accept(connection, link, "short")
    assert await invitations.accept(connection, link, PASSWORD) == member.staff_id
    with pytest.raises(NotFound):
        await invitations.accept(connection, link, PASSWORD)
    assert (await staff.find(connection, member.staff_id)).has_password


async def test_a_new_password_and_the_end_of_an_account_end_its_links(connection: db.Connection) -> None:
    member = await staff.create(connection, email(), "Mei", eid())
    link = await invitations.invite(connection, member.staff_id)
    await staff.set_password(connection, member.staff_id, await passwords.hash_password(PASSWORD))
    with pytest.raises(NotFound):
        await invitations.find(connection, link)
    link = await invitations.invite(connection, member.staff_id)
    await staff.disable(connection, member.staff_id)
    await staff.enable(connection, member.staff_id)
    with pytest.raises(NotFound):
        await invitations.accept(connection, link, PASSWORD)


async def test_a_link_for_the_first_owner_is_over_as_soon_as_there_is_anybody(
    connection: db.Connection,
) -> None:
    assert await invitations.invite_first_owner(connection) is None or not await staff.has_any(connection)
    async with connection.transaction(force_rollback=True):
        await connection.execute(b"delete from staff")
        links = [await invitations.invite_first_owner(connection) for _ in range(2)]
        assert len(set(links)) == 2, "each server that starts prints its own"
        for link in links:
            assert (await invitations.find(connection, link or "")).staff_id is None
        await invitations.found_house(connection, links[0] or "", email(), "Ada", "E1", PASSWORD)
        for link in links:
            with pytest.raises(NotFound):
                await invitations.found_house(connection, link or "", email(), "Eve", "E2", PASSWORD)
        assert await invitations.invite_first_owner(connection) is None


@pytest.mark.parametrize("what", ["expired", "disabled"])
async def test_a_link_that_is_over_opens_nothing(connection: db.Connection, what: str) -> None:
    member = await staff.create(connection, email(), "Mei", eid())
    link = await invitations.invite(connection, member.staff_id)
    if what == "expired":
        query = b"update staff_links set expires_at = now() - interval '1 second' where staff_id = %s"
        await connection.execute(query, [member.staff_id])
    else:
        await staff.disable(connection, member.staff_id)
    with pytest.raises(NotFound):
        await invitations.accept(connection, link, PASSWORD)


def test_attempts_are_limited_by_account_and_by_address_over_all_processes(tmp_path: Path) -> None:
    one, other = signins.SignIns(tmp_path), signins.SignIns(tmp_path)
    waits = [tries.wait("mei@x", f"10.0.0.{n}", None) for n in range(6) for tries in (one, other)]
    assert [wait > 0 for wait in waits] == [False] * 10 + [True] * 2
    assert 0 < max(waits) <= 60
    waits = [one.wait(f"{n}@x", "10.9.9.9", None) for n in range(52)]
    assert [wait > 0 for wait in waits] == [False] * 50 + [True] * 2


def test_a_known_browser_gets_in_while_others_guess(tmp_path: Path) -> None:
    tries = signins.SignIns(tmp_path)
    assert any(tries.wait("mei@x", "10.0.0.1", None) for _ in range(60))
    assert [tries.wait("mei@x", "10.0.0.1", "d1") > 0 for _ in range(11)] == [False] * 10 + [True]
    assert tries.wait("mei@x", "10.0.0.1", "d2") == 0


def test_a_limiter_gives_its_allowance_back_evenly(tmp_path: Path) -> None:
    limiter = Limiter(tmp_path, 10, 600)
    digest = 7
    assert [limiter._take(digest, 0.0) for _ in range(11)] == [0] * 10 + [60]  # noqa: SLF001 - with a clock of its own
    assert [limiter._take(digest, 60.0) for _ in range(2)] == [0, 60]  # noqa: SLF001 - the same


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", "spoofed, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.2.2.3", "198.51.100.1", "10.2.2.3"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "junk", ""),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("", "", ""),
    ],
)
def test_only_proxies_that_are_known_say_who_asks(peer: str, forwarded: str, address: str) -> None:
    assert signins.find_address(peer, forwarded, ["10.1.0.0/16"]) == address


def call(storage: list[str], *arguments: str, status: int = 0, typed: str = "") -> str:
    done = CliRunner().invoke(main, ["staff", *arguments, *storage], input=typed)
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


def test_the_life_of_a_member_on_the_command_line(database_url: str, tmp_path: Path) -> None:
    storage = ["--database-url", database_url, "--data-dir", str(tmp_path)]
    address, number, app_id = email(), eid(), f"cli-{apps.random_text(8)}"
    CliRunner().invoke(main, ["app", "create", "--name", "Shop", "--id", app_id, *storage])
    about = ["--email", address, "--name", "Mei Chan", "--eid", number]
    assert "12 to 1000" in call(storage, "create", *about, typed="short\n", status=2)
    assert "--role needs --app" in call(storage, "create", *about, "--role", "editor", status=2)
    said = call(storage, "create", *about, "--app", app_id, "--role", "editor", typed=f"{PASSWORD}\n")
    assert said == f"created {address}\n"
    assert PASSWORD not in said

    def row() -> dict[str, object]:
        [found] = json.loads(call(storage, "list", "--app", app_id, "--json"))[:1] or [{}]
        every = json.loads(call(storage, "list", "--json"))
        mine = next(one for one in every if one["email"] == address)
        assert not found or found["eid"]
        return {key: mine[key] for key in ("name", "eid", "roles", "hasPassword")} | {
            "off": bool(mine["disabledAt"])
        }

    assert row() == {
        "name": "Mei Chan",
        "eid": number,
        "roles": f"{app_id}=editor",
        "hasPassword": True,
        "off": False,
    }
    call(storage, "set-role", address, "--app", app_id, "--role", "approver")
    assert row()["roles"] == f"{app_id}=approver"
    call(storage, "set-role", address, "--owner")
    assert row()["roles"] == "owner"
    call(storage, "set-role", address, "--app", app_id, "--role", "none", "--no-owner")
    assert row()["roles"] == ""
    assert "give --app with --role" in call(storage, "set-role", address, status=2)
    call(storage, "disable", address)
    assert row()["off"] is True
    call(storage, "enable", address)
    assert call(storage, "set-password", address, typed="another long password\n") == f"changed {address}\n"
    assert call(storage, "revoke-sessions", address) == f"ended 0 sessions of {address}\n"
    link = call(storage, "set-password", address, "--link", "--public-url", "https://pages.example.com")
    assert link.split()[-1].startswith("https://pages.example.com/welcome/")
    assert "no staff member nobody@x" in call(storage, "disable", "nobody@x", status=2)
    assert "no app nope" in call(storage, "list", "--app", "nope", status=2)

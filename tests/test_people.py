"""One person: everything about a number is told, and after the erasure nothing of it is found anywhere."""

import base64
import io
import json
import re
from collections.abc import AsyncIterator

import psycopg
import pytest

from engine import rehearse
from harness import App, Server, wait_for
from stage import BEGIN_MS, Stage, at, make_stage, says
from tallycast import (
    audience,
    channels,
    db,
    digests,
    handovers,
    imports,
    notices,
    optouts,
    people,
    retries,
)
from tallycast.administrations import By
from tallycast.audience import Upload
from tallycast.candidates import Mapping
from tallycast.channels import Channel, NewChannel
from tallycast.errors import BadQuery, Unprocessable
from tallycast.events import ButtonClick, Identity, TextReply, Unreadable
from tallycast.handovers import Desk
from tallycast.keys import Cipher
from tallycast.moments import write_moment
from tallycast.portions import Preparer
from tallycast.references import write_reference
from tallycast.spreadsheets import CSV
from terminal import Terminal
from test_insights import click

pytestmark = pytest.mark.anyio
CIPHER = Cipher(bytes(32))
ADA = "+85291000000"
DIGITS = ADA[1:]
BOB = "+85291000001"


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[db.Pool]:
    pool = db.make_pool(database_url, 4)
    await pool.open(wait=True)
    yield pool
    await pool.close()


def find_everywhere(database_url: str, app_id: str, needle: str) -> list[str]:
    """The columns of all tables in which a text stands, in whatever way they keep it."""
    found = []
    with psycopg.connect(database_url) as connection:
        columns = connection.execute(
            "select c.table_name, c.column_name from information_schema.columns c "
            "join information_schema.columns a on a.table_name = c.table_name and a.table_schema = 'public' "
            "and a.column_name = 'app_id' where c.table_schema = 'public'"
        ).fetchall()
        for table, column in columns:
            said = f'to_jsonb("{column}")::text'
            query = f'select from "{table}" where app_id = %s and position(%s in {said}) + position(%s in {said}) > 0'
            if connection.execute(query.encode(), [app_id, needle, needle.encode().hex()]).fetchall():
                found.append(f"{table}.{column}")
    return found


async def erase(stage: Stage, number: str = ADA, *, opt_out: bool = True) -> people.Erasure:
    return await people.erase(
        stage.connection, CIPHER, stage.app_id, number, By("token t (desk)"), opt_out=opt_out
    )


async def show(stage: Stage, number: str = ADA) -> people.Person:
    return await people.show(stage.connection, CIPHER, stage.app_id, number)


async def add_twilio(stage: Stage) -> Channel:
    new = NewChannel("sms", "twilio", "SHOP", credentials={"accountSID": "AC1", "authToken": "secret"})
    return await channels.create(stage.connection, CIPHER, stage.app_id, new)


async def draft(stage: Stage, pool: db.Pool, rows: str, *, runs: bool = True) -> tuple[int, str]:
    """A draft, and an import of these rows into it."""
    made = await rehearse(stage, await add_twilio(stage), 0, "Hi {{name}}")
    raw = ("number,name\n" + rows).encode()
    upload = Upload(io.BytesIO(raw), len(raw), f"{DIGITS}.csv", CSV, True, Mapping(recipient="number"))
    async with stage.connection.transaction():
        import_id = await audience.add_import(
            stage.connection, stage.app_id, made.campaign_id, upload, "test"
        )
        # The worker of a server on this database leaves it to the test.
        await stage.connection.execute(b"update apps set woken_at = null where app_id = %s", [stage.app_id])
    if runs:
        await audience.run_import(pool, CIPHER, stage.app_id, import_id)
    return made.campaign_id, import_id


async def live(stage: Stage, pool: db.Pool, channel: Channel) -> int:
    """Ada leaves traces wherever somebody can; the campaign that was recorded."""
    campaign_id = await stage.sent(channel, f"wamid.{DIGITS}", "m-1", None, date=write_moment(at(0)))
    await stage.apply(
        channel,
        says(f"wamid.{DIGITS}", "delivered", 5),
        says(f"wamid.{DIGITS}", "failed", 9, "470", error_title=f"{ADA} is odd"),
        ButtonClick(f"I am {DIGITS}", f"wamid.{DIGITS}"),
        TextReply("STOP", f"in.{DIGITS}", None, BEGIN_MS, DIGITS),
        TextReply("Hello", f"in2.{DIGITS}", f"wamid.{DIGITS}", BEGIN_MS, "HK.77"),
        Identity("HK.77", DIGITS),
        Unreadable("odd", f'{{"from": "{DIGITS}"}}'.encode()),
    )
    await click(stage, campaign_id, 0, 10, user_agent=f"Phone of {ADA}")
    await draft(stage, pool, f"{ADA},Ada\n{BOB},Bob\n{ADA},Ada again\n +852 9100 0000 ,spaced\n")
    key = {"app_id": stage.app_id, "campaign_id": campaign_id, "number": channel.channel_number, "to": ADA}
    for query in (
        b"insert into trials (app_id, trial_id, channel_number, campaign_id, recipient, variables, outcome, message_id) "
        b"values (%(app_id)s, gen_random_uuid(), %(number)s, %(campaign_id)s, %(to)s, array['Ada'], 'accepted', 'trial-1')",
        b"insert into attempts (app_id, channel_number, message_id, campaign_id, seq, part, error_title) "
        b"values (%(app_id)s, %(number)s, 'wamid.' || ltrim(%(to)s, '+') || '.2', %(campaign_id)s, 0, 0, %(to)s)",
        b"insert into handovers (app_id, campaign_id, seq, channel_number, status, reason) "
        b"values (%(app_id)s, %(campaign_id)s, 0, %(number)s, 'unknown', 'no word of ' || %(to)s)",
        b"insert into transitions (app_id, campaign_id, n, action, from_stage, to_stage, actor, note) "
        b"values (%(app_id)s, %(campaign_id)s, 1, 'pause', 'a', 'b', 'Mei', 'as +852 9100-0000 complains')",
        b"insert into notices (app_id, notice_id, endpoint_id, type, body) "
        b"values (%(app_id)s, 'msg', 'e', 'opt_out.added', %(to)s)",
        b"insert into idempotency_keys (app_id, key, fingerprint, answer) "
        b"values (%(app_id)s, 'k', '\\x00', convert_to(%(to)s, 'UTF8'))",
        b"insert into insights (app_id, campaign_id, name, body, as_of, seconds) "
        b"values (%(app_id)s, %(campaign_id)s, 'failures', to_jsonb(array[%(to)s::text]), now(), 0)",
        b"update channels set paused_reason = 'no way to ' || %(to)s where app_id = %(app_id)s",
    ):
        await db.execute(stage.connection, query, key)
    return campaign_id


async def test_everything_about_a_number_is_told_and_nothing_about_others(
    stage: Stage, pool: db.Pool
) -> None:
    channel = await stage.add_channel()
    campaign_id = await live(stage, pool, channel)
    found = await show(stage)
    assert found.messages[0].campaign_id == str(campaign_id)
    assert [(one.variables, one.recipient.recipient) for one in found.messages] == [([], ADA), (["Ada"], ADA)]
    kinds = {one.kind for one in found.messages[0].events}
    assert kinds >= {"accepted", "delivered", "failed", "button", "click", "text"}
    assert [(one.text, one.message_id) for one in found.texts] == [
        ("STOP", None),
        ("Hello", f"wamid.{DIGITS}"),
    ]
    assert [(one.kind, one.recipient, one.source) for one in found.opt_outs] == [("whatsApp", ADA, "reply")]
    assert (found.user_ids, found.digests, found.erasures) == (["HK.77"], [], [])
    assert [one.variables for one in found.trials] == [["Ada"]]
    assert [one.cells[1] for one in found.import_errors] == ["Ada again", "spaced"]
    assert found.unreadable == [f'{{"from": "{DIGITS}"}}']
    others = await show(stage, BOB)
    assert [one.recipient.recipient for one in others.messages] == [BOB, BOB]
    assert (others.texts, others.trials, others.import_errors, others.opt_outs) == ([], [], [], [])


async def test_after_an_erasure_the_number_is_nowhere_and_the_figures_are_what_they_were(
    stage: Stage, pool: db.Pool, database_url: str
) -> None:
    channel = await stage.add_channel()
    campaign_id = await live(stage, pool, channel)
    assert len(find_everywhere(database_url, stage.app_id, DIGITS)) > 15
    was = await stage.counts(campaign_id)
    erased = await erase(stage)
    assert find_everywhere(database_url, stage.app_id, DIGITS) == []
    assert find_everywhere(database_url, stage.app_id, "9100 0000") == []
    assert find_everywhere(database_url, stage.app_id, "9100-0000") == []
    assert find_everywhere(database_url, stage.app_id, "Ada") == []
    assert find_everywhere(database_url, stage.app_id, BOB) != []
    assert (await stage.counts(campaign_id), await stage.drift()) == (was, [])
    [key] = await digests.find_keys(stage.connection, CIPHER, stage.app_id)
    assert (erased.digest, erased.asked_as) == (key.digest(ADA), "token t (desk)")
    assert erased.touched == {
        "messages": 2, "setAside": 1, "optOuts": 1, "texts": 2, "trials": 1, "importErrors": 2, "imports": 1,
        "unreadable": 1, "identities": 1, "deliveries": 1, "transitions": 1, "channels": 2, "answers": 1, "insights": 1,
    }  # fmt: skip
    assert await people.list_erasures(stage.connection, stage.app_id, 10, 0) == [erased]
    again = await erase(stage)
    assert (again.digest, again.touched) == (erased.digest, {})
    found = await show(stage)
    assert [one.recipient.recipient for one in found.messages] == [erased.digest, erased.digest]
    assert (found.erasures, found.texts, found.user_ids) == ([erased, again], [], [])


async def test_who_was_erased_is_left_out_of_the_next_audience_until_he_opts_in_himself(
    stage: Stage, pool: db.Pool
) -> None:
    await erase(stage)
    campaign_id, import_id = await draft(stage, pool, f"{ADA},Ada\n{BOB},Bob\n")
    done = await imports.find_import(stage.connection, stage.app_id, campaign_id, import_id)
    assert (done.accepted, done.opted_out) == (1, 1)
    both = [ADA, BOB]
    for kind in optouts.KINDS:
        assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, kind, both) == {ADA}
    # Also with a new key: the old one still knows him.
    assert (await digests.renew_key(stage.connection, CIPHER, stage.app_id)).version == 2
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", both) == {ADA}
    assert (await erase(stage)).digest.startswith("anon2-")
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", both) == {ADA}
    channel = await stage.add_channel()
    await stage.apply(channel, TextReply("START", "in-9", None, None, DIGITS), arrived_ms=10**13)
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "whatsApp", both) == set()
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", both) == {ADA}
    assert await optouts.remove(stage.connection, CIPHER, stage.app_id, "sms", [ADA]) == 1
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", both) == set()


async def test_without_an_order_to_opt_out_only_what_the_person_has_said_survives(stage: Stage) -> None:
    channel = await stage.add_channel()
    await stage.apply(channel, TextReply("STOP", "in-1", None, BEGIN_MS, DIGITS))
    await erase(stage, opt_out=False)
    await erase(stage, BOB, opt_out=False)
    both = [ADA, BOB]
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "whatsApp", both) == {ADA}
    assert await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", both) == set()
    [kept] = await optouts.list_all(stage.connection, stage.app_id, None, 10, 0)
    assert (kept.source, kept.evidence, kept.recipient.startswith("anon1-")) == ("reply", "", True)
    assert kept.opted_out_at == at(0)


def whatsapp_id(digits: str, before: bytes = b"\x1c\x18") -> str:
    """As WhatsApp makes them: base64 of a head, the number and a random end."""
    raw = before + bytes([len(digits)]) + digits.encode() + b"\x15\x02\x00\x11\x18\x129A3CA5B3D4CD6E67E7\x00"
    return f"wamid.{base64.b64encode(raw).decode()}"


async def test_parked_receipts_whose_id_holds_the_number_go_and_those_of_others_stay(stage: Stage) -> None:
    channel = await stage.add_channel()
    theirs = [whatsapp_id(DIGITS, bytes(n)) for n in range(4)] + [f"wamid.{DIGITS}"]
    longer = [whatsapp_id(f"{DIGITS}5"), whatsapp_id(f"1{DIGITS}")]
    near = [whatsapp_id(BOB[1:], bytes(n)) for n in range(3)]
    others = sorted([*near, *longer, f"m-{DIGITS}5", whatsapp_id(DIGITS).lower()])
    assert whatsapp_id("85298765432").startswith("wamid.HBgLODUyOTg3NjU0MzIVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA")
    await stage.apply(
        channel, *(says(one, "read") for one in (*theirs, *others)), ButtonClick("Yes", theirs[0])
    )
    erased = await erase(stage)
    assert erased.touched["parked"] == 6
    found = await stage.connection.execute(
        b"select message_id from parked where app_id = %s order by message_id", [stage.app_id]
    )
    assert [one for (one,) in await found.fetchall()] == others


async def test_late_receipts_of_an_erased_person_still_count(stage: Stage, database_url: str) -> None:
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, f"wamid.{DIGITS}", None)
    await erase(stage)
    await erase(stage, BOB)
    await stage.apply(channel, says(f"wamid.{DIGITS}", "read"), ButtonClick("Yes", f"wamid.{DIGITS}"))
    reference = write_reference(campaign_id, 1)
    await stage.apply(channel, says(f"wamid.{BOB[1:]}", "delivered", reference=reference))
    await stage.apply(channel, says(f"wamid.{BOB[1:]}", "read"))
    assert await stage.counts(campaign_id) == {"total": 2, "delivered": 2, "read": 2, "button_replies": 1}
    assert (await stage.parked(), await stage.drift()) == ([], [])
    assert find_everywhere(database_url, stage.app_id, DIGITS) == []
    assert find_everywhere(database_url, stage.app_id, BOB[1:]) == []


async def test_an_erased_person_who_is_recorded_again_is_erased_again(stage: Stage) -> None:
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-0")
    first = await erase(stage)
    await stage.record(campaign_id, ["m-9"])
    assert (await erase(stage)).touched == {"messages": 1}
    rows = await handovers.read(stage.connection, stage.app_id, campaign_id, [0, 1])
    assert [row.recipient for row in rows] == [first.digest, f"{first.digest}.1"]
    assert all(digests.is_digest(row.recipient) for row in rows)


async def test_who_is_erased_while_the_outcome_is_unknown_gets_no_second_message(stage: Stage) -> None:
    channel = await add_twilio(stage)
    made = await rehearse(stage, channel, 1)
    await made.set(stage="sending", next_seq=1)
    key = {"app_id": stage.app_id, "campaign_id": made.campaign_id, "number": channel.channel_number}
    claimed = (
        b"insert into handovers (app_id, campaign_id, seq, channel_number, status, worker) "
        b"values (%(app_id)s, %(campaign_id)s, 0, %(number)s, 'claimed', 'gone')"
    )
    await db.execute(stage.connection, claimed, key)
    with pytest.raises(Unprocessable, match="on its way at this moment: erase it again in a minute"):
        await erase(stage)
    desk = Desk(stage.app_id, channel.channel_number, "me")
    assert await handovers.take_over(stage.connection, desk) == 1
    assert (await erase(stage)).touched == {"messages": 1}
    assert await made.counts() == {"total": 1, "pending": 1}
    async with stage.connection.transaction():
        assert await retries.settle(
            stage.connection, stage.app_id, made.campaign_id, "resend", None, "somebody"
        )
    claims = [handovers.Claim(made.campaign_id, 0)]
    items, results = await Preparer("", CIPHER, desk).prepare(stage.connection, channel, claims)
    assert (items, [one.code for one in results.skipped]) == ([], ["erased"])
    await handovers.record(stage.connection, desk, results)
    assert (await made.counts(), await stage.drift()) == ({"total": 1, "failed": 1}, [])


async def test_an_erasure_waits_for_imports_and_a_draft_with_an_erased_person_can_be_cleared(
    stage: Stage, pool: db.Pool
) -> None:
    campaign_id, import_id = await draft(stage, pool, f"{ADA},Ada\n{BOB},Bob\n", runs=False)
    with pytest.raises(Unprocessable, match="an import of an audience is not done yet"):
        await erase(stage, BOB)
    await audience.run_import(pool, CIPHER, stage.app_id, import_id)
    # Bob was opted out before he was refused: the import has left him out.
    assert await stage.counts(campaign_id) == {"total": 1, "queued": 1}
    await erase(stage)
    assert await stage.counts(campaign_id) == {"total": 1, "failed": 1}
    async with stage.connection.transaction():
        assert await audience.clear(stage.connection, stage.app_id, campaign_id) == 1
    assert (await stage.counts(campaign_id), await stage.drift()) == ({}, [])


async def test_an_erasure_tells_no_endpoint_and_touches_no_other_app(
    stage: Stage, connection: db.Connection, database_url: str
) -> None:
    other = await make_stage(connection)
    for one in (stage, other):
        await one.sent(await one.add_channel(), "m-0")
    await erase(stage)
    assert find_everywhere(database_url, stage.app_id, DIGITS) == []
    assert find_everywhere(database_url, other.app_id, DIGITS) == ["messages.recipient"]
    assert (await show(other)).erasures == []
    assert not await optouts.blocked(connection, CIPHER, other.app_id, "sms", [ADA])
    assert await notices.find_next(connection, stage.app_id) is None
    mine = await digests.take_key(connection, CIPHER, stage.app_id)
    theirs = await digests.take_key(connection, CIPHER, other.app_id)
    assert mine.digest(ADA) != theirs.digest(ADA)


def test_what_is_no_number_is_refused() -> None:
    assert people.read_number(" 852 9100 0000") == ADA
    with pytest.raises(BadQuery, match="number must be a phone number"):
        people.read_number("anybody")


def test_a_person_is_shown_and_erased_over_http_and_by_command(app: App, server: Server) -> None:
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, ["m-0", "m-1"], content="Hi all")
    found = app.result("GET", f"/people/{ADA}")
    assert [one["campaignID"] for one in found["messages"]] == [campaign_id]
    erased = app.result("POST", f"/people/{ADA}/erase")
    assert (erased["touched"], erased["askedAs"].startswith("token ")) == ({"messages": 1}, True)
    listed = app.result("GET", "/data/sent-campaigns-detail", params={"historyID": campaign_id})
    assert [one["recipient"] for one in listed] == [erased["digest"], BOB]
    assert app.result("GET", "/erasures") == [erased]
    assert app.result("GET", "/opt-outs", params={"recipient": ADA})[0]["recipient"] == erased["digest"]
    place = ["--app", app.app_id]
    shown = json.loads(server.run("people", "show", *place, BOB))
    assert [one["campaignID"] for one in shown["messages"]] == [campaign_id]
    told = server.run("people", "erase", *place, "--no-opt-out", BOB)
    assert told.endswith(": messages 1\n")
    assert len(json.loads(server.run("people", "erasures", *place, "--json"))) == 2
    assert server.run("people", "renew-key", *place) == "digests begin with anon2- from now on\n"
    assert app.request("POST", f"/people/{ADA}/erase", json={"optout": True}).status_code == 400
    wait_for(lambda: "POST /v1/api/apps/" + app.app_id + "/people/.../erase 200" in server.log.read_text())
    app.request("DELETE", f"/opt-outs/all/{ADA}")
    wait_for(lambda: "DELETE /v1/api/apps/" + app.app_id + "/opt-outs/all/... " in server.log.read_text())
    app.request("GET", "/opt-outs", params={"recipient": ADA})  # no query is logged
    assert app.request("GET", "/opt-outs?limit=1&offset=3").status_code == 200
    wait_for(lambda: server.log.read_text().count(f"GET /v1/api/apps/{app.app_id}/opt-outs 200") > 2)
    assert ADA.removeprefix("+") not in "".join(
        re.findall(rf"^.*{app.app_id}.*$", server.log.read_text(), re.MULTILINE)
    )


def test_a_terminal_is_asked_before_a_person_is_erased(
    app: App, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.record(app.add_channel(), ["m-0"])
    terminal = Terminal(server, app, "local")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    terminal.run("people", "erase", ADA, status=1, text="n\n")
    assert f"{ADA} is made anonymous everywhere, for ever. Are you sure?" in terminal.stderr
    assert terminal.run("people", "erasures") == "nobody was erased\n"
    assert terminal.run("people", "erase", ADA, text="y\n").startswith("erased, now anon")


def test_who_may_only_read_reports_may_not_see_or_erase_a_person(app: App, server: Server) -> None:
    made = json.loads(server.run("token", "create", "--app", app.app_id, "--scope", "reports:read", "--json"))
    app.token = made["token"]
    assert app.request("GET", f"/people/{ADA}").status_code == 403
    assert app.request("POST", f"/people/{ADA}/erase").status_code == 403
    assert app.request("GET", "/erasures").status_code == 403

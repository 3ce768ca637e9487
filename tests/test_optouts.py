"""Consent: how opt-outs are learned from what arrives, and that the latest word holds, whatever the order."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage import BEGIN_MS, Stage, at, make_stage, says, until_blocked
from tallycast import apps, consent, db, optouts, policies, receipts, spool
from tallycast.channels import Channel
from tallycast.events import ButtonClick, Event, Identity, Preference, Receipt, Status, TextReply
from tallycast.keys import Cipher
from tallycast.optouts import Kind, OptOut, Word
from tallycast.policies import PolicyChange
from tallycast.receipts import Arrival
from tallycast.references import write_reference

pytestmark = pytest.mark.anyio
CIPHER = Cipher(bytes(32))
ADA = "+85291000000"  # the recipient of the first message of a recorded campaign
ADAS_ID = "HK.13491208655302741918"


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def channel(stage: Stage) -> Channel:
    return await stage.add_channel()


def text(
    body: str, ms: int | None = 0, inbound: str | None = None, sender: str | None = ADA[1:]
) -> TextReply:
    return TextReply(body, inbound or f"in-{body}-{ms}", None, None if ms is None else BEGIN_MS + ms, sender)


async def opted_out(stage: Stage, kind: Kind | None = None) -> list[OptOut]:
    return await optouts.list_all(stage.connection, stage.app_id, kind, 100, 0)


async def is_blocked(stage: Stage, recipient: str = ADA, kind: Kind = "whatsApp") -> bool:
    return await optouts.blocked(stage.connection, CIPHER, stage.app_id, kind, [recipient]) == {recipient}


@pytest.mark.parametrize(
    "body",
    [
        "STOP", "stop", " Stop!\n", "»Stop.«", "S.T.O.P.", "STOP \U0001f6d1", "\uff33\uff34\uff2f\uff30", "stop\ufe0f", "StopAll", "unsubscribe",
        "Cancel", "end", "QUIT", "revoke", "optout", "Opt  Out", "opt-out", "ARRET", "arrêt", "ARRÊTE !", "Stopp", "退訂",
        "退订。", "取消",
    ],
)  # fmt: skip
async def test_a_text_that_is_a_stop_word_opts_its_sender_out(
    stage: Stage, channel: Channel, body: str
) -> None:
    await stage.apply(channel, text(body, 5, "in-1"))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "reply", "in-1", at(5))]
    assert await is_blocked(stage)


@pytest.mark.parametrize(
    "body", ["please stop", "STOP PLEASE", "nonstop", "don't stop", "?", "", "help", "start", "yes", "stop " * 100]
)  # fmt: skip
async def test_a_text_that_says_more_or_something_else_opts_nobody_out(
    stage: Stage, channel: Channel, body: str
) -> None:
    await stage.apply(channel, text(body))
    assert await opted_out(stage) == []


async def test_an_opt_out_is_of_the_channels_kind_and_of_its_app_alone(
    stage: Stage, connection: db.Connection
) -> None:
    await stage.apply(await stage.add_channel("sms"), text("stop", sender=ADA))
    assert await is_blocked(stage, kind="sms")
    assert not await is_blocked(stage, kind="whatsApp")
    assert not await is_blocked(await make_stage(connection), kind="sms")


@pytest.mark.parametrize("body", ["START", "Yes!", "unstop"])
async def test_a_start_word_opts_in_again(stage: Stage, channel: Channel, body: str) -> None:
    await stage.apply(channel, text("stop", 1))
    await stage.apply(channel, text(body, 2))
    assert await opted_out(stage) == []


async def test_an_app_has_words_of_its_own_which_go_before_the_usual_ones(
    stage: Stage, channel: Channel
) -> None:
    change = PolicyChange(stop_words=["no more, thanks", "Yes"], start_words=["alta", "cancel"])
    async with stage.connection.transaction():
        await policies.change_policy(stage.connection, stage.app_id, change)
    await stage.apply(
        channel, text("No more thanks!", 1, sender="85291000001"), text("YES", 1, sender="85291000002")
    )
    assert [one.recipient for one in await opted_out(stage)] == ["+85291000001", "+85291000002"]
    await stage.apply(channel, text("Alta", 2, sender="85291000001"), text("cancel", 2, sender="85291000002"))
    assert await opted_out(stage) == []


async def test_a_late_repetition_of_a_stop_does_not_undo_a_start(stage: Stage, channel: Channel) -> None:
    stop = text("stop", None, "in-1")  # without a time of its own, as Twilio sends it
    await stage.apply(channel, stop, arrived_ms=1)
    await stage.apply(channel, text("start", None, "in-2"), arrived_ms=2)
    await stage.apply(channel, stop, arrived_ms=3)
    assert await opted_out(stage) == []
    await stage.apply(channel, text("stop", None, "in-3"), arrived_ms=4)
    assert [one.evidence for one in await opted_out(stage)] == ["in-3"]


async def test_where_stop_and_start_were_at_the_same_moment_stop_holds(
    stage: Stage, channel: Channel
) -> None:
    await stage.apply(channel, text("start", 1), text("stop", 1))
    assert await is_blocked(stage)


@pytest.mark.parametrize(
    ("button", "label"),
    [
        pytest.param("stop", None, id="payload"),
        pytest.param("btn-2", "Stop!", id="text"),
        pytest.param("STOP", "No more offers", id="payload beside another text"),
    ],
)
async def test_a_button_that_says_stop_opts_out_and_is_a_reply_all_the_same(
    stage: Stage, channel: Channel, button: str, label: str | None
) -> None:
    campaign = await stage.sent(channel, "m1")
    click = ButtonClick(button, "m1", None, BEGIN_MS + 5, "in-1", ADA[1:], label)
    await stage.apply(channel, click)
    await stage.apply(channel, click)
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "button", "in-1", at(5))]
    assert (await stage.counts(campaign))["button_replies"] == 1


async def test_a_button_that_says_yes_opts_nobody_in(stage: Stage, channel: Channel) -> None:
    await stage.sent(channel, "m1")
    await stage.apply(channel, text("stop", 1), ButtonClick("yes", "m1", None, BEGIN_MS + 2, "in-2", ADA[1:]))
    assert await is_blocked(stage)


async def test_a_stop_of_a_sender_who_is_not_told_is_that_of_the_quoted_messages_recipient(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1", "m2")
    await stage.apply(channel, TextReply("stop", "in-1", "m2", BEGIN_MS + 1))
    reference = write_reference(campaign, 0)
    await stage.apply(channel, ButtonClick("stop", None, reference, BEGIN_MS + 2, "in-2"))
    assert [(one.recipient, one.evidence) for one in await opted_out(stage)] == [
        (ADA, "in-2"), ("+85291000001", "in-1"),
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["131050", "21610"])
async def test_a_message_that_was_refused_for_an_opt_out_opts_its_recipient_out(
    stage: Stage, channel: Channel, code: str
) -> None:
    await stage.sent(channel, "m1", "m2")
    for _ in range(2):
        await stage.apply(channel, says("m1", "failed", 7, code), says("m2", "failed", 7, "131049"))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "refusal", f"{code} m1", at(7))]


async def test_a_refusal_counts_also_behind_another_failure_of_the_same_message(
    stage: Stage, channel: Channel
) -> None:
    await stage.sent(channel, "m1")
    await stage.apply(channel, says("m1", "failed", 3, "131026"), says("m1", "failed", 7, "131050"))
    assert [one.opted_out_at for one in await opted_out(stage)] == [at(7)]


async def test_a_refusal_that_waits_for_its_message_counts_when_that_is_recorded(
    stage: Stage, channel: Channel
) -> None:
    await stage.apply(channel, says("m1", "failed", 7, "131050"))
    assert await opted_out(stage) == []
    await stage.sent(channel, "m1")
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "refusal", "131050 m1", at(7))]


async def test_a_refusal_of_an_address_counts_for_its_recipient(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, None, None)
    reference = write_reference(campaign, 1)
    await stage.apply(channel, Receipt("m9", Status.FAILED, BEGIN_MS + 7, "131050", None, reference))
    assert [(one.recipient, one.evidence) for one in await opted_out(stage)] == [
        ("+85291000001", "131050 m9")
    ]


async def test_a_refusal_without_a_time_is_as_old_as_the_failure_however_often_it_comes(stage: Stage) -> None:
    channel = await stage.add_channel("sms")
    await stage.sent(channel, "m1")
    refusal = says("m1", "failed", None, "21610")
    await stage.apply(channel, refusal, arrived_ms=5)
    await stage.apply(channel, text("start", 6))
    await stage.apply(channel, refusal, arrived_ms=9)
    assert await opted_out(stage) == []


async def test_a_refusal_of_an_earlier_attempt_counts_too(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.connection.execute(
        b"insert into attempts (app_id, channel_number, message_id, campaign_id, seq) values (%s, %s, 'm0', %s, 0)",
        [stage.app_id, channel.channel_number, campaign],
    )
    await stage.apply(channel, says("m0", "failed", 7, "131050"))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "refusal", "131050 m0", at(7))]


async def test_what_the_sender_learns_from_a_refusal_counts_from_now_on(stage: Stage) -> None:
    await optouts.learn_refusal(stage.connection, stage.app_id, "sms", ADA, "21610", "tc:1.0")
    (found,) = await opted_out(stage)
    assert (found.kind, found.recipient, found.source, found.evidence) == (
        "sms",
        ADA,
        "refusal",
        "21610 tc:1.0",
    )


async def test_a_preference_stops_and_resumes(stage: Stage, channel: Channel) -> None:
    await stage.apply(channel, Preference(False, ADA[1:], BEGIN_MS + 1, "marketing off"))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "preference", "marketing off", at(1))]
    await stage.apply(channel, Preference(True, ADA[1:], BEGIN_MS + 2))
    assert await opted_out(stage) == []


async def test_a_stop_without_a_number_is_that_of_the_identity_which_was_learned(
    stage: Stage, channel: Channel
) -> None:
    await stage.apply(channel, says("m1", "read"), Identity(ADAS_ID, ADA[1:]))
    await stage.apply(channel, text("stop", 5, "in-1", ADAS_ID))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "reply", "in-1", at(5))]


async def test_a_stop_of_an_unknown_identity_waits_until_that_is_learned(
    stage: Stage, channel: Channel
) -> None:
    await stage.apply(channel, text("stop", 5, "in-1", ADAS_ID), Preference(True, "HK.2", BEGIN_MS + 9))
    assert [one.recipient for one in await opted_out(stage)] == [ADAS_ID]
    await stage.apply(channel, text("stop", 8, "in-2", "85291000002"))
    await stage.apply(channel, Identity(ADAS_ID, ADA[1:]), Identity("HK.2", "85291000002"))
    assert await opted_out(stage) == [OptOut("whatsApp", ADA, "reply", "in-1", at(5))]


async def test_an_identity_that_is_learned_while_its_stop_is_being_written_waits_for_it(
    stage: Stage, channel: Channel, database_url: str
) -> None:
    async with db.connect(database_url) as other, db.connect(database_url) as watcher:
        async with stage.connection.transaction():
            await stage.apply(channel, text("stop", 5, "in-1", ADAS_ID))
            learning = asyncio.create_task(
                stage.apply(channel, says("m1", "read"), Identity(ADAS_ID, ADA[1:]), connection=other)
            )
            await until_blocked(watcher, other)
        await learning
    assert [one.recipient for one in await opted_out(stage)] == [ADA]


async def test_an_identity_moves_with_its_person_to_another_number(stage: Stage, channel: Channel) -> None:
    await stage.apply(channel, Identity(ADAS_ID, ADA[1:]))
    await stage.apply(channel, Identity(ADAS_ID, "85291000009"))
    await stage.apply(channel, text("stop", 5, "in-1", ADAS_ID))
    assert [one.recipient for one in await opted_out(stage)] == ["+85291000009"]


async def test_an_identity_is_written_once_and_then_costs_a_batch_nothing(
    stage: Stage, channel: Channel
) -> None:
    arrival = Arrival(stage.app_id, channel.channel_number, BEGIN_MS, [Identity(ADAS_ID, ADA[1:])])
    assert receipts.fold([arrival]).signals
    await receipts.apply(stage.connection, stage.app_id, [arrival])
    assert not receipts.fold([arrival]).signals


async def test_an_identity_that_could_not_be_committed_is_written_the_next_time(
    stage: Stage, channel: Channel
) -> None:
    arrival = Arrival(stage.app_id, channel.channel_number, BEGIN_MS, [Identity(ADAS_ID, "\ud83d")])
    with pytest.raises(UnicodeEncodeError):
        await receipts.apply(stage.connection, stage.app_id, [arrival])
    assert receipts.fold([arrival]).signals


def test_plain_receipts_say_nothing_about_consent() -> None:
    events: list[Event] = [says("m1", "read"), says("m2", "delivered"), says("m3", "failed", 0, "131026")]
    assert not receipts.fold([Arrival("app", 0, BEGIN_MS, events)]).signals


async def test_an_order_goes_before_every_word_that_is_known(stage: Stage, channel: Channel) -> None:
    future = 3_000_000_000_000 - BEGIN_MS
    await stage.apply(channel, text("stop", future))
    assert await optouts.remove(stage.connection, CIPHER, stage.app_id, "all", [ADA]) == 1
    assert not await is_blocked(stage)
    await stage.apply(channel, text("start", future + 5))
    await optouts.add(stage.connection, stage.app_id, "all", [ADA], "api")
    assert await is_blocked(stage)
    assert await is_blocked(stage, kind="sms")


async def test_adding_somebody_again_keeps_the_first_evidence(stage: Stage, channel: Channel) -> None:
    await stage.apply(channel, text("stop", 5, "in-1"))
    await optouts.add(stage.connection, stage.app_id, "whatsApp", [ADA, ADA, "+85291000001"], "api", "letter")
    assert [(one.recipient, one.source, one.evidence) for one in await opted_out(stage)] == [
        (ADA, "reply", "in-1"), ("+85291000001", "api", "letter"),
    ]  # fmt: skip


async def test_removing_who_is_not_opted_out_removes_nothing(stage: Stage) -> None:
    assert await optouts.remove(stage.connection, CIPHER, stage.app_id, "all", [ADA]) == 0


async def test_of_many_recipients_the_opted_out_ones_are_blocked(stage: Stage) -> None:
    everybody = [f"+852{91000000 + n}" for n in range(3000)]
    await optouts.add(stage.connection, stage.app_id, "sms", everybody[::3], "api")
    blocked = await optouts.blocked(stage.connection, CIPHER, stage.app_id, "sms", everybody)
    assert blocked == set(everybody[::3])


async def test_what_was_spooled_is_learned_when_it_is_drained(
    stage: Stage, channel: Channel, tmp_path: Path
) -> None:
    events: list[Event] = [
        text("stop", 1, "in-1"), Preference(False, "85291000001", BEGIN_MS), Identity(ADAS_ID, "85291000002"),
        ButtonClick("x", "m1", None, BEGIN_MS, "in-2", ADAS_ID, "Stop"), says("m2", "failed", 0, "131050"),
    ]  # fmt: skip
    folder = spool.Spool(tmp_path)
    folder.write([Arrival(stage.app_id, channel.channel_number, BEGIN_MS, events)])
    folder.close()
    await stage.sent(channel, None, None, None, "m2")
    (path,) = folder.files()
    for batch in spool.read(path, 10, []):
        arrivals = [one for one in batch if isinstance(one, Arrival)]
        await receipts.apply(stage.connection, stage.app_id, arrivals)
    assert [(one.recipient, one.source) for one in await opted_out(stage)] == [
        (ADA, "reply"), ("+85291000001", "preference"), ("+85291000002", "button"), ("+85291000003", "refusal"),
    ]  # fmt: skip


def test_lines_that_an_earlier_version_spooled_are_read(tmp_path: Path) -> None:
    line = (
        b'{"type":"Arrival","app_id":"a","channel_number":3,"arrived_ms":1795430465000,"events":['
        b'{"type":"Receipt","message_id":"m1","status":"read","at_ms":1,"error_code":null,"error_title":null,"reference":null},'
        b'{"type":"ButtonClick","button":"yes","message_id":"m1","reference":null,"at_ms":2,"inbound_id":"i1","sender":"852"},'
        b'{"type":"TextReply","text":"hi","inbound_id":"i2","message_id":null,"at_ms":3,"sender":"852"},'
        b'{"type":"Unreadable","reason":"odd","raw":"e30="}]}\n'
    )
    path = tmp_path / "old.ndjson"
    path.write_bytes(line)
    odd: list[bytes] = []
    ((arrival,),) = spool.read(path, 10, odd)
    assert odd == []
    assert isinstance(arrival, Arrival)
    assert arrival.events[1] == ButtonClick("yes", "m1", None, 2, "i1", "852")
    assert len(arrival.events) == 4


thoroughly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_WORDS = st.builds(
    Word,
    kind=st.just("whatsApp"),
    recipient=st.just(ADA),
    wants=st.booleans(),
    at_ms=st.integers(0, 4).map(lambda n: BEGIN_MS + n),
    source=st.sampled_from(["reply", "button"]),
    evidence=st.sampled_from(["in-1", "in-2"]),
)


@st.composite
def told_words(draw: st.DrawFn) -> tuple[list[Word], list[list[Word]]]:
    """Words, and how they come: in any order, some repeated, in several batches."""
    words = draw(st.lists(_WORDS, min_size=1, max_size=6))
    told = draw(st.permutations(words + draw(st.lists(st.sampled_from(words), max_size=4))))
    cuts = sorted(draw(st.lists(st.integers(0, len(told)), max_size=3)))
    return words, [told[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]


@thoroughly
@given(told_words())
async def test_the_latest_word_holds_whatever_the_order_and_the_repetitions(
    connection: db.Connection, story: tuple[list[Word], list[list[Word]]]
) -> None:
    words, batches = story
    stage = await make_stage(connection)
    for batch in batches:
        await optouts.merge(connection, stage.app_id, batch)
    stops = [(word.at_ms, word.source, word.evidence) for word in words if not word.wants]
    starts = [word.at_ms for word in words if word.wants]
    last = max(stops, default=None)
    holds = last is not None and last[0] >= max(starts, default=0)
    expected = [OptOut("whatsApp", ADA, last[1], last[2], at(last[0] - BEGIN_MS))] if holds and last else []
    assert await opted_out(stage) == expected


# A message is refused once: only when that was told, and how often, varies.
_SAYINGS = st.tuples(st.sampled_from(["stop", "start", "off", "on", "button"]), st.integers(0, 3)) | st.just(
    ("refusal", 2)
)


def event_of(n: int, kind: str, ms: int, sender: str) -> Event:
    match kind:
        case "stop" | "start":
            return text(kind, ms, f"in-{n}", sender)
        case "off" | "on":
            return Preference(kind == "on", sender, BEGIN_MS + ms)
        case "button":
            return ButtonClick("stop", "m1", None, BEGIN_MS + ms, f"in-{n}", sender)
        case _:
            return says("m1", "failed", ms, "131050")


@st.composite
def told_events(draw: st.DrawFn) -> tuple[list[tuple[str, int]], list[Event | None]]:
    """What a person does, told by number or by user id, whose identity comes at any point; None: now the message is
    recorded that he received.
    """
    sayings = draw(st.lists(_SAYINGS, min_size=1, max_size=6))
    events: list[Event | None] = [
        event_of(n, kind, ms, draw(st.sampled_from([ADA[1:], ADAS_ID])))
        for n, (kind, ms) in enumerate(sayings)
    ]
    return sayings, draw(st.permutations([*events, *events[:2], Identity(ADAS_ID, ADA[1:]), None]))


@thoroughly
@given(told_events())
async def test_all_that_a_person_says_ends_in_the_same_consent_whatever_the_order_and_by_whichever_name(
    connection: db.Connection, story: tuple[list[tuple[str, int]], list[Event | None]]
) -> None:
    sayings, told = story
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    for event in told:
        if event is None:
            await stage.sent(channel, "m1")
        else:
            await stage.apply(channel, event)
    stops = [ms for kind, ms in sayings if kind in {"stop", "off", "refusal", "button"}]
    starts = [ms for kind, ms in sayings if kind in {"start", "on"}]
    holds = bool(stops) and max(stops) >= max(starts, default=-1)
    assert [(one.recipient, one.opted_out_at) for one in await opted_out(stage)] == (
        [(ADA, at(max(stops)))] if holds else []
    )


def test_a_signal_of_consent_survives_the_way_through_json() -> None:
    events: list[Event] = [Preference(True, "1", None, "x"), Identity("HK.1", "2")]
    arrival = Arrival("app", 1, 2, events)
    assert msgspec.json.decode(msgspec.json.encode(arrival), type=Arrival) == arrival


def test_the_memory_of_identities_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "_MAX_KNOWN", 2)
    for n in range(5):
        consent.remember("app", {f"HK.{n}": "1"})
        assert len(consent._written) <= 2  # noqa: SLF001 - that it is bounded shows nowhere else


async def test_who_opts_out_of_everything_holds_up_nobody_who_tells_of_an_opt_out(
    stage: Stage, database_url: str
) -> None:
    """Both wake the app: the one that has done so must not wait for the other's rows."""
    await stage.connection.execute(
        b"insert into webhook_endpoints (app_id, endpoint_id, url, description, events, secret) "
        b"values (%s, 'ep', 'https://example.com', '', '{}', '')", [stage.app_id]
    )  # fmt: skip
    async with db.connect(database_url) as other, db.connect(database_url) as watcher:

        async def add() -> None:
            async with other.transaction():
                await optouts.add(other, stage.app_id, "all", [ADA], "by order")

        async with stage.connection.transaction():
            await db.execute(
                stage.connection,
                b"insert into opt_outs (app_id, kind, recipient, source, evidence, opted_out_at) "
                b"values (%(app_id)s, 'whatsApp', %(recipient)s, 'reply', '', now())",
                {"app_id": stage.app_id, "recipient": ADA},
            )
            adding = asyncio.create_task(add())
            await until_blocked(watcher, other)
            await apps.wake(stage.connection, stage.app_id)
        await adding
    assert await is_blocked(stage, ADA, "sms")
    assert await is_blocked(stage, ADA, "whatsApp")

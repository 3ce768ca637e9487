"""Recipients: found by number, and each one's whole story."""

import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stage import BEGIN_MS, Stage, at, make_stage, says
from tallycast import attempts, db, links, messages, recipients, retries
from tallycast.attempts import Part
from tallycast.channels import Channel
from tallycast.errors import BadQuery, NotFound
from tallycast.events import ButtonClick, Identity, TextReply
from tallycast.links import Click
from tallycast.messages import Entry
from tallycast.moments import write_moment
from tallycast.recipients import Filter, Recipient
from tallycast.stories import Event

pytestmark = pytest.mark.anyio
URL = "https://shop.example.com/sale"
NUMBERS = ["+85291000000", "+85291000001", "+85292000000", "+4930123456", "+493012345678"]


async def a_campaign(stage: Stage, channel: Channel, *numbers: str) -> int:
    campaign_id = await stage.add_campaign(channel, write_moment(at(0)))
    lines = [messages.check_entry(n, msgspec.UNSET, Entry(one, f"m-{n}")) for n, one in enumerate(numbers)]
    rows, rejected = messages.parse_rows(lines)
    assert rejected == []
    async with stage.connection.transaction():
        await messages.record(stage.connection, stage.app_id, campaign_id, rows)
    return campaign_id


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param("+85291000001", [1], id="exact"),
        pytest.param("85291000001", [1], id="digits"),
        pytest.param("0085291000001", [1], id="with 00"),
        pytest.param(" (852) 9100-0001 ", [1], id="as people write it"),
        pytest.param("+852 9100 000", [0, 1], id="a beginning, with spaces"),
        pytest.param("\uff18\uff15\uff12\uff19\uff11", [0, 1], id="full-width digits"),
        pytest.param("8529", [0, 1, 2], id="digits of a beginning"),
        pytest.param("+4930123456", [3, 4], id="a whole number that begins another"),
        pytest.param("+49 (0)30 12345678", [4], id="with the national prefix"),
        pytest.param("1", [], id="nobody"),
        pytest.param("+852910000019", [], id="longer than any"),
    ],
)
async def test_a_number_is_found_by_all_of_it_or_its_beginning_in_any_spelling(
    connection: db.Connection, number: str, expected: list[int]
) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel(), *NUMBERS)
    page = await recipients.list_page(connection, stage.app_id, campaign_id, Filter(number=number), 0, 10)
    assert ([one.seq for one in page.rows], page.next_cursor) == (expected, None)


@pytest.mark.parametrize("number", ["abc", "%", "+", " ", "+852x", "8.5E+10", "9" * 200, "''"])
async def test_what_is_no_number_is_refused(connection: db.Connection, number: str) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    with pytest.raises(BadQuery, match="number must be a phone number or its first digits"):
        await recipients.list_page(connection, stage.app_id, campaign_id, Filter(number=number), 0, 10)


async def test_a_listed_recipient_has_all_facts_and_the_failure_in_plain_words(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    campaign_id = await a_campaign(stage, channel, *NUMBERS)
    await stage.apply(
        channel, says("m-0", "delivered", 1), says("m-0", "read", 2), says("m-1", "failed", 3, "optedOut"),
        says("m-2", "failed", 4, "7", error_title="Odd"), says("m-3", "failed", 4), says("m-3", "delivered", 9),
    )  # fmt: skip
    page = await recipients.list_page(connection, stage.app_id, campaign_id, Filter(), 0, 4)

    def row(seq: int, **fields: Any) -> Recipient:
        return Recipient(
            **{
                "seq": seq,
                "recipient": NUMBERS[seq],
                "country": "HK",
                "channel_id": channel.channel_id,
                "reference_id": f"tc:{campaign_id}.{seq}",
                "parts": 1,
                "message_id": f"m-{seq}",
                "accepted_at": write_moment(at(0)),
                **fields,
            }
        )

    assert page.rows == [
        row(0, state="read", delivered_at=write_moment(at(1)), read_at=write_moment(at(2))),
        row(
            1, state="failed", failed_at=write_moment(at(3)), error_code="optedOut", error_title="",
            failure_reason="The recipient had opted out when it was the message's turn.",
            what_to_do="Leave them out: only they can opt in again.",
        ),
        row(
            2, state="failed", failed_at=write_moment(at(4)), error_code="7", error_title="Odd", failure_reason="Odd",
            what_to_do="The title has the provider's own words; its documentation or its support knows more.",
        ),
        row(
            3, state="delivered", country="DE", delivered_at=write_moment(at(9)), failed_at=write_moment(at(4))
        ),
    ]  # fmt: skip
    assert page.next_cursor == 4
    page = await recipients.list_page(connection, stage.app_id, campaign_id, Filter(), 4, 0)
    assert (page.rows, page.next_cursor) == ([], None), "limit 0"


async def tell(stage: Stage, campaign_id: int, seq: int = 0) -> list[dict[str, Any]]:
    story = await recipients.tell_story(stage.connection, stage.app_id, campaign_id, seq)
    assert story.recipient.seq == seq
    return [short(one) for one in story.events]


def short(event: Event) -> dict[str, Any]:
    """The event without what its channel and its defaults say."""
    told: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in told.items() if name != "channelID" and value != "message"}


async def hit(stage: Stage, campaign_id: int, ms: int, agent: str) -> None:
    link = await links.create(stage.connection, stage.app_id, campaign_id, URL)
    made = Click(
        stage.app_id, str(uuid.uuid4()), link.link_key, campaign_id, 0, BEGIN_MS + ms, "GET", agent, ""
    )
    await links.count(stage.connection, stage.app_id, [made])


async def test_a_story_tells_facts_buttons_hits_and_texts_in_order(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    channel, other = await stage.add_channel(), await stage.add_channel()
    campaign_id = await a_campaign(stage, channel, "+85291000000", "+85291000001")
    later = BEGIN_MS + timedelta(days=7) // timedelta(milliseconds=1)
    await stage.apply(
        channel, says("m-0", "delivered", 1000), says("m-0", "read", 2000), ButtonClick("Yes", "m-0", at_ms=BEGIN_MS + 3000),
        Identity("user-1", "+85291000000"),
        TextReply("How much?", "t-1", "m-0", BEGIN_MS + 4000, "85291000000"),
        TextReply("By name", "t-2", None, BEGIN_MS + 5000, "user-1"),
        TextReply("Before", "t-3", None, BEGIN_MS - 1, "85291000000"),
        TextReply("Of another message", "t-4", "m-1", BEGIN_MS + 5000, "85291000000"),
        TextReply("Of another person", "t-5", None, BEGIN_MS + 5000, "85291000001"),
        TextReply("A week later", "t-6", None, later, "85291000000"),
    )  # fmt: skip
    await stage.apply(other, TextReply("Elsewhere", "t-7", None, BEGIN_MS + 5000, "85291000000"))
    await hit(stage, campaign_id, 2500, "WhatsApp/2.23")
    await hit(stage, campaign_id, 6000, "Mozilla/5.0")
    assert await tell(stage, campaign_id) == [
        {"kind": "accepted", "at": "2023-11-14T22:13:20.000Z", "words": "Handed over as a WhatsApp message.", "messageID": "m-0"},
        {"kind": "delivered", "at": "2023-11-14T22:13:21.000Z", "words": "Delivered."},
        {"kind": "read", "at": "2023-11-14T22:13:22.000Z", "words": "Read."},
        {
            "kind": "click", "at": "2023-11-14T22:13:22.500Z", "url": URL, "setAside": "preview or crawler: whatsapp",
            "words": f"The link {URL} was fetched: preview or crawler: whatsapp.", "userAgent": "WhatsApp/2.23",
        },
        {"kind": "button", "at": "2023-11-14T22:13:23.000Z", "words": "Chose the button Yes.", "button": "Yes"},
        {"kind": "text", "at": "2023-11-14T22:13:24.000Z", "words": "Answered the message.", "text": "How much?"},
        {"kind": "text", "at": "2023-11-14T22:13:25.000Z", "words": "Wrote a message.", "text": "By name"},
        {
            "kind": "click", "at": "2023-11-14T22:13:26.000Z", "url": URL, "userAgent": "Mozilla/5.0",
            "words": f"Followed the link {URL}.",
        },
    ]  # fmt: skip


async def test_a_story_tells_a_failure_and_that_it_was_delivered_after_all(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, channel := await stage.add_channel(), "+85291000000")
    await stage.apply(channel, says("m-0", "failed", 1000, "optedOut"))
    failed = {
        "kind": "failed", "at": "2023-11-14T22:13:21.000Z", "errorCode": "optedOut", "errorTitle": "",
        "words": "The recipient had opted out when it was the message's turn.",
        "whatToDo": "Leave them out: only they can opt in again.",
    }  # fmt: skip
    assert (await tell(stage, campaign_id))[1:] == [failed]
    await stage.apply(channel, says("m-0", "delivered", 2000))
    failed["words"] += " It was tried again, or delivered after all."
    del failed["whatToDo"]
    assert [one["kind"] for one in await tell(stage, campaign_id)] == ["accepted", "failed", "delivered"]
    assert (await tell(stage, campaign_id))[1] == failed


async def put_handover(stage: Stage, campaign_id: int, status: str, reason: str = "") -> None:
    query = (
        b"insert into handovers (app_id, campaign_id, seq, channel_number, status, due_at, claimed_at, reason) "
        b"values (%(app_id)s, %(campaign_id)s, 0, 1, %(status)s, %(due_at)s, %(due_at)s, %(reason)s) "
        b"on conflict (app_id, campaign_id, seq) do update set status = excluded.status, due_at = excluded.due_at, "
        b"claimed_at = excluded.claimed_at, reason = excluded.reason"
    )
    params = {"campaign_id": campaign_id, "status": status, "due_at": at(60_000), "reason": reason}
    await db.execute(stage.connection, query, {"app_id": stage.app_id, **params})


async def test_a_story_tells_what_a_message_waits_for(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.sent(channel := await stage.add_channel(), None)
    [queued] = await tell(stage, campaign_id)
    assert queued == {"kind": "queued", "at": None, "words": "It waits for its turn."}
    await put_handover(stage, campaign_id, "due", "quiet hours")
    [waiting] = await tell(stage, campaign_id)
    assert waiting == {
        "kind": "waiting",
        "at": "2023-11-14T22:14:20.000Z",
        "words": "It is put off until then: quiet hours.",
    }
    await put_handover(stage, campaign_id, "claimed")
    [sending] = await tell(stage, campaign_id)
    assert sending == {
        "kind": "sending",
        "at": "2023-11-14T22:14:20.000Z",
        "words": "It is on its way to the provider.",
    }
    await stage.apply(channel, says("none", "accepted", 5000, reference=f"tc:{campaign_id}.0"))
    await put_handover(stage, campaign_id, "unknown", "no answer")
    assert [one["kind"] for one in await tell(stage, campaign_id)] == ["accepted"], "its receipt has come"
    await db.execute(
        connection,
        b"update messages set message_id = null where app_id = %(app_id)s",
        {"app_id": stage.app_id},
    )
    assert await tell(stage, campaign_id) == [
        {
            "kind": "unknown",
            "at": "2023-11-14T22:13:25.000Z",
            "words": "Nobody knows whether it went out: no answer.",
            "whatToDo": "Its receipt settles that, or a person who knows: say sent, notSent or resend.",
        }
    ]


async def test_a_story_tells_earlier_attempts_and_the_fallback_to_another_channel(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    channel, spare = await stage.add_channel(), await stage.add_channel("sms")
    campaign_id = await a_campaign(stage, channel, "+85291000000")
    await stage.apply(channel, says("m-0", "failed", 1000, "131026", error_title="Undeliverable"))
    async with connection.transaction():
        await retries.queue_again(
            connection, stage.app_id, campaign_id, spare.channel_number, [0], "fallback"
        )
    await put_handover(stage, campaign_id, "due", "fallback")
    first = [
        {
            "kind": "accepted", "at": "2023-11-14T22:13:20.000Z", "about": "attempt", "messageID": "m-0",
            "words": "An earlier attempt was handed over as a WhatsApp message.",
        },
        {
            "kind": "failed", "at": "2023-11-14T22:13:21.000Z", "about": "attempt", "errorCode": "131026",
            "words": "Failed: Undeliverable. It was tried again, or delivered after all.", "errorTitle": "Undeliverable",
        },
    ]  # fmt: skip
    fallback = {
        "kind": "fallback",
        "at": "2023-11-14T22:14:20.000Z",
        "words": "It did not arrive as a WhatsApp message: it goes out as an SMS instead.",
    }
    waiting = {
        "kind": "waiting",
        "at": "2023-11-14T22:14:20.000Z",
        "words": "It is put off until then: fallback.",
    }
    assert await tell(stage, campaign_id) == [*first, fallback, waiting]
    await db.execute(connection, b"delete from handovers where app_id = %(app_id)s", {"app_id": stage.app_id})
    await stage.apply(spare, says("s-1", "accepted", 5000, reference=f"tc:{campaign_id}.0"))
    await attempts.add(connection, stage.app_id, spare.channel_number, [Part("s-2", campaign_id, 0, 2)])
    await db.execute(
        connection, b"update messages set parts = 2 where app_id = %(app_id)s", {"app_id": stage.app_id}
    )
    await stage.apply(spare, says("s-2", "delivered", 7000))
    await stage.apply(channel, says("m-0", "delivered", 6000))
    assert await tell(stage, campaign_id) == [
        *first,
        fallback | {"at": "2023-11-14T22:13:25.000Z"},
        {"kind": "accepted", "at": "2023-11-14T22:13:25.000Z", "words": "Handed over as an SMS, again.", "messageID": "s-1"},
        {"kind": "delivered", "at": "2023-11-14T22:13:26.000Z", "words": "Delivered."},
        {
            "kind": "delivered", "at": "2023-11-14T22:13:26.000Z", "about": "attempt", "messageID": "m-0",
            "words": "An earlier attempt was delivered.",
        },
        {
            "kind": "delivered", "at": "2023-11-14T22:13:27.000Z", "about": "part", "messageID": "s-2",
            "words": "Part 2 of 2 was delivered.",
        },
    ]  # fmt: skip


async def test_a_position_without_a_recipient_has_no_story(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel(), "+85291000000")
    for seq in (1, 2**31 - 1):
        with pytest.raises(NotFound, match=f"no recipient {seq} of campaign {campaign_id}"):
            await recipients.tell_story(connection, stage.app_id, campaign_id, seq)

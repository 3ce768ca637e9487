"""What the simulated networks and people do: silence, disorder, replies, clicks; and that a seed repeats it."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outside import change, outside, statuses
from tallycast.events import ButtonClick, Receipt, Status
from tallycast.simulator.fates import Happening, draw_fate, draw_hearing
from tallycast.simulator.profiles import PROFILES
from tallycast.simulator.world import is_ours

pytestmark = pytest.mark.anyio

# Fates


@given(
    seed=st.text(max_size=8),
    name=st.sampled_from(sorted(PROFILES)),
    medium=st.sampled_from(["whatsApp", "sms"]),
)
def test_a_fate_hangs_on_its_seed_alone_and_tells_one_story(seed: str, name: str, medium: Any) -> None:
    profile = PROFILES[name]
    fate = draw_fate(profile, medium, seed)
    assert (fate, draw_hearing(profile, seed)) == (
        draw_fate(profile, medium, seed),
        draw_hearing(profile, seed),
    )
    told = {what for _, what in fate.events} & {
        Happening.DELIVERED,
        Happening.READ,
        Happening.FAILED,
        Happening.SENT,
    }
    assert (
        told
        == {
            "read": {Happening.SENT, Happening.DELIVERED, Happening.READ},
            "delivered": {Happening.SENT, Happening.DELIVERED},
            "failed": {Happening.SENT, Happening.FAILED},
            "lost": set(),
        }[fate.became]
    )
    assert (fate.became == "failed") == (fate.code != 0)
    assert medium == "whatsApp" or fate.became != "read"
    assert all(seconds >= 0 for seconds, _ in fate.events)


async def test_a_seed_repeats_a_run_whatever_the_order_and_the_timing() -> None:
    profile = change(failed=0.3, read=0.5, lost=0.2, throttled=0.2)

    async def play(seed: int, numbers: Iterable[int]) -> dict[str, str]:
        async with outside(profile, seed) as ours:
            await asyncio.gather(*(ours.send(f"8529000{n:04d}", reference=f"tc:7.{n}") for n in numbers))
            return {
                line["recipient"]: line["became"] if line["kind"] == "message" else line["code"]
                for line in await ours.ledger()
            }

    first = await play(1, range(60))
    assert len(set(first.values())) == 5
    assert await play(1, reversed(range(60))) == first
    assert await play(2, range(60)) != first


# Silence and disorder


@pytest.mark.parametrize("fields", [{"cut": 1.0}, {"hung": 1.0, "hung_seconds": 0.05}])
async def test_a_message_can_be_taken_without_an_answer(fields: dict[str, Any]) -> None:
    async with outside(change(**fields)) as ours:
        await ours.point()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ours.send()
        assert statuses(await ours.events()) == [Status.ACCEPTED, Status.DELIVERED]
        assert (await ours.ledger())[0]["answer"] == next(iter(fields))
        assert (await ours.summary())["unanswered"] == 1


async def test_receipts_can_be_there_before_the_answer() -> None:
    async with outside(change(early=1.0)) as ours:
        await ours.point()
        await ours.send()
        assert len(ours.heard) == 1
        assert statuses(await ours.events()) == [Status.ACCEPTED, Status.DELIVERED]


async def test_the_news_of_the_reading_can_overtake_that_of_the_delivery() -> None:
    async with outside(change(read=1.0, overtaking=1.0, read_seconds=(0.05, 0.05))) as ours:
        await ours.point()
        await ours.send()
        assert statuses(await ours.events()) == [Status.ACCEPTED, Status.READ, Status.DELIVERED]


async def test_everything_that_is_posted_can_be_repeated() -> None:
    async with outside(change(repeated=1.0, repeated_seconds=(0, 0.05), buttons=1.0)) as ours:
        await ours.point()
        await ours.send()
        events = await ours.events()
        assert Counter(statuses(events)) == {Status.ACCEPTED: 2, Status.DELIVERED: 2}
        clicks = [event for event in events if isinstance(event, ButtonClick)]
        assert (len(clicks), len({click.inbound_id for click in clicks})) == (2, 1)


async def test_a_lost_message_arrives_and_nothing_tells_of_it() -> None:
    async with outside(change(lost=1.0)) as ours:
        await ours.point()
        await ours.send()
        assert await ours.settle() == []
        assert [(line["became"], line["told"]) for line in await ours.ledger()] == [("lost", [])]
        assert (await ours.summary())["messages"] == 1


@pytest.mark.parametrize(
    ("fields", "code"), [({"failed": 1.0, "failures": (131026,)}, "131026"), ({"opted_out": 1.0}, "131050")]
)
async def test_a_failed_message_reaches_no_handset(fields: dict[str, Any], code: str) -> None:
    async with outside(change(**fields)) as ours:
        await ours.point()
        await ours.send()
        failed = [event for event in await ours.events() if isinstance(event, Receipt) and event.error_code]
        assert [(event.status, event.error_code) for event in failed] == [(Status.FAILED, code)]
        summary = await ours.summary()
        assert (summary["taken"], summary["failed"], summary["messages"], summary["handsets"]) == (1, 1, 0, 0)


# People


async def test_a_person_opens_every_link_of_ours_and_no_other() -> None:
    async with outside(change(clicks=1.0, previews=1.0)) as ours:
        await ours.point()
        await ours.send()
        await ours.send_text("85290000002", f"See {ours.own_url}/r/abc. Or https://example.com/x")
        hits = [heard for heard in await ours.settle() if heard.method == "GET"]
        assert Counter(heard.path for heard in hits) == {"/r/Zk3vQ9": 2, "/r/abc": 2}
        assert Counter(heard.headers["user-agent"].split("/")[0] for heard in hits) == {
            "Mozilla": 2,
            "WhatsApp": 2,
        }
        assert [(line["clicks"], line["previews"]) for line in await ours.ledger()] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("link", "is_opened"),
    [
        ("https://shop.example.com/r/abc", True),
        ("https://shop.example.com.evil.example/r/abc", False),
        ("https://example.com/x", False),
        ("http://127.0.0.1:8080/r/abc", True),
        ("http://localhost/r/abc", True),
        ("http://[::1]/r/abc", True),
        ("http://192.0.2.1/r/abc", False),
        ("http://[/r/abc", False),
    ],
)
def test_a_rehearsal_visits_no_site_of_the_world(link: str, is_opened: bool) -> None:
    assert is_ours(link, "https://shop.example.com") is is_opened


@pytest.mark.parametrize(("contextless", "has_context"), [(0.0, True), (1.0, False)])
async def test_a_button_click_carries_its_payload_and_mostly_its_message(
    contextless: float, has_context: bool
) -> None:
    async with outside(change(buttons=1.0, contextless=contextless)) as ours:
        await ours.point()
        _, answer = await ours.send()
        [click] = [event for event in await ours.events() if isinstance(event, ButtonClick)]
        assert (click.reference, click.button in {"yes", "no"}) == ("tc:7.0", True)
        assert click.message_id == (answer["messages"][0]["id"] if has_context else None)


async def test_people_stop_by_text_or_by_preference_and_get_no_marketing_from_then_on() -> None:
    async with outside(change(stop_texts=1.0, stop_preferences=1.0, nameless=1.0)) as ours:
        await ours.point()
        await ours.send()
        values = [
            change["value"]
            for post in await ours.settle()
            for change in json.loads(post.body)["entry"][0]["changes"]
        ]
        [text] = [one for value in values for one in value.get("messages", [])]
        assert (text["text"], "from" in text, text["from_user_id"]) == (
            {"body": "STOP"},
            False,
            "US.9000085290000001",
        )
        [preference] = [one for value in values for one in value.get("user_preferences", [])]
        assert (preference["value"], preference["wa_id"]) == ("stop", "85290000001")
        await ours.send()
        await ours.settle()
        assert [line["failureCode"] for line in await ours.ledger()] == [None, 131050]

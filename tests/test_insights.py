"""Insights: each figure from the rows, in agreement with the summary; and the recipients behind each figure."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage import BEGIN_MS, Stage, at, make_stage, says, until_blocked
from tallycast import audit, db, insights, links, messages, recipients
from tallycast.channels import Channel
from tallycast.errors import NotFound
from tallycast.events import ButtonClick
from tallycast.failures import Cause
from tallycast.insights import ButtonUse, Country, Funnel, Insights, LinkUse, Point, Timeline
from tallycast.links import Click
from tallycast.messages import Entry
from tallycast.moments import write_moment
from tallycast.recipients import STANDINGS, Filter
from tallycast.references import TRIAL_SEQ
from tallycast.sql import load

pytestmark = pytest.mark.anyio
URL = "https://shop.example.com/sale"
OTHER_URL = "https://shop.example.com/help"
PERSON = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"


async def click(stage: Stage, campaign_id: int, seq: int, ms: int = 0, url: str = URL, **fields: str) -> None:
    link = await links.create(stage.connection, stage.app_id, campaign_id, url)
    said = {"method": "GET", "user_agent": PERSON, "purpose": "", **fields}
    hit = Click(stage.app_id, str(uuid.uuid4()), link.link_key, campaign_id, seq, BEGIN_MS + ms, **said)
    await links.count(stage.connection, stage.app_id, [hit])


async def record_numbers(stage: Stage, campaign_id: int, *numbers: str) -> None:
    """Messages x-0, x-1 … to these numbers."""
    lines = [messages.check_entry(n, msgspec.UNSET, Entry(one, f"x-{n}")) for n, one in enumerate(numbers)]
    rows, rejected = messages.parse_rows(lines)
    assert rejected == []
    async with stage.connection.transaction():
        await messages.record(stage.connection, stage.app_id, campaign_id, rows)


async def a_campaign(stage: Stage, channel: Channel) -> int:
    """Eight recipients: two have read, one has it, two failed, two wait (one of them chose a button), one is queued."""
    ids = ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5", "m-6", None]
    campaign_id = await stage.sent(channel, *ids, date=write_moment(at(0)))
    await stage.apply(
        channel,
        says("m-0", "delivered", 1000), says("m-0", "read", 4000), says("m-1", "read", 2000),
        says("m-2", "delivered", 3000), says("m-2", "failed", 1000, "131026"),
        says("m-3", "failed", 1000, "131026", error_title="Undeliverable"), says("m-4", "failed", 5000),
        ButtonClick("Yes", "m-0"), ButtonClick("No", "m-0"), ButtonClick("Yes", "m-5"), ButtonClick("Yes", "m-5"),
    )  # fmt: skip
    await click(stage, campaign_id, 0, 4500)
    await click(stage, campaign_id, 0, 4600)
    await click(stage, campaign_id, 1, 6000)
    await click(stage, campaign_id, 1, 6000, OTHER_URL)
    await click(stage, campaign_id, 2, 100, user_agent="WhatsApp/2.23")
    await click(stage, campaign_id, 2, 100, purpose="prefetch;one")
    await click(stage, campaign_id, 2, 100, purpose="prefetch;two")
    await click(stage, campaign_id, TRIAL_SEQ, 100)
    return campaign_id


FUNNEL = Funnel(
    total=8, queued=1, pending=2, sent=7, delivered=3, read=2, failed=2, unknown=0, replied=7, replied_people=3,
    clicked_people=2, delivered_rate=0.4286, failed_rate=0.2857, read_rate=0.6667, replied_rate=1.0, clicked_rate=0.6667,
)  # fmt: skip


async def test_each_figure_of_a_campaign_is_what_its_rows_say(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    key = (connection, stage.app_id, campaign_id)
    assert await insights.find_funnel(*key) == FUNNEL
    assert await insights.find_timeline(*key) == Timeline(
        1,
        [
            Point(write_moment(at(0)), accepted=7),
            Point(write_moment(at(1000)), delivered=1, failed=1),
            Point(write_moment(at(2000)), delivered=1, read=1),
            Point(write_moment(at(3000)), delivered=1),
            Point(write_moment(at(4000)), read=1, clicks=2),
            Point(write_moment(at(5000)), failed=1),
            Point(write_moment(at(6000)), clicks=2),
        ],
    )
    assert await insights.list_countries(*key) == [Country("HK", 8, 3, 2, 2)]
    set_aside = {"prefetch": 2, "preview or crawler: whatsapp": 1, "test message": 1}
    assert await insights.list_links(*key) == [
        LinkUse(URL, 7, 3, 2, set_aside),
        LinkUse(OTHER_URL, 1, 1, 1, {}),
    ]
    assert await insights.list_buttons(*key) == [ButtonUse("Yes", 2), ButtonUse("No", 1)]
    assert await insights.list_failures(*key) == [
        Cause(
            "", "", 1, "", retryable=False, provider="generic",
            what_to_do="The title has the provider's own words; its documentation or its support knows more.",
        ),
        Cause(
            "131026", "Undeliverable", 1, "", retryable=False, provider="generic",
            what_to_do="The title has the provider's own words; its documentation or its support knows more.",
        ),
    ]  # fmt: skip
    found = await insights.find_all(*key)
    assert (found.funnel, found.countries) == (FUNNEL, [Country("HK", 8, 3, 2, 2)])
    assert await stage.drift() == []


async def test_countries_are_told_apart_the_largest_first(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(channel := await stage.add_channel())
    # +883 is a network of no country.
    numbers = ["+447911123456", "+85291000000", "+85291000001", "+883510000000001", "+85291000002"]
    await record_numbers(stage, campaign_id, *numbers)
    await stage.apply(channel, says("x-1", "read"), says("x-2", "failed"), says("x-3", "delivered"))
    found = await insights.list_countries(connection, stage.app_id, campaign_id)
    assert found == [Country("HK", 3, 1, 1, 1), Country("", 1, 1, 0, 0), Country("GG", 1, 0, 0, 0)]
    assert await behind(stage, campaign_id, country="") == [3]


async def test_a_link_that_nobody_has_followed_and_a_campaign_of_nothing_are_shown(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel())
    await links.create(connection, stage.app_id, campaign_id, URL)
    found = await insights.find_all(connection, stage.app_id, campaign_id)
    assert found == Insights(
        found.computed_at,
        Funnel(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None, None, None, None, None),
        Timeline(1, []), [], [LinkUse(URL, 0, 0, 0, {})], [], [],
    )  # fmt: skip


async def behind(stage: Stage, campaign_id: int, limit: int = 200, **fields: Any) -> list[int]:
    """The positions of all whom a filter lists, page by page."""
    seqs: list[int] = []
    cursor: int | None = 0
    while cursor is not None:
        page = await recipients.list_page(
            stage.connection, stage.app_id, campaign_id, Filter(**fields), cursor, limit
        )
        assert len(page.rows) <= limit
        seqs += [one.seq for one in page.rows]
        cursor = page.next_cursor
    return seqs


async def check_figures(stage: Stage, campaign_id: int, limit: int) -> None:
    """Every figure of a campaign is as large as the list of the recipients behind it."""
    found = await insights.find_all(stage.connection, stage.app_id, campaign_id)
    figures: dict[str, int] = {one: getattr(found.funnel, one, 0) for one in STANDINGS}
    figures |= {"replied": found.funnel.replied_people, "clicked": found.funnel.clicked_people}
    wanted: list[tuple[dict[str, Any], int]] = [({"state": one}, n) for one, n in figures.items()]
    wanted.append(({}, found.funnel.total))
    for one in found.countries:
        wanted.append(({"country": one.country}, one.total))
        wanted += [
            ({"country": one.country, "state": state}, getattr(one, state))
            for state in ("delivered", "read", "failed")
        ]
    wanted += [({"link": one.url}, one.people) for one in found.links]
    wanted += [({"button": one.button}, one.people) for one in found.buttons]
    wanted += [
        ({"error_code": one.code, "error_title": one.title, "provider": one.provider}, one.count)
        for one in found.failures
    ]
    for fields, figure in wanted:
        listed = await behind(stage, campaign_id, limit, **fields)
        assert (fields, len(listed), listed) == (fields, figure, sorted(set(listed)))


async def test_every_figure_has_a_filter_that_lists_exactly_the_people_behind_it(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    await check_figures(stage, campaign_id, 2)
    expected: dict[str, list[int]] = {
        "queued": [7], "pending": [5, 6], "sent": [0, 1, 2, 3, 4, 5, 6], "delivered": [0, 1, 2], "read": [0, 1],
        "failed": [3, 4], "unknown": [], "replied": [0, 1, 5], "clicked": [0, 1],
    }  # fmt: skip
    assert {one: await behind(stage, campaign_id, state=one) for one in STANDINGS} == expected
    assert await behind(stage, campaign_id, link=OTHER_URL) == [1]
    assert await behind(stage, campaign_id, link="https://shop.example.com/unknown") == []
    assert await behind(stage, campaign_id, button="No") == [0]
    assert await behind(stage, campaign_id, error_code="131026") == [3], "delivered after all: not failed"
    assert await behind(stage, campaign_id, error_code="") == [4]
    assert await behind(stage, campaign_id, error_code="131026", state="read") == []


@pytest.mark.parametrize("portion", [1, 2, 3, 100])
async def test_conditions_of_several_kinds_list_whom_all_of_them_list(
    connection: db.Connection, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(recipients, "_PORTION", portion)
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    for limit in (1, 2, 200):
        assert await behind(stage, campaign_id, limit, button="Yes", state="clicked") == [0]
        assert await behind(stage, campaign_id, limit, button="Yes", state="pending") == [5]
        assert await behind(stage, campaign_id, limit, link=URL, state="replied", country="HK") == [0, 1]
        assert await behind(stage, campaign_id, limit, link=URL, state="read", number="+85291000001") == [1]
        assert await behind(stage, campaign_id, limit, button="No", country="DE") == []


PEOPLE = st.integers(0, 5)
SAYING = st.one_of(
    st.tuples(
        st.sampled_from(["accepted", "delivered", "read", "failed"]), PEOPLE,
        st.sampled_from([0, 900, 86_400_000]), st.sampled_from([None, "131026", "470"]),
    ),
    st.tuples(st.just("button"), PEOPLE, st.just(0), st.sampled_from(["Yes", "No"])),
    st.tuples(st.just("click"), PEOPLE, st.sampled_from([0, 5000]), st.sampled_from([PERSON, "WhatsApp/2", ""])),
)  # fmt: skip


@settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(sayings=st.lists(SAYING, max_size=16), limit=st.integers(1, 4))
async def test_after_any_facts_the_figures_are_the_audits_and_the_people_behind_them_are_listed(
    connection: db.Connection, sayings: list[tuple[str, int, int, str | None]], limit: int
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-0", "m-1", "m-2", "m-3", None, date=write_moment(at(0)))
    for kind, person, ms, said in sayings:
        if kind == "click":
            await click(stage, campaign_id, person, ms, user_agent=said or "")
        elif kind == "button":
            await stage.apply(channel, ButtonClick(said or "", f"m-{person}"))
        else:
            await stage.apply(channel, says(f"m-{person}", kind, ms, said if kind == "failed" else None))
        if person == 0:  # something older is kept
            await insights.find_all(connection, stage.app_id, campaign_id)
    # Another code of the same failure shows later only, and a slow machine has patience.
    await kept(stage, seconds=0, computed_at=datetime.now(UTC) - timedelta(minutes=10))
    found = await insights.find_all(connection, stage.app_id, campaign_id)
    params = {"app_id": stage.app_id, "campaign_ids": [campaign_id]}
    [(_, counted, recounted, _)] = await db.fetch_rows(connection, load("audit")["recount"], params)
    assert counted == recounted
    told = dict(zip(audit.FIELDS, recounted, strict=True))
    funnel = found.funnel
    assert [funnel.total, funnel.queued, funnel.pending, funnel.delivered, funnel.read, funnel.failed] == [
        told[name] for name in ("totalRecipients", "queued", "pending", "delivered", "read", "failed")
    ]
    assert funnel.replied == told["buttonReplies"] + told["clicks"]
    points = found.timeline.points
    sums = [
        sum(getattr(one, name) for one in points)
        for name in ("accepted", "delivered", "read", "failed", "clicks")
    ]
    assert sums == [funnel.sent, funnel.delivered, funnel.read, funnel.failed, told["clicks"]]
    assert sum(one.clicks for one in found.links) == told["clicks"]
    assert sum(one.hits for one in found.links) == sum(kind == "click" for kind, *_ in sayings)
    assert all(one.hits == one.clicks + sum(one.set_aside.values()) for one in found.links)
    assert sum(one.people for one in found.buttons) == told["buttonReplies"]
    assert sum(one.count for one in found.failures) == funnel.failed
    assert sum(one.total for one in found.countries) == funnel.total
    if all(person < 5 for kind, person, *_ in sayings if kind == "click"):  # a link of nobody's has nobody
        await check_figures(stage, campaign_id, limit)


async def kept(stage: Stage, **columns: Any) -> dict[str, datetime]:
    """When each side was computed that is kept; first its columns are changed behind its back."""
    if columns:
        names = ", ".join(f"{name} = %({name})s" for name in columns)
        query = f"update insights set {names} where app_id = %(app_id)s"
        await db.execute(stage.connection, query.encode(), {"app_id": stage.app_id, **columns})
    query = "select name, computed_at from insights where app_id = %(app_id)s"
    return dict(await db.fetch_rows(stage.connection, query.encode(), {"app_id": stage.app_id}))


async def test_what_was_computed_is_shown_until_the_campaign_changes(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, channel := await stage.add_channel())
    key = (connection, stage.app_id, campaign_id)
    shown = await insights.find_all(*key)
    first = await kept(stage, seconds=0)
    assert set(first) == {"people", "timeline", "countries", "links", "buttons", "failures"}
    again = await insights.find_all(*key)
    second = await kept(stage)
    assert again == shown
    assert second | {"links": first["links"]} == first, "hits that are set aside change no count"
    await stage.apply(channel, says("m-6", "delivered"))
    await kept(stage, seconds=0)
    assert (await insights.list_countries(*key))[0].delivered == 4
    third = await kept(stage)
    assert third | {"countries": second["countries"]} == second
    assert third["countries"] > second["countries"]


async def test_what_took_long_to_compute_is_shown_a_while_longer_though_the_campaign_moves(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, channel := await stage.add_channel())
    key = (connection, stage.app_id, campaign_id)
    await insights.list_countries(*key)
    await stage.apply(channel, says("m-6", "delivered"))
    await kept(stage, seconds=100, computed_at=datetime.now(UTC) - timedelta(seconds=5))
    assert (await insights.list_countries(*key))[0].delivered == 3
    await kept(stage, seconds=100, computed_at=datetime.now(UTC) - timedelta(seconds=11))
    assert (await insights.list_countries(*key))[0].delivered == 4, "ten seconds are the most"
    await stage.apply(channel, says("m-5", "delivered"))
    await kept(stage, seconds=0.3, computed_at=datetime.now(UTC) - timedelta(seconds=5))
    assert (await insights.list_countries(*key))[0].delivered == 5, "what is had for less is had anew"


async def test_what_changes_without_the_counts_shows_after_ten_minutes(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, channel := await stage.add_channel())
    key = (connection, stage.app_id, campaign_id)
    await insights.list_failures(*key)
    await stage.apply(channel, says("m-3", "failed", 0, "470"))
    await kept(stage, seconds=0, computed_at=datetime.now(UTC) - timedelta(minutes=9))
    assert [one.code for one in await insights.list_failures(*key)] == ["", "131026"]
    await kept(stage, seconds=0, computed_at=datetime.now(UTC) - timedelta(minutes=10))
    assert [one.code for one in await insights.list_failures(*key)] == ["", "470"]


async def test_who_comes_while_a_side_is_computed_waits_and_takes_that(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    async with db.connect(database_url) as other:
        async with connection.transaction():
            first = await insights.find_timeline(connection, stage.app_id, campaign_id)
            second = asyncio.create_task(insights.find_timeline(other, stage.app_id, campaign_id))
            async with db.connect(database_url) as watcher:
                await until_blocked(watcher, other)
            noted = (await kept(stage))["timeline"]
        assert await second == first
    assert (await kept(stage))["timeline"] == noted


async def test_nothing_of_a_campaign_is_kept_before_it_is_sent(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.sent(await stage.add_channel(), None, None)
    found = await insights.find_all(connection, stage.app_id, campaign_id)
    assert (found.funnel.queued, found.countries) == (2, [Country("HK", 2, 0, 0, 0)])
    assert await kept(stage) == {}


async def test_another_apps_campaign_is_unknown(connection: db.Connection) -> None:
    stage, other = await make_stage(connection), await make_stage(connection)
    campaign_id = await a_campaign(stage, await stage.add_channel())
    await insights.find_all(connection, stage.app_id, campaign_id)
    key = (connection, other.app_id, campaign_id)
    for ask in (
        insights.find_funnel, insights.find_timeline, insights.list_countries, insights.list_links, insights.list_buttons,
        insights.list_failures, insights.find_all,
    ):  # fmt: skip
        with pytest.raises(NotFound, match=f"no campaign {campaign_id}"):
            await ask(*key)
    with pytest.raises(NotFound, match=f"no campaign {campaign_id}"):
        await recipients.list_page(*key, Filter(), 0, 10)
    with pytest.raises(NotFound, match=f"no campaign {campaign_id}"):
        await recipients.tell_story(*key, 0)


@pytest.mark.parametrize(
    ("seconds", "width"),
    [
        (0, 1), (149, 1), (150, 2), (299, 2), (300, 5), (3600, 30), (86_400, 600), (7 * 86_400, 7200), (30 * 86_400, 21_600),
        (365 * 86_400, 7 * 86_400), (100 * 365 * 86_400, 364 * 86_400),
    ],
)  # fmt: skip
def test_a_timeline_has_the_finest_points_of_which_no_more_than_150_are_needed(
    seconds: int, width: int
) -> None:
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    assert insights.choose_width(begin, begin + timedelta(seconds=seconds)) == width

"""The rules of counting, against a naive recount: whatever comes, in whatever order, however often, over many
connections at once, while messages are being recorded, always ends in the same counts and the same facts.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recount import Recipient, Said, Totals, recount, totals_of
from stage import BEGIN_MS, COUNTS, Stage, at, make_stage
from tallycast import db, links, receipts
from tallycast.channels import Channel
from tallycast.events import ButtonClick, Event, Receipt, Status
from tallycast.links import Click, Link
from tallycast.moments import write_moment
from tallycast.receipts import Arrival
from tallycast.references import write_reference

pytestmark = pytest.mark.anyio
# The same examples each time, unless more are asked for: RULES_EXAMPLES=5000 make test ARGS="tests/test_rules.py -n 0"
EXAMPLES = int(os.environ.get("RULES_EXAMPLES", "0"))
WORKERS = 3
PHASES = 4
NEVER = PHASES
TIMES = st.integers(0, 3)
PERSON = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
HITS = [  # method, user agent, purpose, whether a person made it
    ("GET", PERSON, "", True),
    ("GET", PERSON, "prefetch", False),
    ("HEAD", PERSON, "", False),
    ("GET", "WhatsApp/2.23.20.0", "", False),
]


@dataclass(frozen=True)
class Planned:
    """A message of a story: in which phase it is recorded, and in which one its id is given, if ever."""

    name: str
    recorded_in: int
    named_in: int


@dataclass(frozen=True)
class Plan:
    channel: int
    dated: int | None
    messages: list[Planned]


@dataclass(frozen=True)
class Saying:
    """An event about message `index` of `campaign`, or about a stranger's message."""

    campaign: int
    index: int
    kind: str
    at: int | None
    code: str | None
    title: str | None
    button: str
    how: str


@dataclass(frozen=True)
class Delivery:
    """A saying (or, beyond them, a hit) on its way: when, by which worker, in which batch."""

    what: int
    phase: int
    worker: int
    batch: int
    arrived: int


@dataclass(frozen=True)
class Story:
    campaigns: list[Plan]
    sayings: list[Saying]
    hits: list[tuple[int, int]]
    deliveries: list[Delivery]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    recorded = sorted(draw(st.lists(st.integers(0, NEVER), min_size=1, max_size=4)))
    planned = [
        Planned(f"m{n}", phase, draw(st.one_of(st.just(phase), st.integers(phase, NEVER))))
        for n, phase in enumerate(recorded)
    ]
    return Plan(draw(st.integers(0, 1)), draw(st.none() | TIMES), planned)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    campaigns = draw(st.lists(plans(), min_size=1, max_size=3))
    saying = st.builds(
        Saying,
        campaign=st.integers(0, len(campaigns) - 1),
        index=st.integers(0, 4),
        kind=st.sampled_from(["accepted", "delivered", "read", "failed", "button"]),
        at=st.none() | TIMES,
        code=st.sampled_from([None, "131026", "470"]),
        title=st.sampled_from([None, "Undeliverable"]),
        button=st.sampled_from(["Yes", "No"]),
        how=st.sampled_from(["id", "id", "reference", "both"]),
    )
    sayings = draw(st.lists(saying, min_size=1, max_size=24))
    hits = draw(
        st.lists(st.tuples(st.integers(0, len(campaigns) - 1), st.integers(0, len(HITS) - 1)), max_size=4)
    )
    everything = list(range(len(sayings) + len(hits)))
    repeats = draw(st.lists(st.sampled_from(everything), max_size=12))
    deliveries = [
        Delivery(
            what,
            draw(st.integers(0, PHASES - 1)),
            draw(st.integers(0, WORKERS - 1)),
            draw(st.integers(0, 2)),
            draw(TIMES),
        )
        for what in draw(st.permutations(everything + repeats))
    ]
    return Story(campaigns, sayings, hits, deliveries)


@dataclass
class Telling:
    """A story on its way into the database, with a note of all that was said for the recount."""

    story: Story
    stage: Stage
    workers: list[db.Connection]
    channels: list[Channel]
    campaign_ids: list[int] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    clicked: dict[int, set[int]] = field(default_factory=dict)

    async def tell(self) -> None:
        for plan in self.story.campaigns:
            date = None if plan.dated is None else write_moment(at(plan.dated))
            campaign_id = await self.stage.add_campaign(self.channels[plan.channel], date)
            self.campaign_ids.append(campaign_id)
            url = "https://shop.example.com/sale"
            self.links.append(await links.create(self.stage.connection, self.stage.app_id, campaign_id, url))
        for phase in range(PHASES):
            work: list[Awaitable[None]] = [self._record(phase)]
            work += [self._deliver(phase, worker) for worker in range(WORKERS)]
            await asyncio.gather(*work)

    async def _record(self, phase: int) -> None:
        for plan, campaign_id in zip(self.story.campaigns, self.campaign_ids, strict=True):
            for n, message in enumerate(plan.messages):
                if phase in {message.recorded_in, message.named_in} and message.recorded_in <= phase:
                    message_id = self._id(plan, n) if message.named_in == phase else None
                    await self.stage.record(campaign_id, [message_id], n, self.workers[-1])
            await self._check(self.workers[-1])

    async def _deliver(self, phase: int, worker: int) -> None:
        connection = self.workers[worker]
        for batch in range(3):
            here = [
                one
                for one in self.story.deliveries
                if (one.phase, one.worker, one.batch) == (phase, worker, batch)
            ]
            arrivals = [arrival for one in here if (arrival := self._arrive(one, phase)) is not None]
            if arrivals:
                await receipts.apply(connection, self.stage.app_id, arrivals)
                await self._check(connection)
            clicks = [click for one in here if (click := self._click(one)) is not None]
            if clicks:
                await links.count(connection, self.stage.app_id, clicks)
                await self._check(connection)

    def _id(self, plan: Plan, index: int) -> str:
        """Ids are unique in a channel only: the other channel's messages have the same ones."""
        same_channel = [other for other in self.story.campaigns if other.channel == plan.channel]
        position = next(n for n, other in enumerate(same_channel) if other is plan)
        return f"{position}.{index}"

    def _arrive(self, delivery: Delivery, phase: int) -> Arrival | None:
        if delivery.what >= len(self.story.sayings):
            return None
        saying = self.story.sayings[delivery.what]
        plan, campaign_id = self.story.campaigns[saying.campaign], self.campaign_ids[saying.campaign]
        # A reference is read from tallycast, so it exists only once the message does.
        is_known = saying.index < len(plan.messages) and plan.messages[saying.index].recorded_in < phase
        reference = write_reference(campaign_id, saying.index) if is_known and saying.how != "id" else None
        message_id: str | None = self._id(plan, saying.index)
        at_ms = None if saying.at is None else BEGIN_MS + saying.at
        arrived_ms = BEGIN_MS + delivery.arrived
        event: Event
        if saying.kind == "button":
            message_id = None if saying.how == "reference" and reference else message_id
            event = ButtonClick(saying.button, message_id, reference, at_ms)
        else:
            failed = saying.kind == "failed"
            code, title = (saying.code, saying.title) if failed else (None, None)
            assert message_id is not None
            event = Receipt(message_id, Status(saying.kind), at_ms, code, title, reference)
        self.said.append(
            Said(
                plan.channel, saying.kind, delivery.arrived if saying.at is None else saying.at, message_id,
                (campaign_id, saying.index) if reference else None, saying.code or "", saying.title or "", saying.button,
            )
        )  # fmt: skip
        return Arrival(self.stage.app_id, self.channels[plan.channel].channel_number, arrived_ms, [event])

    def _click(self, delivery: Delivery) -> Click | None:
        n = delivery.what - len(self.story.sayings)
        if n < 0:
            return None
        campaign, kind = self.story.hits[n]
        method, agent, purpose, is_person = HITS[kind]
        link = self.links[campaign]
        if is_person:
            self.clicked.setdefault(campaign, set()).add(n)
        return Click(
            link.app_id,
            str(UUID(int=n)),
            link.link_key,
            link.campaign_id,
            0,
            BEGIN_MS,
            method,
            agent,
            purpose,
        )

    async def _check(self, connection: db.Connection) -> None:
        """After every batch: the states add up, and the counts are what the rows say, within one snapshot."""
        query = f"select {COUNTS} from counts where app_id = %(app_id)s"
        for row in await db.fetch_rows(connection, query.encode(), {"app_id": self.stage.app_id}):
            found = Totals(*row)
            assert found.delivered + found.pending + found.failed + found.queued == found.total
        assert await Stage(connection, self.stage.app_id).drift() == []

    def expect(self) -> tuple[list[Recipient], list[Said]]:
        recipients = []
        for plan, campaign_id in zip(self.story.campaigns, self.campaign_ids, strict=True):
            for n, message in enumerate(plan.messages):
                if message.recorded_in < NEVER:
                    one = Recipient(plan.channel, campaign_id, n)
                    if message.named_in < NEVER:
                        one.message_id = self._id(plan, n)
                        # Without a date the hand-over is now, long after every receipt of these stories.
                        one.handed_at = [10_000 if plan.dated is None else plan.dated]
                    recipients.append(one)
        return recipients, recount(recipients, self.said)


def facts_of(message: dict[str, Any]) -> tuple[int | str | None, ...]:
    moments = []
    for name in ("accepted_at", "delivered_at", "read_at", "failed_at"):
        moment = message.get(name)
        late = moment is not None and moment > at(10_000)
        moments.append(10_000 if late else moment and round((moment - at(0)).total_seconds() * 1000))
    return *moments, message.get("error_code", ""), message.get("error_title", "")


@pytest.fixture(scope="module")
async def workers(database_url: str) -> AsyncIterator[list[db.Connection]]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(db.connect(database_url)) for _ in range(WORKERS + 2)]
        for connection in opened:
            await connection.execute(b"set deadlock_timeout = '20ms'")
        yield opened


@settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(story=stories())
async def test_any_order_any_repetition_and_any_number_of_writers_end_in_the_naive_recount(
    workers: list[db.Connection], story: Story
) -> None:
    stage = await make_stage(workers[0])
    channels = [await stage.add_channel(), await stage.add_channel()]
    telling = Telling(story, stage, workers[1:], channels)
    await telling.tell()

    recipients, left_over = telling.expect()
    for n, campaign_id in enumerate(telling.campaign_ids):
        expected = totals_of(
            (one for one in recipients if one.campaign == campaign_id), len(telling.clicked.get(n, ()))
        )
        counts = await stage.counts(campaign_id)
        assert counts == {name: number for name, number in expected._asdict().items() if number}
    for one in recipients:
        message = await stage.message(one.campaign, one.seq)
        assert message.get("message_id") == one.message_id
        assert facts_of(message) == one.facts()
    assert await stage.parked() == sorted({
        (one.channel, one.message_id, one.button if one.kind == "button" else ""): one.message_id or ""
        for one in left_over
    }.values())  # fmt: skip
    assert await stage.drift() == []

"""The client against a tallycast server."""

import codecs
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from client_library.conftest import Face
from client_library.plain_page import losing_answers
from harness import App, Server, wait_for
from tallycast_client import (
    Client,
    ConnectionFailed,
    Forbidden,
    Message,
    NotFound,
    TallycastError,
    Unauthorized,
    Unprocessable,
)

DAY = datetime(2026, 11, 20, 3, tzinfo=UTC)


@pytest.fixture
def ask(face: Face, app: App) -> Callable[..., Any]:
    """Ask the app's server with either client; `url` is another way there."""

    def ask_with(verb: Callable[[Any], Any], url: str = "") -> Any:
        return face.call(url or app.server_url, verb, app.app_id, app.token)

    return ask_with


@pytest.fixture
def shop(app: App) -> Iterator[Client]:
    with Client(app.server_url, app.app_id, app.token) as shop:
        yield shop


def numbers(count: int) -> list[str]:
    return [f"+852{91000000 + n}" for n in range(count)]


def messages(count: int) -> list[Message]:
    return [Message(number, f"m-{n}") for n, number in enumerate(numbers(count))]


def test_the_summarys_pages_are_followed_to_the_end(ask: Callable[..., Any], app: App) -> None:
    channel = app.add_channel()
    made = [app.record(channel, [f"m-{n}"], date=f"2026-11-{n + 1:02}T03:00:00Z") for n in range(5)]
    found = ask(lambda client: client.sent_campaigns(page_size=2))
    assert [one.id for one in found] == made[::-1]


def test_a_campaigns_figures_are_the_apis(ask: Callable[..., Any], app: App) -> None:
    channel = app.add_channel(sourceName="Marketing")
    app.record(channel, ["m-1", "m-2", "m-3", "m-4"], date="2026-11-20T03:00:00Z", subject="spring")
    app.post_receipts(
        channel,
        {"messageID": "m-1", "status": "read"},
        {"messageID": "m-2", "status": "delivered"},
        {"messageID": "m-3", "status": "failed", "errorCode": 131026},
    )
    [found] = ask(lambda client: client.sent_campaigns())
    [row] = app.summary()
    assert found.id == row["id"]
    assert found.date == DAY
    assert (found.campaign_name, found.channel, found.created_by) == ("Spring sale", "WhatsApp", "Mei")
    assert (found.sender.phone, found.sender.channel_name, found.sender.source_name) == (
        "+85230001234",
        "Shop",
        "Marketing",
    )
    assert (
        found.total_recipients,
        found.delivered,
        found.read,
        found.pending,
        found.failed,
        found.replied,
    ) == (4, 2, 1, 1, 1, 0)
    assert (found.delivered_rate, found.read_rate, found.failed_rate) == (0.5, 0.5, 0.25)
    assert found.extra == {}


def test_the_period_and_the_channel_choose(ask: Callable[..., Any], app: App) -> None:
    whatsapp, sms = app.add_channel(), app.add_channel(type="sms", phone="SHOP", channelName="")
    first = app.record(whatsapp, ["m-1"], date="2026-11-20T03:00:00Z")
    app.record(sms, ["m-2"], date="2026-11-20T04:00:00Z", senderEID="eid-7")
    second = app.record(whatsapp, ["m-3"], date="2026-11-21T03:00:00Z")
    found = ask(lambda client: client.sent_campaigns(start=DAY, channel="whatsApp"))
    assert [one.id for one in found] == [second, first]
    found = ask(lambda client: client.sent_campaigns(start=DAY, end=DAY + timedelta(days=1), channel="sms"))
    assert [(one.channel, one.sender.sender_eid, one.read, one.sent) for one in found] == [
        ("SMS", "eid-7", None, 1)
    ]


def test_recipients_beyond_a_page_come_by_cursor_and_by_status(ask: Callable[..., Any], app: App) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, [f"m-{n}" for n in range(450)])
    app.post_receipts(channel, *({"messageID": f"m-{n}", "status": "delivered"} for n in range(0, 450, 2)))
    found = ask(lambda client: client.recipients(campaign))
    assert [one.recipient for one in found] == numbers(450)
    found = ask(lambda client: client.recipients(campaign, status="Delivered"))
    assert [one.recipient for one in found] == numbers(450)[::2]
    assert {one.status for one in found} == {"Delivered"}


def test_recording_that_loses_its_answer_is_repeated_and_done_once(
    ask: Callable[..., Any], app: App, server: Server
) -> None:
    channel = app.add_channel()
    with losing_answers(server.port, 2) as url:
        made = ask(
            lambda client: client.record_campaign(
                "Spring sale", channel, [*messages(2), Message("12")], date=DAY, created_by="Mei"
            ),
            url,
        )
    assert (made.accepted, [(one.index, one.recipient) for one in made.rejected]) == (2, [(2, "12")])
    assert [row["id"] for row in app.summary()] == [made.id]


def test_a_streamed_list_that_loses_its_answer_is_sent_again_and_kept_once(
    ask: Callable[..., Any], app: App, server: Server
) -> None:
    campaign = app.record(app.add_channel(), [])
    with losing_answers(server.port, 1) as url:
        made = ask(lambda client: client.add_messages(campaign, messages(5000)), url)
    assert (made.id, made.accepted, made.rejected) == (campaign, 5000, ())
    assert app.totals(campaign)["totalRecipients"] == 5000


def test_an_iterator_is_not_sent_again_but_may_be_by_its_owner(
    app: App, server: Server, shop: Client
) -> None:
    campaign = app.record(app.add_channel(), [])
    with (
        losing_answers(server.port, 1) as url,
        Client(url, app.app_id, app.token) as unlucky,
        pytest.raises(ConnectionFailed),
    ):
        unlucky.add_messages(campaign, iter(messages(300)))
    assert shop.add_messages(campaign, iter(messages(300))).accepted == 300
    assert app.totals(campaign)["totalRecipients"] == 300


def test_an_async_client_streams_what_comes_by_itself(app: App) -> None:
    campaign = app.record(app.add_channel(), [])

    async def arriving() -> AsyncIterator[Message]:
        for message in messages(5000):
            yield message

    made = Face(is_async=True).call(
        app.server_url, lambda client: client.add_messages(campaign, arriving()), app.app_id, app.token
    )
    assert made.accepted == 5000


def test_each_message_gets_its_link(ask: Callable[..., Any], app: App) -> None:
    campaign = app.record(app.add_channel(), ["m-1", "m-2"])
    links = ask(lambda client: client.create_links(campaign, "https://shop.example.com/sale"))
    assert [one.recipient for one in links] == numbers(2)
    assert len({one.url for one in links}) == 2


@pytest.fixture
def sms(app: App) -> str:
    """A channel that could send, to nobody."""
    made: str = app.add_channel(
        type="sms", provider="twilio", phone="+15005550006", channelName="",
        credentials={"accountSID": "AC" + "0" * 32, "authToken": "0" * 32},
    )  # fmt: skip
    return made


def test_a_campaign_goes_from_draft_to_cancelled(ask: Callable[..., Any], sms: str, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Mobile,name\n+85291000000,Mei\n+85291000001,Sam\n12,Bo\n")
    draft = ask(
        lambda client: client.create_campaign(
            "Spring sale", "smsDynamic", sms, content="Hi {{name}}", created_by="Mei"
        )
    )
    assert (draft.stage, draft.kind, draft.channel_id, draft.content) == (
        "draft",
        "smsDynamic",
        sms,
        "Hi {{name}}",
    )

    taken = ask(lambda client: client.import_audience(draft.id, file, mapping={"recipient": "Mobile"}))
    assert (taken.state, taken.has_ended, taken.accepted, taken.invalid) == ("done", True, 2, 1)
    assert taken.file_name == "customers.csv"
    assert ask(lambda client: client.audience_import(draft.id, taken.id)) == taken

    preview = ask(lambda client: client.preview(draft.id, limit=1, cost_per_part=0.05))
    assert [(one.recipient, one.text, one.parts) for one in preview.messages] == [
        ("+85291000000", "Hi Mei", 1)
    ]
    assert (preview.total_recipients, preview.parts, preview.cost) == (2, 2, 0.1)

    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    scheduled = ask(lambda client: client.schedule(draft.id, due, note="after lunch"))
    assert (scheduled.stage, scheduled.scheduled_at) == ("scheduled", due)
    assert [one.id for one in ask(lambda client: client.campaigns(stage="scheduled"))] == [draft.id]
    assert ask(lambda client: client.pause(draft.id)).stage == "paused"
    assert ask(lambda client: client.resume(draft.id)).stage == "scheduled"
    cancelled = ask(lambda client: client.cancel(draft.id, "no budget"))
    assert cancelled.stage == "cancelled"
    wait_for(lambda: ask(lambda client: client.campaign(draft.id)).totals.failed == 2)
    assert [one.count for one in ask(lambda client: client.campaign(draft.id)).failures] == [2]


def test_an_import_that_loses_its_answer_takes_the_file_once(
    ask: Callable[..., Any], sms: str, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Recipients Number,name\n+85291000000,Mei\n")
    draft = ask(lambda client: client.create_campaign("Spring sale", "smsDynamic", sms, content="Hi"))
    with losing_answers(server.port, 1) as url:
        taken = ask(lambda client: client.import_audience(draft.id, file), url)
    assert (taken.accepted, taken.duplicate) == (1, 0)


def test_a_file_of_an_unknown_kind_is_refused_before_it_is_sent(shop: Client) -> None:
    with pytest.raises(
        ValueError, match=r"customers.pdf must end in .csv, .tsv, .txt, .xlsx, .ndjson, .jsonl"
    ):
        shop.import_audience("1", "customers.pdf")


def test_what_a_stage_does_not_allow_is_unprocessable(ask: Callable[..., Any], sms: str) -> None:
    draft = ask(lambda client: client.create_campaign("Spring sale", "smsDynamic", sms, content="Hi"))
    with pytest.raises(Unprocessable) as caught:
        ask(lambda client: client.pause(draft.id))
    assert caught.value.status == 422
    assert caught.value.cid


def test_a_campaign_waits_for_somebody_elses_approval(
    app: App, server: Server, shop: Client, sms: str, tmp_path: Path
) -> None:
    app.result("PATCH", "/policy", json={"requiresApproval": True})
    other = json.loads(server.run("token", "create", "--app", app.app_id, "--json"))["token"]
    file = tmp_path / "customers.csv"
    file.write_text("Recipients Number,name\n+85291000000,Mei\n")
    draft = shop.create_campaign(
        "Sale", "smsDynamic", sms, content="Hi", scheduled_at=datetime.now(UTC) + timedelta(days=1)
    )
    shop.import_audience(draft.id, file)
    assert shop.submit(draft.id).stage == "pendingApproval"
    with pytest.raises(Forbidden):
        shop.approve(draft.id)
    with Client(app.server_url, app.app_id, other) as approver:
        assert approver.reject(draft.id, "last year's text").stage == "draft"
        assert shop.submit(draft.id).stage == "pendingApproval"
        assert approver.approve(draft.id).stage == "scheduled"
    shop.cancel(draft.id)


def story(app: App) -> str:
    """A WhatsApp campaign of four with a read, a delivered, a failed and a pending message."""
    channel = app.add_channel()
    made = app.record(channel, ["m-1", "m-2", "m-3", "m-4"], date="2026-11-20T03:00:00Z")
    app.post_receipts(
        channel,
        {"messageID": "m-1", "status": "read", "timestamp": "2026-11-20T03:00:05Z"},
        {"messageID": "m-2", "status": "delivered", "timestamp": "2026-11-20T03:00:04Z"},
        {"messageID": "m-3", "status": "failed", "errorCode": 131026, "timestamp": "2026-11-20T03:00:03Z"},
    )
    return made


def test_insights_show_a_campaign_from_every_side(ask: Callable[..., Any], app: App) -> None:
    campaign = story(app)
    found = ask(lambda client: client.insights(campaign))
    funnel = found.funnel
    assert (funnel.total, funnel.sent, funnel.delivered, funnel.read, funnel.failed) == (4, 4, 2, 1, 1)
    assert (funnel.pending, funnel.queued, funnel.unknown, funnel.delivered_rate) == (1, 0, 0, 0.5)
    assert sum(point.delivered for point in found.timeline.points) == 2
    assert found.timeline.points[0].at.tzinfo == UTC
    assert [(one.country, one.total, one.delivered) for one in found.countries] == [("HK", 4, 2)]
    assert [(one.code, one.count) for one in found.failures] == [("131026", 1)]
    assert (found.extra, funnel.extra, found.failures[0].extra) == ({}, {}, {})
    [summary] = ask(lambda client: client.sent_campaigns())
    assert (summary.delivered_rate, summary.failed_rate) == (funnel.delivered_rate, funnel.failed_rate)
    assert (summary.read_rate, summary.sent) == (funnel.read_rate, funnel.sent)


def test_changes_are_collected_from_all_pages_and_go_on_from_their_cursor(
    ask: Callable[..., Any], app: App
) -> None:
    made = {story(app) for _ in range(3)}
    found = ask(lambda client: client.changes(page_size=2))
    assert {one.id for one in found.campaigns} == made
    assert [(one.delivered, one.queued, one.stage, one.extra) for one in found.campaigns] == [
        (2, 0, None, {})
    ] * 3
    assert found.campaigns[0].changed_at.tzinfo == UTC
    another = story(app)
    assert another in {one.id for one in ask(lambda client: client.changes(found.cursor)).campaigns}


def test_exports_are_written_to_a_file_and_to_a_stream(
    ask: Callable[..., Any], app: App, tmp_path: Path
) -> None:
    campaign = story(app)
    size = ask(lambda client: client.export_recipients(campaign, tmp_path / "people.ndjson", format="ndjson"))
    text = (tmp_path / "people.ndjson").read_bytes()
    assert size == len(text)
    assert [json.loads(line)["state"] for line in text.splitlines()] == [
        "read",
        "delivered",
        "failed",
        "pending",
    ]
    stream = io.BytesIO()
    ask(lambda client: client.export_recipients(campaign, stream, state="failed", excel=True))
    assert stream.getvalue().startswith(codecs.BOM_UTF8)
    assert len(stream.getvalue().splitlines()) == 2
    ask(lambda client: client.export_campaigns(str(tmp_path / "all.csv"), start=DAY, channel="whatsApp"))
    assert (tmp_path / "all.csv").read_text().count(campaign) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"people.ndjson", "all.csv"}


def test_an_export_that_is_refused_leaves_no_file(ask: Callable[..., Any], app: App, tmp_path: Path) -> None:
    assert app.app_id
    with pytest.raises(NotFound):
        ask(lambda client: client.export_recipients("7", tmp_path / "people.csv"))
    assert list(tmp_path.iterdir()) == []


def test_channels_are_listed(ask: Callable[..., Any], app: App) -> None:
    channel = app.add_channel()
    [found] = ask(lambda client: client.channels())
    assert (found.id, found.type, found.channel_name, found.paused) == (channel, "whatsApp", "Shop", None)
    assert found.webhook_url.endswith(f"/webhooks/generic/{channel}")


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        (lambda client: client.campaign("7"), NotFound),
        (lambda client: client.recipients("7"), NotFound),
        (lambda client: client.sent_campaigns(end=DAY, start=DAY + timedelta(days=1)), TallycastError),
    ],
)
def test_refusals_are_the_apis(
    ask: Callable[..., Any], verb: Callable[[Any], Any], kind: type[TallycastError]
) -> None:
    with pytest.raises(kind) as caught:
        ask(verb)
    assert caught.value.cid


def test_a_wrong_token_is_unauthorized(face: Face, app: App) -> None:
    with pytest.raises(Unauthorized):
        face.call(app.server_url, lambda client: client.sent_campaigns(), app.app_id, "wrong")

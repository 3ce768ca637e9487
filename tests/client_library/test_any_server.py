"""The client against a server that has the API page and nothing else."""

import io
import logging
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, assert_type

import pytest

from client_library.conftest import Face
from client_library.plain_page import Fault, PlainPage, campaign
from tallycast_client import (
    NEVER,
    AsyncClient,
    AsyncPages,
    BadRequest,
    Campaign,
    Client,
    ConnectionFailed,
    Forbidden,
    Message,
    NotFound,
    Pages,
    Recipient,
    Retries,
    SentCampaign,
    ServerFailure,
    TallycastError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
    UnreadableAnswer,
)

NOVEMBER = datetime(2022, 11, 1, tzinfo=UTC)


def campaigns(client: Any) -> Any:
    return client.sent_campaigns()


def offsets(page: PlainPage) -> list[str]:
    return [asked.params["offset"] for asked in page.asked]


def test_all_pages_are_read_by_offset_until_one_is_not_full(face: Face, page: PlainPage) -> None:
    page.rows = [campaign(n) for n in range(450)]
    found = face.call(page.url, campaigns)
    assert [one.id for one in found] == [f"c-{n}" for n in range(450)]
    assert offsets(page) == ["0", "200", "400"]
    assert {asked.params["limit"] for asked in page.asked} == {"200"}


def test_a_last_page_that_is_full_is_followed_by_an_empty_one(face: Face, page: PlainPage) -> None:
    page.rows = [campaign(n) for n in range(4)]
    assert len(face.call(page.url, lambda client: client.sent_campaigns(page_size=2))) == 4
    assert offsets(page) == ["0", "2", "4"]


def test_the_request_is_the_pages(page: PlainPage) -> None:
    with Client(page.url + "/", "shop/1", "t0ken") as client:
        hong_kong = timezone(timedelta(hours=8))
        start, end = datetime(2026, 11, 1, tzinfo=hong_kong), datetime(2026, 11, 2, 0, 0, 0, 1000, tzinfo=UTC)
        assert list(client.sent_campaigns(start=start, end=end, channel="whatsApp")) == []
    asked = page.asked[0]
    assert asked.path == "/v1/api/apps/shop%2F1/data/sent-campaigns-summary"
    assert asked.params == {
        "startAt": "2026-10-31T16:00:00.000Z",
        "endAt": "2026-11-02T00:00:00.001Z",
        "channel": "whatsApp",
        "limit": "200",
        "offset": "0",
    }
    assert asked.headers["Authorization"] == "Bearer t0ken"
    assert asked.headers["User-Agent"].startswith("tallycast-client/0.1.0 ")


def test_one_bound_is_sent_with_another_that_is_none(page: PlainPage) -> None:
    with Client(page.url, "app", "t0ken") as client:
        list(client.sent_campaigns(start=NOVEMBER))
        list(client.sent_campaigns(end=NOVEMBER))
    first, second = (asked.params for asked in page.asked)
    assert first["startAt"] == "2022-11-01T00:00:00.000Z"
    assert datetime.fromisoformat(first["endAt"]) > datetime.now(UTC)
    assert (second["startAt"], second["endAt"]) == ("1970-01-01T00:00:00.000Z", "2022-11-01T00:00:00.000Z")


def test_a_datetime_without_a_time_zone_is_refused_before_anything_is_asked(page: PlainPage) -> None:
    with Client(page.url, "app", "t0ken") as client, pytest.raises(ValueError, match="start must be aware"):
        client.sent_campaigns(start=datetime(2026, 11, 1))  # noqa: DTZ001 - the mistake in question
    assert page.asked == []


def test_fields_are_typed_and_what_is_not_known_is_kept(page: PlainPage) -> None:
    page.rows = [campaign(1, totalRecipients="10", id=17, colour="red", sender={"phone": "+852", "mood": 1})]
    with Client(page.url, "app", "t0ken") as client:
        found = next(iter(client.sent_campaigns()))
    assert found.id == "17"
    assert found.date == datetime(2022, 11, 7, tzinfo=UTC)
    assert found.total_recipients == 10
    assert (found.delivered_rate, found.read_rate, found.replies_per_delivered, found.failed_rate) == (
        0.8,
        0.5,
        0.25,
        0.1,
    )
    assert found.extra == {"colour": "red"}
    assert found.sender.extra == {"mood": 1}


def test_fields_that_are_missing_are_none_and_have_no_rate(page: PlainPage) -> None:
    page.rows = [
        {"id": "c-1", "channel": "SMS", "date": "", "sender": None, "totalRecipients": 0, "delivered": 0}
    ]
    with Client(page.url, "app", "t0ken") as client:
        found = next(iter(client.sent_campaigns()))
    assert (found.read, found.subject, found.date, found.sender.phone) == (None, None, None, "")
    assert (found.delivered_rate, found.read_rate) == (None, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"totalRecipients": "many"}, "SentCampaign.totalRecipients must be a whole number, not 'many'"),
        ({"totalRecipients": 1.5}, "a whole number, not 1.5"),
        ({"totalRecipients": True}, "a whole number, not True"),
        ({"date": "yesterday"}, "SentCampaign.date must be a date and time"),
        ({"date": 1667779200}, "a date and time"),
        ({"campaignName": ["a"]}, "campaignName must be a text"),
        ({"sender": "+852"}, "expected an object for Sender"),
        (["c-1"], "expected an object for SentCampaign"),
    ],
)
def test_a_field_that_is_not_what_it_says_is_an_error_with_its_name(
    page: PlainPage, row: dict[str, Any], message: str
) -> None:
    page.rows = [row]
    with Client(page.url, "app", "t0ken") as client, pytest.raises(UnreadableAnswer, match=message):
        list(client.sent_campaigns())


def test_a_campaign_that_arrives_between_two_pages_moves_none_in_twice(page: PlainPage) -> None:
    page.rows = [campaign(n) for n in range(5)]
    with Client(page.url, "app", "t0ken") as client:
        rows = iter(client.sent_campaigns(page_size=2))
        found = [next(rows).id]
        page.rows.insert(0, campaign(99))
        found += [one.id for one in rows]
    assert found == ["c-0", "c-1", "c-2", "c-3", "c-4"]


def test_a_server_that_ignores_offset_is_not_asked_forever(face: Face, page: PlainPage) -> None:
    page.rows = [campaign(n) for n in range(5)]
    page.ignores_offset = True
    with pytest.raises(UnreadableAnswer, match="ignores offset"):
        face.call(page.url, lambda client: client.sent_campaigns(page_size=2))


def test_a_link_to_another_host_does_not_lead_the_token_there(page: PlainPage) -> None:
    link = ("Link", '<https://thief.example.com/x?offset=7&limit=2>; rel="next"')
    page.faults.append(Fault(200, b'{"code": 200, "result": [{"id": "c-0"}]}', (link,)))
    with Client(page.url, "app", "t0ken") as client:
        assert [one.id for one in client.sent_campaigns(page_size=2)] == ["c-0"]
    assert page.asked[1].path == page.asked[0].path
    assert page.asked[1].params == {"offset": "7", "limit": "2"}


def test_where_links_lead_on_a_full_page_without_one_is_the_last(page: PlainPage) -> None:
    page.rows = [campaign(n) for n in range(4)]
    link = ("Link", '</v1/api/apps/app/data/sent-campaigns-summary?limit=2&offset=2>; rel="next"')
    page.faults.append(page.answer({"limit": "2"})._replace(headers=(link,)))
    with Client(page.url, "app", "t0ken") as client:
        assert len(list(client.sent_campaigns(page_size=2))) == 4
    assert offsets(page) == ["0", "2"]


def test_recipients_are_read_by_offset_where_there_is_no_cursor(face: Face, page: PlainPage) -> None:
    page.rows = [
        {"id": "c-1", "recipient": f"+852{n}", "LastUpdatedDateTime": "2026-11-07T00:00:00Z", "numSMS": 2}
        for n in range(5)
    ]
    found = face.call(page.url, lambda client: client.recipients("c-1", status="Delivered", page_size=2))
    assert [one.recipient for one in found] == ["+8520", "+8521", "+8522", "+8523", "+8524"]
    assert (found[0].last_updated, found[0].num_sms) == (datetime(2026, 11, 7, tzinfo=UTC), 2)
    assert [asked.params for asked in page.asked][1] == {
        "historyID": "c-1",
        "status": "Delivered",
        "limit": "2",
        "offset": "2",
    }


HALF = Fault(200, b'{"code": 0, "resu', is_cut=True)
SLOW_DOWN = Fault(200, b'{"code": 6451010, "message": "Too many requests"}')


@pytest.mark.parametrize(
    "fault",
    [Fault(429), Fault(502), Fault(503), Fault(504), Fault(is_cut=True), HALF, SLOW_DOWN],
    ids=["429", "502", "503", "504", "cut", "half an answer", "429 as a code"],
)
def test_a_passing_trouble_is_waited_for(face: Face, page: PlainPage, fault: Fault) -> None:
    page.rows = [campaign(1)]
    page.faults.extend([fault, fault])
    assert len(face.call(page.url, campaigns)) == 1
    assert len(page.asked) == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(400), BadRequest),
        (Fault(401), Unauthorized),
        (Fault(403), Forbidden),
        (Fault(404), NotFound),
        (Fault(409), TallycastError),
        (Fault(413), TooLarge),
        (Fault(422), Unprocessable),
        (Fault(500), ServerFailure),
        (Fault(302, headers=(("Location", "http://127.0.0.1:1/"),)), TallycastError),
        (Fault(200, b'{"code": 6451000, "message": "negative offset"}'), BadRequest),
        (Fault(200, b'{"code": 6450001}'), NotFound),
        (Fault(200, b"<html>"), UnreadableAnswer),
        (Fault(200, b'{"code": 200, "result": {"a": 1}}'), UnreadableAnswer),
    ],
    ids=lambda value: f"{value.status} {value.body.decode()}" if isinstance(value, Fault) else value.__name__,
)
def test_every_other_failure_is_told_at_once(
    face: Face, page: PlainPage, fault: Fault, kind: type[TallycastError]
) -> None:
    page.faults.append(fault)
    with pytest.raises(TallycastError) as caught:
        face.call(page.url, campaigns)
    assert type(caught.value) is kind
    assert len(page.asked) == 1


def test_an_error_says_what_the_server_said(page: PlainPage) -> None:
    page.faults.append(Fault(400, b'{"code": 6451000, "message": "negative limit", "cid": "9f2c"}'))
    with Client(page.url, "app", "t0ken") as client, pytest.raises(BadRequest) as caught:
        list(client.sent_campaigns())
    error = caught.value
    assert (error.status, error.code, error.message, error.cid) == (400, 6451000, "negative limit", "9f2c")
    assert str(error) == "negative limit (HTTP 400, code 6451000, cid 9f2c)"


def test_trouble_that_does_not_pass_is_told_after_the_last_attempt(face: Face, page: PlainPage) -> None:
    page.faults.extend([Fault(503)] * 9)
    with pytest.raises(ServerFailure):
        face.call(page.url, campaigns)
    assert len(page.asked) == 5


def test_a_server_that_is_not_there_is_a_failed_connection(face: Face) -> None:
    with pytest.raises(ConnectionFailed, match="no answer"):
        face.call("http://127.0.0.1:1", campaigns)


def test_retry_after_is_honoured_in_seconds(face: Face, page: PlainPage) -> None:
    page.faults.append(Fault(429, headers=(("Retry-After", "1"),)))
    began = datetime.now(UTC)
    face.call(page.url, campaigns)
    assert datetime.now(UTC) - began >= timedelta(seconds=1)


def test_retry_after_is_honoured_as_a_date(face: Face, page: PlainPage) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    page.faults.append(Fault(503, headers=(("Retry-After", format_datetime(due, usegmt=True)),)))
    face.call(page.url, campaigns)
    assert datetime.now(UTC) >= due
    assert len(page.asked) == 2


def test_a_longer_retry_after_than_there_is_patience_ends_it_and_is_told(page: PlainPage) -> None:
    page.faults.append(Fault(429, headers=(("Retry-After", "3600"),)))
    with Client(page.url, "app", "t0ken") as client, pytest.raises(TooManyRequests) as caught:
        list(client.sent_campaigns())
    assert caught.value.retry_after == 3600
    assert len(page.asked) == 1


def test_a_retry_after_that_says_nothing_is_as_none(page: PlainPage) -> None:
    page.faults.append(Fault(429, headers=(("Retry-After", "soon"),)))
    with Client(page.url, "app", "t0ken", retries=NEVER) as client, pytest.raises(TooManyRequests) as caught:
        list(client.sent_campaigns())
    assert caught.value.retry_after is None


def test_pauses_double_with_jitter_up_to_the_longest() -> None:
    retries = Retries(attempts=9, first_seconds=1, longest_seconds=5)
    trouble = TallycastError("", status=503)
    for attempt, longest in enumerate([1, 2, 4, 5, 5], start=1):
        pauses = {retries.pause(trouble, attempt, 0) for _ in range(50)}
        assert all(pause is not None and longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1
    assert retries.pause(trouble, 9, 0) is None
    assert retries.pause(trouble, 1, 60) is None


def test_what_can_be_sent_only_once_is(face: Face, page: PlainPage) -> None:
    page.faults.append(Fault(503))
    messages = [Message("+85291000000")]
    with pytest.raises(TallycastError):
        face.call(page.url, lambda client: client.add_messages("7", iter(messages)))
    assert len(page.asked) == 1
    page.faults.extend([Fault(503), Fault(201, b'{"code": 200, "result": {"accepted": "1"}}')])
    assert face.call(page.url, lambda client: client.add_messages("7", messages)).accepted == 1
    first, second = (asked.headers["Idempotency-Key"] for asked in page.asked[1:])
    assert first == second


def test_a_download_that_breaks_off_leaves_no_file(face: Face, page: PlainPage, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("as it was")
    page.faults.append(Fault(200, b"recipient\n+852", is_cut=True))
    with pytest.raises(ConnectionFailed):
        face.call(page.url, lambda client: client.export_recipients("c-1", tmp_path / "old.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "as it was"


def test_a_download_is_asked_for_again_while_it_has_not_begun(face: Face, page: PlainPage) -> None:
    page.faults.extend([Fault(503), Fault(200, b"recipient\n")])
    stream = io.BytesIO()
    assert face.call(page.url, lambda client: client.export_campaigns(stream, excel=True)) == 10
    assert stream.getvalue() == b"recipient\n"
    assert page.asked[1].params == {"format": "csv", "excel": "true"}


def test_a_post_without_a_key_would_not_be_repeated() -> None:
    from tallycast_client.steps import Call, create  # noqa: PLC0415 - no part of the package's face

    assert not Call(method="POST", path="/x").is_repeatable
    assert not Call(method="DELETE", path="/x").is_repeatable
    assert create("/x", b"{}").is_repeatable
    assert create("/x", [b"{}"]).is_repeatable
    assert not create("/x", iter([b"{}"])).is_repeatable


def test_the_token_is_in_no_text_and_no_log(page: PlainPage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    page.faults.append(Fault(401))
    with Client(page.url, "app", "s3cr3t") as client, pytest.raises(Unauthorized) as caught:
        list(client.sent_campaigns())
    assert repr(client) == f"Client('{page.url}', app_id='app')"
    assert caplog.records
    assert "s3cr3t" not in f"{caplog.text} {caught.value!r} {vars(client)!r}"


@pytest.mark.parametrize("token", ["", "two words", "line\nend", "中"])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token must be an AppToken$"):
        Client("https://example.com", "app", token)


@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "https://", "https://me:pass@example.com"]
)
def test_a_url_that_cannot_be_a_servers_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must be"):
        Client(url, "app", "t0ken")


def test_a_page_size_beyond_the_pages_limit_is_refused() -> None:
    with (
        Client("https://example.com", "app", "t0ken") as client,
        pytest.raises(ValueError, match="from 1 to 200"),
    ):
        client.sent_campaigns(page_size=201)


async def see_types(client: Client, async_client: AsyncClient) -> None:
    """Not run: the type checker reads here that each face has its types."""
    assert_type(client.sent_campaigns(), Pages[SentCampaign])
    assert_type(async_client.sent_campaigns(), AsyncPages[SentCampaign])
    assert_type(client.campaign("7"), Campaign)
    assert_type(await async_client.campaign("7"), Campaign)
    assert_type([one async for one in async_client.recipients("7")], list[Recipient])
    client.sent_campaigns(since=NOVEMBER)  # type: ignore[call-arg]
    client.pause(7)  # type: ignore[arg-type]


def test_data_frames_say_what_to_install(page: PlainPage) -> None:
    with Client(page.url, "app", "t0ken") as client:
        with pytest.raises(ImportError, match=r"pip install 'tallycast-client\[pandas\]'"):
            client.sent_campaigns().to_pandas()
        with pytest.raises(ImportError, match=r"pip install 'tallycast-client\[polars\]'"):
            client.sent_campaigns().to_polars()

"""Exports as files: what stands in them, read back by readers that are not ours."""

import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import msgspec
import pytest
from pyarrow import parquet

from stage import BEGIN_MS, Stage, at, make_stage, says
from tallycast import db, exports, failures, links, messages, references, reports, sheets
from tallycast.cells import Options
from tallycast.channels import Channel
from tallycast.events import ButtonClick
from tallycast.exports import Format, State
from tallycast.links import Click
from tallycast.messages import Entry
from tallycast.moments import write_moment
from tallycast.workbooks import read_workbook

pytestmark = pytest.mark.anyio
HEADER = [
    "campaignID", "campaignName", "channel", "recipient", "country", "referenceID", "messageID", "state", "status", "parts",
    "acceptedAt", "deliveredAt", "readAt", "failedAt", "errorCode", "failureReason", "buttons", "clicks", "content",
]  # fmt: skip
HOSTILE = {
    "equals": '=HYPERLINK("https://evil.example","click")',
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(A1)",
    "tab": "\t=1",
    "return": "\r=1",
    "newline first": "\n=1",
    "full width": "＝1＋1",  # noqa: RUF001 - what a spreadsheet may take for an equals sign
    "quotes": 'say "hi", or "bye"',
    "lines": "one\ntwo\r\nthree\rfour",
    "controls": "a\x01b\x08c\x1fd\x7fe",
    "markup": "<script>&amp;]]></t></is>",
    "emoji": "👩‍👩‍👧‍👦 party 🎉",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "escape": "_x0041_ stays",
    "backslash": "C:\\new\\table\\N",
    "not characters": "a\ufffeb\uffffc",
    "spaces": "  two before, two behind  ",
    "long": "長い" * 5000,
    "astral": "𠮷" * 20_000,
    "comma": ";,\t|",
    "null": "NULL",
    "number": "0012",
    "percent": "100 % %s %(x)s",
}
FORMULAS = ("equals", "plus", "minus", "at", "tab", "return", "newline first", "full width")
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


async def write(
    database_url: str,
    stage: Stage,
    campaign_id: int,
    file_format: Format,
    options: Options = Options(),  # noqa: B008 - it does not change
    state: State | None = None,
) -> bytes:
    async with exports.open_snapshot(db.connect(database_url)) as connection:
        table = await exports.find_recipients(connection, stage.app_id, campaign_id, state)
        return b"".join([chunk async for chunk in exports.stream(table, file_format, options)])


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def read_ndjson(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]


def read_parquet(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    return found


def read_xlsx(data: bytes) -> list[list[dict[str, str]]]:
    """The sheets by the letter of the specification: zip and XML alone. A moment is its number of days."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        book = fromstring(archive.read("xl/workbook.xml"))
        names = [sheet.get("name") for sheet in book.iter(f"{MAIN}sheet")]
        return [_read_sheet(archive.read(f"xl/worksheets/sheet{n}.xml")) for n, _ in enumerate(names, 1)]


def _read_sheet(data: bytes) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for number, row in enumerate(fromstring(data).iter(f"{MAIN}row"), 1):
        assert row.get("r") == str(number)
        cells: dict[str, str] = {}
        for cell in row:
            letter, line = re.fullmatch(r"([A-Z])(\d+)", cell.get("r", "")).groups()  # type: ignore[union-attr]
            assert line == str(number)
            text = "".join(part.text or "" for part in cell.iter() if part.tag in {f"{MAIN}t", f"{MAIN}v"})
            cells[letter] = re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)
        rows.append(cells)
    names = rows[0]
    return [{names[letter]: text for letter, text in row.items()} for row in rows[1:]]


def from_days(text: str) -> str:
    """A date of Excel, as we write moments."""
    moment = datetime(1899, 12, 30, tzinfo=UTC) + timedelta(milliseconds=round(float(text) * 86_400_000))
    return write_moment(moment)


READERS: dict[Format, Callable[[bytes], list[dict[str, Any]]]] = {
    "csv": read_csv,
    "ndjson": read_ndjson,
    "parquet": read_parquet,
    "xlsx": lambda data: read_xlsx(data)[0],
}


async def add_messages(stage: Stage, campaign_id: int, entries: list[Entry]) -> None:
    rows, rejected = messages.parse_rows(
        [messages.check_entry(n, msgspec.UNSET, entry) for n, entry in enumerate(entries)]
    )
    assert rejected == []
    async with stage.connection.transaction():
        await messages.record(stage.connection, stage.app_id, campaign_id, rows)


async def make_mixed(stage: Stage) -> tuple[Channel, int]:
    """A campaign with one message in each state; the one that was read has two buttons and two people's clicks."""
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-read", "m-delivered", "m-failed", "m-pending", None)
    await stage.apply(
        channel,
        says("m-read", "delivered", 1001), says("m-read", "read", 2345),
        says("m-delivered", "failed", 500, "131026", error_title="Undeliverable"), says("m-delivered", "delivered", 1999),
        says("m-failed", "failed", 3000, "x-9", error_title="=No such user"),
        ButtonClick("Yes", "m-read", None, BEGIN_MS + 5000), ButtonClick("No", "m-read", None, BEGIN_MS + 6000),
    )  # fmt: skip
    hits = [
        Click(
            stage.app_id,
            f"00000000-0000-4000-8000-00000000000{n}",
            "k1",
            campaign_id,
            0,
            BEGIN_MS,
            "GET",
            agent,
            "",
        )
        for n, agent in enumerate(["Mozilla/5.0", "Mozilla/5.0", "WhatsApp/2.23"])
    ]
    await links.count(stage.connection, stage.app_id, hits)
    return channel, campaign_id


async def test_a_csv_has_the_columns_of_the_page_and_one_line_per_recipient(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    data = await write(database_url, stage, campaign_id, "csv")
    accepted = [row["acceptedAt"] for row in read_csv(data)]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text) for text in accepted[:4])
    head = f'{campaign_id},"Spring sale",WhatsApp'
    assert data.decode().replace(accepted[0], "<accepted>") == (
        ",".join(HEADER) + "\r\n"
        f'{head},+85291000000,HK,tc:{campaign_id}.0,"m-read",read,Read,1,<accepted>,2023-11-14T22:13:21.001Z,'
        '2023-11-14T22:13:22.345Z,,,,"No; Yes",2,\r\n'
        f'{head},+85291000001,HK,tc:{campaign_id}.1,"m-delivered",delivered,Delivered,1,<accepted>,'
        "2023-11-14T22:13:21.999Z,,2023-11-14T22:13:20.500Z,,,,0,\r\n"
        f'{head},+85291000002,HK,tc:{campaign_id}.2,"m-failed",failed,Failed,1,<accepted>,,,2023-11-14T22:13:23.000Z,'
        '"x-9","\'=No such user",,0,\r\n'
        f'{head},+85291000003,HK,tc:{campaign_id}.3,"m-pending",pending,Pending,1,<accepted>,,,,,,,0,\r\n'
        f"{head},+85291000004,HK,tc:{campaign_id}.4,,queued,Queued,1,,,,,,,,0,\r\n"
    )


@pytest.mark.parametrize("file_format", exports.FORMATS)
async def test_every_format_says_the_same(
    connection: db.Connection, database_url: str, file_format: Format
) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    rows = READERS[file_format](await write(database_url, stage, campaign_id, file_format, Options(raw=True)))

    def read(row: dict[str, Any], name: str) -> Any:
        value = row.get(name)
        if value in {None, ""}:
            return None
        if file_format == "xlsx" and name.endswith("At"):
            return from_days(value)
        return write_moment(value) if isinstance(value, datetime) else str(value)

    plain = read_csv(await write(database_url, stage, campaign_id, "csv", Options(raw=True)))
    for row, expected in zip(rows, plain, strict=True):
        for name in HEADER:
            assert read(row, name) == (expected[name] or None), name


async def test_a_parquet_file_has_real_types_and_nulls(connection: db.Connection, database_url: str) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    table = parquet.read_table(io.BytesIO(await write(database_url, stage, campaign_id, "parquet")))
    assert table.column_names == HEADER
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["parts"], kinds["clicks"]) == ("int64", "int64")
    assert {kinds[name] for name in HEADER if name.endswith("At")} == {"timestamp[ms, tz=UTC]"}
    assert kinds["recipient"] == "string"
    assert kinds["state"] == "dictionary<values=string, indices=int32, ordered=0>"
    rows = table.to_pylist()
    assert rows[0]["deliveredAt"] == at(1001)
    assert [row["content"] for row in rows] == [None] * 5
    assert rows[2]["failureReason"] == "=No such user", "only spreadsheets need an apostrophe"


async def test_ndjson_has_every_name_on_every_line_and_null_where_nothing_is(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    rows = read_ndjson(await write(database_url, stage, campaign_id, "ndjson"))
    assert [list(row) for row in rows] == [HEADER] * 5
    assert (rows[0]["clicks"], rows[0]["readAt"]) == (2, "2023-11-14T22:13:22.345Z")
    assert (rows[4]["acceptedAt"], rows[4]["messageID"]) == (None, None)
    assert rows[2]["failureReason"] == "=No such user"


async def test_a_workbook_opens_in_our_own_reader_too(connection: db.Connection, database_url: str) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    rows = list(read_workbook(io.BytesIO(await write(database_url, stage, campaign_id, "xlsx"))))
    assert rows[0].cells == HEADER
    assert rows[1].cells[3] == "+85291000000"
    assert rows[1].cells[11] == "2023-11-14 22:13:21"
    assert rows[1].cells[:2] == [str(campaign_id), "Spring sale"]


@pytest.mark.parametrize("file_format", exports.FORMATS)
async def test_whatever_people_write_comes_out_as_it_went_in_and_never_as_a_formula(
    connection: db.Connection, database_url: str, file_format: Format
) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel("sms"))
    entries = [
        Entry(f"+852{91000000 + n}", f"m-{n}", content=text) for n, text in enumerate(HOSTILE.values())
    ]
    await add_messages(stage, campaign_id, entries)
    rows = READERS[file_format](await write(database_url, stage, campaign_id, file_format))
    for (name, text), row in zip(HOSTILE.items(), rows, strict=True):
        expected = text
        if file_format in {"csv", "xlsx"} and name in FORMULAS:
            expected = f"'{text}"
        if file_format == "xlsx":
            expected = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", expected)
            expected = f"{expected[:12_765]}…" if name == "astral" else expected
        assert row["content"] == expected, name
        assert row["recipient"].startswith("+852")


async def test_texts_stay_as_they_are_on_request(connection: db.Connection, database_url: str) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel("sms"))
    await add_messages(stage, campaign_id, [Entry("+85291000000", "m", content="=1+1")])
    for file_format in ("csv", "xlsx"):
        data = await write(database_url, stage, campaign_id, file_format, Options(raw=True))
        assert READERS[file_format](data)[0]["content"] == "=1+1"


async def test_a_cell_of_a_workbook_holds_no_more_than_excel_takes(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel("sms"))
    texts = ["=" + "x" * 99_999, "x" * 32_765, "x" * 32_766, "𠮷" * 50_000, "<" * 40_000]
    await add_messages(
        stage, campaign_id, [Entry(f"+852{91000000 + n}", content=text) for n, text in enumerate(texts)]
    )
    cells = [row["content"] for row in read_xlsx(await write(database_url, stage, campaign_id, "xlsx"))[0]]
    assert all(len(cell.encode("utf-16-le")) // 2 <= 32_767 for cell in cells)
    assert cells[0] == "'=" + "x" * 32_764 + "…"
    assert [len(cell) for cell in cells[1:3]] == [32_765, 32_766]
    assert [cell[-1] for cell in cells] == ["…", "x", "…", "…", "…"]


async def test_excel_shows_telephone_numbers_and_ids_as_they_are(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "0012", '+1"&A1', "wamid.HBg=")
    data = await write(database_url, stage, campaign_id, "csv", Options(excel=True))
    assert data.startswith(b"\xef\xbb\xbfcampaignID,")
    assert f'"=""{campaign_id}""","Spring sale",WhatsApp,"=""+85291000000""",HK'.encode() in data
    rows = read_csv(data.removeprefix(b"\xef\xbb\xbf"))
    assert rows[0]["campaignID"] == f'="{campaign_id}"'
    assert [row["recipient"] for row in rows] == ['="+85291000000"', '="+85291000001"', '="+85291000002"']
    assert [row["messageID"] for row in rows] == ['="0012"', "'+1\"&A1", "wamid.HBg="]
    marked = await write(database_url, stage, campaign_id, "csv", Options(bom=True))
    assert marked.startswith(b"\xef\xbb\xbfcampaignID,")
    assert b",+85291000000," in marked


@pytest.mark.parametrize("file_format", exports.FORMATS)
async def test_a_campaign_without_recipients_is_a_whole_file_without_rows(
    connection: db.Connection, database_url: str, file_format: Format
) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel())
    data = await write(database_url, stage, campaign_id, file_format)
    assert READERS[file_format](data) == []
    if file_format == "csv":
        assert data.decode() == ",".join(HEADER) + "\r\n"


async def test_states_are_filtered_counted_and_add_up_to_the_summary(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    _, campaign_id = await make_mixed(stage)
    rows = read_csv(await write(database_url, stage, campaign_id, "csv"))
    states = Counter(row["state"] for row in rows)
    summary = (await reports.summarize(connection, stage.app_id, 10, 0)).rows[0]
    assert states["delivered"] + states["read"] == summary.delivered == 2
    assert (states["read"], states["pending"], states["failed"]) == (
        summary.read,
        summary.pending,
        summary.failed,
    )
    answers = sum(len(row["buttons"].split("; ")) for row in rows if row["buttons"])
    assert answers + sum(int(row["clicks"]) for row in rows) == summary.replied == 4
    for state in exports.STATES:
        found = read_csv(await write(database_url, stage, campaign_id, "csv", state=state))
        assert [row["state"] for row in found] == [state]
        async with exports.open_snapshot(db.connect(database_url)) as snapshot:
            assert (await exports.find_recipients(snapshot, stage.app_id, campaign_id, state)).total == 1


async def test_reasons_are_those_of_the_list_of_failures_and_references_those_of_the_api(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    await connection.execute(b"update channels set provider = 'smpp' where app_id = %s", [stage.app_id])
    codes = ["0x0B", "0x0008", "0xABCD", "optedOut", "unfit", "34", ""]
    campaign_id = await stage.sent(channel, *(f"m-{n}" for n in range(len(codes))))
    receipts = [says(f"m-{n}", "failed", n, code, error_title=f"title {n}") for n, code in enumerate(codes)]
    await stage.apply(channel, *receipts)
    rows = read_csv(await write(database_url, stage, campaign_id, "csv"))
    causes = await failures.list_causes(connection, stage.app_id, campaign_id)
    told = {cause.title: cause.words for cause in causes}
    reasons = [row["failureReason"] for row in rows]
    assert reasons[:4] == [told[f"title {n}"] for n in range(4)]
    assert all(reasons[:4])
    assert reasons[4:] == ["title 4", "title 5", "title 6"], "the title says more"
    assert [row["referenceID"] for row in rows] == [
        references.write_reference(campaign_id, n) for n in range(len(codes))
    ]


async def test_an_export_shows_one_moment_whatever_comes_meanwhile(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    ids = [f"m-{n}" for n in range(1500)]
    campaign_id = await stage.sent(channel, *ids)
    async with exports.open_snapshot(db.connect(database_url)) as snapshot:
        table = await exports.find_recipients(snapshot, stage.app_id, campaign_id)
        chunks = exports.stream(table, "csv", Options())
        data = await anext(chunks) + await anext(chunks)
        await stage.apply(channel, *(says(one, "read", 1000) for one in ids))
        data += b"".join([chunk async for chunk in chunks])
    assert Counter(row["state"] for row in read_csv(data)) == {"pending": 1500}


async def test_the_change_feed_does_not_wait_for_an_export(
    connection: db.Connection, database_url: str
) -> None:
    async with exports.open_snapshot(db.connect(database_url)) as snapshot:
        began = (await db.fetch_rows(snapshot, b"select now()", {}))[0][0]
        horizon, _ = await db.find_horizon(connection)
        assert horizon > began


async def test_further_sheets_take_what_one_cannot_hold(
    connection: db.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "MOST_LINES", 700)
    monkeypatch.setattr(exports, "_MOST_ROWS", 250)
    stage = await make_stage(connection)
    campaign_id = await stage.sent(await stage.add_channel(), *(f"m-{n}" for n in range(1200)))
    found = read_xlsx(await write(database_url, stage, campaign_id, "xlsx"))
    assert [len(sheet) for sheet in found] == [500, 500, 200]
    assert [row["messageID"] for sheet in found for row in sheet] == [f"m-{n}" for n in range(1200)]


async def test_the_summaries_of_a_period_are_those_of_the_report(
    connection: db.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_PAGE", 2)
    stage = await make_stage(connection)
    channel, sms = await stage.add_channel(), await stage.add_channel("sms")
    ids = [
        str(await stage.sent(channel if day % 2 else sms, f"m-{day}", date=f"2026-11-0{day}T03:00:00.123Z"))
        for day in range(1, 6)
    ]
    await stage.apply(channel, says("m-3", "read", 0))
    async with exports.open_snapshot(db.connect(database_url)) as snapshot:
        period = (datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC))
        table = await exports.find_campaigns(snapshot, stage.app_id, *period)
        data = b"".join([chunk async for chunk in exports.stream(table, "csv", Options())])
        only = await exports.find_campaigns(snapshot, stage.app_id, None, None, "whatsApp")
        parts = b"".join([chunk async for chunk in exports.stream(only, "parquet", Options())])
    assert (table.total, only.total) == (3, 3)
    assert data.decode() == (
        "campaignID,date,campaignName,channel,createdBy,senderPhone,senderChannelName,senderSourceName,senderEID,"
        "subject,totalRecipients,queued,delivered,read,replied,pending,failed\r\n"
        f'{ids[3]},2026-11-04T03:00:00.123Z,"Spring sale",SMS,,+85230001234,,,,,1,0,0,,0,1,0\r\n'
        f'{ids[2]},2026-11-03T03:00:00.123Z,"Spring sale",WhatsApp,,+85230001234,"Shop",,,,1,0,1,1,0,0,0\r\n'
        f'{ids[1]},2026-11-02T03:00:00.123Z,"Spring sale",SMS,,+85230001234,,,,,1,0,0,,0,1,0\r\n'
    )
    rows = read_parquet(parts)
    assert [row["campaignID"] for row in rows] == [ids[4], ids[2], ids[0]]
    assert (rows[1]["read"], rows[1]["date"]) == (1, datetime(2026, 11, 3, 3, 0, 0, 123_000, UTC))


def memory() -> int:
    """This process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_memory_does_not_grow_with_the_rows(connection: db.Connection, database_url: str) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.add_campaign(await stage.add_channel())
    params = {"app_id": stage.app_id, "campaign_id": campaign_id}
    await connection.execute(
        b"insert into messages (app_id, campaign_id, seq, channel_number, recipient, country, message_id, accepted_at) "
        b"select %(app_id)s, %(campaign_id)s, n, 1, '+852' || 60000000 + n, 'HK', 'wamid.' || n, now() "
        b"from generate_series(0, 199999) n",
        params,
    )
    await connection.execute(
        b"update counts set total = 200000, pending = 200000 where app_id = %(app_id)s and campaign_id = %(campaign_id)s",
        params,
    )
    for file_format in ("csv", "ndjson", "xlsx"):
        await write(database_url, stage, campaign_id, file_format, state="failed")  # what it needs at all
        before = highest = memory()
        size = 0
        async with exports.open_snapshot(db.connect(database_url)) as snapshot:
            table = await exports.find_recipients(snapshot, stage.app_id, campaign_id)
            async for chunk in exports.stream(table, file_format, Options()):
                size += len(chunk)
                highest = max(highest, memory())
        assert size > 5_000_000
        assert highest - before < 20_000_000, file_format

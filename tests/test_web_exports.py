"""Exports over HTTP: what is asked for and told, whom it waits for, and that a broken one never looks whole."""

import asyncio
import csv
import io
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psycopg
import pytest

from contents import add_app
from harness import App, Server, wait_for
from stage import family
from tallycast.errors import ServiceUnavailable, TooManyRequests
from tallycast.web import downloads
from tallycast.web.downloads import Download, File, Slots, write_disposition
from test_storm import is_postgres

ROWS = 30_000
CSV_TYPE = "text/csv"


def path_of(campaign: str, **options: str) -> str:
    return "/exports/recipients?" + "&".join(f"{n}={v}" for n, v in {"campaign": campaign, **options}.items())


@pytest.fixture(scope="module")
def large(server: Server, database_url: str, client: httpx.Client) -> tuple[App, str]:
    """An app with a campaign whose export is far longer than what lies between a server and a client."""
    app = add_app(server, database_url, client)
    campaign = app.record(app.add_channel(), [])
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into messages (app_id, campaign_id, seq, channel_number, recipient, content) "
            "select %s, %s, n, 1, '+852' || 60000000 + n, "
            "(select string_agg(md5(n || ':' || k), '') from generate_series(1, 32) k) from generate_series(0, %s) n",
            [app.app_id, campaign, ROWS - 1],
        )
        connection.execute(
            "update counts set total = %s, queued = %s where app_id = %s and campaign_id = %s",
            [ROWS, ROWS, app.app_id, campaign],
        )
    return app, campaign


@pytest.mark.parametrize(
    ("asked", "media_type"),
    [
        ("", CSV_TYPE),
        ("csv", CSV_TYPE),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("parquet", "application/vnd.apache.parquet"),
        ("ndjson", "application/x-ndjson"),
    ],
)
def test_a_file_comes_with_its_type_its_name_and_its_number_of_rows(
    app: App, asked: str, media_type: str
) -> None:
    campaign = app.record(app.add_channel(), ["m-1", "m-2"], campaignName="Été: 50 % / «春»")
    answer = app.request("GET", path_of(campaign, format=asked))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-total-rows"] == "2"
    assert answer.headers["cache-control"] == "no-store"
    suffix = asked or "csv"
    name = re.fullmatch(
        rf"attachment; filename=\"t-50-{campaign}-recipients\.{suffix}\"; filename\*=UTF-8''(\S+)",
        answer.headers["content-disposition"],
    )
    assert name is not None, answer.headers["content-disposition"]
    assert unquote(name[1]) == f"Été 50 % «春» {campaign} recipients.{suffix}"


def test_options_reach_the_file(app: App) -> None:
    campaign = app.record(app.add_channel(), ["m-1"], campaignName="=1+1")
    body = app.request("GET", path_of(campaign, excel="true")).content
    assert body.startswith(b"\xef\xbb\xbfcampaignID")
    assert b',"=""+85291000000""",' in body
    assert b',"\'=1+1",' in body
    assert b',"=1+1",' in app.request("GET", path_of(campaign, raw="true")).content
    assert app.request("GET", path_of(campaign, bom="true")).content.startswith(b"\xef\xbb\xbf")
    answer = app.request("GET", path_of(campaign, state="failed"))
    assert (answer.headers["x-total-rows"], answer.text.count("\r\n")) == ("0", 1)
    assert (
        "Content-Disposition, X-Total-Rows, Tallycast-Note"
        in app.request("GET", path_of(campaign), headers={"Origin": "https://app.example.com"}).headers[
            "access-control-expose-headers"
        ]
    )


def test_summaries_are_those_of_the_summary(app: App) -> None:
    channel = app.add_channel(sourceName="Marketing")
    campaigns = [app.record(channel, [f"m-{day}"], date=f"2026-11-0{day}T03:00:00Z") for day in (1, 2, 3)]
    params = {"startAt": "2026-11-02T00:00:00Z", "endAt": "2026-11-04T00:00:00Z", "channel": "whatsApp"}
    answer = app.request("GET", "/exports/campaigns", params=params)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["campaignID"] for row in rows] == campaigns[:0:-1]
    assert [row["campaignID"] for row in rows] == [one["id"] for one in app.summary(**params)]
    assert answer.headers["x-total-rows"] == "2"
    assert 'filename="campaigns-2026-11-02-2026-11-04-whatsApp.csv"' in answer.headers["content-disposition"]


def test_head_tells_the_same_without_a_body(app: App) -> None:
    campaign = app.record(app.add_channel(), ["m-1", "m-2"])
    for path in (path_of(campaign, format="xlsx"), "/exports/campaigns"):
        asked, told = app.request("GET", path), app.request("HEAD", path)
        assert told.status_code == 200
        assert told.content == b""
        for name in ("content-type", "content-disposition", "x-total-rows"):
            assert told.headers[name] == asked.headers[name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/exports/recipients", "Bad query: campaign is required: the id of a campaign"),
        (path_of("1", format="xls"), "Bad query: format must be csv or xlsx or parquet or ndjson, not 'xls'"),
        (path_of("1", state="gone"), "Bad query: state must be queued or pending or delivered or read or failed, not 'gone'"),
        (path_of("1", excel="1"), "Bad query: excel must be true or false, not '1'"),
        ("/exports/campaigns?startAt=2026-11-01T00:00:00Z", "missing one of startAt, endAt"),
        ("/exports/campaigns?channel=mail", "Bad query: channel must be sms or whatsApp, not 'mail'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(app: App, path: str, message: str) -> None:
    answer = app.request("GET", path)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


def test_a_campaign_of_another_app_is_unknown(app: App, server: Server, database_url: str) -> None:
    stranger = add_app(server, database_url, app.client)
    campaign = stranger.record(stranger.add_channel(), ["m-1"])
    for one in (campaign, "1", "x", "9" * 30):
        answer = app.request("GET", path_of(one))
        assert (answer.status_code, answer.json()["message"]) == (404, f"no campaign {one}")
    assert app.request("GET", "/exports/campaigns").headers["x-total-rows"] == "0"


def backends(database_url: str) -> list[int]:
    """The database's processes that read exports."""
    query = "select pid from pg_stat_activity where application_name = 'tallycast export'"
    with psycopg.connect(database_url) as connection:
        return [pid for (pid,) in connection.execute(query)]


@pytest.mark.parametrize("file_format", ["csv", "ndjson", "xlsx", "parquet"])
def test_an_export_whose_database_dies_breaks_off(
    large: tuple[App, str], database_url: str, file_format: str
) -> None:
    app, campaign = large
    url = f"{app.server_url}/v1/api/apps/{app.app_id}{path_of(campaign, format=file_format)}"
    headers = {"Authorization": f"Bearer {app.token}"}
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        with psycopg.connect(database_url, autocommit=True) as connection:
            for pid in backends(database_url):
                connection.execute("select pg_terminate_backend(%s)", [pid])
        with pytest.raises(httpx.RemoteProtocolError, match="complete"):
            for _ in chunks:
                pass
    wait_for(lambda: not backends(database_url))
    assert app.request("HEAD", path_of(campaign)).headers["x-total-rows"] == str(ROWS), "the server goes on"


def processes(server: Server) -> Iterator[Path]:
    for pid in family(server.process.pid):
        if not is_postgres(pid):
            yield Path(f"/proc/{pid}/statm")


def memory(server: Server) -> int:
    """The resident memory of a server's processes in bytes."""
    return sum(int(path.read_text().split()[1]) * 4096 for path in processes(server))


def ask_slowly(app: App, path: str) -> socket.socket:
    """A client that asks and does not read."""
    host, _, port = app.server_url.removeprefix("http://").partition(":")
    one = socket.create_connection((host, int(port)))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET /v1/api/apps/{app.app_id}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {app.token}\r\n\r\n"
    one.sendall(head.encode())
    return one


def test_a_client_that_does_not_read_holds_no_memory_and_one_that_leaves_no_connection(
    server: Server, large: tuple[App, str], database_url: str
) -> None:
    app, campaign = large
    assert len(app.request("GET", path_of(campaign)).content) > 30_000_000
    before = memory(server)
    with ask_slowly(app, path_of(campaign)):
        wait_for(lambda: backends(database_url))
        assert app.summary() is not None, "others are answered meanwhile"
        assert memory(server) - before < 20_000_000
    wait_for(lambda: not backends(database_url))


def test_an_app_has_two_exports_at_a_time_and_is_told_to_come_back(
    large: tuple[App, str], database_url: str
) -> None:
    app, campaign = large
    with ask_slowly(app, path_of(campaign)), ask_slowly(app, path_of(campaign)):
        wait_for(lambda: len(backends(database_url)) == 2)
        answer = app.request("GET", path_of(campaign))
        assert (answer.status_code, answer.json()["code"]) == (429, 6451010)
        assert (
            answer.json()["message"] == "Too many requests: 2 exports of this app are running, wait for one"
        )
        assert answer.headers["retry-after"] == "5"
    wait_for(lambda: app.request("HEAD", path_of(campaign)).status_code == 200)


def test_a_process_carries_four_exports_whosever_they_are() -> None:
    slots = Slots()
    with slots.take("a"), slots.take("a"), slots.take("b"):
        with pytest.raises(TooManyRequests), slots.take("a"):
            pass
        with slots.take("b"):
            with pytest.raises(ServiceUnavailable) as refused, slots.take("c"):
                pass
            assert refused.value.headers == {"Retry-After": "5"}
        with slots.take("c"):
            pass


class Client:
    """What a server passes to an application: `events` come in, `sent` went out; after `most` messages nothing is taken."""

    def __init__(self, *events: str, most: int = 1000) -> None:
        self.sent: list[Any] = []
        self.done: list[str] = []
        self._events = list(events)
        self._most = most

    async def ask(self, method: str) -> list[bool | None]:
        """Download without an end; whether more was said to follow, message by message."""

        @asynccontextmanager
        async def open_() -> AsyncIterator[File]:
            yield File("a.csv", CSV_TYPE, 1, self._make_chunks())
            self.done.append("closed")

        scope: Any = {"state": {"method": method, "cid": "c"}}
        await asyncio.wait_for(Download(open_)(scope, self._receive, self._send), 10)
        return [message.get("more_body") for message in self.sent]

    async def _make_chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            self.done.append("began")
            while True:
                await asyncio.sleep(0)
                yield b"x"
        finally:
            self.done.append("ended")

    async def _receive(self) -> Any:
        if not self._events:
            await asyncio.Event().wait()
        return {"type": self._events.pop(0)}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self._most:
            await asyncio.Event().wait()


@pytest.mark.anyio
async def test_a_client_that_takes_nothing_for_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_STALL_SECONDS", 0.05)
    client = Client(most=3)
    assert await client.ask("GET") == [None, True, True], "it never looks whole"
    assert client.done[:2] == ["began", "ended"]


@pytest.mark.anyio
async def test_for_a_client_that_has_left_nothing_more_is_read() -> None:
    client = Client("http.request", "http.disconnect")
    said = await client.ask("GET")
    assert said[1:] == [True] * (len(said) - 1)
    assert client.done == ["began", "ended", "closed"]


@pytest.mark.anyio
async def test_a_head_reads_no_rows() -> None:
    client = Client()
    assert await client.ask("HEAD") == [None, False]
    assert client.done == ["closed"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Sale 7.csv", "attachment; filename=\"Sale-7.csv\"; filename*=UTF-8''Sale%207.csv"),
        ('../../etc/passwd\r\nX: "1".csv', "attachment; filename=\"etc-passwd-X-1.csv\"; filename*=UTF-8''etc%20passwd%20X%201.csv"),
        ("春.xlsx", "attachment; filename=\"export.xlsx\"; filename*=UTF-8''%E6%98%A5.xlsx"),
        ("a\u202egpj.csv", "attachment; filename=\"a-gpj.csv\"; filename*=UTF-8''a%20gpj.csv"),
        ("... .csv", "attachment; filename=\"export.csv\"; filename*=UTF-8''export.csv"),
        ("x" * 500 + ".csv", f"attachment; filename=\"{'x' * 100}.csv\"; filename*=UTF-8''{'x' * 100}.csv"),
    ],
)  # fmt: skip
def test_names_are_made_fit_for_headers_and_folders(name: str, expected: str) -> None:
    assert write_disposition(name) == expected

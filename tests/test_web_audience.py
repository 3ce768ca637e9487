"""Audiences over HTTP: files in every way that clients send them, and what comes of them."""

import asyncio
import csv
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness import App, Server, start_server, wait_for
from tallycast import db, optouts, samples
from tallycast.rows import Row
from tallycast.spreadsheets import CSV, NDJSON, XLSX, read_rows

FILE = "Recipients Number,name\n+85261234561,Ann\n+85261234562,Bo\n12,Cy\n"


def make_draft(app: App, kind: str = "smsDynamic") -> str:
    """A draft of an SMS campaign; its path."""
    channel = {"type": "sms", "provider": "twilio", "phone": "SHOP"}
    channel_id = app.add_channel(**channel, credentials={"accountSID": "AC1", "authToken": "secret"})
    content = {"content": "Hi {{name}}"} if kind == "smsDynamic" else {}
    body = {"campaignName": "Sale", "kind": kind, "channelID": channel_id, **content}
    made: str = app.result("POST", "/campaigns", json=body)["id"]
    return f"/campaigns/{made}"


def send(app: App, draft: str, content: Any, kind: str = CSV, **params: Any) -> httpx.Response:
    """A file, and its import's end."""
    params = {"wait": 30, **params}
    return app.request(
        "POST", f"{draft}/audience", content=content, headers={"Content-Type": kind}, params=params
    )


def figures(view: dict[str, Any]) -> dict[str, int]:
    """What an import counted: the figures that are not zero."""
    names = ("rows", "accepted", "duplicate", "optedOut", "invalid", "landline")
    assert view["rows"] == sum(view[name] for name in names[1:])
    return {name: view[name] for name in names if view[name]}


def log_of(app: App, draft: str, import_id: str) -> list[list[str]]:
    answer = app.request("GET", f"{draft}/audience/{import_id}/errors")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="error-log.csv"'
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def total(app: App, draft: str) -> int:
    found: int = app.result("GET", draft)["totals"]["totalRecipients"]
    return found


def test_a_file_is_imported_and_its_bad_rows_come_back_as_csv(app: App) -> None:
    draft = make_draft(app)
    answer = send(app, draft, FILE, fileName="friends.csv")
    assert answer.status_code == 201
    view = answer.json()["result"]
    assert figures(view) == {"rows": 3, "accepted": 2, "invalid": 1}
    assert (view["state"], view["percent"], view["reason"]) == ("done", 100, "")
    assert (view["onError"], view["fileName"], view["bytes"]) == ("keep", "friends.csv", len(FILE))
    assert view["createdAs"].startswith("token ")
    assert app.result("GET", f"{draft}/audience/{view['id']}") == view
    assert total(app, draft) == 2
    assert log_of(app, draft, view["id"]) == [
        ["Recipients Number", "name", "Error"],
        ["12", "Cy", "too short for a number of country code +1; is the country code missing?"],
    ]


def test_without_waiting_the_import_is_polled(app: App) -> None:
    draft = make_draft(app)
    answer = send(app, draft, FILE, wait=0)
    view = answer.json()["result"]
    assert (answer.status_code, view["campaignID"]) == (202, draft.removeprefix("/campaigns/"))
    path = f"{draft}/audience/{view['id']}"
    assert view["state"] in {"waiting", "running"}
    wait_for(lambda: app.result("GET", path)["state"] == "done")
    assert "endedAt" in app.result("GET", path)


def test_an_error_log_is_harmless_in_a_spreadsheet_and_can_be_imported_again(app: App) -> None:
    draft = make_draft(app)
    rows = [("Recipients Number", "name"), ("=cmd()", "@SUM(1)"), ("+852 2800-1234", "-2+3"), ("", "\ttab")]
    text = io.StringIO()
    csv.writer(text).writerows([*rows, ("+85261234561", "=fine()")])
    view = send(app, draft, text.getvalue()).json()["result"]
    assert figures(view) == {"rows": 4, "accepted": 1, "invalid": 2, "landline": 1}
    log = log_of(app, draft, view["id"])
    assert [row[:2] for row in log[1:]] == [
        ["'=cmd()", "'@SUM(1)"],
        ["+852 2800-1234", "'-2+3"],
        ["", "'\ttab"],
    ]
    assert log[2][2] == "a landline number"
    log[1][0] = "+85261234562"
    text = io.StringIO()
    csv.writer(text).writerows(log)
    again = send(app, draft, text.getvalue()).json()["result"]
    assert figures(again) == {"rows": 3, "accepted": 1, "invalid": 1, "landline": 1}
    assert app.result("GET", draft)["columns"] == ["name"]


def test_cells_beyond_the_header_come_after_the_error(app: App) -> None:
    draft = make_draft(app)
    view = send(app, draft, "number,name\n+85261234561,a,b\n").json()["result"]
    error = "3 cells under 2 columns: a text with a delimiter or line end needs quotes; mend the row, then empty this cell"
    assert log_of(app, draft, view["id"])[1] == ["+85261234561", "a", error, "b"]


def test_an_error_log_of_many_rows_is_complete(app: App) -> None:
    draft = make_draft(app)
    view = send(app, draft, "number,name\n" + "12,x\n" * 4500).json()["result"]
    assert len(log_of(app, draft, view["id"])) == 4501


def test_refuse_keeps_nothing(app: App) -> None:
    draft = make_draft(app)
    view = send(app, draft, FILE, onError="refuse").json()["result"]
    assert (view["state"], view["onError"]) == ("refused", "refuse")
    assert view["reason"] == "1 of 3 rows cannot be taken, so none was"
    assert len(log_of(app, draft, view["id"])) == 2
    assert total(app, draft) == 0


def form(*files: tuple[str, str, bytes, str], **fields: str) -> dict[str, Any]:
    return {"files": [(f, (name, content, kind)) for f, name, content, kind in files], "data": fields}


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.ms-excel", "application/octet-stream", ""])
def test_a_browsers_form_with_one_file_is_taken_by_the_files_name(app: App, kind: str) -> None:
    draft = make_draft(app)
    body = form(("file", "Möbel & 陳.CSV", FILE.encode(), kind), note="--x\r\n\r\n")
    view = app.result("POST", f"{draft}/audience", params={"wait": 30}, **body)
    assert (figures(view)["accepted"], view["bytes"]) == (2, len(FILE))
    assert view["fileName"].endswith(".CSV")


def test_a_form_may_bring_a_workbook(app: App) -> None:
    draft = make_draft(app)
    body = form(("audience", "a.xlsx", samples.write_xlsx("sms-dynamic"), XLSX))
    view = app.result("POST", f"{draft}/audience", params={"wait": 30}, **body)
    assert figures(view) == {"rows": 3, "accepted": 3}
    assert app.result("GET", draft)["columns"] == ["name", "code"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (form(), 415, "Content-Type must be one of"),
        (form(note="x"), 415, "Content-Type must be one of"),
        (form(("a", "a.csv", b"x", CSV), ("b", "b.csv", b"x", CSV)), 400, "Bad query: the form must have one file, not 2"),
        (form(("a", "a.pdf", b"x", "application/pdf")), 415, "the file must be .csv, .xlsx or .ndjson, not 'a.pdf'"),
        ({"content": b"--x\r\nfilename=", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "Bad query: the form was cut off, or is none"),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "Bad query: the form must have one file, not 0"),
        ({"content": b"--x--", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "Bad query: the form must have one file, not 0"),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "Bad query: multipart/form-data must name its boundary"),
        ({"content": b"x", "headers": {"Content-Type": "application/pdf"}}, 415, "Content-Type must be one of"),
        ({"content": b"x"}, 415, "Content-Type must be one of"),
        ({"content": b"x", "headers": {"Content-Type": "text/csv", "Content-Encoding": "gzip"}}, 415, "the request body must not be compressed"),
        ({"content": b"x", "headers": {"Content-Type": "text/csv; charset=klingon"}}, 400, "Bad query: charset must be the name of a text encoding, not 'klingon'"),
        ({"content": b"x", "headers": {"Content-Type": "text/csv; charset=base64"}}, 400, "Bad query: charset must be the name of a text encoding, not 'base64'"),
        ({"content": b"x", "headers": {"Content-Type": 'text/csv; charset="punycode"'}}, 400, "Bad query: charset must be the name of a text encoding, not 'punycode'"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_file_is_refused(
    app: App, options: dict[str, Any], status: int, message: str
) -> None:
    draft = make_draft(app)
    answer = app.request("POST", f"{draft}/audience", **options)
    assert (answer.status_code, answer.json()["message"][: len(message)]) == (status, message)
    assert app.result("GET", f"{draft}/audience") == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"onError": "maybe"}, "Bad query: onError must be keep or refuse, not 'maybe'"),
        ({"wait": "31"}, "Bad query: wait must be a number from 0 to 30"),
        ({"wait": "-1"}, "Bad query: wait must be a number from 0 to 30"),
        ({"mapping": "{"}, "Bad query: mapping is not what is expected: Input data was truncated"),
        ({"mapping": '{"number":"x"}'}, "Bad query: mapping is not what is expected: Object contains unknown field `number`"),
        ({"mapping": "x" * 8001}, "Bad query: mapping must be at most 8000 characters"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(app: App, params: dict[str, str], message: str) -> None:
    answer = send(app, make_draft(app), FILE, **params)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


def test_a_mapping_may_stand_in_the_query_or_in_a_header(app: App) -> None:
    draft = make_draft(app)
    mapping = json.dumps({"recipient": "Handy", "variables": {"name": "First name"}})
    raw = "number,Handy,First name\n1,+85261234561,Ann\n"
    view = send(app, draft, raw, mapping=mapping).json()["result"]
    assert figures(view) == {"rows": 1, "accepted": 1}
    headers = {"Content-Type": CSV, "Audience-Mapping": mapping}
    view = app.result("POST", f"{draft}/audience", content=raw, headers=headers, params={"wait": 30})
    assert figures(view) == {"rows": 1, "duplicate": 1}
    view = send(app, draft, raw, mapping='{"recipient": "Mobile"}').json()["result"]
    assert view["reason"] == "the file has no column 'Mobile', which the mapping names"


def test_ndjson_and_a_named_charset_are_taken(app: App) -> None:
    draft = make_draft(app)
    raw = '{"recipient": "+85261234561", "name": "Ann"}\n'
    assert figures(send(app, draft, raw, NDJSON).json()["result"])["accepted"] == 1
    raw_bytes = "number,name\n+85261234562,Łukasz\n".encode("cp1250")
    assert (
        figures(send(app, draft, raw_bytes, "text/csv; charset=windows-1250").json()["result"])["accepted"]
        == 1
    )
    shown = app.result("GET", f"{draft}/preview", params={"limit": 5})
    assert [one["text"] for one in shown["messages"]] == ["Hi Ann", "Hi Łukasz"]


def test_the_same_key_imports_once(app: App) -> None:
    draft = make_draft(app)
    headers = {"Content-Type": CSV, "Idempotency-Key": "k1"}

    def once(raw: str, **params: Any) -> httpx.Response:
        params = {"wait": 30, **params}
        return app.request("POST", f"{draft}/audience", content=raw, headers=headers, params=params)

    first, again = once(FILE), once(FILE)
    assert first.json()["result"] == again.json()["result"]
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert "idempotency-replayed" not in first.headers
    assert len(app.result("GET", f"{draft}/audience")) == 1
    assert once(FILE + "x").status_code == 422
    assert once(FILE, onError="refuse").status_code == 422


def test_imports_are_listed_the_latest_first(app: App) -> None:
    draft = make_draft(app)
    for name in ("a", "b", "c"):
        send(app, draft, FILE, fileName=name)
    listed = app.result("GET", f"{draft}/audience")
    assert [one["fileName"] for one in listed] == ["c", "b", "a"]
    page = app.result("GET", f"{draft}/audience", params={"limit": 1, "offset": 1})
    assert [one["fileName"] for one in page] == ["b"]


def test_all_recipients_of_a_draft_can_be_removed(app: App) -> None:
    draft = make_draft(app)
    send(app, draft, FILE)
    assert app.result("DELETE", f"{draft}/audience") == {"removed": 2}
    assert total(app, draft) == 0
    assert app.result("DELETE", f"{draft}/audience") == {"removed": 0}
    assert figures(send(app, draft, FILE).json()["result"]) == {"rows": 3, "accepted": 2, "invalid": 1}


def test_opted_out_recipients_are_set_aside(app: App, database_url: str) -> None:
    async def opt_out() -> None:
        async with db.connect(database_url) as connection:
            await optouts.add(connection, app.app_id, "sms", ["+85261234561"], "test")

    asyncio.run(opt_out())
    view = send(app, make_draft(app), FILE).json()["result"]
    assert figures(view) == {"rows": 3, "accepted": 1, "optedOut": 1, "invalid": 1}


@pytest.mark.parametrize(
    "path", ["", "/5d0c2f64-5b0e-4a57-9a57-0f6f3f4f9a10", "/nonsense", "/nonsense/errors"]
)
def test_what_is_not_there_is_not_found(app: App, path: str) -> None:
    assert app.request("GET", f"/campaigns/1/audience{path}").status_code == 404
    assert send(app, "/campaigns/1", FILE).status_code == 404
    assert app.request("DELETE", "/campaigns/1/audience").status_code == 404


def test_an_import_of_another_campaign_is_not_found(app: App) -> None:
    draft, other = make_draft(app), make_draft(app)
    import_id = send(app, draft, FILE).json()["result"]["id"]
    assert app.request("GET", f"{other}/audience/{import_id}").status_code == 404
    assert app.request("GET", f"{other}/audience/{import_id}/errors").status_code == 404


def test_only_a_draft_takes_an_audience(app: App, database_url: str) -> None:
    draft = make_draft(app)
    with psycopg.connect(database_url) as connection:
        connection.execute("update sendings set stage = 'scheduled', scheduled_at = now() + interval '1 d' where app_id = %s", [app.app_id])  # fmt: skip
    answer = send(app, draft, FILE)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "the audience of a draft can be changed; this campaign is scheduled",
    )
    assert app.request("DELETE", f"{draft}/audience").status_code == 422


def rows_in(database_url: str, app: App) -> int:
    with psycopg.connect(database_url) as connection:
        query = "select (select count(*) from imports where app_id = %(a)s) + (select count(*) from import_chunks where app_id = %(a)s)"
        row = connection.execute(query, {"a": app.app_id}).fetchone()
    assert row is not None
    return int(row[0])


def test_an_upload_that_breaks_off_leaves_nothing(app: App, database_url: str) -> None:
    draft = make_draft(app)
    url = httpx.URL(app.server_url)
    head = (
        f"POST /v1/api/apps/{app.app_id}{draft}/audience HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
        f"Authorization: Bearer {app.token}\r\nContent-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection((str(url.host), url.port or 80)) as connection:
        connection.sendall(head.encode() + FILE.encode() * 20_000)
    assert figures(send(app, draft, FILE).json()["result"])["accepted"] == 2
    assert rows_in(database_url, app) == 1, "the import that was whole, and no chunk"


@pytest.fixture(scope="module")
def small_server(data_dir: Path, database_url: str) -> Iterator[Server]:
    """Takes files up to a megabyte, and has no worker."""
    options = ("--database-url", database_url, "--max-upload-mb", "1", "--background-workers", "0")
    started = start_server(data_dir / "small", *options)
    yield started
    started.stop()


def test_a_file_that_is_too_large_is_refused(
    small_server: Server, make_app: Callable[[Server], App], database_url: str
) -> None:
    app = make_app(small_server)
    draft = make_draft(app)
    for body in (b"x" * 1_000_001, iter([b"x" * 600_000, b"x" * 600_000])):
        answer = send(app, draft, body, wait=0)
        assert (answer.status_code, answer.json()["message"]) == (
            413,
            "the file must be at most 1000000 bytes",
        )
    assert rows_in(database_url, app) == 0


@pytest.mark.parametrize("kind", ["sms-standard", "sms-dynamic", "whatsapp"])
@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_a_sample_can_be_imported_as_it_is(app: App, kind: str, suffix: str) -> None:
    answer = app.request("GET", f"/audience-samples/{kind}.{suffix}")
    assert answer.headers["content-disposition"] == f'attachment; filename="{kind}.{suffix}"'
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type == {"csv": CSV, "xlsx": XLSX}[suffix]
    rows = list(read_rows(io.BytesIO(answer.content), media_type))
    assert rows == [Row(n, list(row)) for n, row in enumerate(samples.SAMPLES[kind], 1)]
    draft = make_draft(app, "smsStandard" if kind == "sms-standard" else "smsDynamic")
    assert figures(send(app, draft, answer.content, media_type).json()["result"]) == {
        "rows": 3,
        "accepted": 3,
    }


@pytest.mark.parametrize("name", ["sms-standard.pdf", "other.csv", "csv", ".csv"])
def test_there_is_no_other_sample(app: App, name: str) -> None:
    assert app.request("GET", f"/audience-samples/{name}").status_code == 404

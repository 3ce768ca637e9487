"""Every failure has its status, its code, its message and the same envelope, and no trace."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness import App, Server, start_server, wait_for
from tallycast import apps, db, embedded

SUMMARY = "/data/sent-campaigns-summary"
DETAIL = "/data/sent-campaigns-detail"


def failure(answer: httpx.Response) -> tuple[int, int, str]:
    """(status, code, message) of a failure, whose envelope has nothing else."""
    body = answer.json()
    assert list(body) == ["code", "message", "cid"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-correlation-id"] == body["cid"] != ""
    return answer.status_code, body["code"], body["message"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param({"startAt": "2022-11-07T00:00:00Z"}, "missing one of startAt, endAt", id="only startAt"),
        pytest.param({"endAt": "2022-11-07T00:00:00Z"}, "missing one of startAt, endAt", id="only endAt"),
        pytest.param(
            {"startAt": "2022-11-08T00:00:00Z", "endAt": "2022-11-07T00:00:00Z"},
            "endAt is prior to startAt",
            id="reversed period",
        ),
        pytest.param({"offset": "-1"}, "negative offset", id="negative offset"),
        pytest.param({"limit": "-1"}, "negative limit", id="negative limit"),
        pytest.param({"limit": "201"}, "exceed maximum limit 200", id="limit over 200"),
    ],
)
def test_a_query_that_breaks_a_rule_is_answered_in_the_words_of_the_error_table(
    app: App, query: dict[str, str], message: str
) -> None:
    assert failure(app.request("GET", SUMMARY, params=query)) == (400, 6451000, message)


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        pytest.param(SUMMARY, "limit=many", "limit", id="limit not a number"),
        pytest.param(SUMMARY, "offset=2147483648", "offset", id="offset overflows"),
        pytest.param(
            SUMMARY, "startAt=yesterday&endAt=2022-11-07T00:00:00Z", "startAt", id="startAt no time"
        ),
        pytest.param(SUMMARY, "startAt=2022-11-07T00:00:00Z&endAt=2022-11-08", "endAt", id="endAt no time"),
        pytest.param(SUMMARY, "channel=email", "channel", id="unknown channel"),
        pytest.param(DETAIL, "", "historyID", id="no historyID"),
        pytest.param(DETAIL, "historyID=1&status=Gone", "status", id="unknown status"),
        pytest.param(DETAIL, "historyID=1&cursor=x", "cursor", id="cursor not a number"),
        pytest.param(DETAIL, "historyID=1&cursor=-1", "cursor", id="negative cursor"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_a_bad_query_that_names_it(
    app: App, path: str, query: str, name: str
) -> None:
    status, code, message = failure(app.request("GET", f"{path}?{query}"))
    assert (status, code) == (400, 6451000)
    assert message.startswith(f"Bad query: {name} ")


DEEP = b"[" * 100_000


@pytest.mark.parametrize("path", ["/channels", "/sent-campaigns"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(DEEP, id="a hundred thousand deep"),
        pytest.param(b'{"campaignName": "\xff", "phone": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"campaignName": "\\ud800", "phone": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"campaignName": ' + b"9" * 5000 + b', "type": 1}', id="number out of range"),
        pytest.param(b'{"campaignName": "a", "channelID": "\\u0000", "type": "\\u0000"}', id="NUL"),
    ],
)
def test_a_body_that_is_not_what_is_expected_is_a_bad_query(app: App, path: str, body: bytes) -> None:
    answer = app.request("POST", path, content=body, headers={"Content-Type": "application/json"})
    status, code, message = failure(answer)
    assert (status, code) == (400, 6451000)
    assert message.startswith("Bad query: ")


def test_no_token_is_401_and_says_how_to_send_one(server: Server, app: App) -> None:
    answer = httpx.get(f"{server.url}/v1/api/apps/{app.app_id}{SUMMARY}")
    expected = "a valid AppToken is required: Authorization: Bearer <AppToken>"
    assert failure(answer) == (401, 401, expected)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_of_another_app_is_403(app: App) -> None:
    answer = app.client.get(
        f"{app.server_url}/v1/api/apps/another{SUMMARY}", headers={"Authorization": f"Bearer {app.token}"}
    )
    assert failure(answer) == (403, 403, "the token belongs to another app")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/nope", id="no such route"),
        pytest.param("POST", "/v1/api/apps/x/data/nope", id="no such report"),
        pytest.param("DELETE", "/v1/api", id="too short"),
        pytest.param("GET", "/v1/api/apps//channels", id="no app"),
        pytest.param("GET", "/v2/api/apps/x/channels", id="another version"),
        pytest.param("GET", "/static/nope.js", id="no such asset"),
    ],
)
def test_an_unknown_url_is_404_with_the_method_and_the_url(server: Server, method: str, path: str) -> None:
    answer = httpx.request(method, server.url + path)
    assert failure(answer) == (404, 6450001, f"method not found, method: {method} url: {path}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", DETAIL + "?historyID=1", id="detail"),
        pytest.param("GET", DETAIL + "?historyID=abc", id="detail of no number"),
        pytest.param("GET", DETAIL + "?historyID=%00", id="detail of a control character"),
        pytest.param("GET", DETAIL + "?historyID=" + "9" * 40, id="detail of a number too long"),
        pytest.param("GET", "/sent-campaigns/1/messages", id="references"),
        pytest.param("POST", "/sent-campaigns/1/links", id="links"),
        pytest.param("POST", "/sent-campaigns/9223372036854775808/links", id="over 63 bits"),
        pytest.param("GET", "/channels/none", id="channel"),
        pytest.param("GET", "/channels/%00", id="channel of a control character"),
        pytest.param("GET", "/channels/%ff", id="channel of no UTF-8"),
        pytest.param("DELETE", "/channels/%00", id="deleting such a channel"),
        pytest.param("PATCH", "/channels/%00", id="changing such a channel"),
        pytest.param("GET", "/webhook-endpoints/%00/deliveries/x", id="delivery of such an endpoint"),
    ],
)
def test_what_does_not_exist_is_404_with_code_404(app: App, method: str, path: str) -> None:
    body: dict[str, Any] = {"json": {"url": "https://shop.example.com/"}} if method == "POST" else {}
    assert failure(app.request(method, path, **body))[:2] == (404, 404)


def test_a_webhook_url_with_control_characters_is_404_and_writes_no_log_line_of_its_own(
    server: Server,
) -> None:
    answer = httpx.post(f"{server.url}/webhooks/generic/%0A12:00:00.000%20error%20forged%00", content=b"{}")
    assert failure(answer)[:2] == (404, 404)
    cid = answer.json()["cid"]
    line = wait_for(
        lambda: next((one for one in server.log.read_bytes().split(b"\n") if cid.encode() in one), b"")
    )
    assert b"POST '/webhooks/generic/\\n12:00:00.000 error forged\\x00' 404" in line


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("PUT", SUMMARY, "GET, HEAD, OPTIONS", id="summary"),
        pytest.param("POST", DETAIL, "GET, HEAD, OPTIONS", id="detail"),
        pytest.param("GET", "/sent-campaigns", "OPTIONS, POST", id="recording"),
        pytest.param("HEAD", "/sent-campaigns", "OPTIONS, POST", id="HEAD where there is no GET"),
        pytest.param("PUT", "/channels/x", "DELETE, GET, HEAD, OPTIONS, PATCH", id="channel"),
        pytest.param("TRACE", "/channels", "GET, HEAD, OPTIONS, POST", id="TRACE"),
    ],
)
def test_a_method_that_a_url_does_not_have_is_405_with_those_that_it_has(
    app: App, method: str, path: str, allowed: str
) -> None:
    answer = app.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert failure(answer) == (405, 405, "method not allowed")


def test_options_tells_the_methods(app: App) -> None:
    answer = app.request("OPTIONS", SUMMARY)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "GET, OPTIONS", b"")


def _announce_17_megabytes(server: Server, path: str, token: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 17000000\r\n\r\n".encode()
        )
        return connection.recv(65536)


def test_a_body_that_says_it_is_too_large_is_413_before_it_is_sent(server: Server, app: App) -> None:
    channel = app.add_channel()
    for path in (f"/v1/api/apps/{app.app_id}/channels", f"/webhooks/generic/{channel}"):
        answer = _announce_17_megabytes(server, path, app.token)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'{"code":413,"message":"the request body must be at most 16000000 bytes","cid":' in answer


def test_a_body_that_grows_too_large_is_413_and_the_next_request_goes_on(app: App) -> None:
    body = (b" " * 1_000_000 for _ in range(17))
    answer = app.request("POST", "/channels", content=body, headers={"Content-Type": "application/json"})
    assert failure(answer) == (413, 413, "the request body must be at most 16000000 bytes")
    assert answer.headers["connection"] == "close", "the rest of the body is not read"
    assert app.summary() == []


@pytest.mark.parametrize(
    ("path", "headers", "words"),
    [
        pytest.param("/channels", {"Content-Type": "text/plain"}, "application/json", id="text"),
        pytest.param(
            "/channels", {"Content-Type": "application/jsonx"}, "application/json", id="almost JSON"
        ),
        pytest.param("/sent-campaigns", {"Content-Type": "text/csv"}, "application/json", id="CSV for JSON"),
        pytest.param(
            "/sent-campaigns/1/messages", {"Content-Type": "application/json"}, "text/csv", id="JSON"
        ),
        pytest.param("/sent-campaigns/1/messages", {}, "text/csv", id="none for a stream"),
        pytest.param("/channels", {"Content-Encoding": "gzip"}, "compressed", id="compressed JSON"),
        pytest.param(
            "/sent-campaigns/1/messages",
            {"Content-Type": "text/csv", "Content-Encoding": "gzip"},
            "compressed",
            id="compressed stream",
        ),
    ],
)
def test_a_body_of_another_type_is_415(app: App, path: str, headers: dict[str, str], words: str) -> None:
    status, code, message = failure(app.request("POST", path, content=b"{}", headers=headers))
    assert (status, code) == (415, 415)
    assert words in message


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON ; charset=UTF-8", "application/x+json", ""]
)
def test_json_may_be_declared_in_several_ways(app: App, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    body = b'{"type": "sms", "provider": "generic", "phone": "SHOP"}'
    assert app.request("POST", "/channels", content=body, headers=headers).status_code == 201


def test_an_idempotency_key_that_comes_again_with_another_body_is_422(app: App) -> None:
    body = {"type": "sms", "provider": "generic", "phone": "SHOP"}
    app.result("POST", "/channels", json=body, headers={"Idempotency-Key": "k"})
    answer = app.request(
        "POST", "/channels", json={**body, "phone": "SHOP2"}, headers={"Idempotency-Key": "k"}
    )
    assert failure(answer) == (422, 422, "this Idempotency-Key was used for another request")
    assert len(app.result("GET", "/channels")) == 1


def test_each_request_has_a_cid_of_its_own(app: App) -> None:
    answers = [app.request("GET", SUMMARY + query) for query in ["", "?limit=x"] * 100]
    cids = [answer.json()["cid"] for answer in answers]
    assert len(set(cids)) == 200
    assert cids == [answer.headers["x-correlation-id"] for answer in answers]


@pytest.fixture
def other_token(app: App, database_url: str) -> str:
    """Another token of the same app."""

    async def make() -> str:
        async with db.connect(database_url) as connection:
            return (await apps.create_token(connection, app.app_id)).plain

    return asyncio.run(make())


def hear_all(server: Server, processes: int = 2) -> None:
    """Wait until that many processes answer; a cid begins with its process's part."""
    heard: set[str] = set()

    def ask() -> bool:
        heard.add(httpx.get(server.url + "/health/live").headers["x-correlation-id"][:12])
        return len(heard) == processes

    wait_for(ask)


@pytest.fixture
def limited(server: Server, database_url: str, tmp_path: Path) -> Iterator[Server]:
    """A server with a rate limit and two processes, on the shared database."""
    key = (server.data_dir / "secret.key").read_text().strip()
    options = ["--rate-limit", "5", "--workers", "2", "--database-url", database_url]
    started = start_server(tmp_path, *options, environ={"TALLYCAST_ENCRYPTION_KEY": key})
    yield started
    assert started.stop() == 0


def test_a_token_over_its_rate_limit_is_429_until_retry_after_over_all_server_processes(
    limited: Server, app: App, other_token: str
) -> None:
    url = f"{limited.url}/v1/api/apps/{app.app_id}{SUMMARY}"

    def ask(token: str) -> httpx.Response:  # on a connection of its own, so that both processes answer
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"})

    hear_all(limited)
    answers = [ask(app.token) for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 25
    assert len({answer.headers["x-correlation-id"][:12] for answer in answers}) == 2
    answer = answers[-1]
    assert failure(answer) == (429, 6451010, "Too many requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 12
    assert ask(other_token).status_code == 200, "another token has its own limit"
    assert httpx.get(limited.url + "/health/live").status_code == 200, "what needs no token has none"


def test_an_error_in_the_server_is_a_500_without_a_trace_and_the_log_has_it(
    limited: Server, app: App, database_url: str
) -> None:
    """A table that is missing stands for every unforeseen error."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("alter table unreadable rename to unreadable_hidden")
        try:
            answer = httpx.get(
                f"{limited.url}/v1/api/apps/{app.app_id}/receipts/unreadable",
                headers={"Authorization": f"Bearer {app.token}"},
            )
        finally:
            connection.execute("alter table unreadable_hidden rename to unreadable")
    assert failure(answer) == (500, 6451001, "Bad response from the service")
    log = limited.log.read_text()
    assert f"a request failed cid={answer.json()['cid']}" in log
    assert 'UndefinedTable: relation "unreadable" does not exist' in log


def test_reports_are_503_while_the_database_is_away_and_come_back_with_it(
    tmp_path: Path, make_app: Callable[[Server], App]
) -> None:
    server = start_server(tmp_path)
    app = make_app(server)
    assert app.summary() == []
    database = embedded.find(tmp_path)
    assert database is not None
    os.kill(database.pid, signal.SIGKILL)
    try:
        wait_for(lambda: app.request("GET", SUMMARY).status_code == 503)
        for path in (SUMMARY, DETAIL + "?historyID=1", "/channels"):
            answer = app.request("GET", path)
            assert failure(answer) == (503, 6451001, "Bad response from the service")
        assert httpx.get(server.url + "/health/ready").status_code == 503
        assert httpx.get(server.url + "/health/live").status_code == 200
        again = embedded.start(tmp_path)
        try:
            assert wait_for(lambda: app.request("GET", SUMMARY).status_code == 200)
            assert wait_for(lambda: httpx.get(server.url + "/health/ready").status_code == 200)
        finally:
            again.stop()
    finally:
        database.stop()
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()

"""Who may do what: every route of the route table with every wrong token, and what becomes of tokens."""

import base64
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from psycopg import sql

from contents import in_database, rows_of
from harness import App, Server, start_server, wait_for
from tallycast import apps
from tallycast.apps import SCOPES
from tallycast.web.server import ROUTES

PREFIX = "/v1/api/apps/{appID}"
OPTED_OUT = "+85298765439"
TRIAL = "00000000-0000-4000-8000-000000000001"
ENDPOINT, DELIVERY = "ep_1", "msg_1"


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    scope: str | None
    example: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path.removeprefix(PREFIX)}"


def find_routes() -> Iterator[Route]:
    """The routes below an app's URL, from the table that the server itself runs by."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        routes = Litestar(ROUTES, openapi_config=None).routes
    for route in routes:
        if isinstance(route, HTTPRoute) and route.path_format.startswith("/v1/"):
            for handler in route.route_handlers:
                for method in sorted({str(method) for method in handler.http_methods} - {"OPTIONS"}):
                    doc = handler.opt.get("doc")
                    yield Route(method, route.path_format, handler.opt.get("scope"), doc and doc.body_example)


TABLE = sorted(find_routes(), key=str)
every_route = pytest.mark.parametrize("route", TABLE, ids=str)


def make_token(url: str, app: App, **fields: Any) -> apps.NewToken:
    return in_database(url, lambda connection: apps.create_token(connection, app.app_id, **fields))


def read_all(url: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        names = [
            n for (n,) in connection.execute("select tablename from pg_tables where schemaname = 'public'")
        ]
        query = sql.SQL("select t::text from {} t order by 1")
        return {n: [r for (r,) in connection.execute(query.format(sql.Identifier(n)))] for n in names}


def kept_of(url: str, app_id: str) -> dict[str, list[str]]:
    """Every row of an app, but for its tokens, whose last use is noted."""
    return {name: rows for name, rows in rows_of(url, app_id).items() if name != "tokens"}


@dataclass(frozen=True)
class House:
    """An app with a channel and a campaign, and tokens that must not open its routes."""

    app: App
    channel: str
    campaign: str
    url: str
    stranger: App
    revoked: str
    expired: str
    draft: str
    import_id: str

    def send(self, route: Route, token: str | None, app_id: str = "", **options: Any) -> httpx.Response:
        """The request as it would be right, but for the token."""
        values = {"appID": app_id or self.app.app_id, "campaignID": self.campaign, "channelID": self.channel}
        values |= {
            "kind": "sms",
            "recipient": OPTED_OUT,
            "importID": self.import_id,
            "trialID": TRIAL,
            "endpointID": ENDPOINT,
            "deliveryID": DELIVERY,
            "seq": "0",
            "fileName": "whatsapp.csv",
            "number": "+85298765430",
        }
        if route.path.startswith(f"{PREFIX}/campaigns/"):
            values["campaignID"] = self.draft
        headers: dict[str, Any] = {} if token is None else {"Authorization": token.encode("latin-1")}
        body: dict[str, Any] = {}
        if route.method in {"POST", "PATCH", "PUT"}:
            body = {"json": route.example}
            if isinstance(route.example, dict) and "channelID" in route.example:
                body = {"json": {**route.example, "channelID": self.channel}}
            if route.path.endswith(("/messages", "/opt-outs/import")):
                body = {"content": b'{"recipient":"+85291000009"}\n'}
                headers["Content-Type"] = "application/x-ndjson"
            if route.path.endswith("/audience"):
                body = {"content": b"recipient\n+85261234568\n"}
                headers["Content-Type"] = "text/csv"
        url = self.app.server_url + route.path.format(**values)
        return self.app.client.request(route.method, url, headers=headers, **body, **options)


def make_app_in(url: str, server_url: str, client: httpx.Client) -> App:
    made = in_database(url, lambda connection: apps.create_app(connection, "Test"))
    app = App(server_url, made.app_id, "", client)
    app.token = make_token(url, app).plain
    return app


def add_draft(app: App) -> tuple[str, str]:
    """A campaign to be sent, to where nobody is (RFC 2606), and the import of its audience; their ids."""
    secrets = {"baseURL": "https://sandbox.invalid", "apiKey": "s3cret"}
    channel_id = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=secrets)
    body = {"campaignName": "Sale", "kind": "smsDynamic", "channelID": channel_id, "content": "Hi"}
    draft: str = app.result("POST", "/campaigns", json=body)["id"]
    file = {"content": b"recipient\n+85261234567\n", "headers": {"Content-Type": "text/csv"}}
    made = app.result("POST", f"/campaigns/{draft}/audience", params={"wait": 30}, **file)
    return draft, made["id"]


def add_trial(url: str, app: App, draft: str) -> None:
    """A test message that has been sent."""
    query = (
        "insert into trials (app_id, trial_id, channel_number, campaign_id, recipient, claimed_by, outcome) "
        "values (%s, %s, 1, %s, '+85298765438', 'w', 'accepted')"
    )
    with psycopg.connect(url) as connection:
        connection.execute(query, [app.app_id, TRIAL, draft])


def add_endpoint(url: str, app: App) -> None:
    """An endpoint that listens to nothing that happens here, and what it was told."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into webhook_endpoints (app_id, endpoint_id, url, events, secret) "
            "values (%s, %s, 'https://hook.example.com', '{campaign.sent}', %s)",
            [app.app_id, ENDPOINT, bytes(64)],
        )
        connection.execute(
            "insert into notices (app_id, notice_id, endpoint_id, type, body, state) "
            "values (%s, %s, %s, 'campaign.sent', '{}', 'failed')",
            [app.app_id, DELIVERY, ENDPOINT],
        )


def has_rested(url: str, app: App) -> bool:
    """Whether no worker has anything to do in the app any more, so that nothing changes by itself."""
    query = (
        "select woken_at is null and not exists (select from leases where app_id = apps.app_id) "
        "from apps where app_id = %s"
    )
    with psycopg.connect(url) as connection:
        return connection.execute(query, [app.app_id]).fetchone() == (True,)


@pytest.fixture(scope="module")
def house(server: Server, database_url: str, client: httpx.Client) -> House:
    app, stranger = (make_app_in(database_url, server.url, client) for _ in range(2))
    channel = app.add_channel(webhookSecret="s3cret")
    campaign = app.record(channel, ["m-1", "m-2"])
    revoked = make_token(database_url, app)
    in_database(database_url, lambda c: apps.revoke_token(c, app.app_id, revoked.token.token_id))
    expired = make_token(database_url, app, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    draft = add_draft(app)
    add_trial(database_url, app, draft[0])
    add_endpoint(database_url, app)
    wait_for(lambda: has_rested(database_url, app))
    return House(app, channel, campaign, database_url, stranger, revoked.plain, expired.plain, *draft)


def test_the_route_table_has_the_routes_of_the_contract_and_each_needs_a_scope() -> None:
    assert {str(route) for route in TABLE} >= {
        "GET /data/sent-campaigns-summary", "GET /data/sent-campaigns-detail",
        "POST /sent-campaigns", "POST /sent-campaigns/{campaignID}/messages", "POST /sent-campaigns/{campaignID}/links",
        "POST /channels", "GET /channels", "GET /channels/{channelID}", "PATCH /channels/{channelID}", "DELETE /channels/{channelID}",
    }  # fmt: skip
    assert all(route.path.startswith(PREFIX) and route.scope in SCOPES for route in TABLE)


def wrong_headers(house: House) -> dict[str, str | None]:
    well_formed = f"tct_{house.app.app_id}_{'A' * 43}"
    basic = base64.b64encode(f"{house.app.app_id}:{house.app.token}".encode()).decode()
    return {
        "none": None,
        "empty": "",
        "only the scheme": "Bearer",
        "no token": "Bearer \t;",
        "no scheme": house.app.token,
        "no space": f"Bearer{house.app.token}",
        "another scheme": f"Token {house.app.token}",
        "basic": f"Basic {basic}",
        "two tokens": f"Bearer {house.app.token} {house.app.token}",
        "quoted": f'Bearer "{house.app.token}"',
        "garbage": "Bearer AppToken",
        "not ASCII": "Bearer tct_ä_ÿ",
        "very long": "Bearer " + "A" * 5000,
        "unknown": f"Bearer {well_formed}",
        "one letter off": f"Bearer {house.app.token[:-1]}{'A' if house.app.token[-1] != 'A' else 'B'}",
        "another case": f"Bearer {house.app.token.swapcase()}",
        "for another app's name": f"Bearer {house.app.token.replace(house.app.app_id, house.stranger.app_id)}",
        "expired": f"Bearer {house.expired}",
        "revoked": f"Bearer {house.revoked}",
    }


@every_route
def test_no_route_opens_without_a_valid_token_and_nothing_changes(house: House, route: Route) -> None:
    before = kept_of(house.url, house.app.app_id)
    for name, header in wrong_headers(house).items():
        answer = house.send(route, header)
        assert (name, answer.status_code, answer.json()["code"]) == (name, 401, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["message"].startswith("a valid AppToken is required")
    assert kept_of(house.url, house.app.app_id) == before


@every_route
def test_no_route_opens_with_another_apps_token_or_without_its_scope(house: House, route: Route) -> None:
    before = kept_of(house.url, house.app.app_id)
    answer = house.send(route, f"Bearer {house.stranger.token}")
    assert (answer.status_code, answer.json()["message"]) == (403, "the token belongs to another app")
    others = [scope for scope in SCOPES if scope != route.scope]
    answer = house.send(route, f"Bearer {make_token(house.url, house.app, scopes=others).plain}")
    assert (answer.status_code, answer.json()["code"]) == (403, 403)
    assert answer.json()["message"] == f"the token does not have the scope {route.scope}"
    assert kept_of(house.url, house.app.app_id) == before


@every_route
def test_a_token_with_that_scope_alone_opens_the_route(house: House, route: Route) -> None:
    app = make_app_in(house.url, house.app.server_url, house.app.client)
    channel = app.add_channel()
    app.result("POST", "/opt-outs", json={"kind": "sms", "recipients": [OPTED_OUT]})
    mine = House(app, channel, app.record(channel, ["m-1"]), house.url, app, "", "", *add_draft(app))
    add_trial(house.url, app, mine.draft)
    add_endpoint(house.url, app)
    token = make_token(house.url, app, scopes=[route.scope]).plain
    params = {"historyID": mine.campaign, "campaign": mine.campaign, "kind": "sms"}
    answer = mine.send(route, f"Bearer {token}", params=params)
    # 422: it was opened, and what is there does not suit it.
    assert answer.is_success or answer.status_code == 422, answer.text


@every_route
def test_ids_of_another_app_are_unknown_under_ones_own_url(house: House, route: Route) -> None:
    before = kept_of(house.url, house.app.app_id)
    params = {"historyID": house.campaign, "campaign": house.campaign}
    answer = house.send(route, f"Bearer {house.stranger.token}", house.stranger.app_id, params=params)
    names_an_id = "{campaignID}" in route.path or "{channelID}" in route.path or "detail" in route.path
    names_an_id |= "{endpointID}" in route.path or "exports/recipients" in route.path
    if names_an_id:
        assert (answer.status_code, answer.json()["code"]) == (404, 404)
    elif route.example and "channelID" in route.example:
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("Bad query: channelID must be a channel of this app")
    assert house.channel not in answer.text.replace(f"{house.channel!r}", "").replace(
        f"no channel {house.channel}", ""
    )
    assert kept_of(house.url, house.app.app_id) == before


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer", "bEaReR", "Bearer  "])
def test_the_scheme_may_be_in_any_case(house: House, scheme: str) -> None:
    url = f"{house.app.server_url}/v1/api/apps/{house.app.app_id}/data/sent-campaigns-summary"
    headers = {"Authorization": f"{scheme} {house.app.token}"}
    assert house.app.client.get(url, headers=headers).status_code == 200


@pytest.mark.parametrize("query", ["token={}", "access_token={}", "Authorization=Bearer%20{}"])
def test_a_token_in_the_url_does_not_count_and_is_not_logged(
    house: House, server: Server, query: str
) -> None:
    url = f"{house.app.server_url}/v1/api/apps/{house.app.app_id}/data/sent-campaigns-summary"
    answer = house.app.client.get(f"{url}?{query.format(house.app.token)}")
    assert answer.status_code == 401
    wait_for(lambda: answer.json()["cid"] in server.log.read_text())
    assert house.app.token not in server.log.read_text()


def test_no_token_is_stored_or_logged(house: House, server: Server) -> None:
    """Only the SHA-256 is stored. The part after the app's id is what opens."""
    tokens = [house.app.token, house.stranger.token, house.revoked, house.expired]
    log = server.log.read_text()
    stored = "\n".join(row for rows in read_all(house.url).values() for row in rows)
    assert house.app.app_id in log
    assert house.app.app_id in stored
    for token in tokens:
        secret = token.rpartition("_")[2]
        assert len(secret) == 43
        assert secret not in log
        assert secret not in stored
        assert secret.encode().hex() not in stored


def hear_all(server: Server, processes: int = 2) -> None:
    """Wait until that many processes answer; a cid begins with its process's part."""
    heard: set[str] = set()

    def ask() -> bool:
        heard.add(httpx.get(server.url + "/health/live").headers["x-correlation-id"][:12])
        return len(heard) == processes

    wait_for(ask)


def test_a_revoked_token_is_refused_within_five_seconds_by_all_processes_and_its_last_use_is_known(
    server: Server, database_url: str, app: App, tmp_path: Path
) -> None:
    key = (server.data_dir / "secret.key").read_text().strip()
    options = ["--workers", "2", "--database-url", database_url]
    two = start_server(tmp_path, *options, environ={"TALLYCAST_ENCRYPTION_KEY": key})
    url = f"{two.url}/v1/api/apps/{app.app_id}/data/sent-campaigns-summary"
    token = make_token(database_url, app)

    def ask() -> set[int]:  # each on a connection of its own, so that both processes answer
        headers = {"Authorization": f"Bearer {token.plain}"}
        return {httpx.get(url, headers=headers).status_code for _ in range(16)}

    try:
        hear_all(two)
        began = datetime.now(UTC)
        assert ask() == {200}
        in_database(database_url, lambda c: apps.revoke_token(c, app.app_id, token.token.token_id))
        wait_for(lambda: ask() == {401}, 5)
    finally:
        assert two.stop() == 0
    known = in_database(database_url, lambda c: apps.list_tokens(c, app.app_id))
    [found] = [one for one in known if one.token_id == token.token.token_id]
    assert found.last_used_at is not None
    assert found.revoked_at is not None
    assert began < found.last_used_at < datetime.now(UTC)
    assert [one.last_used_at for one in known if one.token_id != token.token.token_id] == [None]


def test_an_expiry_bites_at_its_moment(app: App, database_url: str) -> None:
    token = make_token(database_url, app, expires_at=datetime.now(UTC) + timedelta(seconds=1)).plain
    app.token = token
    assert app.request("GET", "/channels").status_code == 200
    wait_for(lambda: app.request("GET", "/channels").status_code == 401, 2)

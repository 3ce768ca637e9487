"""The direct way past the framework: which requests take it, and that nobody can tell which way an answer came."""

import socket
import warnings
from typing import Any

import httpx
import pytest
from litestar import Litestar

from contents import in_database
from harness import App, Server
from tallycast import apps
from tallycast.web.direct import Direct
from tallycast.web.server import ROUTES

ROOT = "/v1/api/apps/a/data"
DIRECT = ["/data/sent-campaigns-summary", "/data/sent-campaigns-detail", "/data/campaign-changes"]


@pytest.fixture(scope="module")
def direct() -> Direct:
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        return Direct(Litestar(ROUTES, openapi_config=None))


@pytest.mark.parametrize(
    ("path", "changes", "taken"),
    [
        *(pytest.param(f"/v1/api/apps/a{path}", {}, True, id=path) for path in DIRECT),
        pytest.param(f"{ROOT}/sent-campaigns-summary", {"headers": [(b"host", b"[::1]:80")]}, True, id="IPv6"),
        pytest.param(f"{ROOT}/sent-campaigns-summary", {"headers": []}, True, id="no host"),
        pytest.param(f"{ROOT}/sent-campaigns-summary", {"headers": [(b"host", b"a b")]}, False, id="no such host"),
        pytest.param(f"{ROOT}/sent-campaigns-summary", {"method": "POST"}, False, id="POST"),
        pytest.param(f"{ROOT}/sent-campaigns-summary", {"method": "OPTIONS"}, False, id="OPTIONS"),
        pytest.param(f"{ROOT}/sent-campaigns-summary/", {}, False, id="slash at the end"),
        pytest.param(f"/{ROOT}/sent-campaigns-summary", {}, False, id="two slashes"),
        pytest.param(f"{ROOT}/sent-campaigns-summaryx", {}, False, id="longer name"),
        pytest.param("/v1/api/apps//data/sent-campaigns-summary", {}, False, id="no app"),
        pytest.param("/v1/api/apps/a/b/data/sent-campaigns-summary", {}, False, id="app with a slash"),
        pytest.param("/v1/api/apps/a/channels", {}, False, id="not marked"),
        pytest.param("/v1/api/apps/a/campaigns/1/insights", {}, False, id="not marked, of a campaign"),
        pytest.param("/v1/api/apps/", {}, False, id="nothing behind"),
        pytest.param("/data/sent-campaigns-summary", {}, False, id="nothing before"),
        pytest.param("/", {}, False, id="home"),
    ],
)  # fmt: skip
def test_gets_of_marked_reports_go_directly_and_all_else_through_the_framework(
    direct: Direct, path: str, changes: dict[str, Any], taken: bool
) -> None:
    scope = {"method": "GET", "path": path, "headers": [(b"host", b"127.0.0.1:8080")], **changes}
    assert (direct.find(scope) is not None) == taken


@pytest.fixture
def asked(app: App) -> App:
    channel = app.add_channel()
    for n in range(3):
        app.record(channel, [f"m-{n}"])
    return app


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """What the client learns, without what is another each time."""
    own = {"x-correlation-id", "date"}
    body = answer.json() if answer.content else {}
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in own}, {**body, "cid": ""}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        pytest.param("limit=2", {}, 200, id="a page"),
        pytest.param("limit=2", {"Accept-Encoding": "br"}, 200, id="compressed"),
        pytest.param("limit=2", {"If-None-Match": "*"}, 304, id="known"),
        pytest.param("limit=2", {"Origin": "https://app.example.com"}, 200, id="of another origin"),
        pytest.param("limit=201", {}, 400, id="bad query"),
        pytest.param("", {"Authorization": ""}, 401, id="no token"),
        pytest.param("", {"Authorization": "Bearer tct_x"}, 401, id="unknown token"),
    ],
)
def test_an_answer_is_the_same_directly_and_through_the_framework(
    asked: App, method: str, query: str, headers: dict[str, str], status: int
) -> None:
    directly, around = (
        told(asked.request(method, f"/data/sent-campaigns-summary{end}?{query}", headers=headers))
        for end in ("", "/")
    )
    assert directly == around
    assert directly[0] == status


@pytest.mark.parametrize("path", DIRECT)
def test_a_report_asked_directly_needs_its_scope_and_its_app(
    app: App, server: Server, database_url: str, path: str
) -> None:
    token = in_database(database_url, lambda c: apps.create_token(c, app.app_id, ["people:write"])).plain
    answer = app.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["message"]) == (
        403,
        "the token does not have the scope reports:read",
    )
    url = f"{server.url}/v1/api/apps/another{path}"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {app.token}"})
    assert (answer.status_code, answer.json()["message"]) == (403, "the token belongs to another app")


def test_a_host_that_cannot_be_one_is_refused(server: Server, app: App) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"GET /v1/api/apps/{app.app_id}/data/sent-campaigns-summary HTTP/1.1\r\n"
            f'Host: "x"\r\nAuthorization: Bearer {app.token}\r\n\r\n'.encode()
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")

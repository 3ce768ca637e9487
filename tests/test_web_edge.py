"""What every answer has, whatever gives it: CORS, security headers, the description, health and metrics."""

import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

import tallycast
from harness import App, Server, start_server, wait_for
from tallycast.web import webhooks
from tallycast.web.server import ROUTES

ALLOWED = ["https://app.example.com", "http://localhost:5999"]
SUMMARY = "/data/sent-campaigns-summary"
CORS = {
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
}


def cors_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", ALLOWED)
@pytest.mark.parametrize(
    ("path", "status"),
    [pytest.param(SUMMARY, 200, id="an answer"), pytest.param(SUMMARY + "?limit=x", 400, id="a failure"),
     pytest.param("/nope", 404, id="no such URL")],
)  # fmt: skip
def test_a_configured_origin_may_read_every_answer_of_the_api_with_credentials(
    app: App, origin: str, path: str, status: int
) -> None:
    answer = app.request("GET", path, headers={"Origin": origin})
    assert answer.status_code == status
    assert cors_of(answer) == {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "X-Correlation-ID, Link, ETag, Retry-After, Idempotency-Replayed, "
        "Content-Disposition, X-Total-Rows, Tallycast-Note",
    }
    assert "Origin" in answer.headers.get_list("vary", split_commas=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", SUMMARY), ("POST", "/sent-campaigns"), ("PATCH", "/channels/x"), ("DELETE", "/channels/x")],
)
def test_a_browsers_preflight_is_answered_without_a_token(app: App, method: str, path: str) -> None:
    headers = {
        "Origin": ALLOWED[0],
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    answer = httpx.options(f"{app.server_url}/v1/api/apps/{app.app_id}{path}", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ALLOWED[0]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,idempotency-key"
    assert method in answer.headers["access-control-allow-methods"].split(", ")


def test_a_preflight_reflects_no_odd_header_names(app: App) -> None:
    headers = {
        "Origin": ALLOWED[0],
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "a\tb<script>",
    }
    answer = httpx.options(f"{app.server_url}/v1/api/apps/{app.app_id}{SUMMARY}", headers=headers)
    assert answer.headers["access-control-allow-headers"] == "Authorization, Content-Type"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil.example", "https://app.example.com:8443",
     "https://APP.example.com", "null", "*", ""],
)  # fmt: skip
def test_no_other_origin_gets_cors_headers(app: App, origin: str) -> None:
    answer = app.request("GET", SUMMARY, headers={"Origin": origin})
    assert (answer.status_code, cors_of(answer)) == (200, {})
    assert "Origin" in answer.headers.get_list("vary", split_commas=True), "a cache must not mix them"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    answer = httpx.options(f"{app.server_url}/v1/api/apps/{app.app_id}{SUMMARY}", headers=preflight)
    assert cors_of(answer) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/health/live",
        "/r/x",
        "/static/docs.js",
        "/webhooks/generic/x",
    ],
)
def test_nothing_but_the_api_has_cors_headers(server: Server, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": ALLOWED[0], "Access-Control-Request-Method": "GET"}
        assert cors_of(httpx.request(method, server.url + path, headers=headers)) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/health/live",
        "/nope",
        "/r/x",
        "/static/docs.js",
        "/v1/api/apps/x/channels",
    ],
)
def test_every_answer_has_the_security_headers_and_a_cid(server: Server, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert ("'unsafe-inline'" in policy) == (path == "/docs"), "of the library that shows the documentation"
    assert "frame-ancestors 'none'" in policy
    assert re.fullmatch(r"[0-9a-f]{20,}", answer.headers["x-correlation-id"])
    assert answer.headers["content-type"].count("charset") <= 1


PAGES = {"/docs", "/openapi.json", "/static/{name}"}


def table() -> Iterator[tuple[str, str]]:
    """(method, path) of each route that clients use, from the server's own table."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        routes = Litestar(ROUTES, openapi_config=None).routes
    for route in routes:
        if isinstance(route, HTTPRoute) and route.path_format not in PAGES:
            handlers = [
                handler for handler in route.route_handlers if "role" not in handler.opt
            ]  # people's pages
            methods = {str(method) for handler in handlers for method in handler.http_methods}
            yield from ((method.lower(), route.path_format) for method in methods - {"OPTIONS"})
    for operation in webhooks.OPERATIONS:  # they go past the framework's routes
        yield operation.method.lower(), operation.path


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    answer = httpx.get(server.url + "/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_route_is_described(document: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == set(table())


def test_the_description_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == tallycast.__version__
    assert document["servers"] == [{"url": "/"}], "wherever the document was read from"
    assert set(document) <= {"openapi", "info", "servers", "paths", "components", "tags"}
    assert list(document["components"]["securitySchemes"]) == ["AppToken"]
    for method, path, operation in operations(document):
        assert method in {"get", "post", "patch", "delete", "put"}
        assert {"operationId", "summary", "description", "tags", "parameters", "responses"} <= set(operation)
        in_path = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path)
        for parameter in operation["parameters"]:
            assert parameter["in"] in {"path", "query", "header"}
            assert parameter["required"] is True or parameter["in"] != "path"
            assert {"name", "in", "required", "schema"} <= set(parameter)
        assert len({(one["in"], one["name"]) for one in operation["parameters"]}) == len(
            operation["parameters"]
        )
        assert all(
            re.fullmatch(r"[1-5]\d\d", status) and one["description"]
            for status, one in operation["responses"].items()
        )
        assert any(status[0] in "23" for status in operation["responses"])
        assert "requestBody" not in operation or method in {"post", "patch", "put"}
        assert ("security" in operation) == path.startswith("/v1/")


def test_every_reference_of_the_description_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for one in value.values():
                yield from walk(one)
        elif isinstance(value, list):
            for one in value:
                yield from walk(one)

    found = set(walk(document))
    assert found
    assert {one.removeprefix("#/components/schemas/") for one in found} <= set(schemas)


def test_operation_ids_are_unique_and_the_two_reports_have_their_known_ones(document: dict[str, Any]) -> None:
    ids = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert set(ids.values()) == {1}
    base = "/v1/api/apps/{appID}/data/sent-campaigns-"
    assert document["paths"][base + "summary"]["get"]["operationId"] == "getSentCampaignsSummary"
    assert document["paths"][base + "detail"]["get"]["operationId"] == "getSentCampaignsDetail"


def test_the_summary_is_described_with_its_parameters_fields_and_failures(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/api/apps/{appID}/data/sent-campaigns-summary"]["get"]
    by_name = {one["name"]: one for one in operation["parameters"]}
    assert list(by_name) == ["appID", "startAt", "endAt", "channel", "limit", "offset", "If-None-Match"]
    assert (by_name["If-None-Match"]["in"], by_name["If-None-Match"]["required"]) == ("header", False)
    assert by_name["limit"]["schema"] == {
        "type": "integer",
        "format": "int32",
        "minimum": 0,
        "maximum": 200,
        "default": 10,
    }
    assert by_name["offset"]["schema"]["default"] == 0
    fields = list(document["components"]["schemas"]["Summary"]["properties"])
    assert fields == ["id", "date", "campaignName", "channel", "createdBy", "sender", "subject", "totalRecipients", "delivered",
                      "read", "replied", "pending", "failed"]  # fmt: skip
    assert set(operation["responses"]) == {"200", "304", "400", "401", "403", "429", "500", "503"}
    assert [set(operation["responses"][one]["headers"]) for one in ("200", "304")] == [{"ETag"}, {"ETag"}]
    assert "content" not in operation["responses"]["304"]


def test_an_answer_that_may_come_later_and_every_choice_of_words_are_described(
    document: dict[str, Any],
) -> None:
    by_id = {one["operationId"]: one["responses"] for _, _, one in operations(document)}
    assert {"201", "202"} <= set(by_id["importAudience"])
    assert {"200", "202"} <= set(by_id["testCampaign"])
    assert by_id["testCampaign"]["202"] == by_id["testCampaign"]["200"]
    schemas = document["components"]["schemas"]
    for schema, field, word in (
        ("Standing", "stage", "pendingApproval"), ("Standing", "kind", "smsDynamic"),
        ("ImportView", "state", "refused"), ("Outcome", "outcome", "waiting"),
    ):  # fmt: skip
        assert word in schemas[schema]["properties"][field]["enum"]


def test_the_documentation_and_all_its_assets_come_from_this_server(server: Server) -> None:
    page = httpx.get(server.url + "/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assets = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert "/static/swagger-ui/swagger-ui-bundle.js" in assets
    assert "//" not in "".join(assets), "no asset of another host"
    for path in (one for one in assets if not one.startswith("data:")):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 200, path
        styles = (
            re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", answer.text)
            if path.endswith(".css")
            else []
        )
        assert all(one.startswith("data:") for one in styles)
    assert 'url: "/openapi.json"' in httpx.get(server.url + "/static/docs.js").text
    assert 'href="/docs"' in httpx.get(server.url + "/sign-in").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/",
        "/static",
    ],
)
def test_only_assets_are_served_from_static(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 404


def test_health_tells_that_the_process_lives_and_is_ready(server: Server) -> None:
    for path, status in (("live", "alive"), ("ready", "ready")):
        answer = httpx.get(f"{server.url}/health/{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": status})
        assert httpx.head(f"{server.url}/health/{path}").status_code == 200


def counted(server: Server) -> dict[tuple[str, str, str], int]:
    """Requests by method, route and status, as /metrics has them."""
    text = httpx.get(server.url + "/metrics").text
    found = re.findall(
        r'^tallycast_requests_total{method="(.*)",route="(.*)",status="(.*)"} (\S+)$', text, re.MULTILINE
    )
    return {(method, route, status): int(float(number)) for method, route, status, number in found}


def test_metrics_count_every_request_exactly_over_two_processes(
    server: Server, database_url: str, app: App, tmp_path: Path
) -> None:
    key = (server.data_dir / "secret.key").read_text().strip()
    options = ["--workers", "2", "--database-url", database_url]
    two = start_server(tmp_path, *options, environ={"TALLYCAST_ENCRYPTION_KEY": key})
    try:
        url = f"{two.url}/v1/api/apps/{app.app_id}{SUMMARY}"
        headers = {"Authorization": f"Bearer {app.token}"}
        heard: set[str] = set()

        def hear() -> bool:  # a cid begins with its process's part
            heard.add(httpx.get(two.url + "/health/live").headers["x-correlation-id"][:12])
            return len(heard) == 2

        wait_for(hear)
        heard.clear()
        for n in range(40):  # each on a connection of its own, so that both processes answer
            heard.add(httpx.get(url, headers=headers).headers["x-correlation-id"][:12])
            httpx.get(url, params={"limit": "x"}, headers=headers)
            if n < 7:
                httpx.get(f"{two.url}/nope/{n}")
                httpx.head(url, headers=headers)
        route = "/v1/api/apps/{appID}/data/sent-campaigns-summary"
        expected = {
            ("GET", route, "200"): 40,
            ("GET", route, "400"): 40,
            ("HEAD", route, "200"): 7,
            ("GET", "none", "404"): 7,
        }
        wait_for(lambda: expected.items() <= counted(two).items(), 5)
        assert {key for key in counted(two) if "nope" in key[1]} == set(), "no URL makes a label of its own"
        assert len(heard) == 2, "both processes have answered"
    finally:
        assert two.stop() == 0


def test_metrics_are_prometheus_text(server: Server) -> None:
    answer = httpx.get(server.url + "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert all(re.fullmatch(r"#.*|\w+({.*})? \S+|", line) for line in answer.text.split("\n"))


def test_a_server_that_is_asked_to_stop_while_its_processes_start_stops_at_once(
    server: Server, database_url: str, tmp_path: Path
) -> None:
    """It says that it is ready when one process is; the signal must not be lost on one that still starts."""
    key = (server.data_dir / "secret.key").read_text().strip()
    options = ["--workers", "3", "--database-url", database_url]
    for _ in range(3):
        three = start_server(tmp_path, *options, environ={"TALLYCAST_ENCRYPTION_KEY": key})
        began = time.monotonic()
        assert three.stop() == 0
        assert time.monotonic() - began < 10

"""Webhook endpoints over HTTP: what may be one, what is shown of it, and its delivery log."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from harness import App

ENDPOINTS = "/webhook-endpoints"
URL = "https://hooks.example.com/in"


def add(app: App, **fields: Any) -> dict[str, str]:
    made: dict[str, str] = app.result("POST", ENDPOINTS, json={"url": URL, **fields})
    return made


def rows(url: str, app: App) -> str:
    """All that the database has of an app's endpoints and its kept answers."""
    with psycopg.connect(url) as connection:
        query = """
            select e::text from webhook_endpoints e where app_id = %(app)s
            union all select n::text from notices n where app_id = %(app)s
            union all select convert_from(answer, 'UTF8') from idempotency_keys where app_id = %(app)s"""
        return "\n".join(row for (row,) in connection.execute(query, {"app": app.app_id}))


def test_an_endpoint_shows_its_secret_once_and_is_kept_encrypted(app: App, database_url: str) -> None:
    made = add(app, events=["campaign.sent"], description="Warehouse")
    assert made["secret"].startswith("whsec_")
    secret = base64.b64decode(made["secret"].removeprefix("whsec_"))
    assert len(secret) == 32
    found = app.result("GET", f"{ENDPOINTS}/{made['id']}")
    assert app.result("GET", ENDPOINTS) == [found]
    created = found.pop("createdAt")
    assert created.endswith("Z")
    assert found == {
        "id": made["id"],
        "url": URL,
        "description": "Warehouse",
        "events": ["campaign.sent"],
        "hasOldSecret": False,
        "failingSince": None,
        "disabledAt": None,
        "disabledReason": None,
    }
    stored = rows(database_url, app)
    assert made["id"] in stored
    assert secret.hex() not in stored


def test_the_same_key_makes_one_endpoint_and_its_secret_is_not_kept_for_that(
    app: App, database_url: str
) -> None:
    answers = [
        app.request("POST", ENDPOINTS, json={"url": URL}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    first, second = (answer.json()["result"] for answer in answers)
    assert first == second
    assert len(app.result("GET", ENDPOINTS)) == 1
    assert first["secret"].removeprefix("whsec_") not in rows(database_url, app)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"url": "http://hooks.example.com"}, "url must start with https://", id="plain HTTP"),
        pytest.param({"url": "https://127.0.0.1/x"}, "url 127.0.0.1 is not a public host", id="loopback"),
        pytest.param(
            {"url": "https://169.254.169.254/?x"}, "url 169.254.169.254 is not a public", id="metadata"
        ),
        pytest.param({"url": "https://localhost/in"}, "url localhost is not a public host", id="local name"),
        pytest.param({"url": "hooks.example.com"}, "url must start with https://", id="no scheme"),
        pytest.param({"url": "ftp://hooks.example.com"}, "url must start with https://", id="another scheme"),
        pytest.param({"url": "https://a:b@example.com"}, "url must be an address without user", id="user"),
        pytest.param({"url": "https://example.com/#a"}, "url must be an address without user", id="fragment"),
        pytest.param({"url": "https://example.com/?a#b"}, "url must be a URL in ASCII", id="late fragment"),
        pytest.param({"url": "https://example.com/ä"}, "url must be a URL in ASCII", id="not ASCII"),
        pytest.param({"url": "https://example.com/?a b"}, "url must be a URL in ASCII", id="space"),
        pytest.param({"url": "https://example.com/" + "a" * 2000}, "the body is not what", id="too long"),
        pytest.param({"events": ["campaign.opened"]}, "the body is not what", id="unknown event"),
        pytest.param({"description": "a\0b"}, "description must not have NUL", id="NUL"),
        pytest.param({"secret": "x"}, "the body is not what", id="unknown field"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused_by_name(
    app: App, fields: dict[str, Any], message: str
) -> None:
    made = add(app)
    for method, path in (("POST", ENDPOINTS), ("PATCH", f"{ENDPOINTS}/{made['id']}")):
        body = fields if method == "PATCH" else {"url": URL, **fields}
        answer = app.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        assert answer.json()["message"].startswith(f"Bad query: {message}")


def test_an_app_has_twenty_endpoints_at_most(app: App) -> None:
    for _ in range(20):
        add(app)
    answer = app.request("POST", ENDPOINTS, json={"url": URL})
    assert (answer.status_code, answer.json()["message"]) == (422, "an app has at most 20 webhook endpoints")


def test_those_who_add_at_once_do_not_add_more_than_that(app: App) -> None:
    for _ in range(18):
        add(app)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: app.request("POST", ENDPOINTS, json={"url": URL}).status_code, range(8))
        )
    assert sorted(answers) == [201] * 2 + [422] * 6


def test_a_url_may_have_a_query(app: App) -> None:
    made = add(app, url=f"{URL}?sig=a%2Fb&v=1")
    assert app.result("GET", f"{ENDPOINTS}/{made['id']}")["url"] == f"{URL}?sig=a%2Fb&v=1"


def test_a_change_keeps_what_it_leaves_out(app: App) -> None:
    path = f"{ENDPOINTS}/{add(app, events=['campaign.sent'], description='A')['id']}"
    changed = app.result("PATCH", path, json={"events": ["channel.paused", "campaign.sent", "campaign.sent"]})
    assert (changed["url"], changed["description"]) == (URL, "A")
    assert changed["events"] == ["campaign.sent", "channel.paused"]
    disabled = app.result("PATCH", path, json={"isDisabled": True})
    assert (disabled["disabledReason"], disabled["events"]) == ("disabled by a person", changed["events"])
    again = app.result("PATCH", path, json={"description": "B"})
    assert (again["disabledAt"], again["description"]) == (disabled["disabledAt"], "B")
    enabled = app.result("PATCH", path, json={"isDisabled": False})
    assert (enabled["disabledAt"], enabled["disabledReason"]) == (None, None)


def test_a_rotated_secret_is_another_and_the_old_one_stays_for_a_day(app: App) -> None:
    made = add(app)
    path = f"{ENDPOINTS}/{made['id']}"
    rotated = app.result("POST", f"{path}/rotate-secret")
    assert rotated["id"] == made["id"]
    assert rotated["secret"] != made["secret"]
    assert app.result("GET", path)["hasOldSecret"] is True


def test_a_test_is_in_the_log_with_what_is_sent(app: App) -> None:
    made = add(app)
    path = f"{ENDPOINTS}/{made['id']}"
    answer = app.request("POST", f"{path}/test")
    assert answer.status_code == 202
    told = answer.json()["result"]
    assert (told["type"], told["state"], told["attempts"]) == ("webhook.test", "waiting", 0)
    one = app.result("GET", f"{path}/deliveries/{told['id']}")
    assert one["body"]["type"] == "webhook.test"
    assert one["body"]["data"] == {"endpointID": made["id"]}
    assert [row["id"] for row in app.result("GET", f"{path}/deliveries")] == [told["id"]]
    assert app.result("GET", f"{path}/deliveries", params={"state": "delivered"}) == []


def test_what_waits_for_a_disabled_endpoint_has_failed_and_is_sent_again_when_it_is_enabled(app: App) -> None:
    path = f"{ENDPOINTS}/{add(app, url='https://hooks.invalid')['id']}"
    told = app.result("POST", f"{path}/test")["id"]
    waiting = app.request("POST", f"{path}/deliveries/{told}/retry")
    assert waiting.status_code == 422
    app.result("PATCH", path, json={"isDisabled": True})
    assert [row["id"] for row in app.result("GET", f"{path}/deliveries", params={"state": "failed"})] == [
        told
    ]
    for target in (f"{path}/test", f"{path}/deliveries/{told}/retry"):
        answer = app.request("POST", target)
        assert (answer.status_code, answer.json()["message"]) == (
            422,
            "the endpoint is disabled: enable it first",
        )
    app.result("PATCH", path, json={"isDisabled": False})
    again = app.result("POST", f"{path}/deliveries/{told}/retry")
    assert (again["id"], again["state"], again["attempts"]) == (told, "waiting", 0)


def test_the_log_has_pages(app: App) -> None:
    path = f"{ENDPOINTS}/{add(app, url='https://hooks.invalid')['id']}"
    known = [app.result("POST", f"{path}/test")["id"] for _ in range(3)]
    first = app.request("GET", f"{path}/deliveries", params={"limit": 2})
    assert [row["id"] for row in first.json()["result"]] == known[:0:-1]
    target = first.links["next"]["url"].removeprefix(f"/v1/api/apps/{app.app_id}")
    assert [row["id"] for row in app.result("GET", target)] == known[:1]
    assert app.request("GET", f"{path}/deliveries", params={"state": "lost"}).status_code == 400


def test_a_deleted_endpoint_leaves_nothing_behind(app: App, database_url: str) -> None:
    path = f"{ENDPOINTS}/{add(app)['id']}"
    app.result("POST", f"{path}/test")
    assert app.result("DELETE", path) == {}
    assert rows(database_url, app) == ""
    for method, target in (("GET", path), ("DELETE", path), ("PATCH", path), ("GET", f"{path}/deliveries")):
        answer = app.request(method, target, json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert app.request("GET", f"{ENDPOINTS}/a%00b").status_code == 404

"""The log of administrations: every change that an admin can make is in it, from the route tables, with no secret."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner

import tallycast
from contents import in_database, rows_of
from dashboard import PASSWORD, Browser, House, add_staff, find_pages, make_house
from harness import App, Server, wait_for
from tallycast import administrations, apps
from tallycast.administrations import ACTIONS, HOUSE, Entry
from tallycast.cli import main
from tallycast.dashboard import catalogue
from test_web_access import PREFIX, find_routes, has_rested

SECRET = "hush-hush"
NUMBER = "+85291000000"
OPTED_OUT = "+85291000007"
GENERIC = {"type": "whatsApp", "provider": "generic", "phone": "+85230001234", "webhookSecret": SECRET}
URL = {"url": f"https://example.com/hook?token={SECRET}"}
# What each route of the API writes, the request's body, and what of it is kept.
API: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    "POST /channels": ("channel.created", {**GENERIC, "credentials": {}}, {
        "type": "whatsApp", "provider": "generic", "phone": "+85230001234", "secrets": ["webhookSecret"]}),
    "PATCH /channels/{channelID}": ("channel.changed", {"channelName": "New", "webhookSecret": SECRET}, {
        "channelName": "New", "secrets": ["webhookSecret"]}),
    "POST /channels/{channelID}/resume": ("channel.resumed", None, {}),
    "PATCH /policy": ("policy.changed", {"requiresApproval": True, "retention": {"days": 9, "mode": "delete"}}, {
        "requiresApproval": True, "retention": {"days": 9, "mode": "delete"}}),
    "POST /webhook-endpoints": ("endpoint.created", URL, {"url": "https://example.com/hook", "events": []}),
    "PATCH /webhook-endpoints/{endpointID}": ("endpoint.changed", {**URL, "isDisabled": False}, {
        "url": "https://example.com/hook", "isDisabled": False}),
    "POST /webhook-endpoints/{endpointID}/rotate-secret": ("endpoint.secretRotated", None, {}),
    "DELETE /webhook-endpoints/{endpointID}": ("endpoint.deleted", None, {}),
    "DELETE /opt-outs/{kind}/{recipient}": ("optOut.removed", None, {"kind": "sms"}),
    "GET /people/{number}": ("person.shown", None, {}),
    "POST /people/{number}/erase": ("person.erased", None, {}),
    "GET /exports/recipients": ("recipients.exported", None, {"state": "all"}),
    "DELETE /channels/{channelID}": ("channel.deleted", None, {}),
}  # fmt: skip
# These change no setting: a test event, and one that is sent again; both are in the endpoint's own log.
QUIET_API = {
    "POST /webhook-endpoints/{endpointID}/test",
    "POST /webhook-endpoints/{endpointID}/deliveries/{deliveryID}/retry",
}
OF_ADMINS = ("channels:write", "people:write")
SETTINGS = "/apps/{appID}/settings"
# The same for the pages, with the fields of their forms.
PAGES: dict[str, tuple[str, dict[str, str]]] = {
    "POST channels/new": ("channel.created", {"type": "whatsApp", "provider": "generic", "phone": "+85230001234",
                          "webhook_secret": SECRET}),
    "POST channels/{channelID}": ("channel.changed", {"phone": "+85230001235", "webhook_secret": SECRET}),
    "POST channels/{channelID}/pause": ("channel.paused", {"note": f"asked by {NUMBER}"}),
    "POST channels/{channelID}/resume": ("channel.resumed", {}),
    "POST tokens": ("token.created", {"name": "BI", "scopes": "reports:read"}),
    "POST tokens/{tokenID}/revoke": ("token.revoked", {}),
    "POST staff": ("staff.roleChanged", {"email": "NEW", "name": "New", "eid": "E9", "role": "viewer"}),
    "POST staff/{staffID}/role": ("staff.roleChanged", {"role": "editor"}),
    "POST staff/{staffID}/invite": ("staff.invited", {}),
    "POST staff/{staffID}/remove": ("staff.roleChanged", {}),
    "POST policy": ("policy.changed", {"time_zone": "UTC", "stale_minutes": "60"}),
    "POST opt-outs/remove": ("optOut.removed", {"recipient": OPTED_OUT, "why": "asked", "kind": "all"}),
    "POST retention": ("policy.changed", {"mode": "delete", "days": "90"}),
    "POST retention/person": ("person.shown", {"number": NUMBER}),
    "POST retention/erase": ("person.erased", {"number": "+85291000009", "sure": "1"}),
    "POST webhooks": ("endpoint.created", URL),
    "POST webhooks/{endpointID}": ("endpoint.changed", {**URL, "enabled": "1"}),
    "POST webhooks/{endpointID}/rotate": ("endpoint.secretRotated", {}),
    "POST webhooks/{endpointID}/delete": ("endpoint.deleted", {}),
    "POST channels/{channelID}/delete": ("channel.deleted", {}),
}  # fmt: skip
# Adding opt-outs is written in each of them, with its source; the others change no setting.
QUIET_PAGES = {
    "POST opt-outs",
    "POST opt-outs/import",
    "POST webhooks/{endpointID}/test",
    "POST webhooks/{endpointID}/deliveries/{deliveryID}/retry",
}


def entries(url: str, app_id: str) -> list[Entry]:
    """The latest first."""
    return in_database(url, lambda connection: administrations.list_page(connection, app_id, 200, 0))


def test_every_route_by_which_an_admin_changes_something_is_in_the_tables_of_this_test() -> None:
    table = [(f"{one.method} {one.path.removeprefix(PREFIX)}", one) for one in find_routes()]
    mutating = {name for name, one in table if one.method != "GET" and one.scope in OF_ADMINS}
    reading = {"DELETE /opt-outs/{kind}/{recipient}", "GET /people/{number}", "GET /exports/recipients"}
    assert mutating | reading == set(API) | QUIET_API
    pages = {
        f"{one.method} {one.path.removeprefix(SETTINGS).lstrip('/')}"
        for one in find_pages()
        if one.method != "GET" and one.role == "admin"
    }
    assert pages == set(PAGES) | QUIET_PAGES
    known = {action for action, *_ in (*API.values(), *PAGES.values())}
    of_commands = {
        "app.created",
        "digestKey.renewed",
        "key.added",
        "key.used",
        "key.retired",
        "signIn.refused",
    }
    of_commands |= {
        f"staff.{done}"
        for done in ("created", "disabled", "enabled", "ownerChanged", "passwordChanged", "signedOut")
    }
    assert known | of_commands == set(ACTIONS)


@pytest.fixture(scope="module")
def shop(server: Server, database_url: str, client: httpx.Client) -> tuple[App, dict[str, str]]:
    made = in_database(database_url, lambda connection: apps.create_app(connection, "Shop"))
    token = in_database(
        database_url, lambda connection: apps.create_token(connection, made.app_id, name="desk")
    )
    app = App(server.url, made.app_id, token.plain, client)
    app.result("POST", "/opt-outs", json={"kind": "sms", "recipients": [OPTED_OUT], "source": "letter"})
    channel = app.add_channel()
    values = {
        "channelID": channel, "campaignID": app.record(channel, ["m-1"]), "kind": "sms", "recipient": OPTED_OUT, "number": NUMBER,
        "endpointID": app.result("POST", "/webhook-endpoints", json={**URL, "events": ["channel.paused"]})["id"],
        "tokenID": token.token.token_id,
    }  # fmt: skip
    wait_for(lambda: has_rested(database_url, app))
    return app, values


def ask(app: App, values: dict[str, str], name: str) -> httpx.Response:
    method, path = name.split(" ")
    _, body, _ = API[name]
    options: dict[str, Any] = {} if body is None else {"json": body}
    if path.startswith("/exports"):
        options["params"] = {"campaign": values["campaignID"]}
    return app.request(method, path.format(**values), headers={"X-Forwarded-For": "203.0.113.7"}, **options)


@pytest.mark.parametrize(
    "name", [name for name in API if not name.startswith("GET ") and "erase" not in name]
)
def test_a_change_that_cannot_be_written_down_is_not_made(
    shop: tuple[App, dict[str, str]], database_url: str, name: str
) -> None:
    app, values = shop
    stop = f"alter table administrations add constraint stop check (app_id <> '{app.app_id}') not valid"
    before = {**rows_of(database_url, app.app_id), "tokens": []}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(stop.encode())
        try:
            assert ask(app, values, name).status_code == 500
        finally:
            connection.execute(b"alter table administrations drop constraint stop")
    after = {**rows_of(database_url, app.app_id), "tokens": []}
    assert after == before


@pytest.mark.parametrize("name", API)
def test_every_change_over_the_api_is_written_down_with_who_made_it_and_from_where(
    shop: tuple[App, dict[str, str]], database_url: str, name: str
) -> None:
    app, values = shop
    before = entries(database_url, app.app_id)
    answer = ask(app, values, name)
    assert answer.is_success, answer.text
    [entry, *rest] = entries(database_url, app.app_id)
    assert rest == before
    assert (entry.action, entry.details) == (API[name][0], API[name][2])
    assert (entry.actor, entry.address) == (f"token {values['tokenID']} (desk)", "203.0.113.7")
    if "{number}" in name or "{recipient}" in name:
        assert re.fullmatch(r"anon1-[a-z2-7]{16}", entry.subject)
    elif "exports" in name:
        assert entry.subject == values["campaignID"]


def test_the_api_lists_them_and_filters_by_action_and_period(
    shop: tuple[App, dict[str, str]], database_url: str
) -> None:
    app, _ = shop
    all_of_them = entries(database_url, app.app_id)
    listed = app.result("GET", "/administrations", params={"limit": 200})
    assert [one["id"] for one in listed] == [one.entry_id for one in all_of_them]
    chosen = app.result("GET", "/administrations", params={"action": "policy.changed"})
    assert [one["action"] for one in chosen] == ["policy.changed"]
    period = {"startAt": "2020-01-01T00:00:00Z", "endAt": "2021-01-01T00:00:00Z"}
    assert app.result("GET", "/administrations", params=period) == []
    assert app.request("GET", "/administrations", params={"action": "x"}).status_code == 400
    page = app.request("GET", "/administrations", params={"limit": 1, "offset": 1})
    assert page.json()["result"][0]["id"] == all_of_them[1].entry_id
    assert 'rel="next"' in page.headers["link"]


def test_what_is_refused_or_only_looked_at_is_not_written_down(app: App, database_url: str) -> None:
    channel = app.add_channel()
    before = entries(database_url, app.app_id)
    assert app.request("PATCH", f"/channels/{channel}", json={"phone": ""}).status_code == 400
    assert app.request("DELETE", "/channels/nope").status_code == 404
    assert app.request("DELETE", f"/opt-outs/sms/{OPTED_OUT}").status_code == 404
    assert app.request("GET", "/exports/recipients", params={"campaign": "1"}).status_code == 404
    campaign = app.record(channel, ["m-1"])
    assert app.request("HEAD", "/exports/recipients", params={"campaign": campaign}).status_code == 200
    app.result("GET", f"/channels/{channel}")
    assert entries(database_url, app.app_id) == before


@pytest.fixture(scope="module")
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture(scope="module")
def desk(house: House, client: httpx.Client) -> tuple[Browser, dict[str, str]]:
    """The admin's browser, and what stands for path parameters; made over the API."""
    token = in_database(house.database_url, lambda connection: apps.create_token(connection, house.app_id))
    app = App(house.server_url, house.app_id, token.plain, client)
    app.result("POST", "/opt-outs", json={"kind": "all", "recipients": [OPTED_OUT], "source": "letter"})
    address = f"new@{house.app_id}.example".lower()
    member = add_staff(house.database_url, f"member@{house.app_id}.example".lower(), house.app_id, "viewer")
    with psycopg.connect(house.database_url) as connection:
        connection.execute("update staff set password_hash = null where staff_id = %s", [member.staff_id])
    values = {
        "appID": house.app_id, "channelID": app.add_channel(), "tokenID": token.token.token_id, "staffID": member.staff_id,
        "endpointID": app.result("POST", "/webhook-endpoints", json=URL)["id"], "NEW": address,
    }  # fmt: skip
    browser = house.enter("admin")
    browser.get("/account")
    return browser, values


@pytest.mark.parametrize("name", PAGES)
def test_every_change_on_the_pages_is_written_down_with_the_person_and_their_address(
    house: House, desk: tuple[Browser, dict[str, str]], name: str
) -> None:
    browser, values = desk
    method, path = name.split(" ")
    action, fields = PAGES[name]
    typed = {field: values.get(text, text) for field, text in fields.items()}
    before = entries(house.database_url, house.app_id)
    url = f"{SETTINGS}/{path}".format(**values)
    answer = browser.client.request(method, url, headers={"X-CSRF-Token": browser.csrf}, data=typed)
    assert answer.status_code in {200, 303}, answer.text
    [entry, *rest] = entries(house.database_url, house.app_id)
    assert (entry.action, rest) == (action, before)
    assert (entry.actor, entry.address) == (
        f"staff {house.emails['admin']} (Admin)",
        browser.client.headers["x-forwarded-for"],
    )


def test_no_entry_has_a_secret_or_an_erased_persons_number(
    shop: tuple[App, dict[str, str]], desk: tuple[Browser, dict[str, str]], house: House, database_url: str
) -> None:
    browser, _ = desk
    said = repr(entries(database_url, shop[0].app_id) + entries(database_url, house.app_id))
    assert "webhookSecret" in said
    assert SECRET not in said
    assert OPTED_OUT not in said
    assert f"asked by {NUMBER}" in said
    path = f"/apps/{house.app_id}/settings/retention/erase"
    form = {"number": NUMBER, "sure": "1"}
    browser.client.post(path, data=form, headers={"X-CSRF-Token": browser.csrf})
    said = repr(entries(database_url, house.app_id))
    assert NUMBER[1:] not in said
    assert "asked by anon1-" in said


def test_the_page_shows_an_admin_the_app_and_an_owner_everything(house: House) -> None:
    admin, owner, path = house.enter("admin"), house.enter("owner"), f"/apps/{house.app_id}/settings/log"
    assert admin.get(path).status_code == 200
    assert "Token revoked" in admin.page.text
    assert admin.page.find_all("nav", **{"aria-label": "Which entries"}) == []
    assert admin.get(f"{path}?of=house").status_code == 403
    assert admin.get(f"{path}?action=policy.changed").status_code == 200
    assert "days" in admin.page.find("table").text
    assert "Token revoked" not in admin.page.find("table").text
    assert owner.get(f"{path}?of=house").status_code == 200
    assert owner.page.unclosed == []
    assert house.enter("approver").get(path).status_code == 403


def test_every_action_has_a_text_in_every_language() -> None:
    for language in catalogue.LANGUAGES:
        known = {key.removeprefix("did.") for key in catalogue.load(language) if key.startswith("did.")}
        assert known == {action.replace(".", "_") for action in ACTIONS}


def command(server: Server, *arguments: str, typed: str | None = None) -> str:
    done = CliRunner().invoke(main, [*arguments, *server.storage], input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_commands_do_is_written_down_as_done_by_their_user(server: Server) -> None:
    made = json.loads(command(server, "app", "create", "--name", "Shop", "--json"))["appID"]
    email = f"mei@{made}.example".lower()
    token = json.loads(command(server, "token", "create", "--app", made, "--name", "BI", "--json"))
    command(server, "token", "revoke", "--app", made, token["tokenID"])
    command(server, "people", "renew-key", "--app", made)
    command(server, "app", "set", made, "--approval")
    who = ["--email", email, "--name", "Mei", "--eid", "E1"]
    command(server, "staff", "create", *who, "--app", made, "--role", "editor", typed=f"{PASSWORD}\n")
    command(server, "staff", "set-role", email, "--app", made, "--role", "none")
    command(server, "staff", "set-role", email, "--owner")
    command(server, "staff", "set-role", email, "--no-owner")
    command(server, "staff", "set-password", email, typed=f"{PASSWORD}!\n")
    command(server, "staff", "set-password", email, "--link")
    command(server, "staff", "revoke-sessions", email)
    command(server, "staff", "disable", email)
    command(server, "staff", "enable", email)
    shown = json.loads(command(server, "log", "--app", made, "--json"))
    assert [(one["action"], one["subject"], one["details"]) for one in shown[::-1]] == [
        ("app.created", made, shown[-1]["details"]),
        ("token.created", token["tokenID"], shown[-2]["details"]),
        ("token.revoked", token["tokenID"], {}),
        ("digestKey.renewed", "anon1", {}),
        ("policy.changed", "", {"requiresApproval": True}),
        ("staff.roleChanged", email, {"role": "editor"}),
        ("staff.roleChanged", email, {"role": None}),
    ]
    assert {one["actor"].partition(" ")[0] for one in shown} == {"cli"}
    house = json.loads(command(server, "log", "--json"))
    done = [(one["action"], one["details"]) for one in house[::-1] if one["subject"] == email]
    assert done == [
        ("staff.created", {"isOwner": False}),
        ("staff.ownerChanged", {"isOwner": True}),
        ("staff.ownerChanged", {"isOwner": False}),
        ("staff.passwordChanged", {}),
        ("staff.invited", {}),
        ("staff.signedOut", {}),
        ("staff.disabled", {}),
        ("staff.enabled", {}),
    ]
    assert token["token"] not in json.dumps(shown)
    assert "staff.enabled" in command(server, "log", "--action", "staff.enabled", "--limit", "5")


def test_guessing_of_passwords_is_written_down_once_and_what_was_typed_is_not(house: House) -> None:
    browser = Browser(house.server_url)
    browser.get("/sign-in")
    answers = [browser.sign_in(f"nobody@{house.app_id}.example", "typed by mistake") for _ in range(14)]
    assert [one.status_code for one in answers] == [422] * 10 + [429] * 4
    address = browser.client.headers["x-forwarded-for"]
    found = [one for one in entries(house.database_url, HOUSE) if one.subject == address]
    assert [(one.action, one.actor, one.details) for one in found] == [("signIn.refused", "nobody", {})]


def test_a_password_that_is_changed_or_chosen_is_written_down(house: House) -> None:
    email = f"own@{house.app_id}.example".lower()
    add_staff(house.database_url, email, house.app_id, "viewer")
    browser = Browser(house.server_url)
    browser.sign_in(email)
    browser.get("/account")
    assert browser.post("/account/password", current=PASSWORD, password=f"{PASSWORD}!").status_code == 303
    [entry] = [one for one in entries(house.database_url, HOUSE) if one.subject == email]
    assert (entry.action, entry.actor) == ("staff.passwordChanged", f"staff {email} (Mei Chan)")


def test_nothing_in_the_program_changes_an_entry_but_the_erasure_of_a_person() -> None:
    folder = Path(tallycast.__file__).parent / "sql"
    found = [
        (path.stem, *match)
        for path in sorted(folder.glob("*.sql"))
        for match in re.findall(r"\b(update|delete from|truncate)\s+(administrations)\b", path.read_text())
    ]
    assert found == [("people", "update", "administrations")]

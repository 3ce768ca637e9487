"""The settings of an app on the dashboard: channels, tokens, people, rules, opt-outs and webhook endpoints."""

import asyncio
import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
import xlsxwriter

from dashboard import PASSWORD, Browser, House, Page, add_staff, make_house
from filling import fields_of, submit, upload
from harness import App, Server, wait_for
from tallycast import apps, db
from tallycast.dashboard import catalogue
from test_dashboard_pages import check_forms, check_nothing_inline

NASTY = "<script>alert(1)</script>'\"{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture
def admin(house: House) -> Iterator[Browser]:
    browser = house.enter("admin")
    yield browser
    assert browser.page.unclosed == []
    assert "<script>alert" not in browser.page.markup


@pytest.fixture
def api(house: House, client: httpx.Client) -> App:
    async def make() -> str:
        async with db.connect(house.database_url) as connection:
            return (await apps.create_token(connection, house.app_id)).plain

    return App(house.server_url, house.app_id, asyncio.run(make()), client)


def root(house: House, place: str) -> str:
    return f"/apps/{house.app_id}/settings/{place}"


def add_channel(admin: Browser, house: House, **fields: Any) -> str:
    """A generic WhatsApp channel by the form; the path of its page."""
    new = f"{root(house, 'channels')}/new"
    admin.get(f"{new}?type=whatsApp&provider=generic")
    answer = submit(admin, new, **{"phone": "+85230001234", "channel_name": "Shop", **fields})
    assert answer.status_code == 303, admin.page.text
    found: str = answer.headers["location"]
    return found


def test_the_settings_are_for_admins_and_open_with_the_channels(house: House) -> None:
    assert house.enter("admin").get(f"/apps/{house.app_id}/settings").headers["location"] == root(
        house, "channels"
    )
    approver = house.enter("approver")
    approver.get(f"/apps/{house.app_id}/campaigns")
    assert "Settings" not in approver.page.find("header").text
    assert approver.get(root(house, "tokens")).status_code == 403


def test_a_channel_is_added_shows_its_webhook_url_and_never_its_secrets_again(
    house: House, admin: Browser, api: App
) -> None:
    new = f"{root(house, 'channels')}/new"
    admin.get(new)
    assert f"{new}?type=sms&provider=smpp" in {tag.attributes.get("href") for tag in admin.page.find_all("a")}
    admin.get(f"{new}?type=whatsApp&provider=360dialog")
    secret = fields_of(admin.page, new)["webhook_secret"]
    assert re.fullmatch(r"[0-9A-Za-z]{32}", secret)
    answer = submit(admin, new, phone=NASTY, channel_name=NASTY, secret__apiKey="k-secret", rate="12,5")
    path = answer.headers["location"]
    admin.follow()
    channel_id = path.rpartition("/")[2]
    assert f"{house.server_url}/webhooks/360dialog/{channel_id}" in admin.page.text
    assert secret not in admin.answer.text
    assert "k-secret" not in admin.answer.text
    found = api.result("GET", f"/channels/{channel_id}")
    assert (found["phone"], found["credentials"], found["ratePerSecond"]) == (NASTY, ["apiKey"], 12.5)
    assert found["hasWebhookSecret"] is True
    assert submit(admin, path, phone="+85230001234", channel_name="Shop", rate="").status_code == 303
    found = api.result("GET", f"/channels/{channel_id}")
    assert (found["phone"], found["credentials"], found["ratePerSecond"]) == (
        "+85230001234",
        ["apiKey"],
        80.0,
    )
    admin.get(path)
    assert submit(admin, path, remove=["apiKey", "webhookSecret"]).status_code == 303
    found = api.result("GET", f"/channels/{channel_id}")
    assert (found["credentials"], found["hasWebhookSecret"]) == ([], False)


def test_mistakes_in_a_channel_are_said_beside_the_field_and_what_was_typed_stays(
    house: House, admin: Browser
) -> None:
    new = f"{root(house, 'channels')}/new"
    for typed, field, said in (
        ({"phone": " "}, "field-phone", "phone must be a number or a sender id"),
        ({"rate": "many"}, "field-rate", "ratePerSecond must be a number above 0"),
        ({"secret__baseURL": "http://127.0.0.1/x"}, "secret-baseURL", "credentials.baseURL"),
    ):
        admin.get(f"{new}?type=whatsApp&provider=360dialog")
        assert submit(admin, new, **{"phone": "+852", "channel_name": "Kept", **typed}).status_code == 422
        assert said in admin.page.find("p", id=f"{field}-error").text
        assert fields_of(admin.page, new)["channel_name"] == "Kept"
    admin.get(f"{new}?type=sms&provider=meta")
    assert admin.answer.status_code == 400


def test_a_channel_form_sent_twice_makes_one(house: House, admin: Browser, api: App) -> None:
    new = f"{root(house, 'channels')}/new"
    admin.get(f"{new}?type=sms&provider=generic")
    fields = {**fields_of(admin.page, new), "phone": "TWICE"}
    places = {admin.client.post(new, data=fields).headers["location"] for _ in range(2)}
    assert len(places) == 1
    assert [one["phone"] for one in api.result("GET", "/channels")].count("TWICE") == 1


def test_the_check_shows_the_last_receipt_and_who_was_refused(house: House, admin: Browser, api: App) -> None:
    path = add_channel(admin, house, webhook_secret="s-1")
    channel_id = path.rpartition("/")[2]
    admin.get(path)
    assert "Nothing was heard yet." in admin.page.text
    receipt = {"messageID": "m-1", "status": "delivered"}
    assert api.post_receipts(channel_id, receipt, secret="wrong").status_code == 401
    assert api.post_receipts(channel_id, receipt, secret="s-1").status_code == 200

    def has_heard() -> bool:
        text = admin.get(path, headers={"HX-Request": "true"}).text
        return "a message was delivered" in text and "Last refused" in text

    wait_for(has_heard)
    admin.get(path)


def test_a_channel_is_paused_resumed_and_deleted(house: House, admin: Browser, api: App) -> None:
    path = add_channel(admin, house)
    channel_id = path.rpartition("/")[2]
    admin.get(path)
    assert submit(admin, f"{path}/pause", note=NASTY).status_code == 303
    assert api.result("GET", f"/channels/{channel_id}")["paused"]["reason"] == NASTY
    admin.follow()
    assert submit(admin, f"{path}/resume").status_code == 303
    assert api.result("GET", f"/channels/{channel_id}")["paused"] is None
    admin.get(path)
    assert submit(admin, f"{path}/delete").status_code == 303
    assert admin.get(path).status_code == 404


def test_a_token_is_shown_once_works_and_ends_when_it_is_revoked(
    house: House, admin: Browser, client: httpx.Client
) -> None:
    tokens = root(house, "tokens")
    admin.get(tokens)
    form = fields_of(admin.page, tokens)
    typed = {**form, "name": NASTY, "scopes": ["reports:read", "campaigns:write"], "days": "30"}
    admin.see(admin.client.post(tokens, data=typed))
    plain = next(tag.text for tag in admin.page.find_all("code") if tag.text.startswith("tct_"))
    app = App(house.server_url, house.app_id, plain, client)
    assert app.request("GET", "/campaigns").status_code == 200
    assert app.request("GET", "/channels").status_code == 403
    again = admin.see(admin.client.post(tokens, data=typed))
    assert again.status_code == 303
    admin.follow()
    assert "This form was sent already" in admin.answer.text
    assert plain not in admin.answer.text
    token_id = next(
        tag.attributes["action"].split("/")[-2] for tag in admin.page.find_all("form")
        if tag.attributes.get("action", "").endswith("/revoke")
    )  # fmt: skip
    assert submit(admin, f"{tokens}/{token_id}/revoke").status_code == 303
    wait_for(lambda: app.request("GET", "/campaigns").status_code == 401)


def test_mistakes_in_a_token_are_said_beside_the_field(house: House, admin: Browser) -> None:
    tokens = root(house, "tokens")
    for typed, said in (
        ({"name": ""}, "name must be 1 to 100 printable characters"),
        ({"scopes": []}, "scopes are"),
        ({"scopes": ["all"]}, "not all"),
        ({"days": "0"}, "days must be a number from 1 to 3650"),
        ({"days": "\u0663"}, "days must be a number from 1 to 3650"),
    ):
        admin.get(tokens)
        assert submit(admin, tokens, **{"name": "BI", **typed}).status_code == 422
        assert said in " ".join(tag.text for tag in admin.page.find_all("p", **{"class": "error"}))


def test_somebody_is_let_in_by_a_link_that_works_once_and_gets_and_loses_roles(
    house: House, admin: Browser
) -> None:
    people = root(house, "staff")
    admin.get(people)
    email = f"new@{house.app_id}.example".lower()
    taken = house.emails["viewer"]
    assert submit(admin, people, email=email, name=NASTY, eid=taken, role="editor").status_code == 422
    assert f"eid {taken} belongs to somebody already" in admin.page.text
    assert submit(admin, people, email=email, name=NASTY, eid="E9", role="editor").status_code == 200
    link = next(tag.text for tag in admin.page.find_all("code") if "/welcome/" in tag.text)
    assert link.startswith(f"{house.server_url}/welcome/")
    new = Browser(house.server_url)
    welcome = link.removeprefix(house.server_url)
    new.get(welcome)
    assert new.post(welcome, password=PASSWORD).status_code == 303
    assert new.get(welcome).status_code == 404
    assert new.get(f"/apps/{house.app_id}/campaigns/new").status_code == 200
    admin.get(people)
    roles = [
        tag.attributes["action"]
        for tag in admin.page.find_all("form")
        if tag.attributes.get("action", "").endswith("/role")
    ]
    theirs = next(one for one in roles if NASTY in person_of(admin, one))
    assert submit(admin, theirs, role="viewer").status_code == 303
    assert new.get(f"/apps/{house.app_id}/campaigns/new").status_code == 403
    admin.get(people)
    assert submit(admin, theirs.replace("/role", "/remove")).status_code == 303
    assert new.get(f"/apps/{house.app_id}/campaigns").status_code == 404
    admin.get(people)


def person_of(browser: Browser, action: str) -> str:
    """The row of the form with this action."""
    at = next(n for n, tag in enumerate(browser.page.tags) if tag.attributes.get("action") == action)
    return next(tag.text for tag in reversed(browser.page.tags[:at]) if tag.name == "tr")


def test_an_admin_of_one_app_gets_no_link_to_anybody_else_s_account(
    house: House, admin: Browser, database_url: str
) -> None:
    people = root(house, "staff")
    stranger = house.emails["stranger"]
    admin.get(people)
    assert submit(admin, people, email=stranger, name="X", eid="X", role="viewer").status_code == 303
    with psycopg.connect(database_url) as connection:
        found = connection.execute("select staff_id, name from staff where email = %s", [stranger]).fetchone()
        assert found is not None
        assert found[1] == "Stranger", "nobody's name is changed by it"
    admin.get(people)
    for target, status in ((found[0], 403), ("nobody", 404)):
        answer = admin.client.post(f"{people}/{target}/invite", data={"csrf": admin.csrf})
        assert answer.status_code == status
        assert "/welcome/" not in answer.text
    owner = add_staff(database_url, f"boss@{house.app_id}.example".lower(), is_owner=True)
    assert submit(admin, people, email=owner.email, name="X", eid="X", role="viewer").status_code == 422
    for action in ("invite", "role", "remove"):
        answer = admin.client.post(
            f"{people}/{owner.staff_id}/{action}", data={"csrf": admin.csrf, "role": "viewer"}
        )
        assert answer.status_code == 404, action
    with psycopg.connect(database_url) as connection:
        own = connection.execute(
            "select staff_id from staff where email = %s", [house.emails["admin"]]
        ).fetchone()
    assert own is not None
    answer = admin.client.post(f"{people}/{own[0]}/role", data={"csrf": admin.csrf, "role": "viewer"})
    assert answer.status_code == 403
    assert admin.get(people).status_code == 200, "nobody locks themselves out"


def test_the_rules_are_changed_and_mistakes_said_beside_their_field(
    house: House, admin: Browser, api: App
) -> None:
    policy = root(house, "policy")
    admin.get(policy)
    typed = {
        "requires_approval": "1", "time_zone": "Asia/Hong_Kong", "quiet_from": "21:00", "quiet_until": "09:00",
        "stop_words": "Schluss\n  gar  nicht \n", "start_words": "Weiter", "stale_minutes": "90",
    }  # fmt: skip
    assert submit(admin, policy, **typed).status_code == 303
    assert api.result("GET", "/policy") == {
        "requiresApproval": True, "timeZone": "Asia/Hong_Kong", "quietHours": {"from": "21:00", "until": "09:00"},
        "stopWords": ["Schluss", "gar nicht"], "startWords": ["Weiter"], "staleMinutes": 90, "retention": None,
    }  # fmt: skip
    for wrong, field in (
        ({"time_zone": "Mars"}, "time_zone"), ({"quiet_from": ""}, "quiet_from"), ({"quiet_until": "9"}, "quiet_until"),
        ({"stale_minutes": "x"}, "stale_minutes"), ({"start_words": "schluss"}, "stop_words"),
        ({"stop_words": "x" * 500}, "stop_words"),
    ):  # fmt: skip
        admin.get(policy)
        assert submit(admin, policy, **{**typed, **wrong}).status_code == 422
        assert admin.page.find("p", id=f"field-{field}-error").text
        assert fields_of(admin.page, policy)["start_words"] == wrong.get("start_words", "Weiter")
    admin.get(policy)
    fields = {
        **fields_of(admin.page, policy),
        "quiet_from": "",
        "quiet_until": "",
        "stop_words": "",
        "start_words": "",
    }
    del fields["requires_approval"]
    assert admin.client.post(policy, data=fields).status_code == 303
    found = api.result("GET", "/policy")
    assert (found["requiresApproval"], found["quietHours"], found["stopWords"]) == (False, None, [])


def test_opt_outs_are_added_found_and_taken_back_with_a_reason(
    house: House, admin: Browser, api: App
) -> None:
    outs = root(house, "opt-outs")
    admin.get(outs)
    typed = {"recipients": f"+852 9100 0001\n{NASTY}\n", "kind": "sms", "source": f"by letter {NASTY}"}
    assert submit(admin, outs, **typed).status_code == 422
    assert fields_of(admin.page, outs)["recipients"] == NASTY, "what is no number stays in the form"
    [found] = api.result("GET", "/opt-outs")
    assert (found["recipient"], found["kind"], found["evidence"]) == (
        "+85291000001",
        "sms",
        f"staff {house.emails['admin']} (Admin)",
    )
    admin.get(f"{outs}?q=%2B85291000001")
    assert "by letter" in admin.page.text
    assert submit(admin, f"{outs}/remove", why="").status_code == 422
    admin.get(f"{outs}?q=85291000001")
    assert submit(admin, f"{outs}/remove", why="asked by phone").status_code == 303
    assert api.result("GET", "/opt-outs") == []
    admin.get(f"{outs}?q=%2B85291000001")
    assert f"staff {house.emails['admin']} (Admin): asked by phone" in admin.page.text
    admin.get(f"{outs}?q={NASTY}")


@pytest.mark.parametrize("header", [True, False])
def test_a_list_of_opt_outs_is_imported_whatever_kind_of_table_it_is(
    house: House, admin: Browser, api: App, header: bool
) -> None:
    outs, made = root(house, "opt-outs"), io.BytesIO()
    book = xlsxwriter.Workbook(made, {"in_memory": True})
    sheet = book.add_worksheet()
    rows = [["Who", "Reached at"]] * header + [
        ["Mei", "+85291000010"],
        ["Sam", "+85291000011"],
        ["Bob", "12"],
    ]
    for n, row in enumerate(rows):
        sheet.write_row(n, 0, row if header else row[1:])
    book.close()
    admin.get(outs)
    answer = upload(admin, f"{outs}/import", "../list.xlsx", made.getvalue())
    assert answer.status_code == 422
    assert "The list is taken, but for rows such as these" in admin.page.text
    assert "12: " in admin.page.text
    found = {(one["kind"], one["recipient"]) for one in api.result("GET", "/opt-outs", params={"limit": 100})}
    assert {("sms", "+85291000010"), ("whatsApp", "+85291000011")} <= found
    admin.get(outs)
    assert upload(admin, f"{outs}/import", "a.csv", b"name\nMei\n").status_code == 422
    assert admin.page.find("p", id="file-error").text == "the file has no column of numbers"


def test_an_endpoint_is_added_shows_its_secret_once_and_keeps_a_log(
    house: House, admin: Browser, api: App
) -> None:
    hooks = root(house, "webhooks")
    admin.get(hooks)
    assert submit(admin, hooks, url="http://127.0.0.1/x").status_code == 422
    assert "url" in admin.page.find("p", id="field-url-error").text
    answer = submit(
        admin, hooks, url="https://example.com/hooks", description=NASTY, events=["campaign.sent"]
    )
    assert answer.status_code == 200
    secret = next(tag.text for tag in admin.page.find_all("code") if tag.text.startswith("whsec_"))
    [made] = api.result("GET", "/webhook-endpoints")
    assert (made["url"], made["events"], made["description"]) == (
        "https://example.com/hooks",
        ["campaign.sent"],
        NASTY,
    )
    path = f"{hooks}/{made['id']}"
    assert secret not in admin.get(path).text
    assert submit(admin, f"{path}/test").status_code == 303
    admin.follow()
    assert "webhook.test" in admin.page.text
    delivery = next(
        tag.attributes["href"] for tag in admin.page.find_all("a") if "/deliveries/" in tag.attributes["href"]
    )
    admin.get(delivery)
    assert '"type": "webhook.test"' in admin.page.text
    admin.get(path)
    assert submit(admin, f"{path}/rotate").status_code == 200
    assert secret not in admin.answer.text
    assert "whsec_" in admin.page.text
    admin.get(path)
    fields = fields_of(admin.page, path)
    assert fields.pop("enabled") == "1"
    assert admin.client.post(path, data={**fields, "events": ["campaign.paused"]}).status_code == 303
    [changed] = api.result("GET", "/webhook-endpoints")
    assert (changed["events"], changed["disabledReason"]) == (["campaign.paused"], "disabled by a person")
    admin.get(path)
    assert submit(admin, f"{path}/delete").status_code == 303
    assert admin.get(path).status_code == 404


def test_settings_of_another_app_are_nobody_s(
    house: House, admin: Browser, database_url: str, client: httpx.Client
) -> None:
    async def make() -> str:
        async with db.connect(database_url) as connection:
            return (await apps.create_token(connection, house.other_app)).plain

    other = App(house.server_url, house.other_app, asyncio.run(make()), client)
    channel = other.add_channel()
    endpoint = other.result("POST", "/webhook-endpoints", json={"url": "https://example.com/x"})["id"]
    admin.get("/account")
    for path in (f"channels/{channel}", f"channels/{channel}/pause", f"channels/{channel}/resume",
                 f"channels/{channel}/delete", f"webhooks/{endpoint}", f"webhooks/{endpoint}/rotate",
                 f"webhooks/{endpoint}/test", f"webhooks/{endpoint}/delete"):  # fmt: skip
        assert admin.post(root(house, path), url="https://example.com/y", phone="x").status_code == 404, path
        admin.get("/account")
    assert other.result("GET", f"/channels/{channel}")["paused"] is None
    assert len(other.result("GET", "/webhook-endpoints")) == 1


def test_recipients_are_kept_for_days_and_a_person_is_given_out_and_erased(
    house: House, admin: Browser, api: App
) -> None:
    kept = root(house, "retention")
    admin.get(kept)
    assert submit(admin, kept, mode="anonymise", days="90").status_code == 303
    assert api.result("GET", "/policy")["retention"] == {"days": 90, "mode": "anonymise"}
    admin.get(kept)
    assert submit(admin, kept, days="soon").status_code == 422
    assert admin.page.find("p", id="field-days-error").text.startswith("retention.days must be a number")
    admin.get(kept)
    assert submit(admin, kept, mode="").status_code == 303
    assert api.result("GET", "/policy")["retention"] is None
    api.record(api.add_channel(), ["m-9"])
    admin.get(kept)
    fields = {**fields_of(admin.page, f"{kept}/person"), "number": "+852 9100 0000"}
    assert "csrf" in fields
    given = admin.client.post(f"{kept}/person", data=fields)
    assert given.headers["content-disposition"] == 'attachment; filename="person-85291000000.json"'
    assert given.json()["recipient"] == "+85291000000"
    assert admin.client.post(f"{kept}/person", data={"number": "+852 9100 0000"}).status_code == 403
    assert admin.client.get(f"{kept}/person", params={"number": "+852 9100 0000"}).status_code == 405
    assert submit(admin, f"{kept}/person", number=NASTY).status_code == 422
    admin.get(kept)
    assert submit(admin, f"{kept}/erase", number="+85291000000").status_code == 422, "one must be sure"
    assert submit(admin, f"{kept}/erase", number="+85291000000", sure="1").status_code == 303
    admin.follow()
    assert f"staff {house.emails['admin']} (Admin)" in admin.page.text
    assert api.result("GET", "/people/+85291000000")["messages"][0]["recipient"]["recipient"].startswith(
        "anon"
    )


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_settings_with_something_in_them_are_well_formed(
    house: House, admin: Browser, api: App, language: str
) -> None:
    channel = add_channel(admin, house)
    endpoint = api.result("POST", "/webhook-endpoints", json={"url": "https://example.com/x"})["id"]
    api.result("POST", "/opt-outs", json={"kind": "all", "recipients": ["+85298765432"]})
    admin.client.cookies.set("tallycast_language", language)
    hook = root(house, f"webhooks/{endpoint}")
    admin.get(hook)
    submit(admin, f"{hook}/test")
    places = ("channels", "channels/new", "channels/new?type=sms&provider=smpp", "tokens", "staff", "policy",
              "opt-outs", "retention", "webhooks")  # fmt: skip
    for path in (*(root(house, place) for place in places), channel, hook):
        assert admin.get(path).status_code == 200
        check_page(admin.page)


def check_page(page: Page) -> None:
    assert page.unclosed == []
    assert [len(page.find_all(name)) for name in ("title", "main", "h1")] == [1, 1, 1]
    ids = [tag.attributes["id"] for tag in page.tags if "id" in tag.attributes]
    assert len(ids) == len(set(ids))
    check_forms(page)
    check_nothing_inline(page)

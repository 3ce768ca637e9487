"""Making, importing, approving, starting and sending a campaign on the dashboard, by its forms alone."""

import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from contents import in_database
from dashboard import Browser, House, add_staff, find_pages, make_house
from filling import fields_of, submit, upload
from harness import App, Server, start_server, wait_for
from tallycast import apps, db, embedded, policies, samples
from tallycast.dashboard import catalogue
from tallycast.policies import PolicyChange
from test_dashboard_settings import check_page

NASTY = "<script>alert(1)</script>'\"{{ 7 * 7 }}"
CSV = b"Recipients Number,name,code\n+85291000000,Mei,A1\n+85291000001,Ann,B2\n12,Bob,C3\n"


@dataclass
class Desk:
    """An app with its people, and a channel of each kind at the simulator."""

    house: House
    app: App
    sms: str
    whatsapp: str

    @property
    def base(self) -> str:
        return f"/apps/{self.app.app_id}/campaigns"

    def enter(self, who: str) -> Browser:
        return self.house.enter(who)

    def draft(self, browser: Browser, **fields: Any) -> str:
        """A draft of an SMS campaign, made by the form; the path of its pages."""
        browser.get(f"{self.base}/new?kind=smsDynamic&channel={self.sms}")
        answer = submit(browser, f"{self.base}/new", **{"name": "Sale", "content": "Hi {{name}}", **fields})
        assert answer.status_code == 303, browser.page.text
        found = re.fullmatch(rf"({self.base}/\d+)/audience", answer.headers["location"])
        assert found is not None
        return found[1]

    def load(self, browser: Browser, path: str, content: bytes = CSV, name: str = "people.csv") -> None:
        """Upload a file, take the guessed columns, and wait for the import's end."""
        browser.get(f"{path}/audience")
        assert upload(browser, f"{path}/audience", name, content).status_code == 303, browser.page.text
        browser.follow()
        held = browser.answer.url.path
        assert submit(browser, f"{held}/begin").status_code == 303, browser.page.text

        def has_ended() -> bool:
            return "On to the review" in browser.get(held).text

        wait_for(has_ended)

    def ready(self, browser: Browser) -> str:
        path = self.draft(browser)
        self.load(browser, path)
        return path

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.app.result("GET", f"/campaigns/{path.rpartition('/')[2]}")
        return found


@pytest.fixture(scope="module")
def serving(data_dir: Path) -> Iterator[Server]:
    """A server with a database of its own: its worker may call the simulator, which the shared one may not."""
    started = start_server(data_dir / "drafting", "--private-hosts", "127.0.0.1")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def url(serving: Server) -> Iterator[str]:
    database = embedded.start(serving.data_dir)
    yield database.url
    database.stop()


@pytest.fixture
def desk(serving: Server, url: str, simulator: str, client: httpx.Client) -> Desk:
    house = make_house(serving.url, url)
    house.emails["second"] = f"second@{house.app_id}.example".lower()
    add_staff(url, house.emails["second"], house.app_id, "approver", name="Sam")

    async def make_token(connection: db.Connection) -> str:
        return (await apps.create_token(connection, house.app_id)).plain

    app = App(serving.url, house.app_id, in_database(url, make_token), client)
    credentials = {"baseURL": simulator, "apiKey": app.app_id}
    sms = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=credentials)
    return Desk(house, app, sms, app.add_channel(provider="sandbox", credentials=credentials))


def need_approval(desk: Desk, url: str) -> None:
    async def work(connection: db.Connection) -> None:
        async with connection.transaction():
            await policies.change_policy(connection, desk.app.app_id, PolicyChange(requires_approval=True))

    in_database(url, work)


def test_a_campaign_is_made_approved_by_another_started_and_sent_by_forms_alone(desk: Desk, url: str) -> None:
    need_approval(desk, url)
    editor = desk.enter("editor")
    path = desk.draft(editor, name="Spring sale")
    desk.load(editor, path)
    page = editor.page.text
    assert "Rows 3" in page
    assert "12 · Bob · C3" in page
    log = editor.get(f"{path}/audience/{editor.answer.url.path.rpartition('/')[2]}/errors")
    assert log.text.startswith("\ufeffRecipients Number,name,code,Error\r\n12,Bob,C3,")
    editor.get(f"{path}/review")
    assert "Hi Mei" in editor.page.text
    assert "Hi Ann" in editor.page.text
    assert "Campaigns of this app need an approval" in editor.page.text
    size = editor.client.get(f"{path}/size?price=0.05", headers={"HX-Request": "true"})
    assert "2 SMS parts" in size.text
    assert "costs 0.10" in size.text
    assert submit(editor, f"{path}/test", recipient="+85298765432").status_code == 303
    editor.follow()
    assert "The provider took the test message to +85298765432." in editor.answer.text
    editor.get(f"{path}/actions")
    assert f"{path}/start" not in editor.answer.text
    assert submit(editor, f"{path}/submit").status_code == 303
    assert desk.get(path)["stage"] == "pendingApproval"

    approver = desk.enter("second")
    approver.get(f"{path}/actions")
    assert submit(approver, f"{path}/approve").status_code == 303
    assert desk.get(path)["stage"] == "scheduled"
    editor.get(f"{path}/start")
    assert "Send to 2 recipients" in editor.page.text
    assert submit(editor, f"{path}/start").status_code == 303
    wait_for(lambda: desk.get(path)["stage"] == "sent")
    standing = desk.get(path)
    eid = desk.house.emails["editor"]
    assert (standing["createdBy"], standing["senderEID"]) == ("Editor", eid)
    assert standing["createdAs"] == f"staff {eid} (Editor)"
    assert standing["totals"]["totalRecipients"] == 2


def test_nobody_approves_what_they_made_whatever_name_they_take(desk: Desk, url: str) -> None:
    need_approval(desk, url)
    approver = desk.enter("approver")
    path = desk.ready(approver)
    approver.get(f"{path}/actions")
    submit(approver, f"{path}/submit")
    approver.get("/account")
    submit(approver, "/account/name", name="Somebody else")
    approver.get(f"{path}/actions")
    assert "Another person must approve it." in approver.page.text
    assert approver.page.find_all("form", action=f"{path}/approve") == []
    assert approver.post(f"{path}/approve").headers["location"] == path
    approver.follow()
    assert "That was not done: another person" in approver.answer.text
    assert desk.get(path)["stage"] == "pendingApproval"


def test_a_campaign_is_sent_back_with_a_reason_paused_resumed_and_cancelled(desk: Desk, url: str) -> None:
    need_approval(desk, url)
    editor, admin = desk.enter("editor"), desk.enter("admin")
    path = desk.ready(editor)
    editor.get(f"{path}/actions")
    submit(editor, f"{path}/submit")
    admin.get(f"{path}/actions")
    assert submit(admin, f"{path}/reject", note="").headers["location"] == path
    assert "Say what is to be changed." in admin.follow().text
    admin.get(f"{path}/actions")
    assert submit(admin, f"{path}/reject", note="Wrong text").status_code == 303
    assert desk.get(path)["stage"] == "draft"
    editor.get(f"{path}/actions")
    assert submit(editor, f"{path}/cancel", note="Never mind").status_code == 303
    assert desk.get(path)["stage"] == "cancelled"
    editor.get(f"{path}/actions")
    assert editor.page.find_all("button", **{"class": "primary"}) == []


def test_only_what_is_possible_now_and_allowed_has_a_button(desk: Desk) -> None:
    editor, viewer = desk.enter("editor"), desk.enter("viewer")
    path = desk.ready(editor)

    def offers(browser: Browser) -> set[str]:
        browser.get(f"{path}/actions")
        forms = {
            tag.attributes["action"].rpartition("/")[2]
            for tag in browser.page.find_all("form", method="post")
        }
        links = {tag.attributes["href"].rpartition("/")[2] for tag in browser.page.find_all("a")}
        return (forms | (links & {"start"})) - {"preferences", "sign-out"}

    assert offers(editor) == {"submit", "start", "cancel"}
    assert offers(viewer) == set()
    submit(editor, f"{path}/submit")
    assert offers(editor) == {"start", "cancel"}, "what has no moment has nothing to pause"
    editor.get(path)
    assert "Ready to start" in editor.page.text
    assert "It waits until somebody starts it." in editor.page.text


def test_a_refused_action_is_told_on_the_review_and_its_address_leads_to_the_campaign(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    editor.get(f"{path}/actions?on=review")
    assert editor.page.find_all("a", href=f"{path}/review") == []
    assert submit(editor, f"{path}/submit").headers["location"] == f"{path}/review"
    assert "That was not done: it has no recipients" in editor.follow().text
    assert editor.get(f"{path}/submit").headers["location"] == path


def test_a_channel_that_cannot_send_is_not_offered_and_the_review_warns_of_it(desk: Desk) -> None:
    editor = desk.enter("editor")
    bare = desk.app.add_channel(type="sms", provider="sandbox", phone="BARE")
    editor.get(f"{desk.base}/new?kind=smsDynamic")
    option = editor.page.find("option", value=bare)
    assert (option.text, "disabled" in option.attributes) == ("Shop · BARE · cannot send yet", True)
    new = f"{desk.base}/new"
    assert submit(editor, new, name="Sale", content="Hi", channel=bare).status_code == 422
    assert "This channel cannot send yet." in editor.page.find("p", id="field-channel-error").text
    made = desk.app.result("POST", "/campaigns", json={
        "campaignName": "Sale", "kind": "smsDynamic", "channelID": bare, "content": "Hi"})["id"]  # fmt: skip
    editor.get(f"{desk.base}/{made}/review")
    assert "channel Shop cannot send yet, it needs: baseURL, apiKey" in editor.page.text


def test_a_story_shows_the_text_of_its_recipient(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.ready(editor)
    editor.get(f"{path}/recipients/0")
    assert editor.page.find("p", **{"class": "said"}).text == "Hi Mei"
    submit_start(editor, path)
    wait_for(lambda: desk.get(path)["stage"] == "sent")
    editor.get(f"{path}/recipients/1")
    assert editor.page.find("p", **{"class": "said"}).text == "Hi Ann"


def submit_start(browser: Browser, path: str) -> None:
    browser.get(f"{path}/start")
    assert submit(browser, f"{path}/start").status_code == 303


@pytest.mark.parametrize(
    "route",
    sorted((one for one in find_pages() if one.role in {"editor", "approver", "admin"}), key=str),
    ids=str,
)
def test_a_viewer_can_do_nothing_that_an_editor_can(desk: Desk, route: Any) -> None:
    path = desk.base + "/1"
    filled = re.sub(
        r"{(\w+)}", lambda m: {"appID": desk.app.app_id, "campaignID": "1"}.get(m[1], "x"), route.path
    )
    viewer = desk.enter("viewer")
    viewer.get("/account")
    answer = viewer.client.request(route.method, filled, headers={"X-CSRF-Token": viewer.csrf})
    assert answer.status_code == 403, path


def test_whatsapp_templates_are_refreshed_chosen_and_filled_in(desk: Desk) -> None:
    editor = desk.enter("editor")
    new = f"{desk.base}/new"
    editor.get(f"{new}?kind=whatsApp&channel={desk.whatsapp}")
    templates = f"/apps/{desk.app.app_id}/channels/{desk.whatsapp}/templates"
    assert submit(editor, templates).status_code == 303
    editor.follow()
    assert "The provider lists 6 templates." in editor.answer.text
    editor.get(f"{new}?kind=whatsApp&channel={desk.whatsapp}&template=spring_sale_v3/en_US")
    fields = fields_of(editor.page, new)
    assert {name for name in fields if name.startswith("slot.")} == {
        "slot.header", "slot.body.1", "slot.body.2", "slot.button.0", "slot.button.1", "slot.button.2",
    }  # fmt: skip
    given = {
        "slot__header": "https://i.example.com/{{code}}.png",
        "slot__body__1": "{{name}}",
        "slot__body__2": "10%",
        "slot__button__0": "yes",
        "slot__button__2": "https://shop.example.com/sale",
    }
    short = {**given, "slot__body__2": ""}
    assert submit(editor, new, name="Sale", **short).status_code == 422
    assert editor.page.find("p", id="slot-3-error").text == "Enter this."
    assert fields_of(editor.page, new)["slot.body.1"] == "{{name}}"
    more = {
        "fallback_channel": desk.sms,
        "fallback_text": "Hi {{name}}",
        "fallback_after": "2",
        "fallback_unit": "hours",
    }
    answer = submit(editor, new, name="Sale", **given, **more)
    path = answer.headers["location"].removesuffix("/audience")
    standing = desk.get(path)
    assert standing["template"] == {
        "name": "spring_sale_v3",
        "language": "en_US",
        "header": {"image": "https://i.example.com/{{code}}.png"},
        "body": ["{{name}}", "10%"],
        "buttons": [
            {"index": 0, "payload": "yes"},
            {"index": 2, "trackedURL": "https://shop.example.com/sale"},
        ],
    }
    assert standing["fallback"] == {"channelID": desk.sms, "text": "Hi {{name}}", "afterSeconds": 7200}
    desk.load(editor, path)
    editor.get(f"{path}/review")
    assert "Hi Mei, 10% off everything this week." in editor.page.text
    editor.get(f"{path}/edit")
    assert fields_of(editor.page, f"{path}/edit")["slot.button.2"] == "https://shop.example.com/sale"
    assert submit(editor, f"{path}/edit", name="Sale 2").status_code == 303
    assert desk.get(path)["template"] == standing["template"]


def test_columns_are_guessed_from_what_is_in_them_and_can_be_chosen(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    editor.get(f"{path}/audience")
    content = b"Who;First name;Wherefrom\nMei;Mei Chan;+85291000000\n"
    upload(editor, f"{path}/audience", "people.csv", content)
    editor.follow()
    begin = f"{editor.answer.url.path}/begin"
    assert "Mei Chan" in editor.page.text
    fields = fields_of(editor.page, begin)
    assert (fields["recipient"], fields["variable.0"], fields["on_error"]) == ("Wherefrom", "", "keep")
    assert submit(editor, begin).status_code == 422
    assert "the campaign uses {{name}} and the file has no column 'name'" in editor.page.text
    assert desk.get(path)["totals"]["totalRecipients"] == 0
    assert submit(editor, begin, variable__0="First name").status_code == 303
    wait_for(lambda: desk.get(path)["totals"]["totalRecipients"] == 1)
    wait_for(lambda: desk.get(path)["columns"] == ["name", "Who", "First name"])
    editor.get(f"{path}/review")
    assert "Hi Mei Chan" in editor.page.text
    again = submit_again(editor, begin, fields)
    assert again.status_code == 303
    assert desk.get(path)["totals"]["totalRecipients"] == 1


def submit_again(browser: Browser, path: str, fields: dict[str, Any]) -> httpx.Response:
    return browser.client.post(path, data=fields)


def test_a_file_that_waits_can_be_forgotten_and_hinders_nothing(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.ready(editor)
    editor.get(f"{path}/audience")
    upload(editor, f"{path}/audience", "more.csv", CSV)
    editor.follow()
    assert submit(editor, f"{path}/audience/discard").status_code == 303
    editor.follow()
    assert "more.csv" not in editor.page.text
    upload(editor, f"{path}/audience", "more.csv", CSV)
    editor.get(f"{path}/actions")
    assert submit(editor, f"{path}/submit").status_code == 303, "the file waits, nothing is imported"


def test_xlsx_is_read_and_all_recipients_can_be_removed(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    sample = editor.get(f"/apps/{desk.app.app_id}/audience-samples/sms-dynamic.xlsx").content
    assert sample[:2] == samples.write_xlsx("sms-dynamic")[:2]
    desk.load(editor, path, sample, "people.xlsx")
    assert desk.get(path)["totals"]["totalRecipients"] == 3
    editor.get(f"{path}/audience")
    assert submit(editor, f"{path}/audience/clear").status_code == 303
    assert desk.get(path)["totals"]["totalRecipients"] == 0


def bomb() -> bytes:
    """A workbook whose one sheet unpacks to 300 MB."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "xl/workbook.xml", '<workbook xmlns:r="r"><sheets><sheet name="a" r:id="r1"/></sheets></workbook>'
        )
        relation = '<Relationships><Relationship Id="r1" Type="x/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
        archive.writestr("xl/_rels/workbook.xml.rels", relation)
        with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:
            sheet.write(b"<worksheet><sheetData>")
            for _ in range(300):
                sheet.write(b" " * 1_000_000)
    return made.getvalue()


def test_a_zip_bomb_is_refused_beside_its_field_and_nothing_is_kept(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    editor.get(f"{path}/audience")
    answer = upload(editor, f"{path}/audience", "bomb.xlsx", bomb())
    assert answer.status_code == 422
    assert "unpacks to more than" in editor.page.find("p", id="file-error").text
    assert desk.app.result("GET", f"/campaigns/{path.rpartition('/')[2]}/audience") == []


def test_a_file_s_name_is_only_shown_never_a_path(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    for name, shown in (
        ("../../../etc/passwd.csv", "passwd.csv"),
        ("..\\..\\boot.csv", "boot.csv"),
        (f"{NASTY}.csv", "script>'{{ 7 * 7 }}.csv"),
    ):
        editor.get(f"{path}/audience")
        assert upload(editor, f"{path}/audience", name, CSV).status_code == 303
        editor.follow()
        assert "<script>alert" not in editor.answer.text
        assert editor.page.unclosed == []
        found = desk.app.result("GET", f"/campaigns/{path.rpartition('/')[2]}/audience")
        assert "/" not in found[0]["fileName"].replace("</script>", "")
        assert "\\" not in found[0]["fileName"]
        assert shown.split("'")[0][-6:] in found[0]["fileName"] or shown in found[0]["fileName"]
        assert len(found) == 1, "one file waits at a time"


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("a.pdf", b"%PDF", 415, "the file must be .csv, .xlsx or .ndjson, not 'a.pdf'"),
        ("a.csv", b"", 422, "the file is empty"),
        ("a.xlsx", b"PK\x03\x04 no zip", 422, "damaged"),
        ("a.csv", b"name,name\nx,y\n", 422, "two columns"),
    ],
)
def test_what_is_no_audience_is_said_beside_the_field(
    desk: Desk, name: str, content: bytes, status: int, said: str
) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor)
    editor.get(f"{path}/audience")
    assert upload(editor, f"{path}/audience", name, content).status_code == status
    assert said in editor.page.find("p", id="file-error").text


def test_a_form_sent_twice_makes_one_campaign_and_one_that_was_changed_another(desk: Desk) -> None:
    editor = desk.enter("editor")
    new = f"{desk.base}/new"
    editor.get(f"{new}?kind=smsDynamic&channel={desk.sms}")
    fields = {**fields_of(editor.page, new), "name": "Sale", "content": "Hi"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: httpx.post(
            editor.url + new, data=fields, cookies={"tallycast_session": editor.session or ""}), range(4)))  # fmt: skip
    assert {one.status_code for one in answers} == {303}
    assert len({one.headers["location"] for one in answers}) == 1
    assert len(desk.app.result("GET", "/campaigns")) == 1
    editor.client.post(new, data={**fields, "name": "Another"})
    assert len(desk.app.result("GET", "/campaigns")) == 2


def test_starting_twice_at_once_sends_once(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.ready(editor)
    editor.get(f"{path}/start")
    fields = fields_of(editor.page, f"{path}/start")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: httpx.post(
            f"{editor.url}{path}/start", data=fields, cookies={"tallycast_session": editor.session or ""}), range(4)))  # fmt: skip
    assert {one.status_code for one in answers} <= {303, 422}
    wait_for(lambda: desk.get(path)["stage"] == "sent")
    steps = desk.app.result("GET", f"/campaigns/{path.rpartition('/')[2]}/transitions")
    assert [one["action"] for one in steps] == ["start", "finish"]
    assert steps[0]["actor"] == f"staff {desk.house.emails['editor']} (Editor)"


def test_a_schedule_is_a_clock_in_a_time_zone_and_shown_in_utc_too(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.ready(editor)
    editor.get(f"{path}/review")
    when = {"at": "moment", "date": "2099-12-01", "time": "09:00", "zone": "Asia/Hong_Kong"}
    assert submit(editor, f"{path}/when", **when).status_code == 303
    assert desk.get(path)["scheduledAt"] == "2099-12-01T01:00:00.000Z"
    editor.follow()
    assert "2099-12-01 01:00 UTC" in editor.page.text
    for wrong, field, said in (
        ({"date": "2099-13-45"}, "date", "Enter a date like 2027-01-31"),
        ({"time": ""}, "time", "Enter a time."),
        ({"zone": "Mars/Base"}, "zone", "Choose a time zone of the list."),
        ({"date": "2029-03-25", "time": "02:30", "zone": "Europe/Berlin"}, "time", "Clocks are put forward"),
        ({"date": "2020-01-01"}, "date", "That moment is past."),
    ):
        editor.get(f"{path}/review")
        assert submit(editor, f"{path}/when", **{**when, **wrong}).status_code == 422
        assert said in editor.page.find("p", id=f"field-{field}-error").text
        if "date" in wrong:
            assert fields_of(editor.page, f"{path}/when")["date"] == wrong["date"]
    editor.get(f"{path}/actions")
    submit(editor, f"{path}/submit")
    editor.get(f"{path}/review")
    assert submit(editor, f"{path}/when", date="2099-12-02").status_code == 303
    assert desk.get(path)["scheduledAt"].startswith("2099-12-02")
    assert desk.get(path)["stage"] == "scheduled"


def test_what_a_person_types_is_shown_as_it_is_everywhere(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.draft(editor, name=NASTY, content="<b>Hi</b> {{name}} " + NASTY.replace("{{ 7 * 7 }}", ""))
    content = f'Recipients Number,name,"<img src=x onerror=alert(1)>"\n+85291000000,"{NASTY.replace(chr(34), chr(34) * 2)}",y\n12,<b>,z\n'
    desk.load(editor, path, content.encode())
    for page in ("", "/edit", "/audience", "/review", "/actions", "/start", "/size"):
        editor.get(path + page)
        assert editor.answer.status_code == 200, page
        assert "<script>alert" not in editor.answer.text, page
        assert "<img src=x" not in editor.answer.text, page
        assert "<b>Hi" not in editor.answer.text, page
        assert editor.page.unclosed == [], page
    editor.get(f"{path}/edit")
    assert fields_of(editor.page, f"{path}/edit")["name"] == NASTY
    editor.get(f"{path}/review")
    assert submit(editor, f"{path}/test", recipient=NASTY).status_code == 422
    assert "<script>alert" not in editor.answer.text


def test_ids_of_another_app_are_nobody_s(desk: Desk, url: str) -> None:
    async def steal(connection: db.Connection) -> str:
        return (await apps.create_token(connection, desk.house.other_app)).plain

    other = App(desk.app.server_url, desk.house.other_app, in_database(url, steal), desk.app.client)
    credentials = {"baseURL": "https://x.example.com", "apiKey": "k"}
    foreign = other.add_channel(type="sms", provider="sandbox", phone="X", credentials=credentials)
    theirs = other.result("POST", "/campaigns", json={
        "campaignName": "Theirs", "kind": "smsDynamic", "channelID": foreign, "content": "Hi"})["id"]  # fmt: skip
    editor = desk.enter("editor")
    new = f"{desk.base}/new"
    editor.get(f"{new}?kind=smsDynamic&channel={foreign}")
    assert fields_of(editor.page, new)["channel"] == desk.sms
    assert [tag for tag in editor.page.find_all("option") if tag.attributes["value"] == foreign] == []
    assert submit(editor, new, name="Sale", content="Hi", channel=foreign).status_code == 422
    assert desk.app.result("GET", "/campaigns") == []
    for page in ("edit", "audience", "review", "start", "actions", "size"):
        assert editor.get(f"{desk.base}/{theirs}/{page}").status_code == 404, page
    editor.get("/account")
    for action in (
        "submit",
        "start",
        "cancel",
        "delete",
        "when",
        "test",
        "edit",
        "retry-failed",
        "audience/clear",
    ):
        assert editor.post(f"{desk.base}/{theirs}/{action}").status_code == 404, action
        editor.get("/account")
    assert other.result("GET", f"/campaigns/{theirs}")["stage"] == "draft"


def test_what_was_typed_is_not_lost_when_the_page_was_too_old(desk: Desk) -> None:
    editor = desk.enter("editor")
    new = f"{desk.base}/new"
    editor.get(f"{new}?kind=smsDynamic&channel={desk.sms}")
    fields = {**fields_of(editor.page, new), "name": "Long <b>thought", "content": "Hi {{name}}"}
    ours = {"Sec-Fetch-Site": "same-origin"}
    stale = {**fields, "csrf": "x" * 88}
    ended = httpx.post(editor.url + new, data=stale, headers=ours)
    assert ended.status_code == 403
    assert "Long &lt;b&gt;thought" in ended.text
    assert "Sign in, in another tab" in ended.text
    editor.see(editor.client.post(new, data=stale, headers=ours))
    assert editor.answer.status_code == 403
    assert fields_of(editor.page, new)["content"] == "Hi {{name}}"
    assert desk.app.result("GET", "/campaigns") == []
    assert submit(editor, new).status_code == 303
    assert desk.app.result("GET", "/campaigns")[0]["campaignName"] == "Long <b>thought"
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {}):
        forged = editor.client.post(new, data=stale, headers=headers)
        assert forged.status_code == 403
        assert "Long" not in forged.text, "what another site sends is not offered to be sent on"


def test_a_draft_can_be_changed_and_deleted(desk: Desk) -> None:
    editor = desk.enter("editor")
    path = desk.ready(editor)
    editor.get(f"{path}/edit")
    assert submit(editor, f"{path}/edit", content="").status_code == 422
    assert editor.page.find("p", id="field-content-error").text == "Enter this."
    assert submit(editor, f"{path}/edit", content="Hi {{name").status_code == 422
    assert "two braces" in editor.page.find("p", id="field-content-error").text
    assert fields_of(editor.page, f"{path}/edit")["content"] == "Hi {{name"
    assert submit(editor, f"{path}/edit", name="Summer", content="Hello {{name}}").status_code == 303
    assert desk.get(path)["campaignName"] == "Summer"
    editor.get(f"{path}/edit")
    assert submit(editor, f"{path}/delete").status_code == 303
    assert editor.get(f"{path}/edit").status_code == 404


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_every_step_of_a_draft_is_well_formed(desk: Desk, language: str) -> None:
    editor = desk.enter("editor")
    editor.client.cookies.set("tallycast_language", language)
    editor.get(f"{desk.base}/new?kind=smsDynamic&channel={desk.sms}")
    submit(editor, f"{desk.base}/new", name="Sale", content="Hi {{name}}\r\nbye")
    path = editor.answer.headers["location"].removesuffix("/audience")
    assert desk.get(path)["content"] == "Hi {{name}}\nbye", "a line end is one character of an SMS"
    editor.get(f"{path}/audience")
    upload(editor, f"{path}/audience", "people.csv", CSV)
    editor.follow()
    held = editor.answer.url.path
    check_page(editor.page)
    submit(editor, f"{held}/begin")
    wait_for(lambda: f"{held}/errors" in editor.get(held).text)
    editor.get(f"{desk.base}/new?kind=whatsApp&channel={desk.whatsapp}")
    submit(editor, f"/apps/{desk.app.app_id}/channels/{desk.whatsapp}/templates")
    wait_for(lambda: desk.get(path)["totals"]["totalRecipients"] == 2)
    places = [
        held,
        *(path + step for step in ("/edit", "/audience", "/review?price=0.1", "/size", "/actions", "/start")),
    ]
    places += [f"{desk.base}/new", f"{desk.base}/new?kind=smsStandard", f"{desk.base}/new?kind=whatsApp"]
    places += [f"{desk.base}/new?kind=whatsApp&channel={desk.whatsapp}&template=spring_sale_v3/en_US"]
    for place in places:
        assert editor.get(place).status_code == 200
        check_page(editor.page)

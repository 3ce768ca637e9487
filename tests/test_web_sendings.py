"""Campaigns that tallycast sends, over HTTP: a server with its worker, and the simulator as their provider."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contents import in_database
from harness import App, Server, start_server, wait_for
from tallycast import apps, db, embedded, policies
from tallycast.policies import PolicyChange

EMPTY = {
    "totalRecipients": 0,
    "queued": 0,
    "pending": 0,
    "delivered": 0,
    "read": 0,
    "failed": 0,
    "replied": 0,
}
CSV = "Recipients Number,name,code\n+85291000000,Mei,A1\n+85291000001,Ann {{code}},B2\n"
TEMPLATE = {
    "name": "spring_sale_v3",
    "language": "en_US",
    "header": {"image": "https://i.example.com/{{code}}.png"},
    "body": ["{{name}}", "10%"],
    "buttons": [{"index": 0, "payload": "yes"}, {"index": 2, "trackedURL": "https://shop.example.com/sale"}],
}


@dataclass
class House:
    """An app with a channel of each kind at the simulator."""

    app: App
    sms: str
    whatsapp: str
    simulator: str

    def create(self, **fields: Any) -> dict[str, Any]:
        plain = {
            "campaignName": "Sale",
            "kind": "smsDynamic",
            "channelID": self.sms,
            "content": "Hi {{name}}, {{code}}",
        }
        made: dict[str, Any] = self.app.result("POST", "/campaigns", json={**plain, **fields})
        return made

    def create_whatsapp(self, **fields: Any) -> dict[str, Any]:
        plain = {"campaignName": "Sale", "kind": "whatsApp", "channelID": self.whatsapp, "template": TEMPLATE}
        made: dict[str, Any] = self.app.result("POST", "/campaigns", json={**plain, **fields})
        return made

    def load(self, campaign_id: str, file: str = CSV) -> None:
        headers = {"Content-Type": "text/csv"}
        path = f"/campaigns/{campaign_id}/audience?wait=30"
        done = self.app.result("POST", path, content=file.encode(), headers=headers)
        assert (done["state"], done["accepted"], done["rows"]) == (
            "done",
            file.count("\n") - 1,
            file.count("\n") - 1,
        )

    def ready(self, **fields: Any) -> str:
        """The id of a draft with its audience."""
        made = self.create(**fields)
        self.load(made["id"])
        found: str = made["id"]
        return found

    def act(self, campaign_id: str, action: str, **options: Any) -> httpx.Response:
        return self.app.request("POST", f"/campaigns/{campaign_id}/{action}", **options)

    def get(self, campaign_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.app.result("GET", f"/campaigns/{campaign_id}")
        return found

    def ledger(self, recipient: str) -> list[dict[str, Any]]:
        """What the handset of a recipient has got of this app."""
        lines = self.app.client.get(f"{self.simulator}/simulator/ledger").text.splitlines()
        rows = [httpx.Response(200, text=line).json() for line in lines]
        return [row for row in rows if recipient in str(row) and self.app.app_id in str(row)]


@pytest.fixture(scope="module")
def serving(data_dir: Path) -> Iterator[Server]:
    """A server with a database of its own: its worker may call the simulator, which the shared one may not."""
    started = start_server(data_dir / "sending", "--private-hosts", "127.0.0.1")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def url(serving: Server) -> Iterator[str]:
    """That server's database."""
    database = embedded.start(serving.data_dir)
    yield database.url
    database.stop()


async def make_app(connection: db.Connection) -> tuple[str, str]:
    made = await apps.create_app(connection, "Test")
    return made.app_id, (await apps.create_token(connection, made.app_id, name="first")).plain


@pytest.fixture
def house(serving: Server, url: str, simulator: str, client: httpx.Client) -> House:
    app = App(serving.url, *in_database(url, make_app), client)
    credentials = {"baseURL": simulator, "apiKey": app.app_id}
    sms = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=credentials)
    return House(app, sms, app.add_channel(provider="sandbox", credentials=credentials), simulator)


def message(answer: httpx.Response, status: int = 422) -> str:
    assert answer.status_code == status, answer.text
    said: str = answer.json()["message"]
    return said


def test_a_campaign_begins_as_a_draft_and_says_how_it_stands(house: House) -> None:
    made = house.create(
        createdBy="Mei", senderEID="e-1", trackLinks=True, scheduledAt="2099-12-01T09:00:00+08:00"
    )
    assert made["createdAs"].startswith("token ")
    assert datetime.now(UTC) - datetime.fromisoformat(made["createdAt"]) < timedelta(minutes=1)
    assert made == {
        "id": made["id"], "campaignName": "Sale", "kind": "smsDynamic", "stage": "draft", "channelID": house.sms,
        "createdBy": "Mei", "senderEID": "e-1", "columns": [], "trackLinks": True, "createdAs": made["createdAs"],
        "createdAt": made["createdAt"], "totals": EMPTY, "content": "Hi {{name}}, {{code}}",
        "scheduledAt": "2099-12-01T01:00:00.000Z", "unknown": 0,
    }  # fmt: skip
    assert house.get(made["id"]) == made
    assert house.app.summary() == [], "nothing was sent"


def test_a_whatsapp_campaign_keeps_its_template_and_fallback(house: House) -> None:
    fallback = {"channelID": house.sms, "text": "Hi {{name}}", "afterSeconds": 3600}
    made = house.create_whatsapp(fallback=fallback)
    assert (made["template"], made["fallback"]) == (TEMPLATE, fallback)
    split = house.get(made["id"])["fallbackSplit"]
    assert split["total"] == 0


def test_the_same_key_makes_one_campaign(house: House) -> None:
    body = {"campaignName": "Sale", "kind": "smsStandard", "channelID": house.sms}
    answers = [
        house.app.request("POST", "/campaigns", json=body, headers={"Idempotency-Key": "k-1"})
        for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].json()["result"] == answers[1].json()["result"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert len(house.app.result("GET", "/campaigns")) == 1


def test_what_is_wrong_with_a_new_campaign_is_named(house: House) -> None:
    generic = house.app.add_channel(type="sms")
    fallback = {"channelID": house.sms, "text": "Hi", "afterSeconds": 60}
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"channelID": "c-1"}, 400, "channelID must be a channel of this app, not 'c-1'"),
        ({"channelID": house.whatsapp}, 400, "kind smsDynamic needs a channel of type sms, not whatsApp"),
        ({"channelID": generic}, 422, "channelID is a generic channel: it only takes receipts"),
        ({"campaignName": " "}, 400, "campaignName must not be empty"),
        ({"campaignName": "x" * 501}, 400, "campaignName must be at most 500 characters"),
        (
            {"kind": "fax"},
            400,
            "Invalid enum value 'fax' - at `$.kind`; it must be smsDynamic or smsStandard or whatsApp",
        ),
        ({"content": " "}, 400, "content must be the text of the SMS"),
        ({"content": "Hi {{name"}, 400, "content: two braces stand for a variable"),
        ({"kind": "smsStandard"}, 400, "content is for kind smsDynamic"),
        ({"template": TEMPLATE}, 400, "template is for kind whatsApp"),
        ({"scheduledAt": "tomorrow"}, 400, "scheduledAt must be a date and time"),
        ({"scheduledAt": "2026-12-01T09:00:00"}, 400, "scheduledAt must be a date and time"),
        (
            {"scheduledAt": "2026-01-02T09:00:00+08:00"},
            400,
            "scheduledAt 2026-01-02T01:00:00.000Z is in the past, by more than 60 minutes",
        ),
        ({"fallback": fallback}, 400, "fallback is for kind whatsApp"),
        ({"sendNow": True}, 400, "unknown field `sendNow`"),
        ({"content": "a\0b"}, 400, "content must be at most 100000 characters, without NUL"),
    ]
    whatsapp = {"kind": "whatsApp", "channelID": house.whatsapp, "content": ""}
    cases += [
        (whatsapp, 400, "template must name the approved template"),
        ({**whatsapp, "template": {**TEMPLATE, "body": ["a\0b"]}}, 400, "template must not contain NUL"),
        ({**whatsapp, "template": {**TEMPLATE, "body": ["{{name"]}}, 400, "template: two braces"),
        ({**whatsapp, "template": {**TEMPLATE, "header": {}}}, 400, "a header has one of"),
        ({**whatsapp, "template": {**TEMPLATE, "buttons": [
            {"index": 0, "payload": "yes"}, {"index": 2, "trackedURL": "nourl"}]}}, 400,
         "template.buttons[1].trackedURL must be an absolute http(s) URL"),
        ({**whatsapp, "template": TEMPLATE, "fallback": {**fallback, "channelID": house.whatsapp}}, 400,
         "fallback.channelID must be an SMS channel"),
        ({**whatsapp, "template": TEMPLATE, "fallback": {**fallback, "channelID": generic}}, 422,
         "fallback.channelID is a generic channel"),
        ({**whatsapp, "template": TEMPLATE, "fallback": {**fallback, "afterSeconds": 0}}, 400,
         "fallback.afterSeconds must be from 1 to 2592000"),
        ({**whatsapp, "template": TEMPLATE, "fallback": {**fallback, "text": " "}}, 400, "fallback.text must be a text"),
    ]  # fmt: skip
    for fields, status, said in cases:
        plain = {"campaignName": "Sale", "kind": "smsDynamic", "channelID": house.sms, "content": "Hi"}
        if fields.get("kind") == "smsStandard":
            plain["content"] = "own"
        answer = house.app.request("POST", "/campaigns", json={**plain, **fields})
        assert said in message(answer, status), fields
    assert house.app.result("GET", "/campaigns") == []


def test_campaigns_are_listed_newest_first_by_stage_and_page(house: House) -> None:
    ids = [house.create(campaignName=f"c{n}")["id"] for n in range(3)]
    ready = house.ready()
    house.act(ready, "submit").raise_for_status()

    def listed(**params: Any) -> list[str]:
        return [one["id"] for one in house.app.result("GET", "/campaigns", params=params)]

    assert listed() == [ready, *reversed(ids)]
    assert listed(stage="draft") == ids[::-1]
    assert listed(stage="scheduled") == [ready]
    assert listed(limit=2, offset=1) == [ids[2], ids[1]]
    first = house.app.request("GET", "/campaigns", params={"limit": 2, "stage": "draft"})
    link = first.headers["link"]
    assert link == f'</v1/api/apps/{house.app.app_id}/campaigns?limit=2&stage=draft&offset=2>; rel="next"'
    last = house.app.request("GET", "/campaigns", params={"limit": 2, "offset": 2})
    assert (len(last.json()["result"]), "link" in last.headers) == (2, False)
    assert "stage must be draft or" in message(
        house.app.request("GET", "/campaigns", params={"stage": "open"}), 400
    )
    assert "negative limit" in message(house.app.request("GET", "/campaigns", params={"limit": -1}), 400)


def test_a_draft_can_be_changed_and_what_is_left_out_stays(house: House) -> None:
    made = house.create(scheduledAt="2099-12-01T00:00:00Z", createdBy="Mei")
    path = f"/campaigns/{made['id']}"
    changed = house.app.result("PATCH", path, json={"campaignName": "Summer", "content": "Hello"})
    assert changed == {**made, "campaignName": "Summer", "content": "Hello"}
    changed = house.app.result("PATCH", path, json={"scheduledAt": None, "trackLinks": True, "createdBy": ""})
    assert "scheduledAt" not in changed
    assert (changed["trackLinks"], changed["createdBy"], changed["campaignName"]) == (True, "", "Summer")
    assert house.get(made["id"]) == changed
    for body, said in (
        ({"content": ""}, "content must be the text"), ({"campaignName": ""}, "campaignName must not be empty"),
        ({"kind": "whatsApp"}, "kind and channelID cannot be changed"),
        ({"channelID": house.sms}, "kind and channelID cannot be changed"), ({"stage": "sent"}, "unknown field"),
    ):  # fmt: skip
        assert said in message(house.app.request("PATCH", path, json=body), 400)
    whatsapp = house.create_whatsapp(fallback={"channelID": house.sms, "text": "Hi", "afterSeconds": 60})
    path = f"/campaigns/{whatsapp['id']}"
    changed = house.app.result("PATCH", path, json={"template": {"name": "hello", "language": "en_US"}})
    assert changed["fallback"] == whatsapp["fallback"]
    assert changed["template"] == {"name": "hello", "language": "en_US"}
    assert "fallback" not in house.app.result("PATCH", path, json={"fallback": None})


def test_a_moment_may_have_passed_by_less_than_a_schedule_may_be_late(house: House) -> None:
    def ago(minutes: int) -> str:
        return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()

    house.app.result("PATCH", "/policy", json={"staleMinutes": 10})
    campaign = house.ready(scheduledAt=ago(8))
    path = f"/campaigns/{campaign}"
    late = {"scheduledAt": ago(12)}
    for method, where in (("PATCH", path), ("POST", f"{path}/schedule")):
        said = message(house.app.request(method, where, json=late), 400)
        assert said.startswith("Bad query: scheduledAt ")
        assert said.endswith("Z is in the past, by more than 10 minutes")
    assert house.app.result("PATCH", path, json={"scheduledAt": ago(9)})["stage"] == "draft"
    assert house.act(campaign, "schedule").json()["result"]["stage"] == "scheduled"


def test_what_is_scheduled_can_neither_be_changed_nor_deleted(house: House) -> None:
    campaign = house.ready(scheduledAt="2099-12-01T00:00:00Z")
    house.act(campaign, "submit").raise_for_status()
    path = f"/campaigns/{campaign}"
    said = message(house.app.request("PATCH", path, json={"content": "Hello"}))
    assert said == "only a draft can be changed; the campaign is scheduled"
    said = message(house.app.request("DELETE", path))
    assert said == "only a draft can be deleted; the campaign is scheduled"
    assert "the audience of a draft can be changed" in message(
        house.app.request(
            "POST", f"{path}/audience", content=CSV.encode(), headers={"Content-Type": "text/csv"}
        )
    )
    recording = house.app.request(
        "POST", f"/sent-campaigns/{campaign}/messages", content=b'{"recipient":"+85291000009"}\n',
        headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip
    assert "is sent from here: its audience is imported by" in message(recording)
    assert house.get(campaign)["totals"] == {**EMPTY, "totalRecipients": 2, "queued": 2}


def rows_of(url: str, campaign_id: str) -> dict[str, int]:
    """How many rows a campaign has in each table."""
    with psycopg.connect(url) as connection:
        tables = [
            name for (name,) in connection.execute(
                "select table_name from information_schema.columns where table_schema = 'public' and column_name = 'campaign_id'"
            )
        ]  # fmt: skip
        found = {
            name: connection.execute(f"select count(*) from {name} where campaign_id = %s", [campaign_id]).fetchall()[0][0]
            for name in tables
        }  # fmt: skip
        chunks = connection.execute("select count(*) from import_chunks c where not exists (select from imports i where i.import_id = c.import_id)")  # fmt: skip
        found["stray chunks"] = chunks.fetchall()[0][0]
    return {name: rows for name, rows in found.items() if rows}


def test_a_deleted_draft_leaves_nothing_behind(house: House, url: str) -> None:
    campaign = house.ready()
    house.app.result("POST", f"/campaigns/{campaign}/test", json={"recipient": "+85291000077"})
    assert set(rows_of(url, campaign)) >= {
        "campaigns",
        "counts",
        "sendings",
        "messages",
        "imports",
        "trials",
    }
    assert house.app.result("DELETE", f"/campaigns/{campaign}") == {}
    assert rows_of(url, campaign).keys() <= {"attempts"}, (
        "a late receipt of the test message still finds its id"
    )
    assert house.app.request("GET", f"/campaigns/{campaign}").status_code == 404
    assert house.app.request("DELETE", f"/campaigns/{campaign}").status_code == 404


def test_a_preview_shows_what_will_be_sent_and_what_it_costs(house: House) -> None:
    campaign = house.ready(
        content="Hi {{name}}: https://a.example.com/{{code}} https://b.example.com/x.", trackLinks=True
    )
    path = f"/campaigns/{campaign}/preview"
    found = house.app.result("GET", path, params={"costPerPart": "0.045"})
    first, second = found.pop("messages")
    assert found == {"totalRecipients": 2, "failing": 0, "parts": 2, "cost": 0.09}
    link = first["text"].removeprefix("Hi Mei: https://a.example.com/A1 ").removesuffix(".")
    assert link.startswith(f"{house.app.server_url}/r/")
    assert first == {
        "recipient": "+85291000000",
        "text": f"Hi Mei: https://a.example.com/A1 {link}.",
        "parts": 1,
    }
    assert second["text"].startswith("Hi Ann {{code}}: https://a.example.com/B2 "), (
        "values are not read again"
    )
    assert house.app.client.get(link, follow_redirects=False).headers["location"] == "https://b.example.com/x"
    again = house.app.result("GET", path, params={"limit": 1})
    assert again == {"messages": [first], "totalRecipients": 2, "failing": 0, "parts": 2}
    for params, said in (({"limit": 51}, "limit must be from 0 to 50"), ({"costPerPart": "NaN"}, "costPerPart must be"),
                         ({"costPerPart": "x"}, "costPerPart must be"), ({"costPerPart": "-1"}, "costPerPart must be")):  # fmt: skip
        assert said in message(house.app.request("GET", path, params=params), 400)


def test_a_preview_counts_every_part_of_the_audience(house: House) -> None:
    made = house.create(kind="smsStandard", content="")
    texts = ["x" * 160, "x" * 161, "今" * 71, ""]
    lines = "".join(f"+8529100010{n},{text}\n" for n, text in enumerate(texts[:3]))
    house.load(made["id"], f"Recipients Number,Content\n{lines}")
    found = house.app.result("GET", f"/campaigns/{made['id']}/preview", params={"limit": 2})
    assert [one["parts"] for one in found["messages"]] == [1, 2]
    assert (found["parts"], found["failing"]) == (5, 0)


def test_a_preview_says_which_messages_cannot_be_filled_in(house: House) -> None:
    campaign = house.ready()
    house.app.result("PATCH", f"/campaigns/{campaign}", json={"content": "Hi {{nobody}}"})
    said = message(house.app.request("GET", f"/campaigns/{campaign}/preview"))
    assert said == "{{nobody}} is no column of the audience: its columns are name, code"
    made = house.create_whatsapp()
    house.load(made["id"], "Recipients Number,name,code\n+85291000000,Mei,A1\n+85291000001,,B2\n")
    found = house.app.result("GET", f"/campaigns/{made['id']}/preview")
    assert (found["failing"], found["error"]) == (1, "the body's parameter 1 is empty")
    assert found["messages"][1] == {"recipient": "+85291000001", "error": "the body's parameter 1 is empty"}
    [header, body, quick, url] = found["messages"][0]["template"]["components"]
    assert header["parameters"] == [{"type": "image", "image": {"link": "https://i.example.com/A1.png"}}]
    assert [one["text"] for one in body["parameters"]] == ["Mei", "10%"]
    assert quick["parameters"][0]["payload"] == f"tc:{made['id']}.0:yes"
    code = url["parameters"][0]["text"]
    target = house.app.client.get(f"{house.app.server_url}/r/{code}", follow_redirects=False)
    assert target.headers["location"] == "https://shop.example.com/sale"
    assert "parts" not in found


def test_a_campaign_goes_out_once_and_its_history_is_kept(house: House, serving: Server) -> None:
    campaign = house.ready()
    assert house.act(campaign, "submit").json()["result"]["stage"] == "scheduled"
    assert house.act(campaign, "start", json={"note": "go"}).json()["result"]["stage"] == "sending"
    wait_for(lambda: house.get(campaign)["stage"] == "sent")
    wait_for(
        lambda: house.get(campaign)["totals"]["delivered"] + house.get(campaign)["totals"]["pending"] == 2
    )
    done = house.get(campaign)
    assert (done["unknown"], done["totals"]["queued"], done["totals"]["failed"]) == (0, 0, 0)
    assert done["startedAt"] <= done["endedAt"]
    steps = house.app.result("GET", f"/campaigns/{campaign}/transitions")
    assert [(one["action"], one["from"], one["to"], one["note"]) for one in steps] == [
        ("submit", "draft", "scheduled", ""), ("start", "scheduled", "sending", "go"), ("finish", "sending", "sent", ""),
    ]  # fmt: skip
    assert [one["actor"] for one in steps] == [done["createdAs"], done["createdAs"], "tallycast"]
    assert house.app.totals(campaign)["totalRecipients"] == 2
    assert message(house.act(campaign, "start")) == "cannot start it: it is sent; possible: retry-failed"
    assert house.act(campaign, "retry-failed").json()["result"] == {"retried": 0}
    assert house.app.result("GET", f"/campaigns/{campaign}/unknown") == []
    assert house.act(campaign, "unknown", json={"verdict": "notSent"}).json()["result"] == {"settled": 0}
    assert serving.audit()["drift"] == 0


def test_two_who_start_at_once_start_once(house: House) -> None:
    campaign = house.ready()
    barrier = threading.Barrier(8)

    def start() -> int:
        with httpx.Client(timeout=30) as own:
            app = App(house.app.server_url, house.app.app_id, house.app.token, own)
            barrier.wait()
            return app.request("POST", f"/campaigns/{campaign}/start").status_code

    with ThreadPoolExecutor(8) as threads:
        codes = [one.result() for one in [threads.submit(start) for _ in range(8)]]
    assert set(codes) <= {200, 422}, "422 for who came when it had been sent already"
    assert codes.count(200) >= 1
    wait_for(lambda: house.get(campaign)["stage"] == "sent")
    steps = house.app.result("GET", f"/campaigns/{campaign}/transitions")
    assert [one["action"] for one in steps] == ["start", "finish"]
    totals = house.get(campaign)["totals"]
    assert totals["totalRecipients"] == totals["delivered"] + totals["pending"] == 2


def approver_of(url: str, app: App) -> App:
    """The same app by another token, which may only approve."""
    made = in_database(
        url, lambda c: apps.create_token(c, app.app_id, scopes=["campaigns:approve"], name="second")
    )
    return App(app.server_url, app.app_id, made.plain, app.client)


def test_where_an_approval_is_needed_another_person_gives_it(house: House, url: str) -> None:
    change = PolicyChange(requires_approval=True)
    in_database(url, lambda connection: policies.change_policy(connection, house.app.app_id, change))
    other = approver_of(url, house.app)
    campaign = house.ready(scheduledAt="2099-12-01T00:00:00Z")
    assert "another person approves it" in message(house.act(campaign, "start"))
    assert house.act(campaign, "submit").json()["result"]["stage"] == "pendingApproval"
    said = message(house.act(campaign, "approve"), 403)
    assert said == "another person than who created and who submitted the campaign must approve it"
    path = f"/campaigns/{campaign}"
    assert "missing required field `note`" in message(other.request("POST", f"{path}/reject", json={}), 400)
    for nothing in ("", " "):
        answer = other.request("POST", f"{path}/reject", json={"note": nothing})
        assert "note must say what is to be changed" in message(answer, 400)
    rejected = other.result("POST", f"{path}/reject", json={"note": "last year's text"})
    assert rejected["stage"] == "draft"
    house.act(campaign, "submit").raise_for_status()
    approved = other.result("POST", f"{path}/approve")
    assert approved["stage"] == "scheduled"
    assert approved["approvedAs"].endswith("(second)")
    assert other.request("POST", f"{path}/start").status_code == 403, "it may approve, not send"
    moved = house.act(campaign, "schedule", json={"scheduledAt": "2099-12-02T00:00:00Z"}).json()["result"]
    assert (moved["stage"], moved["scheduledAt"]) == ("scheduled", "2099-12-02T00:00:00.000Z")


def test_a_pause_and_a_cancel_say_who(house: House) -> None:
    campaign = house.ready(scheduledAt="2099-12-01T00:00:00Z")
    house.act(campaign, "submit").raise_for_status()
    for _ in range(2):
        paused = house.act(campaign, "pause").json()["result"]
        assert (paused["stage"], paused["pausedReason"]) == ("paused", f"paused by {paused['createdAs']}")
    assert house.act(campaign, "resume", json={"acceptRisk": False}).json()["result"]["stage"] == "scheduled"
    assert house.act(campaign, "cancel", json={"note": "not needed"}).json()["result"]["stage"] == "cancelled"
    wait_for(lambda: "endedAt" in house.get(campaign))
    found = house.get(campaign)
    assert found["totals"] == {**EMPTY, "totalRecipients": 2, "failed": 2}
    assert found["failures"] == [
        {
            "code": "cancelled",
            "title": "The campaign was cancelled before this message was sent",
            "count": 2,
            "words": "The campaign was cancelled before it was the message's turn.",
            "retryable": False,
            "provider": "sandbox",
            "whatToDo": "Reach these recipients with another campaign, if they shall still have the message.",
        }
    ]
    listed = house.app.result("GET", "/campaigns")
    assert all("failures" not in one for one in listed), "counting them takes time"


@pytest.mark.parametrize(
    ("action", "body", "said"),
    [
        ("submit", {"scheduledAt": "2099-12-01T00:00:00Z"}, "unknown field `scheduledAt`"),
        ("start", {"note": 1}, "Expected `str`, got `int`"),
        ("start", {"note": "x" * 1001}, "note must be at most 1000 characters"),
        ("pause", {"acceptRisk": True}, "unknown field `acceptRisk`"),
        ("schedule", {"scheduledAt": "tomorrow"}, "scheduledAt must be a date and time"),
        ("unknown", {"verdict": "maybe"}, "`$.verdict`; it must be notSent or resend or sent"),
        (
            "unknown",
            {"verdict": "sent", "recipients": ["+85291000000", "12"]},
            "recipients must be phone numbers like +85298765432, not '12'",
        ),
        ("unknown", {"verdict": "sent", "recipients": ["\0"]}, "recipients must be phone numbers"),
        ("start", {"note": "a\0b"}, "note must be at most 1000 characters, without NUL"),
    ],
)
def test_what_is_wrong_with_an_actions_body_is_named(
    house: House, action: str, body: dict[str, Any], said: str
) -> None:
    campaign = house.create()["id"]
    assert said in message(house.act(campaign, action, json=body), 400)


def test_an_unknown_message_is_settled_by_its_number_however_that_is_written(house: House, url: str) -> None:
    campaign = house.ready()
    query = b"""insert into handovers (app_id, campaign_id, seq, channel_number, status)
      select app_id, campaign_id, 0, channel_number, 'unknown' from sendings where campaign_id = %s"""
    in_database(url, lambda connection: connection.execute(query, [int(campaign)]))
    said = {"verdict": "sent", "recipients": ["00852 9100-0000"]}
    assert house.act(campaign, "unknown", json=said).json()["result"] == {"settled": 1}


def test_the_report_of_an_sms_shows_what_was_sent_and_nothing_where_nothing_was(house: House) -> None:
    campaign = house.ready()

    def contents() -> list[str]:
        params = {"historyID": campaign}
        return [
            one["content"] for one in house.app.result("GET", "/data/sent-campaigns-detail", params=params)
        ]

    assert contents() == ["", ""]
    house.act(campaign, "start").raise_for_status()
    wait_for(lambda: house.get(campaign)["stage"] == "sent")
    assert contents() == ["Hi Mei, A1", "Hi Ann {{code}}, B2"]


def test_a_template_is_looked_up_at_the_provider_before_a_campaign_goes_on(house: House) -> None:
    def submit(**changes: Any) -> httpx.Response:
        made = house.create_whatsapp(template={**TEMPLATE, **changes})
        house.load(made["id"])
        return house.act(made["id"], "submit")

    assert submit().json()["result"]["stage"] == "scheduled"
    assert "template.name: the channel has no template spring_sale" in message(submit(name="spring_sale"))
    assert "template.language: spring_sale_v3 exists in en_US, not in de" in message(submit(language="de"))
    assert "template.body has 1 parameters, and the template takes 2" in message(submit(body=["{{name}}"]))
    plain = {"header": None, "buttons": [], "body": ["{{name}}"]}
    assert "is PAUSED, not APPROVED" in message(submit(name="winter_sale", **plain))


def test_a_test_message_is_sent_at_once_and_is_in_no_count(house: House) -> None:
    campaign = house.ready()
    path = f"/campaigns/{campaign}/test"
    sent = house.app.result("POST", path, json={"recipient": "+852 9100 0077", "variables": {" NAME": "Lee"}})
    assert (sent["outcome"], sent["recipient"]) == ("accepted", "+85291000077")
    assert sent["messageID"]
    assert sent.keys() == {"trialID", "recipient", "outcome", "messageID"}
    assert house.app.result("GET", f"{path}/{sent['trialID']}") == sent
    assert "Hi Lee, A1" in str(house.ledger("91000077")), "the code is the first recipient's"
    assert house.get(campaign)["totals"] == {**EMPTY, "totalRecipients": 2, "queued": 2}
    assert house.app.summary() == []


def test_a_repeated_test_with_the_same_key_is_sent_once(house: House) -> None:
    campaign = house.ready()
    options: dict[str, Any] = {"json": {"recipient": "+85291000078"}, "headers": {"Idempotency-Key": "t-1"}}
    first, second = (house.app.result("POST", f"/campaigns/{campaign}/test", **options) for _ in range(2))
    assert first == second
    assert len([row for row in house.ledger("91000078") if "Hi Mei" in str(row)]) == 1


def test_what_is_wrong_with_a_test_is_named(house: House) -> None:
    campaign = house.ready()
    house.app.result("POST", "/opt-outs", json={"kind": "sms", "recipients": ["+85291000079"]})
    empty = house.create()["id"]
    good = "+85291000077"
    for of, body, status, said in (
        (campaign, {"recipient": "12"}, 400, "recipient must be a phone number like +85298765432"),
        (campaign, {"recipient": good, "variables": {"age": "3"}}, 400,
         "variables: 'age' is no column of the audience, which has name, code"),
        (campaign, {"recipient": good, "variables": {"name": "\0"}}, 400, "variables must not contain NUL"),
        (empty, {"recipient": good, "variables": {"name": "Mei"}}, 400, "none yet: import the audience first"),
        (empty, {"recipient": good}, 422, "and no audience is imported yet"),
        (campaign, {"recipient": "+85291000079"}, 422, "+85291000079 has opted out of sms messages of this app"),
        (campaign, {}, 400, "missing required field `recipient`"),
    ):  # fmt: skip
        assert said in message(house.act(of, "test", json=body), status)
    for unknown in ("x", "00000000-0000-4000-8000-000000000000"):
        assert house.app.request("GET", f"/campaigns/{campaign}/test/{unknown}").status_code == 404


def test_a_click_of_a_test_message_is_not_counted(house: House, serving: Server, url: str) -> None:
    campaign = house.ready(content="Hi {{name}}: https://a.example.com/x", trackLinks=True)
    house.app.result("POST", f"/campaigns/{campaign}/test", json={"recipient": "+85291000076"})
    text = str(house.ledger("91000076"))
    code = text.partition("/r/")[2][:19]
    hit = house.app.client.get(f"{house.app.server_url}/r/{code}", headers={"User-Agent": "Mozilla/5.0"}, follow_redirects=False)  # fmt: skip
    assert hit.headers["location"] == "https://a.example.com/x"
    wait_for(lambda: "clicks" in rows_of(url, campaign))
    assert house.get(campaign)["totals"]["replied"] == 0
    assert "0 hits changed" in serving.run("clicks", "reclassify", "--app", house.app.app_id)


def test_campaigns_of_other_systems_are_not_sent_from_here(house: House) -> None:
    recorded = house.app.record(house.app.add_channel(), ["m-1"])
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/start"), ("GET", "/preview"),
                         ("GET", "/unknown"), ("POST", "/unknown"), ("POST", "/test"), ("GET", "/transitions")):  # fmt: skip
        answer = house.app.request(method, f"/campaigns/{recorded}{path}")
        assert message(answer, 404) == f"no campaign {recorded} that is sent from here"
    assert house.app.request("GET", "/campaigns/x").status_code == 404

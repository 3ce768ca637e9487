"""Opt-outs over HTTP and by command, and that webhooks lead to them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness import App, Server

BODIES = Path(__file__).parent / "providers" / "bodies"
MEI, KAI = "+85298765432", "+85298765433"
CSV = {"Content-Type": "text/csv"}


def listed(app: App, **params: Any) -> list[tuple[str, str, str]]:
    found = app.result("GET", "/opt-outs", params=params)
    return [(one["kind"], one["recipient"], one["source"]) for one in found]


def add(app: App, kind: str, *recipients: str, **fields: Any) -> Any:
    return app.result("POST", "/opt-outs", json={"kind": kind, "recipients": recipients} | fields)


def post_webhook(app: App, channel_id: str, body: bytes) -> None:
    answer = app.client.post(f"{app.server_url}/webhooks/360dialog/{channel_id}", content=body)
    assert answer.status_code == 200, answer.text


def test_numbers_are_opted_out_and_in_again(app: App) -> None:
    assert add(app, "all", "852 9876 5432", KAI) == {"accepted": 2, "rejected": []}
    assert add(app, "sms", MEI, source="letter") == {"accepted": 1, "rejected": []}
    assert listed(app) == [
        ("sms", MEI, "api"), ("sms", KAI, "api"), ("whatsApp", MEI, "api"), ("whatsApp", KAI, "api"),
    ]  # fmt: skip
    assert app.result("DELETE", f"/opt-outs/sms/{MEI}") == {"removed": 1}
    assert app.result("DELETE", f"/opt-outs/all/{KAI.removeprefix('+')}") == {"removed": 2}
    assert listed(app) == [("whatsApp", MEI, "api")]
    assert add(app, "sms", MEI, source="letter") == {"accepted": 1, "rejected": []}
    assert listed(app) == [("sms", MEI, "letter"), ("whatsApp", MEI, "api")]


def test_an_opt_out_is_shown_with_its_reason_and_its_moment(app: App) -> None:
    add(app, "sms", MEI, source="letter")
    (found,) = app.result("GET", "/opt-outs")
    moment = found.pop("optedOutAt")
    assert found == {"kind": "sms", "recipient": MEI, "source": "letter", "evidence": ""}
    assert moment.endswith("Z")
    assert len(moment) == len("2026-11-23T03:00:00.000Z")


def test_the_list_is_paged_by_kind_and_number(app: App) -> None:
    add(app, "all", *(f"+852{91000000 + n}" for n in range(15)))
    assert [one for _, one, _ in listed(app, kind="whatsApp")] == [f"+852{91000000 + n}" for n in range(10)]
    assert listed(app, limit=3, offset=14) == [
        ("sms", "+85291000014", "api"), ("whatsApp", "+85291000000", "api"), ("whatsApp", "+85291000001", "api"),
    ]  # fmt: skip
    assert listed(app, recipient="+85291000003") == [
        ("sms", "+85291000003", "api"), ("whatsApp", "+85291000003", "api"),
    ]  # fmt: skip
    assert listed(app, recipient="85291000003", kind="sms") == [("sms", "+85291000003", "api")]
    assert listed(app, recipient="+85291000099") == []


def test_a_plus_that_was_not_escaped_in_the_query_is_one(app: App) -> None:
    add(app, "sms", MEI)
    assert len(app.result("GET", f"/opt-outs?recipient={MEI}")) == 1


def test_what_is_no_number_is_answered_and_costs_no_other_one(app: App) -> None:
    answer = add(app, "sms", "12", MEI, "")
    assert answer["accepted"] == 1
    assert [(row["index"], row["recipient"]) for row in answer["rejected"]] == [(0, "12"), (2, "")]


def test_adding_is_repeated_only_once_per_idempotency_key(app: App) -> None:
    body, key = {"kind": "sms", "recipients": [MEI]}, {"Idempotency-Key": "k1"}
    assert app.request("POST", "/opt-outs", json=body, headers=key).status_code == 201
    app.result("DELETE", f"/opt-outs/sms/{MEI}")
    again = app.request("POST", "/opt-outs", json=body, headers=key)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert listed(app) == []


def test_a_csv_is_imported_and_bad_lines_are_answered(app: App) -> None:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["recipient", "why"])
    writer.writerows([f"+852{91000000 + n}", "asked"] for n in range(5000))
    writer.writerow(["8.5298E+10", ""])
    answer = app.result("POST", "/opt-outs/import?kind=all", content=table.getvalue(), headers=CSV)
    assert answer == {
        "accepted": 5000,
        "rejected": [
            {
                "index": 5000,
                "recipient": "8.5298E+10",
                "error": "Excel has cut the number's digits (as in 8.5E+10): format the column as text",
                "line": 5002,
            }
        ],
    }
    assert listed(app, kind="whatsApp", limit=1, offset=4999) == [("whatsApp", "+85291004999", "import")]
    assert listed(app, limit=1, offset=10_000) == []


def test_ndjson_is_imported_and_importing_it_again_changes_nothing(app: App) -> None:
    lines = f'{{"recipient":"{MEI}"}}\nnonsense\n{{"recipient":"{KAI}"}}\n'
    for _ in range(2):
        answer = app.result(
            "POST",
            "/opt-outs/import?kind=sms",
            content=lines,
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert (answer["accepted"], [row["line"] for row in answer["rejected"]]) == (2, [2])
    assert listed(app) == [("sms", MEI, "import"), ("sms", KAI, "import")]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        pytest.param("GET", "/opt-outs?kind=all", {}, 400, "Bad query: kind must be sms or whatsApp, not 'all'", id="list of a kind that is none"),
        pytest.param("POST", "/opt-outs", {"json": {"kind": "mail", "recipients": []}}, 400, "Bad query: the body is not what is expected: Invalid enum value 'mail' - at `$.kind`; it must be sms or whatsApp or all", id="unknown kind"),
        pytest.param("POST", "/opt-outs", {"json": {"kind": "sms", "recipients": [MEI], "source": ""}}, 400, "Bad query: source must be 1 to 100 characters", id="empty source"),
        pytest.param("POST", "/opt-outs", {"json": {"kind": "sms", "recipients": [MEI], "source": "a\0"}}, 400, "Bad query: source must be 1 to 100 characters", id="NUL in the source"),
        pytest.param("POST", "/opt-outs/import", {"content": "recipient\n", "headers": CSV}, 400, "Bad query: kind must be sms, whatsApp or all", id="import of no kind"),
        pytest.param("POST", "/opt-outs/import?kind=sms", {"content": "number\n1", "headers": CSV}, 400, "Bad query: the CSV's header must have a column recipient, not 'number'", id="no column"),
        pytest.param("POST", "/opt-outs/import?kind=sms", {"json": {}}, 415, "Content-Type must be application/x-ndjson or text/csv, not application/json", id="neither CSV nor NDJSON"),
        pytest.param("DELETE", "/opt-outs/fax/1", {}, 400, "Bad query: kind must be sms, whatsApp or all, not 'fax'", id="removal of an unknown kind"),
        pytest.param("DELETE", f"/opt-outs/sms/{MEI}", {}, 404, f"{MEI} is not opted out of sms", id="removal of nobody"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(
    app: App, method: str, path: str, options: dict[str, Any], status: int, message: str
) -> None:
    answer = app.request(method, path, **options)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_recorded_webhooks_lead_to_opt_outs(app: App) -> None:
    channel = app.add_channel(provider="360dialog")
    post_webhook(app, channel, (BODIES / "text_from_username.json").read_bytes())
    assert listed(app) == [("whatsApp", "GB.90017200340056007800", "reply")]
    post_webhook(app, channel, (BODIES / "status_batch.json").read_bytes())  # tells whose id that is
    assert listed(app) == [("whatsApp", "+447700900123", "reply")]
    app.result("DELETE", "/opt-outs/whatsApp/+447700900123")
    post_webhook(app, channel, (BODIES / "text_from_username.json").read_bytes())
    assert listed(app) == []
    body = (BODIES / "preference_stop.json").read_text().replace("1795430710", "3795430710")
    post_webhook(app, channel, body.encode())
    assert listed(app) == [("whatsApp", "+447700900123", "preference")]


def test_a_failed_receipt_that_tells_an_opt_out_leads_to_one(app: App) -> None:
    channel = app.add_channel(type="sms", phone="+14155550100")
    campaign = app.record(channel, ["m1", "m2"])
    app.post_receipts(channel, {"messageID": "m1", "status": "failed", "errorCode": 21610})
    assert listed(app) == [("sms", "+85291000000", "refusal")]
    assert app.summary(channel="sms")[0]["id"] == campaign


def test_opt_outs_are_kept_by_command(app: App, server: Server, tmp_path: Path) -> None:
    words = ["--app", app.app_id]
    assert server.run("opt-outs", "list", *words) == "nobody is opted out\n"
    assert server.run("opt-outs", "add", *words, "--kind", "sms", MEI) == "1 opted out, 0 not taken\n"
    numbers = tmp_path / "numbers.csv"
    numbers.write_text(f"recipient\n{KAI}\n12\n")
    done = server.run("opt-outs", "import", *words, "--kind", "whatsApp", str(numbers), status=2)
    assert done == "1 opted out, 1 not taken\n"
    numbers.write_text(f'{{"recipient":"{MEI}"}}\n')
    assert (
        server.run("opt-outs", "import", *words, "--kind", "all", str(numbers))
        == "1 opted out, 0 not taken\n"
    )
    found = json.loads(server.run("opt-outs", "list", *words, "--json"))
    assert [(one["kind"], one["recipient"], one["source"]) for one in found] == [
        ("sms", MEI, "command line"), ("whatsApp", MEI, "import"), ("whatsApp", KAI, "import"),
    ]  # fmt: skip
    assert server.run("opt-outs", "remove", *words, "--kind", "all", MEI) == "2 opt-outs removed\n"
    assert len(json.loads(server.run("opt-outs", "list", *words, "--recipient", KAI, "--json"))) == 1
    assert listed(app) == [("whatsApp", KAI, "import")]

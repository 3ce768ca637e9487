"""What holds for all campaigns of an app: read and changed over HTTP and by command."""

import json
from typing import Any

import httpx
import pytest

from harness import App, Server, run

UNTOUCHED = {
    "requiresApproval": False, "timeZone": "UTC", "quietHours": None, "stopWords": [], "startWords": [],
    "staleMinutes": 60, "retention": None,
}  # fmt: skip


def change(app: App, **fields: Any) -> httpx.Response:
    return app.request("PATCH", "/policy", json=fields)


def test_a_new_app_has_no_quiet_hours_and_needs_no_approval(app: App) -> None:
    assert app.result("GET", "/policy") == UNTOUCHED


def test_what_is_changed_is_read_back_and_what_is_left_out_stays(app: App) -> None:
    wanted = {
        "requiresApproval": True,
        "timeZone": "Asia/Hong_Kong",
        "quietHours": {"from": "21:00", "until": "08:30"},
        "stopWords": ["no more", "baja"],
        "startWords": ["alta"],
        "staleMinutes": 15,
        "retention": {"days": 400, "mode": "anonymise"},
    }
    assert change(app, **wanted).json()["result"] == wanted
    assert change(app, staleMinutes=30).json()["result"] == wanted | {"staleMinutes": 30}
    assert app.result("GET", "/policy") == wanted | {"staleMinutes": 30}
    assert change(app, quietHours=None, stopWords=[]).json()["result"] == wanted | {
        "staleMinutes": 30, "quietHours": None, "stopWords": [],
    }  # fmt: skip


def test_words_are_kept_once_each_with_single_spaces(app: App) -> None:
    assert change(app, stopWords=["no  more", "baja", "no more "]).json()["result"]["stopWords"] == [
        "no more",
        "baja",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"timeZone": "Mars/Olympus"}, "timeZone must be an IANA time zone like Asia/Hong_Kong, not 'Mars/Olympus'", id="no zone"),
        pytest.param({"timeZone": "../etc/passwd"}, "timeZone must be an IANA time zone like Asia/Hong_Kong, not '../etc/passwd'", id="a path"),
        pytest.param({"timeZone": "America"}, "timeZone must be an IANA time zone like Asia/Hong_Kong, not 'America'", id="a folder of zones"),
        pytest.param({"quietHours": {"from": "9pm", "until": "08:00"}}, "quietHours.from must be a time like 21:00, not '9pm'", id="no time"),
        pytest.param({"quietHours": {"from": "21:00", "until": "24:00"}}, "quietHours.until must be a time like 21:00, not '24:00'", id="24:00"),
        pytest.param({"quietHours": {"from": "08:00", "until": "08:00"}}, "quietHours.from and quietHours.until must differ; null means no quiet hours", id="always quiet"),
        pytest.param({"stopWords": ["!"]}, "stopWords must be words or phrases of at most 100 characters, not '!'", id="only punctuation"),
        pytest.param({"startWords": ["x" * 101]}, f"startWords must be words or phrases of at most 100 characters, not '{'x' * 40}'", id="long word"),
        pytest.param({"startWords": ["a\0"]}, "startWords must be words or phrases of at most 100 characters, not 'a\\x00'", id="NUL"),
        pytest.param({"stopWords": ["x"] * 101}, "stopWords must be at most 100 words or phrases", id="many words"),
        pytest.param({"stopWords": ["Oui"], "startWords": ["oui!"]}, "stopWords and startWords must not share a word: oui", id="both senses"),
        pytest.param({"staleMinutes": 0}, "staleMinutes must be a number from 1 to 100000", id="no minute"),
        pytest.param({"retention": {"days": 0, "mode": "delete"}}, "retention.days must be a number from 1 to 36500; null keeps recipients for ever", id="no day"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_is_refused_and_changes_nothing(
    app: App, fields: dict[str, Any], message: str
) -> None:
    answer = change(app, requiresApproval=True, **fields)
    assert (answer.status_code, answer.json()["message"]) == (400, f"Bad query: {message}")
    assert app.result("GET", "/policy") == UNTOUCHED


def test_a_word_must_not_get_a_second_sense_by_a_later_change(app: App) -> None:
    assert change(app, stopWords=["oui"]).status_code == 200
    assert change(app, startWords=["OUI"]).status_code == 400
    assert app.result("GET", "/policy")["startWords"] == []


def test_the_policy_is_shown_and_set_by_command(app: App, server: Server) -> None:
    server.run(
        "app", "set", app.app_id, "--approval", "--time-zone", "Asia/Hong_Kong", "--quiet-hours", "21:00-08:00",
        "--stop-word", "no more", "--stop-word", "baja", "--stale-minutes", "15",
        "--retention", "delete:90",
    )  # fmt: skip
    expected = {
        "requiresApproval": True, "timeZone": "Asia/Hong_Kong", "quietHours": {"from": "21:00", "until": "08:00"},
        "stopWords": ["no more", "baja"], "startWords": [], "staleMinutes": 15,
        "retention": {"days": 90, "mode": "delete"},
    }  # fmt: skip
    assert json.loads(server.run("app", "show", app.app_id, "--json")) == expected
    assert app.result("GET", "/policy") == expected
    shown = server.run(
        "app", "set", app.app_id, "--quiet-hours", "none", "--stop-word", "", "--retention", "none"
    )
    assert shown.splitlines()[2:4] == ["quietHours        none", "stopWords         the usual ones"]


def test_a_command_says_what_is_wrong(app: App, server: Server) -> None:
    assert run("app", "set", app.app_id, "--quiet-hours", "evening", *server.storage, status=2) == ""
    assert run("app", "set", app.app_id, "--retention", "forget:3", *server.storage, status=2) == ""
    assert server.run("app", "show", "app-nobody", status=2) == ""

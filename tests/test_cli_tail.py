"""`tallycast tail`: a campaign's figures while it goes out through the simulator, and in pieces."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness import TALLYCAST, App, Server, start_server, wait_for
from tallycast.cli_tail import Look, Pace, Until, is_over
from terminal import PLACES, Place, Terminal

RECIPIENTS = 30


@pytest.fixture(scope="module")
def serving(data_dir: Path) -> Iterator[Server]:
    """A server with a database of its own: its worker may call the simulator, which the shared one may not."""
    started = start_server(data_dir / "tail", "--private-hosts", "127.0.0.1")
    yield started
    assert started.stop() == 0


def prepare(terminal: Terminal, simulator: str, folder: Path, rate: str = "100") -> str:
    """A draft over the simulator, which reports to the server; its id."""
    key, url = f"key-{terminal.app.app_id}", terminal.server.url
    options = (
        "--credential",
        f"baseURL={simulator}",
        "--credential",
        f"apiKey={key}",
        "--rate",
        rate,
        "--json",
    )
    basics = (
        "--type",
        "sms",
        "--provider",
        "sandbox",
        "--phone",
        "+85230001234",
        "--webhook-secret",
        "s3cret",
    )
    channel = json.loads(terminal.run("channel", "create", *basics, *options))
    hook = {"url": f"{url}/webhooks/sandbox/{channel['id']}", "headers": {"Authorization": "Bearer s3cret"}}
    httpx.post(f"{simulator}/v1/configs/webhook", headers={"D360-API-KEY": key}, json=hook).raise_for_status()
    made = terminal.run(
        "campaign",
        "create",
        "--channel",
        channel["id"],
        "--kind",
        "smsDynamic",
        "--name",
        "Sale",
        "--content",
        "Hi",
    ).strip()
    file = folder / "customers.csv"
    file.write_text("recipient\n" + "".join(f"+852{91000000 + n}\n" for n in range(RECIPIENTS)))
    terminal.run("campaign", "import", made, str(file))
    return made


@pytest.mark.parametrize("place", PLACES)
def test_a_campaign_is_watched_until_every_outcome_is_known(
    serving: Server, make_app: Callable[[Server], App], simulator: str, tmp_path: Path, place: Place
) -> None:
    terminal = Terminal(serving, make_app(serving), "remote")
    made = prepare(terminal, simulator, tmp_path)
    terminal.run("campaign", "start", made)
    watching = Terminal(serving, terminal.app, place)
    lines = watching.run("tail", made, "--until", "settled").splitlines()
    assert f"sent  sent {RECIPIENTS}/{RECIPIENTS}" in lines[-1]
    assert f"delivered {RECIPIENTS}" in lines[-1]
    assert "pending 0" in lines[-1]
    assert len(lines) == len({line.partition("Z  ")[2] for line in lines})
    assert watching.run("tail", made).splitlines()[0].partition("Z")[2] == lines[-1].partition("Z")[2]


def test_a_cancelled_campaign_ends_with_1(
    serving: Server, make_app: Callable[[Server], App], simulator: str, tmp_path: Path
) -> None:
    terminal = Terminal(serving, make_app(serving), "remote")
    made = prepare(terminal, simulator, tmp_path)
    terminal.run("campaign", "cancel", made)
    assert f"failed {RECIPIENTS}" in terminal.run("tail", made, "--until", "sent", status=1).splitlines()[-1]


def test_a_campaign_of_another_system_is_watched_too(server: Server, app: App) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-0"])
    app.post_receipts(channel, {"messageID": "m-0", "status": "read"})
    [line] = Terminal(server, app, "remote").run("tail", campaign).splitlines()
    assert "recorded  sent 1/1  delivered 1  read 1  failed 0  pending 0" in line


def test_in_a_terminal_there_are_bars_and_ctrl_c_ends_it_cleanly(
    serving: Server, make_app: Callable[[Server], App], simulator: str, tmp_path: Path
) -> None:
    app = make_app(serving)
    terminal = Terminal(serving, app, "remote")
    made = prepare(terminal, simulator, tmp_path)
    master, slave = pty.openpty()
    command = [*TALLYCAST, "tail", made, "--url", serving.url]
    environ = {**os.environ, "TALLYCAST_TOKEN": app.token, "TERM": "xterm", "COLUMNS": "100"}
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(master, 4096):
                seen.extend(data)
        except OSError:  # the other end is closed
            pass

    with subprocess.Popen(
        command, stdout=slave, stderr=slave, env=environ, start_new_session=True
    ) as process:
        os.close(slave)
        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        wait_for(lambda: b"delivered" in seen)
        assert f"draft, {RECIPIENTS} recipients".encode() in seen
        assert "━".encode() in seen
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    reading.join(10)
    os.close(master)
    assert b"Traceback" not in seen
    assert seen.rstrip().endswith(b"\x1b[?25h")  # the cursor is back


def look(at: float, queued: int) -> Look:
    return Look(at, "sending", 100, queued, 0, 100 - queued, 0, 0, 0, 0, "")


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert [pace.add(look(at, queued)) for at, queued in ((0.0, 100), (10.0, 80), (20.0, 50), (40.0, 10))] == [
        0.0, 2.0, 3.0, 2.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "queued", "pending", "unknown", "until", "rest", "is_over_now"),
    [
        pytest.param("sending", 5, 0, 0, None, 1000.0, False, id="it is being sent"),
        pytest.param("paused", 5, 0, 0, "sent", 1000.0, False, id="it is paused"),
        pytest.param("sent", 0, 9, 0, "sent", 0.0, True, id="all is sent, as asked"),
        pytest.param("sent", 0, 9, 0, "settled", 1000.0, False, id="receipts are missing"),
        pytest.param("sent", 0, 2, 2, "settled", 0.0, True, id="only what a person can tell is missing"),
        pytest.param("sent", 0, 9, 0, None, 59.0, False, id="receipts may still come"),
        pytest.param("sent", 0, 9, 0, None, 60.0, True, id="nothing has moved for a minute"),
        pytest.param("cancelled", 3, 9, 0, "settled", 0.0, False, id="the rest of a cancelled one is being closed"),
        pytest.param("cancelled", 0, 9, 0, "settled", 0.0, True, id="it is cancelled"),
        pytest.param("recorded", 0, 0, 0, "settled", 0.0, True, id="another system's"),
    ],
)  # fmt: skip
def test_a_tail_ends_when_what_was_asked_for_has_come(
    stage: str, queued: int, pending: int, unknown: int, until: Until | None, rest: float, is_over_now: bool
) -> None:
    now = Look(0.0, stage, 10, queued, pending, 0, 0, 0, 0, unknown, "")
    assert is_over(now, until, rest) is is_over_now

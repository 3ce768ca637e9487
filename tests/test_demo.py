"""The demo: campaigns of the past, one in each stage, two that go out while one looks, and somebody who looks."""

import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboard import PASSWORD, Browser
from harness import TALLYCAST, free_port, wait_for
from tallycast import live

_URL = re.compile(r"curl (http://[^ ]+/simulator)/ledger/summary")
_TOKEN = re.compile(r"Bearer (tct_demo_[\w-]+)")
_WELCOME = re.compile(r"http://\S+(/welcome/\S+)")


def test_the_demo_sends_through_the_simulator_and_takes_it_along_when_it_ends(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    port = free_port()
    command = [*TALLYCAST, "demo", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        wait_for(lambda: _URL.search(log.read_text()), 60)
        [simulator], [token] = _URL.findall(log.read_text()), _TOKEN.findall(log.read_text())
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{port}/v1/api/apps/demo/data/sent-campaigns-summary?limit=200"

        def live() -> dict[str, Any]:
            found = httpx.get(url, headers=headers).json()["result"]
            assert len(found) >= 12
            return {one["channel"]: one for one in found if one["campaignName"].startswith("Live: ")}

        wait_for(lambda: live().get("WhatsApp", {}).get("delivered", 0) > 0, 60)
        wait_for(lambda: live().get("SMS", {}).get("delivered", 0) > 0, 60)
        look_around(Browser(f"http://127.0.0.1:{port}"), log.read_text())
        summary = httpx.get(f"{simulator}/ledger/summary").json()
        assert set(summary["byChannel"]) == {"demo-whatsApp", "demo-sms"}
        assert (summary["duplicates"], summary["taken"] > 1) == (0, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "was interrupted" not in log.read_text()
    assert " info " not in log.read_text()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{simulator}/ledger/summary")


def look_around(browser: Browser, printed: str) -> None:
    """Follow the printed link: choose a password, and every stage has a campaign."""
    [welcome] = _WELCOME.findall(printed)
    browser.get(welcome)
    assert browser.post(welcome, password=PASSWORD).headers["location"] == "/"
    assert browser.get("/").headers["location"] == "/apps/demo/campaigns"
    names = {
        "draft": "Birthday gift", "pendingApproval": "Lamp weekend", "scheduled": "Closed over Christmas",
        "paused": "Spring sale, members first",
    }  # fmt: skip
    for stage, name in names.items():
        assert name in browser.get(f"/apps/demo/campaigns?stage={stage}").text
    assert browser.get(welcome).status_code == 404


def test_live_campaigns_end_silently_when_the_server_does_not_listen_any_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    nowhere = f"http://127.0.0.1:{free_port()}"
    arguments = (nowhere, nowhere, live.Live("demo", "token", {"sms": "demo-x"}, "secret"))
    sending = threading.Thread(target=live.send_campaigns, args=arguments, daemon=True)
    sending.start()
    sending.join(10)
    assert not sending.is_alive()
    assert caplog.text == ""

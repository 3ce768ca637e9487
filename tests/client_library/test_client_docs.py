"""The examples of docs/client.md run, in order, against a server."""

import os
import subprocess
import sys
from pathlib import Path

from harness import App

ROOT = Path(__file__).parents[2]


def test_the_examples_of_the_page_run(app: App) -> None:
    app.record(app.add_channel(), ["earlier"])
    app.add_channel(
        type="sms", provider="twilio", phone="+15005550006", channelName="",
        credentials={"accountSID": "AC" + "0" * 32, "authToken": "0" * 32},
    )  # fmt: skip
    page = (ROOT / "docs/client.md").read_text()
    program = "\n".join(part.partition("```")[0] for part in page.split("```python\n")[1:])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("http://127.0.0.1:8080", app.server_url)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client/src"), "APP": app.app_id, "TOKEN": app.token},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Hi Mei, see you at ten\nscheduled\n" in done.stdout

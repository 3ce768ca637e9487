"""What tests share: real servers on loopback, apps of their own, and waiting for a condition."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

TALLYCAST = [sys.executable, "-m", "tallycast"]
Result = TypeVar("Result")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Result], seconds: float = 30.0) -> Result:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


def run(*arguments: str, status: int = 0) -> str:
    """Run the command line; its standard output."""
    done = subprocess.run([*TALLYCAST, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, f"exit {done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass
class Server:
    """A `tallycast serve` of its own process group."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    storage: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ask it to stop, as systemd does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command on this server's database."""
        return run(*arguments, *self.storage, status=status)

    def audit(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("audit", "--json"))
        return found


def start_server(
    data_dir: Path, *options: str, port: int | None = None, environ: dict[str, str] | None = None
) -> Server:
    """Start `serve` and wait for its line that it is ready."""
    port = port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / f"serve-{port}.log"
    storage = ["--data-dir", str(data_dir)]
    if "--database-url" in options:
        storage += ["--database-url", options[options.index("--database-url") + 1]]
    with log.open("ab") as output:
        began = output.tell()
        process = subprocess.Popen(
            [*TALLYCAST, "serve", "--port", str(port), "--data-dir", str(data_dir), *options],
            stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})},
        )  # fmt: skip
    server = Server(data_dir, port, process, log, storage)

    def is_ready() -> bool:
        text = log.read_bytes()[began:].decode()
        assert process.poll() is None, f"serve ended with {process.returncode}:\n{text}"
        return "tallycast is ready" in text

    wait_for(is_ready, 60)
    return server


@dataclass
class App:
    """An app on a server, with a token that may do everything."""

    server_url: str
    app_id: str
    token: str
    client: httpx.Client

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request below the app's URL, with its token."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.client.request(
            method, f"{self.server_url}/v1/api/apps/{self.app_id}{path}", headers=headers, **options
        )

    def result(self, method: str, path: str, **options: Any) -> Any:
        answer = self.request(method, path, **options)
        assert answer.is_success, f"{answer.status_code} {answer.text}"
        return answer.json()["result"]

    def add_channel(self, **fields: Any) -> str:
        """A WhatsApp channel with generic receipts, unless told otherwise; its id."""
        channel = {"type": "whatsApp", "provider": "generic", "phone": "+85230001234", "channelName": "Shop"}
        made: str = self.result("POST", "/channels", json={**channel, **fields})["id"]
        return made

    def record(self, channel_id: str, message_ids: Iterable[str | None], **fields: Any) -> str:
        """A recorded campaign with one recipient per message id, +85291000000 and on; its id."""
        messages = [
            {"recipient": f"+852{91000000 + n}"} | ({"messageID": i} if i is not None else {})
            for n, i in enumerate(message_ids)
        ]
        body = {
            "campaignName": "Spring sale",
            "channelID": channel_id,
            "createdBy": "Mei",
            "messages": messages,
        }
        made: str = self.result("POST", "/sent-campaigns", json={**body, **fields})["id"]
        return made

    def post_receipts(self, channel_id: str, *receipts: dict[str, Any], secret: str = "") -> httpx.Response:
        """Post generic receipts to a channel's webhook."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        url = f"{self.server_url}/webhooks/generic/{channel_id}"
        return self.client.post(url, json={"receipts": list(receipts)}, headers=headers)

    def summary(self, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.result("GET", "/data/sent-campaigns-summary", params=params)
        return found

    def totals(self, campaign_id: str) -> dict[str, int]:
        """A campaign's figures in the summary."""
        found = next(row for row in self.summary(limit=200) if row["id"] == campaign_id)
        return {name: value for name, value in found.items() if isinstance(value, int)}

"""An app of its own on a running server, and its campaigns: by the public API alone, as any client makes them."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import servers
from servers import Server

_SECRET = "a-webhook-secret-of-the-benchmark"
_LOOK_SECONDS = 0.1


class Impatient(RuntimeError):
    """What was waited for did not happen."""


@dataclass(frozen=True)
class App:
    server: Server
    app_id: str
    token: str

    def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The `result` of an answer. `path` is below the app; a body that is no file and no bytes goes as JSON."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        return json.loads(self.fetch(method, path, body, content_type))["result"]

    def fetch(self, method: str, path: str, body: bytes | IO[bytes] | None, content_type: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        return fetch(method, f"{self.server.url}/v1/api/apps/{self.app_id}{path}", body, headers)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[App]:
    """`tallycast serve` on an empty folder, with an app."""
    with servers.tallycast(folder, *options) as server:
        command = [*servers.TALLYCAST, "app", "create", "--name", "Benchmark", "--json"]
        command += ["--data-dir", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=servers.ENVIRON)
        made = json.loads(done.stdout)
        yield App(server, made["appID"], made["token"])


def fetch(method: str, url: str, body: bytes | IO[bytes] | None, headers: dict[str, str]) -> bytes:
    """An answer's body. A file is sent piece by piece."""
    if body is not None and not isinstance(body, bytes):
        headers = {**headers, "Content-Length": str(Path(body.name).stat().st_size)}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {url}: {error.code} {error.read()[:500]!r}") from None
    return found


def await_that(what: str, look: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise Impatient(f"in {seconds:.0f} s not: {what}")
        time.sleep(_LOOK_SECONDS)


def add_channel(app: App, simulator: Server, key: str, rate: float) -> str:
    """A WhatsApp channel through the simulator, which posts its receipts back; its id."""
    fields = {
        "type": "whatsApp",
        "provider": "sandbox",
        "phone": "+447700900000",
        "webhookSecret": _SECRET,
        "ratePerSecond": rate,
        "credentials": {"baseURL": simulator.url, "apiKey": key},
    }
    channel_id: str = app.ask("POST", "/channels", fields)["id"]
    hook = {
        "url": f"{app.server.url}/webhooks/sandbox/{channel_id}",
        "headers": {"Authorization": f"Bearer {_SECRET}"},
    }
    headers = {"D360-API-KEY": key, "Content-Type": "application/json"}
    fetch("POST", f"{simulator.url}/v1/configs/webhook", json.dumps(hook).encode(), headers)
    return channel_id


def upload(app: App, campaign: str, file: Path) -> dict[str, Any]:
    """Send a file of recipients; its import, which is waiting or on its way."""
    with file.open("rb") as body:
        path = f"{campaign}/audience?fileName={file.name}"
        found: dict[str, Any] = app.ask("POST", path, body, "text/csv")
    return found


def await_import(app: App, campaign: str, import_id: str, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def has_ended() -> bool:
        found.update(app.ask("GET", f"{campaign}/audience/{import_id}"))
        return found["state"] in {"done", "refused", "failed"}

    await_that("the import has ended", has_ended, seconds)
    if found["state"] != "done":
        raise RuntimeError(f"the import is {found['state']}: {found['reason']}")
    return found


def look_at(simulator: Server, path: str) -> Any:
    """What the simulator tells of itself."""
    return json.loads(fetch("GET", f"{simulator.url}/simulator/{path}", None, {}))


def clear(simulator: Server) -> None:
    fetch("DELETE", f"{simulator.url}/simulator/ledger", None, {})


def read_ledger(simulator: Server) -> list[dict[str, Any]]:
    """The messages that the simulator has taken, as it took them."""
    lines = fetch("GET", f"{simulator.url}/simulator/ledger", None, {}).splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "message"]

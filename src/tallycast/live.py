"""The demo's live campaigns: made, filled and started through the public API, one after the other.

They go to the simulator, which plays the provider, the networks and the people.
"""

import csv
import io
import itertools
import logging
import random
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tallycast.simulator.numbers import make_numbers

log = logging.getLogger("tallycast.demo")
_RECIPIENTS = {"whatsApp": 600, "sms": 200}
_SETTLE_SECONDS = 90
_PAUSE_SECONDS = 5
_NAMES = ("Mei", "Ana", "Omar", "Lena", "Kofi", "Yuki", "Ines", "Tom")
_TEMPLATE = {
    "name": "spring_sale_v3",
    "language": "en_US",
    "header": {"image": "https://cdn.example.com/sale.jpg"},
    "body": ["{{name}}", "{{discount}}"],
    "buttons": [
        {"index": 0, "payload": "yes"},
        {"index": 1, "payload": "later"},
        {"index": 2, "trackedURL": "https://example.com/spring"},
    ],
}
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "whatsApp": {"campaignName": "Live: spring sale", "kind": "whatsApp", "template": _TEMPLATE},
    "sms": {
        "campaignName": "Live: opening hours",
        "kind": "smsDynamic",
        "content": "Hi {{name}}, we are open until 9 pm, with {{discount}} off: https://example.com/hours",
        "trackLinks": True,
        "senderEID": "demo-1",
    },
}


class Refused(Exception):
    """The server, or the simulator, did not do what was asked."""


TROUBLES = (OSError, HTTPException, msgspec.MsgspecError, Refused)


@dataclass(frozen=True, slots=True)
class Live:
    """Where the live campaigns go: the app, its token, its channels by type, and the secret of their webhooks."""

    app_id: str
    token: str
    channels: dict[str, str]
    secret: str


def api_key(kind: str) -> str:
    """The key under which the simulator knows a channel of the demo."""
    return f"demo-{kind}"


def send_campaigns(server_url: str, simulator_url: str, live: Live) -> None:
    """Send live campaigns, as long as the server listens."""
    dice = random.Random()  # noqa: S311 - another audience each time
    for number in itertools.count(1):
        try:
            point_webhooks(server_url, simulator_url, live)
            started = [_start(server_url, live, kind, number, dice) for kind in live.channels]
            _await_end(live, started)
            time.sleep(_SETTLE_SECONDS)
        except TROUBLES as error:
            time.sleep(_PAUSE_SECONDS)
            if not listens(server_url):  # the demo is ending
                return
            log.warning("the live campaign was interrupted, another one starts: %s", error)


def listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def point_webhooks(server_url: str, simulator_url: str, live: Live) -> None:
    for kind, channel_id in live.channels.items():
        hook = {
            "url": f"{server_url}/webhooks/sandbox/{channel_id}",
            "headers": {"Authorization": f"Bearer {live.secret}"},
        }
        headers = {"D360-API-KEY": api_key(kind)}
        _ask("POST", f"{simulator_url}/v1/configs/webhook", msgspec.json.encode(hook), headers)


def _start(server_url: str, live: Live, kind: str, number: int, dice: random.Random) -> str:
    """Make, fill and start a campaign; its URL."""
    new = {**CAMPAIGNS[kind], "channelID": live.channels[kind], "createdBy": "Demo staff"}
    if number > 1:
        new["campaignName"] += f" {number}"
    url = make_draft(server_url, live, new, _RECIPIENTS[kind], dice)
    ask_server(live, "POST", f"{url}/start", b"{}")
    return url


def make_draft(server_url: str, live: Live, new: dict[str, Any], size: int, dice: random.Random) -> str:
    """Make a campaign and import so many recipients; its URL."""
    base = f"{server_url}/v1/api/apps/{live.app_id}/campaigns"
    url = f"{base}/{ask_server(live, 'POST', base, msgspec.json.encode(new))['id']}"
    if not size:
        return url
    audience = _write_audience(size, dice)
    imported = ask_server(live, "POST", f"{url}/audience?wait=30&fileName=live.csv", audience, "text/csv")
    if imported["state"] != "done":
        raise Refused(f"the import is {imported['state']}: {imported['reason']}")
    return url


def _write_audience(amount: int, dice: random.Random) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["Recipients Number", "name", "discount"])
    for number in make_numbers(amount, dice):
        rows.writerow([number, dice.choice(_NAMES), dice.choice(("10%", "15%", "20%"))])
    return text.getvalue().encode()


def _await_end(live: Live, urls: list[str]) -> None:
    while any(ask_server(live, "GET", url)["stage"] in {"sending", "paused"} for url in urls):
        time.sleep(_PAUSE_SECONDS)


def ask_server(
    live: Live, method: str, url: str, body: bytes | None = None, content_type: str = "application/json"
) -> Any:
    headers = {"Authorization": f"Bearer {live.token}", "Content-Type": content_type}
    return _ask(method, url, body, headers)["result"]


def _ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Any:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, url.partition(parts.netloc)[2], body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise Refused(f"{method} {parts.path}: {answer.status} {text.decode('utf-8', 'replace')[:300]}")
    return msgspec.json.decode(text)

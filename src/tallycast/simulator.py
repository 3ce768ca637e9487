"""The demo's outside world: a sender that records its campaign as it goes, and two providers that post receipts."""

import heapq
import itertools
import logging
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tallycast.moments import write_moment

log = logging.getLogger("tallycast.simulator")
_RECIPIENTS = 600
_PER_SECOND = 5
_SETTLE_SECONDS = 90
_PAUSE_SECONDS = 5
_FAILURES = (
    (131026, "Message undeliverable"),
    (131049, "Not delivered to maintain healthy ecosystem engagement"),
    (131050, "User stopped marketing messages"),
)
_AREAS = (212, 305, 312, 404, 415, 503, 617, 702, 808, 907)
# How often something happens to a message.
_FAILS, _REPEATS, _READS, _ANSWERS, _SMS_ARRIVES = 0.05, 0.2, 0.65, 0.12, 0.96
Post = tuple[str, bytes]


def make_numbers(amount: int, dice: random.Random) -> list[str]:
    """Distinct numbers reserved for fiction: +1 xxx 555-01xx and +44 7700 900xxx."""
    american = [f"+1{area}55501{line:02d}" for area in _AREAS for line in range(100)]
    british = [f"+447700900{line:03d}" for line in range(1, 1000)]
    return dice.sample(american + british, amount)


@dataclass(frozen=True, slots=True)
class Live:
    """Where the live campaign goes: the app, its token, a 360dialog and a generic channel with their secret."""

    app_id: str
    token: str
    whatsapp_channel: str
    sms_channel: str
    secret: str


@dataclass(slots=True)
class World:
    """What is still to be posted, by the time at which it is due."""

    server_url: str
    live: Live
    dice: random.Random = field(default_factory=random.Random)
    due: list[tuple[float, int, Post]] = field(default_factory=list)
    order: Any = field(default_factory=itertools.count)

    def plan(self, delay: float, post: Post) -> None:
        heapq.heappush(self.due, (time.monotonic() + delay, next(self.order), post))

    def send(self, path: str, body: bytes, token: str, content_type: str = "application/json") -> Any:
        connection = HTTPConnection(urlsplit(self.server_url).netloc, timeout=10)
        try:
            connection.request(
                "POST", path, body, {"Authorization": f"Bearer {token}", "Content-Type": content_type}
            )
            return msgspec.json.decode(connection.getresponse().read())
        finally:
            connection.close()

    def post_due(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic():
            path, body = heapq.heappop(self.due)[2]
            self.send(path, body, self.live.secret)


def simulate(server_url: str, live: Live) -> None:
    """Send one live campaign after the other, as long as the process lives."""
    world = World(server_url, live)
    while True:
        try:
            _send_live(world)
        except (OSError, HTTPException, msgspec.DecodeError, KeyError) as error:
            log.warning("the live campaign was interrupted, another one starts soon: %s", error)
            time.sleep(_PAUSE_SECONDS)


def _send_live(world: World) -> None:
    base = f"/v1/api/apps/{world.live.app_id}/sent-campaigns"
    run = f"{int(time.time()):x}"
    whatsapp = _record(world, base, "Live: weekend offer", world.live.whatsapp_channel, "weekend_offer")
    sms = _record(world, base, "Live: opening hours", world.live.sms_channel, "")
    numbers = make_numbers(_RECIPIENTS, world.dice)
    for start in range(0, _RECIPIENTS, _PER_SECOND):
        part = list(enumerate(numbers))[start : start + _PER_SECOND]
        _hand_over(world, f"{base}/{whatsapp}/messages", run, part)
        _hand_over_sms(world, f"{base}/{sms}/messages", run, part[:2])
        _pass(world, 1.0)
    _pass(world, _SETTLE_SECONDS)


def _pass(world: World, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        world.post_due()
        time.sleep(0.05)


def _record(world: World, path: str, name: str, channel: str, template: str) -> str:
    body = {"campaignName": name, "channelID": channel, "createdBy": "Demo staff", "subject": template}
    campaign_id: str = world.send(path, msgspec.json.encode(body), world.live.token)["result"]["id"]
    return campaign_id


def _lines(rows: list[tuple[str, str]]) -> bytes:
    return b"\n".join(msgspec.json.encode({"recipient": number, "messageID": i}) for number, i in rows)


def _hand_over(world: World, path: str, run: str, part: list[tuple[int, str]]) -> None:
    rows = [(number, f"wamid.live.{run}.{n}") for n, number in part]
    dice = world.dice
    for number, message_id in rows:
        world.plan(0, _whatsapp(world, _status(message_id, "sent", number)))
        if dice.random() < _FAILS:
            world.plan(
                dice.uniform(1, 8),
                _whatsapp(world, _status(message_id, "failed", number, dice.choice(_FAILURES))),
            )
            continue
        delivery = dice.uniform(1, 12)
        delivered = _whatsapp(world, _status(message_id, "delivered", number))
        world.plan(delivery, delivered)
        if dice.random() < _REPEATS:
            world.plan(delivery + dice.uniform(0, 20), delivered)
        if dice.random() < _READS:  # some overtake their delivery
            world.plan(delivery + dice.uniform(-1, 40), _whatsapp(world, _status(message_id, "read", number)))
        if dice.random() < _ANSWERS:
            world.plan(
                delivery + dice.uniform(5, 60),
                _whatsapp(world, _click(message_id, number, dice.choice("yn"))),
            )
    world.send(path, _lines(rows), world.live.token, "application/x-ndjson")


def _hand_over_sms(world: World, path: str, run: str, part: list[tuple[int, str]]) -> None:
    rows = [(number, f"sms.live.{run}.{n}") for n, number in part]
    for _, message_id in rows:
        status = "delivered" if world.dice.random() < _SMS_ARRIVES else "failed"
        receipt = {"messageID": message_id, "status": status, "timestamp": write_moment(datetime.now(UTC))}
        body = msgspec.json.encode({"receipts": [receipt]})
        world.plan(world.dice.uniform(0.5, 15), (f"/webhooks/generic/{world.live.sms_channel}", body))
    world.send(path, _lines(rows), world.live.token, "application/x-ndjson")


def _status(
    message_id: str, status: str, number: str, failure: tuple[int, str] | None = None
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": message_id,
        "status": status,
        "timestamp": str(int(time.time())),
        "recipient_id": number.lstrip("+"),
    }
    if failure is not None:
        item["errors"] = [{"code": failure[0], "title": failure[1], "message": failure[1]}]
    return {"statuses": [item]}


def _click(message_id: str, number: str, answer: str) -> dict[str, Any]:
    item = {
        "context": {"from": "447700900000", "id": message_id},
        "from": number.lstrip("+"),
        "id": f"{message_id}.{answer}",
        "timestamp": str(int(time.time())),
        "type": "button",
        "button": {"payload": answer, "text": {"y": "Yes", "n": "Not now"}[answer]},
    }
    return {"messages": [item]}


def _whatsapp(world: World, value: dict[str, Any]) -> Post:
    """A body as 360dialog posts it."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "447700900000", "phone_number_id": "1"},
        **value,
    }
    change = {"field": "messages", "value": value}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    return f"/webhooks/360dialog/{world.live.whatsapp_channel}", msgspec.json.encode(body)

"""The demo's campaigns that stand still, one in each stage in which a campaign waits for people or for its time."""

import logging
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tallycast.live import (
    CAMPAIGNS,
    TROUBLES,
    Live,
    Refused,
    ask_server,
    listens,
    make_draft,
    point_webhooks,
)
from tallycast.moments import write_moment

log = logging.getLogger("tallycast.demo")
_PAUSED_SIZE = 300
_SENT_BEFORE_PAUSE = 25
_PATIENCE_SECONDS = 60
_DRAFT = {"kind": "smsDynamic", "content": "Hi {{name}}, your gift waits in the shop until Sunday."}
_PENDING = {"kind": "smsDynamic", "content": "Hi {{name}}, {{discount}} off all lamps, this weekend alone."}
_SCHEDULED = {"kind": "smsDynamic", "content": "Hi {{name}}, we are closed on 25 and 26 December."}
_EDITOR = {"createdBy": "Demo editor", "senderEID": "demo-2"}
_APPROVER = {"createdBy": "Demo approver", "senderEID": "demo-3"}


def arrange(server_url: str, simulator_url: str, live: Live) -> None:
    """Make them, once for a new demo, through the public API."""
    try:
        point_webhooks(server_url, simulator_url, live)
        _arrange(server_url, live)
    except TROUBLES as error:
        if listens(server_url):
            log.warning("some of the demo's campaigns are missing: %s", error)


def _arrange(server_url: str, live: Live) -> None:
    dice = random.Random(21)  # noqa: S311 - no secret
    base = f"{server_url}/v1/api/apps/{live.app_id}"
    make_draft(server_url, live, _sms(live, "Birthday gift", _DRAFT, _EDITOR), 0, dice)
    _submit(
        base, live, make_draft(server_url, live, _sms(live, "Lamp weekend", _PENDING, _EDITOR), 120, dice)
    )
    due = (datetime.now(UTC) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    scheduled = _sms(live, "Closed over Christmas", _SCHEDULED, _APPROVER) | {
        "scheduledAt": write_moment(due)
    }
    _act(live, make_draft(server_url, live, scheduled, 180, dice), "schedule")
    paused = {
        **CAMPAIGNS["whatsApp"], "campaignName": "Spring sale, members first", "createdBy": "Demo approver",
        "channelID": live.channels["whatsApp"],
    }  # fmt: skip
    _start_and_pause(live, make_draft(server_url, live, paused, _PAUSED_SIZE, dice))


def _sms(live: Live, name: str, what: dict[str, str], who: dict[str, str]) -> dict[str, Any]:
    return {**what, **who, "campaignName": name, "channelID": live.channels["sms"]}


def _act(live: Live, url: str, action: str, note: str = "") -> None:
    ask_server(live, "POST", f"{url}/{action}", msgspec.json.encode({"note": note}))


def _submit(base: str, live: Live, url: str) -> None:
    """Hand a draft in for approval. The app asks for it at that moment only: who looks alone can still start theirs."""
    ask_server(live, "PATCH", f"{base}/policy", b'{"requiresApproval": true}')
    _act(live, url, "submit")
    ask_server(live, "PATCH", f"{base}/policy", b'{"requiresApproval": false}')


def _start_and_pause(live: Live, url: str) -> None:
    _act(live, url, "start")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while ask_server(live, "GET", url)["totals"]["queued"] > _PAUSED_SIZE - _SENT_BEFORE_PAUSE:
        if time.monotonic() > deadline:
            raise Refused("nothing is sent")
        time.sleep(1)
    _act(live, url, "pause", "The shop asks us to wait: the discount is not in the tills yet.")

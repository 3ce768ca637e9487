"""Meta's notifications, as the simulated 360dialog and Meta post them: many statuses of one channel in one body."""

import hmac
import zlib
from typing import Any

import msgspec

from tallycast.simulator.channels import Channel
from tallycast.simulator.courier import Notice
from tallycast.simulator.fates import Happening
from tallycast.simulator.world import World

BATCH, CONCURRENCY = 100, 8
_STATUSES = {Happening.SENT, Happening.DELIVERED, Happening.READ, Happening.FAILED}
_TITLES = {
    131000: "Something went wrong",
    131026: "Message undeliverable",
    131049: "This message was not delivered to maintain healthy ecosystem engagement",
    131050: "User stopped marketing messages",
    131053: "Media upload error",
    30003: "Handset unreachable",
    30005: "Unknown handset",
    30006: "Landline or unreachable carrier",
}
_PRICING = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"}
_DISPLAY_NUMBER = "447700900000"


async def deliver(world: World, channel: Channel, notices: list[Notice]) -> bool:
    """Post the notices in one body; whether the webhook answered 200."""
    hook = channel.webhook
    if hook is None:
        return True
    body = msgspec.json.encode(write_body(world, channel, notices))
    headers = {"Content-Type": "application/json", **hook.headers}
    if hook.secret:
        headers["X-Hub-Signature-256"] = f"sha256={hmac.digest(hook.secret.encode(), body, 'sha256').hex()}"
    if not await world.post(hook.url, body, headers):
        return False
    world.note_told(channel, notices)
    return True


def write_body(world: World, channel: Channel, notices: list[Notice]) -> dict[str, Any]:
    statuses = [notice for notice in notices if notice.what in _STATUSES]
    preferences = [notice for notice in notices if notice.what is Happening.STOP_PREFERENCE]
    replies = [notice for notice in notices if notice.what in {Happening.BUTTON, Happening.STOP_TEXT}]
    changes = []
    if statuses:
        people = [notice for notice in statuses if notice.what is not Happening.FAILED]
        items = {"statuses": [_write_status(notice) for notice in statuses]}
        changes.append(_change(channel, "messages", people, items))
    if replies:
        items = {"messages": [_write_reply(world, notice) for notice in replies]}
        changes.append(_change(channel, "messages", replies, items))
    if preferences:
        items = {"user_preferences": [_write_preference(notice) for notice in preferences]}
        changes.append(_change(channel, "user_preferences", preferences, items))
    entry = {"id": str(zlib.crc32(channel.provider.encode())), "changes": changes}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def _change(
    channel: Channel, field: str, people: list[Notice], items: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    number_id = channel.key if channel.provider == "meta" else str(zlib.crc32(channel.key.encode()))
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": _DISPLAY_NUMBER, "phone_number_id": number_id},
    }
    if people:
        value["contacts"] = [_write_contact(notice) for notice in people]
    return {"value": {**value, **items}, "field": field}


def _digits(notice: Notice) -> str:
    return notice.message.recipient.removeprefix("+")


def _user_id(notice: Notice) -> str:
    """The business-scoped id of a person, which is all that a message from a user name carries."""
    return f"US.9{_digits(notice).zfill(15)}"


def _write_contact(notice: Notice) -> dict[str, Any]:
    digits = _digits(notice)
    return {"profile": {"name": f"Person {digits[-4:]}"}, "wa_id": digits, "user_id": _user_id(notice)}


def _write_status(notice: Notice) -> dict[str, Any]:
    message = notice.message
    item: dict[str, Any] = {
        "id": message.message_ids[0],
        "status": notice.what,
        "timestamp": str(int(notice.at)),
        "recipient_id": _digits(notice),
    }
    if message.reference is not None:
        item["biz_opaque_callback_data"] = message.reference
    if notice.what is Happening.FAILED:
        title = _TITLES.get(message.fate.code, "Message not delivered")
        details = {"details": f"{title}, says the simulator"}
        item["errors"] = [
            {"code": message.fate.code, "title": title, "message": title, "error_data": details}
        ]
    else:
        item["pricing"] = _PRICING
    return item


def _write_reply(world: World, notice: Notice) -> dict[str, Any]:
    message, turn = notice.message, notice.message.fate.turn
    item: dict[str, Any] = {
        "id": f"{message.message_ids[0]}.{notice.what}",
        "timestamp": str(int(notice.at)),
        "from_user_id": _user_id(notice),
    }
    if notice.what is Happening.STOP_TEXT:
        sender = {} if turn < world.profile.nameless else {"from": _digits(notice)}
        return {**sender, **item, "type": "text", "text": {"body": "STOP"}}
    payload, text = message.buttons[int(turn * len(message.buttons))]
    if turn * 10 % 1 >= world.profile.contextless:
        item["context"] = {"from": _DISPLAY_NUMBER, "id": message.message_ids[0]}
    return {
        "from": _digits(notice),
        **item,
        "type": "button",
        "button": {"payload": payload, "text": text},
    }


def _write_preference(notice: Notice) -> dict[str, Any]:
    return {
        "wa_id": _digits(notice),
        "user_id": _user_id(notice),
        "detail": "User requested to stop marketing messages",
        "category": "marketing_messages",
        "value": "stop",
        "timestamp": int(notice.at),
    }

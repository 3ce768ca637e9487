"""The receipts that the benchmark sends: WhatsApp statuses as 360dialog posts them, for messages still pending."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from data import DataSet

_PENDING = "accepted_at is not null and delivered_at is null and read_at is null and failed_at is null"
FIRST = (
    1_790_000_000  # Unix seconds: after the newest campaign, so that no time is earlier than what is known
)
PATH = "/webhooks/360dialog/@CHANNEL@"


def make_body(message_id: str, status: str, at: int = FIRST, recipient: str = "85291234567") -> str:
    """One status, in one line."""
    return (
        '{"object":"whatsapp_business_account","entry":[{"id":"101234567890123","changes":[{"value":{'
        '"messaging_product":"whatsapp","metadata":{"display_phone_number":"85230001200","phone_number_id":"106540352242922"},'
        f'"statuses":[{{"id":"{message_id}","status":"{status}","timestamp":"{at}","recipient_id":"{recipient}",'
        '"conversation":{"id":"6ceb9d929c9bdc4f90e967a32f8639b4","origin":{"type":"marketing"}},'
        '"pricing":{"billable":true,"pricing_model":"PMP","category":"marketing"}}]},"field":"messages"}]}]}'
    )


def draw(connection: "psycopg.Connection[Any]", data: DataSet, count: int) -> list[str]:
    """Pending WhatsApp messages of all campaigns in random order, as lines "channel id<TAB>message id"."""
    query = (
        f"select channel_number, message_id from messages where channel_number = any(%s) and {_PENDING}"
        " order by hashtext(message_id) limit %s"
    )
    rows = connection.execute(query.encode(), [data.whatsapp[:-1], count]).fetchall()
    lines = [f"{data.channel_ids[number]}\t{message_id}" for number, message_id in rows]
    random.Random(1).shuffle(lines)
    return lines


def write_replay(
    connection: "psycopg.Connection[Any]", data: DataSet, count: int, path: Path
) -> tuple[str, int]:
    """A file of bodies for `count` pending messages of one channel: sent, delivered and read of each, by time.

    The messages go out at 80 a second; each is delivered within 10 s and, mostly, read within half an hour. Gives the
    channel and the number of bodies.
    """
    number = data.whatsapp[-1]
    query = (
        f"select message_id from messages where channel_number = %s and {_PENDING}"
        " order by campaign_id, seq limit %s"
    )
    ids = [row[0] for row in connection.execute(query.encode(), [number, count])]
    events = sorted(_live(ids))
    with path.open("w") as file:
        file.writelines(make_body(message_id, status, int(at)) + "\n" for at, message_id, status in events)
    return data.channel_ids[number], len(events)


def _live(ids: list[str]) -> Iterator[tuple[float, str, str]]:
    dice = random.Random(2)
    for n, message_id in enumerate(ids):
        sent = FIRST + n / 80
        yield sent, message_id, "sent"
        yield sent + 1 + dice.random() * 9, message_id, "delivered"
        yield sent + 10 + dice.random() * 1800, message_id, "read"

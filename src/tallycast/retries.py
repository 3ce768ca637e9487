"""Second tries: what is sent again, because a person says so, its failure may have passed, or another way is left.

No one who has a message gets it again: what was delivered, or is on its way at the moment, is left alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tallycast import campaigns, db, receipts, sendings, stages
from tallycast.errors import Unprocessable
from tallycast.providers import find_rule
from tallycast.receipts import Facts, Failure, MessageKey
from tallycast.references import Address
from tallycast.sql import load

Verdict = Literal["sent", "notSent", "resend"]
_SQL = load("retries")
_PORTION = 2000


async def settle(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    verdict: Verdict,
    recipients: list[str] | None,
    actor: str,
) -> int:
    """A person's word on messages of unknown outcome, all of them or these recipients'. How many; in a transaction.

    `sent`: they wait for receipts like others. `notSent`: they failed. `resend`: they are sent (again).
    """
    if verdict == "resend":
        await _hold_open(connection, app_id, campaign_id)
    await campaigns.refuse_retained(connection, app_id, campaign_id)
    key = {"app_id": app_id, "campaign_id": campaign_id}
    rows = await db.fetch_rows(connection, _SQL["pick_unknown"], {**key, "recipients": recipients})
    if not rows:
        return 0
    if verdict == "resend":
        for channel_number, seqs in _by_channel(rows).items():
            await queue_again(connection, app_id, campaign_id, channel_number, seqs, f"sent again by {actor}")
        await _reopen(connection, app_id, campaign_id, actor, f"{len(rows)} of unknown outcome")
        return len(rows)
    if verdict == "notSent":
        failed = {
            MessageKey(number, None, Address(campaign_id, seq)): Facts(
                failure=Failure(receipts.now_ms(), "notSent", f"Not sent, says {actor}")
            )
            for seq, number in rows
        }
        await receipts.apply_facts(connection, app_id, failed)
    await db.execute(connection, _SQL["forget_unknown"], {**key, "seq": [seq for seq, _ in rows]})
    return len(rows)


def _by_channel(rows: Iterable[Sequence[Any]]) -> dict[int, list[int]]:
    by_channel: dict[int, list[int]] = {}
    for seq, channel_number, *_ in rows:
        by_channel.setdefault(channel_number, []).append(seq)
    return by_channel


async def queue_again(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    channel_number: int,
    seqs: list[int],
    reason: str,
) -> int:
    """Make messages ready to be sent over a channel, again. How many; those that were delivered are left alone."""
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        "channel_number": channel_number,
        "seq": seqs,
        "reason": reason,
    }
    rows = await db.fetch_rows(connection, _SQL["queue_again"], params)
    queued: int = rows[0][0] if rows else 0
    return queued


async def retry_failed(connection: db.Connection, app_id: str, campaign_id: int, actor: str) -> int:
    """Send again what failed for a reason that may have passed, to nobody who has it. How many; in a transaction."""
    await _hold_open(connection, app_id, campaign_id)
    providers = dict(await db.fetch_rows(connection, _SQL["list_providers"], {"app_id": app_id}))
    retried, position = 0, 0
    while True:
        params = {"app_id": app_id, "campaign_id": campaign_id, "from_seq": position, "limit": _PORTION}
        rows = await db.fetch_rows(connection, _SQL["list_failed"], params)
        again = [row for row in rows if _may_pass(providers.get(row[1], ""), row[2])]
        for channel_number, seqs in _by_channel(again).items():
            reason = f"tried again by {actor}"
            retried += await queue_again(connection, app_id, campaign_id, channel_number, seqs, reason)
        if len(rows) < _PORTION:
            break
        position = rows[-1][0] + 1
    if retried:
        await _reopen(connection, app_id, campaign_id, actor, f"{retried} failed messages")
    return retried


async def _reopen(connection: db.Connection, app_id: str, campaign_id: int, actor: str, note: str) -> None:
    """A campaign that was sent goes on; one that is paused stays so until somebody resumes it."""
    if (await sendings.find(connection, app_id, campaign_id)).stage == "sent":
        await stages.move(connection, app_id, campaign_id, "retry", actor, note)


async def _hold_open(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Unprocessable where nothing of the campaign can be sent any more, or not yet."""
    stage = (await sendings.hold(connection, app_id, campaign_id)).stage
    if stage not in {"sending", "paused", "sent"}:
        raise Unprocessable(
            f"the campaign is {stage}: only one that is being sent, is paused or was sent can send again"
        )
    await campaigns.refuse_retained(connection, app_id, campaign_id)


def _may_pass(provider: str, code: str | None) -> bool:
    rule = find_rule(provider, code or "")
    return rule is not None and rule.is_passing

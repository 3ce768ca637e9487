"""What `tallycast doctor` finds about an app, by asking the API: the same on this machine and on another."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from tallycast.api import Api, Refused, below
from tallycast.channels import missing_credentials
from tallycast.moments import parse_moment

# well; to be mended; not to be found out; and: what everything else depends on cannot be reached.
State = Literal["well", "mend", "unknown", "away"]
_STALE_PARKED_SECONDS = 3600
_RECENT = timedelta(days=1)
# Providers report within seconds; where nothing is heard for so long after a campaign began, nothing will be.
_SILENCE = timedelta(minutes=10)
_MOST = 50
_FORBIDDEN = 403
# Their webhooks are told from forged ones by the secret alone.
_OPEN_WITHOUT_SECRET = ("360dialog", "meta", "generic")


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """`about` what; what was `found`; and what to do about it."""

    about: str
    state: State
    found: str
    advice: str = ""


async def check_app(api: Api) -> AsyncIterator[Finding]:
    """All that can be asked about an app; what the token may not ask is unknown."""
    for check in (_check_attention, _check_channels, _check_movement, _check_silence):
        try:
            async for one in check(api):
                yield one
        except Refused as problem:
            if problem.status != _FORBIDDEN:
                raise
            yield Finding(check.__name__.removeprefix("_check_"), "unknown", problem.message)


async def _check_attention(api: Api) -> AsyncIterator[Finding]:
    found = await api.request("GET", "/data/attention")
    yield _judge_parked(found["parked"], api.app_id)
    if found["unknown"]["count"]:
        campaigns = ", ".join(one["campaignID"] for one in found["unknownByCampaign"])
        yield Finding(
            "unknown outcomes",
            "mend",
            f"{found['unknown']['count']} messages may have gone out or not, the oldest {_age(found['unknown'])} ago",
            f"look them up at the provider, then say: tallycast campaign unknown --app {api.app_id} CAMPAIGN "
            f"--verdict sent|notSent|resend, for {campaigns}",
        )
    else:
        yield Finding("unknown outcomes", "well", "none")
    yield _judge_unreadable(found["unreadable"], api.app_id)
    for one in found["pausedChannels"]:
        yield Finding(
            "channel",
            "mend",
            f"{one['channelID']} ({one['phone']}) is paused: {one['reason']}",
            f"mend that, then: tallycast channel resume --app {api.app_id} {one['channelID']}",
        )
    for one in found["pausedCampaigns"]:
        yield Finding(
            "campaign",
            "mend",
            f"{one['campaignID']} ({one['campaignName']}) is paused: {one['reason'] or 'without a reason'}",
            f"tallycast campaign resume --app {api.app_id} {one['campaignID']}, or cancel",
        )


def _judge_parked(parked: dict[str, Any], app_id: str) -> Finding:
    if not parked["count"]:
        return Finding("parked receipts", "well", "none")
    found = f"{parked['count']} wait for their message, the oldest for {_age(parked)}"
    if parked["ageSeconds"] < _STALE_PARKED_SECONDS:
        return Finding("parked receipts", "well", found)
    return Finding(
        "parked receipts",
        "mend",
        found,
        f"their messages were never recorded, or not with these ids: tallycast receipts parked --app {app_id}",
    )


def _age(waiting: dict[str, Any]) -> str:
    return str(timedelta(seconds=round(waiting["ageSeconds"] or 0)))


def _judge_unreadable(bodies: dict[str, Any], app_id: str) -> Finding:
    if not bodies["count"]:
        return Finding("unreadable bodies", "well", "none")
    latest = parse_moment(bodies["latestAt"], "latestAt")
    found = f"{bodies['count']} were kept, the latest at {bodies['latestAt']}"
    if datetime.now(UTC) - latest > _RECENT:
        return Finding("unreadable bodies", "well", found)
    advice = f"see whether a provider's format has changed: tallycast receipts unreadable --app {app_id}"
    return Finding("unreadable bodies", "mend", found, advice)


async def _check_channels(api: Api) -> AsyncIterator[Finding]:
    for one in await api.request("GET", "/channels"):
        name = f"{one['id']} ({one['phone']})"
        change = f"tallycast channel change --app {api.app_id} {one['id']}"
        lacks = missing_credentials(one["type"], one["provider"], dict.fromkeys(one["credentials"], "kept"))
        if one["provider"] != "generic" and lacks:
            found = f"{name} cannot send: it lacks {', '.join(lacks)}"
            yield Finding("channel", "mend", found, f"{change} --credential {lacks[0]}=-")
        elif one["provider"] in _OPEN_WITHOUT_SECRET and not one["hasWebhookSecret"]:
            found = f"{name} has no webhook secret: whoever knows its URL can post receipts"
            yield Finding(
                "channel", "mend", found, f"{change} --webhook-secret -, and set it at the provider"
            )
        elif one["paused"] is None:
            yield Finding("channel", "well", f"{name} over {one['provider']}")


async def _check_movement(api: Api) -> AsyncIterator[Finding]:
    """Campaigns that are being sent, or due, and do not move; one that goes on by itself is well."""
    for stage in ("sending", "scheduled"):
        for one in await api.list("/campaigns", {"stage": stage}, _MOST):
            standing = await api.request("GET", below("campaigns", one["id"]))
            if waits := standing.get("waitingFor"):
                state: State = "well" if "until" in waits else "mend"
                yield Finding("movement", state, f"campaign {one['id']} does not move", waits["reason"])
            elif stage == "sending":
                yield Finding("movement", "well", f"campaign {one['id']} is being sent")


async def _check_silence(api: Api) -> AsyncIterator[Finding]:
    """When the provider of each sender was heard last: after its newest campaign it should have been."""
    heard: dict[tuple[str, str], str] = {}
    for one in await api.request("GET", "/channels"):
        sender = (one["type"].lower(), one["phone"])
        heard[sender] = max(heard.get(sender, ""), one["heardAt"] or "")
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in await api.list("/data/sent-campaigns-summary", None, _MOST):
        newest.setdefault((row["channel"].lower(), row["sender"]["phone"]), row)
    for sender, row in newest.items():
        name, last = f"{row['channel']} {row['sender']['phone']}", heard.get(sender)
        if last is None:  # the channel was deleted
            continue
        if last >= row["date"]:
            yield Finding("receipts", "well", f"{name}: the last word came at {last}")
        elif datetime.now(UTC) - parse_moment(row["date"], "date") > _SILENCE:
            yield Finding(
                "receipts",
                "mend",
                f"{name}: nothing has come since campaign {row['id']} of {row['date']}; the last word: {last or 'none'}",
                f"is the webhook URL set at the provider? tallycast channel list --app {api.app_id} --json shows it",
            )

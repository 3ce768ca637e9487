"""The command line's `campaign`, second half: what moves a campaign on, its test messages and its unknown ones."""

import json
import sys
from typing import Any

import click

from tallycast.api import below
from tallycast.commands import COUNT, print_rows
from tallycast.moments import parse_moment
from tallycast.ways import Way, asks, of_campaign

_note = click.option("--note", default="", help="why, for the campaign's history")
_risk = click.option(
    "--accept-risk", is_flag=True, help="go on although the database was restored: some may get it twice"
)


def _move(way: Way, campaign_id: str, action: str, **said: Any) -> None:
    path = below("campaigns", campaign_id, action)
    moved = way.run(lambda api: api.request("POST", path, json=said))
    is_due = moved["stage"] == "scheduled" and "scheduledAt" in moved
    due = f", due at {moved['scheduledAt']}" if is_due else ""
    click.echo(f"campaign {campaign_id} is {moved['stage']}{due}")


@click.command("submit")
@of_campaign
@_note
@asks
def submit(way: Way, campaign_id: str, note: str) -> None:
    """Submit a draft: it is scheduled, or waits for another person's approval where the app asks for one.

    Audience, channel, template and texts are checked first, and what must be mended is named.
    """
    _move(way, campaign_id, "submit", note=note)


@click.command("approve")
@of_campaign
@_note
@asks
def approve(way: Way, campaign_id: str, note: str) -> None:
    """Approve a submitted campaign. Neither who created it nor who submitted it can."""
    _move(way, campaign_id, "approve", note=note)


@click.command("reject")
@of_campaign
@click.option("--note", required=True, help="what must be changed")
@asks
def reject(way: Way, campaign_id: str, note: str) -> None:
    """Send a submitted campaign back: it is a draft again."""
    _move(way, campaign_id, "reject", note=note)


@click.command("schedule")
@of_campaign
@click.option("--at", "moment", help="e.g. 2027-12-01T09:00:00+08:00; the draft's own when left out")
@_note
@_risk
@asks
def schedule(way: Way, campaign_id: str, moment: str | None, note: str, accept_risk: bool) -> None:
    """Give a campaign its moment, or another one."""
    if moment:
        parse_moment(moment, "--at")
    _move(way, campaign_id, "schedule", scheduledAt=moment, note=note, acceptRisk=accept_risk)


@click.command("start")
@of_campaign
@_note
@_risk
@asks
def start(way: Way, campaign_id: str, note: str, accept_risk: bool) -> None:
    """Start sending now. Starting twice sends once.

    The workers of `tallycast serve` or `tallycast worker` do the sending.
    """
    _move(way, campaign_id, "start", note=note, acceptRisk=accept_risk)


@click.command("pause")
@of_campaign
@_note
@asks
def pause(way: Way, campaign_id: str, note: str) -> None:
    """Pause a campaign: within two seconds nothing more is handed to the provider."""
    _move(way, campaign_id, "pause", note=note)


@click.command("resume")
@of_campaign
@_note
@_risk
@asks
def resume(way: Way, campaign_id: str, note: str, accept_risk: bool) -> None:
    """Go on with a paused campaign: exactly the rest is sent."""
    _move(way, campaign_id, "resume", note=note, acceptRisk=accept_risk)


@click.command("cancel")
@of_campaign
@_note
@asks
def cancel(way: Way, campaign_id: str, note: str) -> None:
    """Cancel a campaign for good. What was not sent yet fails; what was sent stays as it is."""
    _move(way, campaign_id, "cancel", note=note)


@click.command("retry-failed")
@of_campaign
@asks
def retry_failed(way: Way, campaign_id: str) -> None:
    """Send again what failed for a reason that may have passed, to nobody who has the message."""
    done = way.run(lambda api: api.request("POST", below("campaigns", campaign_id, "retry-failed")))
    click.echo(f"{done['retried']} messages are sent again")


@click.command("unknown")
@of_campaign
@click.option(
    "--verdict",
    type=click.Choice(["sent", "notSent", "resend"]),
    help="sent: wait for their receipts; notSent: they failed; resend: send them again, some perhaps twice",
)
@click.option(
    "--recipient", "recipients", multiple=True, help="only this one; may be repeated; all when left out"
)
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many to list at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def unknown(
    way: Way,
    campaign_id: str,
    verdict: str | None,
    recipients: tuple[str, ...],
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List messages of which nobody knows whether they went out, or say what became of them.

    The connection or a worker broke between the call and its answer. They are never sent again by themselves: a
    later receipt settles them, or you do, with --verdict. Look at the provider's own log first.
    """
    path = below("campaigns", campaign_id, "unknown")
    if verdict is None:
        rows = way.run(lambda api: api.list(path, None, limit, offset))
        print_rows(rows, as_json, "every message's outcome is known")
        return
    said = {"verdict": verdict, "recipients": list(recipients) or None}
    done = way.run(lambda api: api.request("POST", path, json=said))
    click.echo(f"{done['settled']} messages are settled as {verdict}")


@click.command("test")
@of_campaign
@click.argument("recipient")
@click.option(
    "--var", "variables", multiple=True, metavar="COLUMN=VALUE", help="instead of the first recipient's value"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def send_test(way: Way, campaign_id: str, recipient: str, variables: tuple[str, ...], as_json: bool) -> None:
    """Send the message to one number, ahead of everything else and in no count.

    Columns are filled with the first recipient's values, unless --var says otherwise. A worker must be running.
    Exit status 2 unless the provider has taken it.
    """
    wanted = {"recipient": recipient, "variables": dict(_read_variable(text) for text in variables)}
    found = way.run(lambda api: api.request("POST", below("campaigns", campaign_id, "test"), json=wanted))
    outcome, message_id, reason = found["outcome"], found.get("messageID"), found.get("reason", "")
    if as_json:
        said = {"outcome": outcome, "messageID": message_id, "reason": reason}
        click.echo(json.dumps({"trialID": found["trialID"], **said}))
    elif outcome == "waiting":
        click.echo(
            "no worker has taken it yet: is `tallycast serve` or `tallycast worker` running? "
            "After ten minutes it is not sent any more"
        )
    else:
        click.echo(f"{outcome}: {reason or message_id}")
    sys.exit(0 if outcome == "accepted" else 2)


def _read_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"must be COLUMN=VALUE, not {text!r}", param_hint="--var")
    return name, value


COMMANDS = [submit, approve, reject, schedule, start, pause, resume, cancel, retry_failed, unknown, send_test]

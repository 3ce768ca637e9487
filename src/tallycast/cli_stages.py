"""The command line's `campaign`, second half: what moves a campaign on, its test messages and its unknown ones."""

import getpass
import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import click

from tallycast import campaigns, db
from tallycast.commands import COUNT, outward, print_rows, stored, with_app, write_optional
from tallycast.config import Settings
from tallycast.keys import load_cipher
from tallycast.moments import parse_moment

# Everything that sends is imported by the commands that need it: the others start faster.
Command = Callable[..., Any]
Action = Literal["submit", "approve", "reject", "schedule", "start", "pause", "resume", "cancel"]
_note = click.option("--note", default="", help="why, for the campaign's history")
_risk = click.option(
    "--accept-risk", is_flag=True, help="go on although the database was restored: some may get it twice"
)


def of_campaign(command: Command) -> Command:
    """The option and the argument that say which campaign."""
    chosen = click.option("--app", "app_id", required=True, help="the app's id")(command)
    return click.argument("campaign_id", metavar="CAMPAIGN")(chosen)


def actor() -> str:
    return f"cli {getpass.getuser()}"


def _move(
    settings: Settings,
    app_id: str,
    campaign_id: str,
    action: Action,
    note: str = "",
    scheduled_at: datetime | None = None,
    accept_risk: bool = False,
) -> None:
    from tallycast import readiness, stages  # noqa: PLC0415 - see above

    cipher = load_cipher(settings.encryption_key, settings.data_dir)
    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> str:
        if stages.goes_onward(action):
            connect = db.always(connection)
            await readiness.relist(connect, cipher, settings.private_hosts, app_id, number)
        async with connection.transaction():
            moved = await stages.move(
                connection,
                app_id,
                number,
                action,
                actor(),
                note,
                scheduled_at=scheduled_at,
                accepts_risk=accept_risk,
                cipher=cipher,
            )
        moment = f", due at {write_optional(moved.scheduled_at)}" if moved.stage == "scheduled" else ""
        return f"campaign {campaign_id} is {moved.stage}{moment if moved.scheduled_at else ''}"

    click.echo(with_app(settings, app_id, work))


@click.command("submit")
@of_campaign
@_note
@outward
def submit(settings: Settings, app_id: str, campaign_id: str, note: str) -> None:
    """Submit a draft: it is scheduled, or waits for another person's approval where the app asks for one.

    Audience, channel, template and texts are checked first, and what must be mended is named.
    """
    _move(settings, app_id, campaign_id, "submit", note)


@click.command("approve")
@of_campaign
@_note
@outward
def approve(settings: Settings, app_id: str, campaign_id: str, note: str) -> None:
    """Approve a submitted campaign. Neither who created it nor who submitted it can."""
    _move(settings, app_id, campaign_id, "approve", note)


@click.command("reject")
@of_campaign
@click.option("--note", required=True, help="what must be changed")
@outward
def reject(settings: Settings, app_id: str, campaign_id: str, note: str) -> None:
    """Send a submitted campaign back: it is a draft again."""
    _move(settings, app_id, campaign_id, "reject", note)


@click.command("schedule")
@of_campaign
@click.option("--at", "moment", help="e.g. 2027-12-01T09:00:00+08:00; the draft's own when left out")
@_note
@_risk
@outward
def schedule(
    settings: Settings, app_id: str, campaign_id: str, moment: str | None, note: str, accept_risk: bool
) -> None:
    """Give a campaign its moment, or another one."""
    scheduled_at = parse_moment(moment, "--at") if moment else None
    _move(settings, app_id, campaign_id, "schedule", note, scheduled_at, accept_risk)


@click.command("start")
@of_campaign
@_note
@_risk
@outward
def start(settings: Settings, app_id: str, campaign_id: str, note: str, accept_risk: bool) -> None:
    """Start sending now. Starting twice sends once.

    The workers of `tallycast serve` or `tallycast worker` do the sending.
    """
    _move(settings, app_id, campaign_id, "start", note, accept_risk=accept_risk)


@click.command("pause")
@of_campaign
@_note
@outward
def pause(settings: Settings, app_id: str, campaign_id: str, note: str) -> None:
    """Pause a campaign: within two seconds nothing more is handed to the provider."""
    _move(settings, app_id, campaign_id, "pause", note)


@click.command("resume")
@of_campaign
@_note
@_risk
@outward
def resume(settings: Settings, app_id: str, campaign_id: str, note: str, accept_risk: bool) -> None:
    """Go on with a paused campaign: exactly the rest is sent."""
    _move(settings, app_id, campaign_id, "resume", note, accept_risk=accept_risk)


@click.command("cancel")
@of_campaign
@_note
@outward
def cancel(settings: Settings, app_id: str, campaign_id: str, note: str) -> None:
    """Cancel a campaign for good. What was not sent yet fails; what was sent stays as it is."""
    _move(settings, app_id, campaign_id, "cancel", note)


@click.command("retry-failed")
@of_campaign
@stored
def retry_failed(settings: Settings, app_id: str, campaign_id: str) -> None:
    """Send again what failed for a reason that may have passed, to nobody who has the message."""
    from tallycast import retries, sendings  # noqa: PLC0415 - see above

    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> int:
        async with connection.transaction():
            await sendings.hold(connection, app_id, number)
            return await retries.retry_failed(connection, app_id, number, actor())

    click.echo(f"{with_app(settings, app_id, work)} messages are sent again")


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
@stored
def unknown(
    settings: Settings,
    app_id: str,
    campaign_id: str,
    verdict: Literal["sent", "notSent", "resend"] | None,
    recipients: tuple[str, ...],
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List messages of which nobody knows whether they went out, or say what became of them.

    The connection or a worker broke between the call and its answer. They are never sent again by themselves: a
    later receipt settles them, or you do, with --verdict. Look at the provider's own log first.
    """
    from tallycast import handovers, retries, sendings  # noqa: PLC0415 - see above

    number = campaigns.parse_id(campaign_id)

    async def settle(connection: db.Connection) -> int:
        assert verdict is not None
        async with connection.transaction():
            await sendings.hold(connection, app_id, number)
            chosen = list(recipients) or None
            return await retries.settle(connection, app_id, number, verdict, chosen, actor())

    async def find(connection: db.Connection) -> list[handovers.UnknownMessage]:
        await sendings.find(connection, app_id, number)
        return await handovers.list_unknown(connection, app_id, number, limit, offset)

    if verdict is not None:
        click.echo(f"{with_app(settings, app_id, settle)} messages are settled as {verdict}")
        return
    rows = [
        {
            "recipient": one.recipient,
            "reason": one.reason,
            "attempts": one.attempts,
            "since": write_optional(one.since),
        }
        for one in with_app(settings, app_id, find)
    ]
    print_rows(rows, as_json, "every message's outcome is known")


@click.command("test")
@of_campaign
@click.argument("recipient")
@click.option(
    "--var", "variables", multiple=True, metavar="COLUMN=VALUE", help="instead of the first recipient's value"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@outward
def send_test(
    settings: Settings,
    app_id: str,
    campaign_id: str,
    recipient: str,
    variables: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send the message to one number, ahead of everything else and in no count.

    Columns are filled with the first recipient's values, unless --var says otherwise. A worker must be running.
    Exit status 2 unless the provider has taken it.
    """
    from tallycast import readiness, sendings, trials  # noqa: PLC0415 - see above

    cipher = load_cipher(settings.encryption_key, settings.data_dir)
    number = campaigns.parse_id(campaign_id)
    wanted = dict(_read_variable(text) for text in variables)

    async def work(connection: db.Connection) -> trials.Outcome:
        connect = db.always(connection)
        await readiness.relist(connect, cipher, settings.private_hosts, app_id, number)
        async with connection.transaction():
            sending = await sendings.hold(connection, app_id, number)
            trial_id = await trials.ask(connection, sending, recipient, wanted, actor(), cipher)
        return await trials.wait_for(connect, app_id, number, trial_id)

    outcome = with_app(settings, app_id, work)
    if as_json:
        said = {"outcome": outcome.outcome, "messageID": outcome.message_id, "reason": outcome.reason}
        click.echo(json.dumps({"trialID": outcome.trial_id, **said}))
    elif outcome.outcome == trials.WAITING:
        click.echo(
            "no worker has taken it yet: is `tallycast serve` or `tallycast worker` running? "
            "After ten minutes it is not sent any more"
        )
    else:
        click.echo(f"{outcome.outcome}: {outcome.reason or outcome.message_id}")
    sys.exit(0 if outcome.outcome == "accepted" else 2)


def _read_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"must be COLUMN=VALUE, not {text!r}", param_hint="--var")
    return name, value


COMMANDS = [submit, approve, reject, schedule, start, pause, resume, cancel, retry_failed, unknown, send_test]

"""The command line. Every command takes --data-dir or --database-url, and works while `serve` runs."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import click

import tallycast
from tallycast import apps, audit, db, embedded, migrations, receipts, serving
from tallycast.cli_apps import app
from tallycast.cli_campaigns import campaign
from tallycast.cli_channels import channel
from tallycast.cli_consent import opt_outs
from tallycast.cli_simulate import simulate
from tallycast.commands import (
    COUNT,
    all_settings,
    print_rows,
    stored,
    with_app,
    with_database,
    working,
    write_optional,
)
from tallycast.config import ENV_PREFIX, BadSetting, Settings
from tallycast.errors import Problem
from tallycast.moments import parse_moment, write_moment


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(tallycast.__version__, prog_name="tallycast")
def main() -> None:
    """Self-hosted WhatsApp and SMS campaigns, with numbers that add up.

    \b
    First steps:
      tallycast demo                     a server with campaigns that move
      tallycast serve                    the real one, on http://127.0.0.1:8080
      tallycast app create --name Shop   an app and its first token
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@main.command()
@all_settings
def serve(settings: Settings) -> None:
    """Serve the API, webhooks and tracked links, until SIGTERM or Ctrl-C.

    Prints one line when it is ready. Without --database-url an embedded PostgreSQL starts in the data directory.
    """
    serving.serve(settings)


@main.command()
@working
def worker(settings: Settings) -> None:
    """Send campaigns and import audiences, without serving; as many as you like, on any machine.

    `serve` starts workers of its own. This is for more of them: they share the work through the database, so give
    each the same --database-url, --encryption-key and --public-url; on one machine the --data-dir of `serve` will do.
    """
    from tallycast import background  # noqa: PLC0415 - the server need not load it
    from tallycast import worker as work  # noqa: PLC0415 - the same

    background.end_with_parent()
    if settings.public_url is None and not os.environ.get(f"{ENV_PREFIX}WORKER_PARENT"):
        raise BadSetting(
            "public-url must be given, the same as to serve, e.g. https://campaigns.example.com: the links and "
            "webhook addresses in messages are made from it"
        )
    if settings.database_url is None and not embedded.has_database(settings.data_dir):
        raise BadSetting(
            f"data-dir {settings.data_dir.absolute()} has no database, and a worker shares one that exists: "
            "give the --data-dir of `tallycast serve`, or its --database-url"
        )
    with serving.database(settings) as url:
        migrations.migrate(url)
        work.run(settings, url, lambda: click.echo("tallycast worker is ready"))


@main.command()
@all_settings
def demo(settings: Settings) -> None:
    """Serve a demo app whose campaigns move while you look.

    Fills an empty data directory with a dozen campaigns of the last 90 days, prints a request to try, and lets
    receipts arrive over HTTP for one that is being sent.
    """
    from tallycast import demo as demo_app  # noqa: PLC0415 - the server need not load it

    demo_app.run(settings)


@main.command()
@stored
def migrate(settings: Settings) -> None:
    """Bring the database's schema up to date (`serve` does it by itself)."""
    with serving.database(settings) as url:
        applied = migrations.migrate(url)
    click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


main.add_command(app)
main.add_command(campaign)
main.add_command(channel)
main.add_command(opt_outs)
main.add_command(simulate)


@main.group()
def token() -> None:
    """Tokens: what opens an app's API."""


def _token_row(found: apps.Token) -> dict[str, Any]:
    return {
        "tokenID": found.token_id,
        "name": found.name,
        "scopes": ",".join(found.scopes),
        "createdAt": write_optional(found.created_at),
        "expiresAt": write_optional(found.expires_at),
        "lastUsedAt": write_optional(found.last_used_at),
        "revokedAt": write_optional(found.revoked_at),
    }


@token.command("create")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(apps.SCOPES),
    help="may be repeated; all when left out",
)
@click.option("--name", default="", help="what it is for")
@click.option("--expires", help="when it ends, e.g. 2027-01-01T00:00:00Z; never when left out")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def create_token(
    settings: Settings, app_id: str, scopes: tuple[str, ...], name: str, expires: str | None, as_json: bool
) -> None:
    """Create a token and show it, once."""
    expires_at = parse_moment(expires, "--expires") if expires else None

    async def work(connection: db.Connection) -> apps.NewToken:
        return await apps.create_token(connection, app_id, scopes or apps.SCOPES, name, expires_at)

    made = with_database(settings, work)
    if as_json:
        click.echo(json.dumps({"appID": app_id, "token": made.plain, **_token_row(made.token)}))
    else:
        click.echo(
            f"token    {made.plain}\ntokenID  {made.token.token_id}\n\nThe token is not shown again: keep it now."
        )


@token.command("list")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_tokens(settings: Settings, app_id: str, as_json: bool) -> None:
    """List an app's tokens with their scopes, expiry and last use."""
    found = with_app(settings, app_id, lambda connection: apps.list_tokens(connection, app_id))
    print_rows(
        [_token_row(one) for one in found], as_json, f"no tokens: tallycast token create --app {app_id}"
    )


@token.command("revoke")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.argument("token_id")
@stored
def revoke_token(settings: Settings, app_id: str, token_id: str) -> None:
    """Revoke a token by its tokenID; running servers refuse it within five seconds."""
    with_database(settings, lambda connection: apps.revoke_token(connection, app_id, token_id))
    click.echo(f"revoked {token_id}")


@main.command("audit")
@click.option("--app", "app_id", help="only this app")
@click.option("--json", "as_json", is_flag=True, help='print {"campaigns", "messages", "drift"}')
@stored
def audit_counts(settings: Settings, app_id: str | None, as_json: bool) -> None:
    """Recount everything from rows and compare. Exit status 1 if any count differs.

    May run while receipts stream in: each portion is compared within one snapshot.
    """
    from tallycast.progress import bar  # noqa: PLC0415 - the server need not load it

    async def work(connection: db.Connection) -> audit.Portion:
        known = [found.app_id for found in await apps.list_apps(connection)]
        if app_id is not None and app_id not in known:
            raise Problem(f"no app {app_id}")
        chosen = [app_id] if app_id else known
        campaigns, messages, drifts = 0, 0, []
        total = sum([await audit.size(connection, one) for one in chosen])
        with bar("recounting", total) as advance:
            for one in chosen:
                async for portion in audit.audit(connection, one):
                    campaigns, messages = campaigns + portion.campaigns, messages + portion.messages
                    drifts += portion.drifts
                    advance(portion.messages)
        return audit.Portion(campaigns, messages, drifts)

    done = with_database(settings, work)
    drift = sum(one.size for one in done.drifts)
    found = [{"appID": one.app_id, "id": one.id, "fields": one.fields} for one in done.drifts]
    if as_json:
        totals: dict[str, Any] = {"campaigns": done.campaigns, "messages": done.messages, "drift": drift}
        click.echo(json.dumps(totals | ({"drifting": found} if found else {})))
    else:
        click.echo(f"{done.campaigns} campaigns, {done.messages} messages, drift {drift}")
        for one in found:
            click.echo(f"  campaign {one['id']} of {one['appID']}: [counted, recounted] {one['fields']}")
    sys.exit(1 if drift else 0)


@main.group("receipts")
def receipts_group() -> None:
    """Receipts that wait for their message, and bodies that were not understood."""


@receipts_group.command("parked")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_parked(settings: Settings, app_id: str, limit: int, offset: int, as_json: bool) -> None:
    """List receipts and clicks whose message is not known yet, the oldest first."""
    found = with_app(settings, app_id, lambda c: receipts.list_parked(c, app_id, limit, offset))
    rows = [
        {
            "channelID": one.channel_id,
            "messageID": one.message_id,
            "kinds": ",".join(one.kinds()),
            "parkedAt": write_optional(one.parked_at),
            "age": f"{one.age_seconds:.0f} s",
        }
        for one in found
    ]
    print_rows(rows, as_json, "nothing is parked")


@receipts_group.command("unreadable")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_unreadable(settings: Settings, app_id: str, limit: int, offset: int, as_json: bool) -> None:
    """List bodies that were not understood, the latest first."""
    found = with_app(settings, app_id, lambda c: receipts.list_unreadable(c, app_id, limit, offset))
    rows = [
        {
            "channelID": one.channel_id,
            "lastAt": write_optional(one.last_at),
            "times": one.times,
            "reason": one.reason,
            "raw": one.raw.decode("utf-8", "replace"),
        }
        for one in found
    ]
    print_rows(rows, as_json, "everything was understood")


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--channel", "channel_id", required=True, help="the channel that the bodies came for")
@stored
def replay(settings: Settings, file: Any, channel_id: str) -> None:
    """Feed a file of webhook bodies, one JSON body per line, through the same path as webhooks. `-` reads stdin.

    Replaying what was counted before changes nothing.
    """
    from tallycast.replay import replay_file  # noqa: PLC0415 - the server need not load it

    done = with_database(settings, lambda connection: replay_file(connection, channel_id, file))
    click.echo(
        f"{done.bodies} bodies, {done.events} events: {done.matched} matched, {done.parked} parked, "
        f"{done.unreadable} not understood, in {done.seconds:.1f} s ({done.events / done.seconds:,.0f}/s)"
    )


@main.group("clicks")
def clicks_group() -> None:
    """Clicks of tracked links."""


@clicks_group.command("reclassify")
@click.option("--app", "app_id", required=True, help="the app's id")
@stored
def reclassify(settings: Settings, app_id: str) -> None:
    """Judge all kept hits again, as people's clicks or previews and crawlers, and set the counts right."""
    from tallycast import links  # noqa: PLC0415 - the server need not load it

    changed = with_app(settings, app_id, lambda connection: links.reclassify(connection, app_id))
    click.echo(f"{changed} hits changed at {write_moment(datetime.now(UTC))}")

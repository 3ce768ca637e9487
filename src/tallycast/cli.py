"""The command line. Every command takes --data-dir or --database-url, and works while `serve` runs."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import click

import tallycast
from tallycast import administrations, apps, audit, citus, databases, db, embedded, migrations
from tallycast.administrations import By
from tallycast.commands import (
    Commands,
    all_settings,
    name_operator,
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

_ELSEWHERE = {
    "app": "cli_apps:app",
    "campaign": "cli_campaigns:campaign",
    "channel": "cli_channels:channel",
    "completion": "cli_completion:completion",
    "doctor": "cli_doctor:doctor",
    "export": "cli_exports:export",
    "keys": "cli_keys:keys",
    "log": "cli_log:log",
    "mcp": "cli_mcp:mcp",
    "opt-outs": "cli_consent:opt_outs",
    "people": "cli_people:people",
    "profile": "cli_profiles:profile",
    "receipts": "cli_receipts:receipts",
    "report": "cli_reports:report",
    "simulate": "cli_simulate:simulate",
    "spool": "cli_spool:spool",
    "staff": "cli_staff:staff",
    "tail": "cli_tail:tail",
    "webhooks": "cli_webhooks:webhooks",
}


@click.group(
    cls=Commands,
    elsewhere=_ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(tallycast.__version__, prog_name="tallycast")
def main() -> None:
    """Self-hosted WhatsApp and SMS campaigns, with numbers that add up.

    \b
    First steps:
      tallycast demo                     a server with campaigns that move
      tallycast serve                    the real one, on http://127.0.0.1:8080
      tallycast app create --name Shop   an app and its first token
      tallycast doctor                   whether all is well, and what to do where it is not

    On another machine: `tallycast profile add NAME --url URL`, then campaign, report, tail and more with --profile NAME.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@main.command()
@all_settings
def serve(settings: Settings) -> None:
    """Serve the API, webhooks, tracked links and the dashboard, until SIGTERM or Ctrl-C.

    Prints one line when it is ready, and on a first run how the first person signs in. Without --database-url an
    embedded PostgreSQL starts in the data directory.
    """
    from tallycast import serving  # noqa: PLC0415 - a worker need not load the server

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
    with databases.reach(settings) as url:
        migrations.migrate(url)
        work.run(settings, url, lambda: click.echo("tallycast worker is ready"))


@main.command()
@all_settings
def demo(settings: Settings) -> None:
    """Serve a demo app whose campaigns move while you look.

    Fills an empty data directory with campaigns of the last 90 days and one in each stage, sends two more through a
    simulator, and prints a link that signs you in and a request to try.
    """
    from tallycast import demo as demo_app  # noqa: PLC0415 - the server need not load it

    demo_app.run(settings)


@main.command()
@click.option(
    "--citus", "is_spread", is_flag=True, help="Then spread the tables over the database's Citus cluster."
)
@stored
def migrate(settings: Settings, *, is_spread: bool) -> None:
    """Bring the database's schema up to date (`serve` does it by itself)."""
    with databases.reach(settings) as url:
        applied = migrations.migrate(url)
        click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
        if is_spread:
            placed = citus.distribute(url)
            click.echo("\n".join(f"placed {name}" for name in placed) or "all tables are placed")


@main.group()
def token() -> None:
    """Tokens: what opens an app's API.

    \b
      tallycast token create --app APP --scope reports:read --name BI --expires 2027-01-01T00:00:00Z
      tallycast token list --app APP
      tallycast token revoke --app APP TOKEN_ID
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


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
        async with connection.transaction():
            made = await apps.create_token(connection, app_id, scopes or apps.SCOPES, name, expires_at)
            said = {"name": name, "scopes": made.token.scopes, "expiresAt": expires_at}
            by, token_id = By(name_operator()), made.token.token_id
            await administrations.note(connection, app_id, by, "token.created", token_id, **said)
            return made

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

    async def work(connection: db.Connection) -> None:
        async with connection.transaction():
            await apps.revoke_token(connection, app_id, token_id)
            await administrations.note(connection, app_id, By(name_operator()), "token.revoked", token_id)

    with_database(settings, work)
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
        campaigns, messages, deleted = 0, 0, 0
        drifts: list[audit.Drift] = []
        total = sum([await audit.size(connection, one) for one in chosen])
        with bar("recounting", total) as advance:
            for one in chosen:
                async for portion in audit.audit(connection, one):
                    campaigns, messages = campaigns + portion.campaigns, messages + portion.messages
                    drifts, deleted = drifts + portion.drifts, deleted + portion.deleted
                    advance(portion.messages)
        return audit.Portion(campaigns, messages, drifts, deleted)

    done = with_database(settings, work)
    drift = sum(one.size for one in done.drifts)
    found = [{"appID": one.app_id, "id": one.id, "fields": one.fields} for one in done.drifts]
    if as_json:
        totals: dict[str, Any] = {"campaigns": done.campaigns, "messages": done.messages, "drift": drift}
        totals |= {"deleted": done.deleted} if done.deleted else {}
        click.echo(json.dumps(totals | ({"drifting": found} if found else {})))
    else:
        click.echo(f"{done.campaigns} campaigns, {done.messages} messages, drift {drift}")
        if done.deleted:
            click.echo(
                f"  {done.deleted} messages were deleted by retention: compared with what was noted of them"
            )
        for one in found:
            click.echo(f"  campaign {one['id']} of {one['appID']}: [counted, recounted] {one['fields']}")
    sys.exit(1 if drift else 0)


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
    """Clicks of tracked links.

    \b
      tallycast clicks reclassify --app APP        after an upgrade that knows more crawlers
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@clicks_group.command("reclassify")
@click.option("--app", "app_id", required=True, help="the app's id")
@stored
def reclassify(settings: Settings, app_id: str) -> None:
    """Judge all kept hits again, as people's clicks or previews and crawlers, and set the counts right."""
    from tallycast import links  # noqa: PLC0415 - the server need not load it

    changed = with_app(settings, app_id, lambda connection: links.reclassify(connection, app_id))
    click.echo(f"{changed} hits changed at {write_moment(datetime.now(UTC))}")

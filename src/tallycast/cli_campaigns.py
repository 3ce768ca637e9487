"""The command line's `campaign`: campaigns that tallycast sends, from the draft to the error log."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallycast import apps, campaigns, cli_drafts, cli_stages, db, migrations, serving
from tallycast.cli_stages import actor, of_campaign
from tallycast.commands import COUNT, outward, print_rows, stored, with_app, write_json
from tallycast.config import Settings
from tallycast.errors import BadQuery, NotFound, Problem, Unprocessable

if TYPE_CHECKING:
    from tallycast.audience import Upload
    from tallycast.imports import Import
    from tallycast.standings import Standing, Step

_STAGES = ("draft", "pendingApproval", "scheduled", "sending", "paused", "sent", "cancelled")
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".txt": "text/csv",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}
_LOOK_SECONDS = 0.2
_CONNECTIONS = 4


@click.group()
def campaign() -> None:
    """Campaigns that tallycast sends itself.

    \b
    From the draft to the last receipt:
      tallycast campaign create --app APP --channel ID --kind smsDynamic --name Sale --content 'Hi {{name}}'
      tallycast campaign import --app APP CAMPAIGN customers.xlsx
      tallycast campaign preview --app APP CAMPAIGN
      tallycast campaign test --app APP CAMPAIGN +85298765432
      tallycast campaign start --app APP CAMPAIGN      or submit, schedule --at MOMENT
      tallycast campaign show --app APP CAMPAIGN
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


for _command in (*cli_drafts.COMMANDS, *cli_stages.COMMANDS):
    campaign.add_command(_command)


@campaign.command("list")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option("--stage", type=click.Choice(_STAGES), help="only campaigns in this stage")
@click.option("--limit", type=COUNT, default=20, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_campaigns(
    settings: Settings, app_id: str, stage: str | None, limit: int, offset: int, as_json: bool
) -> None:
    """List campaigns with their stage and totals, the newest first."""
    from tallycast import sendings, standings  # noqa: PLC0415 - other commands need not load it

    found = with_app(settings, app_id, lambda c: sendings.list_page(c, app_id, stage, limit, offset))
    if as_json:
        click.echo(write_json([standings.describe(one) for one in found]))
        return
    rows = [
        {
            "id": str(one.campaign_id),
            "name": one.name,
            "kind": one.kind,
            "stage": one.stage,
            "total": one.total,
            "queued": one.queued,
            "pending": one.pending,
            "delivered": one.delivered,
            "failed": one.failed,
        }
        for one in found
    ]
    print_rows(rows, False, f"no campaigns: tallycast campaign create --app {app_id} --help")


@campaign.command("show")
@of_campaign
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def show_campaign(settings: Settings, app_id: str, campaign_id: str, as_json: bool) -> None:
    """Show how a campaign stands, and its history: who did what, when and why."""
    from tallycast import standings  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> tuple["Standing", list["Step"]]:
        found = await standings.find(connection, app_id, number)
        return found, await standings.list_steps(connection, app_id, number)

    standing, steps = with_app(settings, app_id, work)
    known = json.loads(write_json(standing))
    history = json.loads(write_json(steps))
    if as_json:
        click.echo(json.dumps({**known, "transitions": history}, indent=2, ensure_ascii=False))
        return
    totals = known.pop("totals")
    if "waitingFor" in known:
        known["waitingFor"] = ", until ".join(known["waitingFor"].values())
    for name, value in {**known, **totals}.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name:16} {shown}")
    click.echo()
    print_rows(history, False, "no history yet: it is a draft")


@campaign.command("preview")
@of_campaign
@click.option("--limit", type=COUNT, default=5, show_default=True, help="how many messages to show")
@click.option("--cost-per-part", type=float, help="the price of one SMS part")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@outward
def preview_campaign(
    settings: Settings,
    app_id: str,
    campaign_id: str,
    limit: int,
    cost_per_part: float | None,
    as_json: bool,
) -> None:
    """Show the first messages as they will be sent, and how many SMS parts all of them take, exactly."""
    from tallycast import previews, rendering, sendings  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> dict[str, Any]:
        sending = await sendings.find(connection, app_id, number)
        try:
            renderer = await rendering.load_renderer(connection, app_id, number, settings.base_url)
        except rendering.RenderError as error:
            raise Unprocessable(str(error)) from None
        first = await sendings.list_texts(connection, app_id, number, 0, limit)
        size = await previews.measure(renderer, sendings.each_page(db.always(connection), app_id, number))
        shown = json.loads(write_json(previews.show(renderer, sending, first)))
        found = {"messages": shown, "totalRecipients": sending.total, "failing": size.failing}
        if size.error:
            found["error"] = size.error
        if sending.type == "sms":
            found["parts"] = size.parts
            found |= {} if cost_per_part is None else {"cost": round(size.parts * cost_per_part, 4)}
        return found

    found = with_app(settings, app_id, work)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for message in found.pop("messages"):
        said = message.get("error") or message.get("text") or json.dumps(message["template"])
        click.echo(f"{message['recipient']}  {said}")
    click.echo("\n" + ", ".join(f"{name} {value}" for name, value in found.items()))


@campaign.command("import")
@of_campaign
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--refuse", is_flag=True, help="take nothing at all when a row cannot be taken")
@click.option(
    "--mapping", default="", help='which columns mean what, e.g. {"recipient": "Tel", "variables": {"name": "First name"}}'
)  # fmt: skip
@stored
def import_audience(
    settings: Settings, app_id: str, campaign_id: str, file: Path, refuse: bool, mapping: str
) -> None:
    """Import a draft's audience from a CSV, XLSX or NDJSON file.

    The first row names the columns: `Recipients Number`, for smsStandard `Content`, and any variable. Encoding and
    delimiter are found out. Duplicates, opted-out, invalid and landline numbers are set aside, each with its reason:
    see `tallycast campaign errors`. The import runs in this command; if it is ended, a worker finishes it.
    """
    from tallycast import audience  # noqa: PLC0415 - other commands need not load it

    media_type = _MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise BadQuery.of(f"FILE must end in {', '.join(_MEDIA_TYPES)}, not {file.name}")
    number = campaigns.parse_id(campaign_id)
    with file.open("rb") as source, serving.database(settings) as url:
        size = file.stat().st_size
        upload = audience.Upload(source, size, file.name, media_type, not refuse, _read_mapping(mapping))
        migrations.migrate(url)
        done = asyncio.run(_import(url, app_id, number, upload))
    figures = {
        "accepted": done.accepted,
        "duplicate": done.duplicate,
        "opted out": done.opted_out,
        "invalid": done.invalid,
        "landline": done.landline,
    }
    click.echo(f"{done.state}: {done.rows} rows, " + ", ".join(f"{n} {name}" for name, n in figures.items()))
    if done.reason:
        click.echo(done.reason)
    if done.set_aside:
        click.echo(f"why: tallycast campaign errors --app {app_id} {campaign_id} --out error-log.csv")
    sys.exit(0 if done.state == "done" else 2)


def _read_mapping(text: str) -> Any:
    import msgspec  # noqa: PLC0415 - other commands need not load it

    from tallycast.candidates import Mapping  # noqa: PLC0415 - the same

    try:
        return msgspec.json.decode(text or "{}", type=Mapping)
    except msgspec.MsgspecError as error:
        raise BadQuery.of(f"--mapping is not what is expected: {error}") from None


async def _import(url: str, app_id: str, campaign_id: int, upload: "Upload") -> "Import":
    """Store the file and run its import here: the lease is taken with it, so that no worker is quicker."""
    from tallycast import audience, leases  # noqa: PLC0415 - other commands need not load it

    pool = db.make_pool(url, _CONNECTIONS)
    await pool.open(wait=True, timeout=30)
    try:
        async with pool.connection() as connection, connection.transaction():
            if await apps.find_app(connection, app_id) is None:
                raise Problem(f"no app {app_id}")
            import_id = await audience.add_import(connection, app_id, campaign_id, upload, actor())
            await leases.take(connection, app_id, f"import:{import_id}", actor())
        keeping = asyncio.create_task(_keep_lease(pool, app_id, f"import:{import_id}"))
        try:
            return await _watch(pool, app_id, campaign_id, import_id)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            async with pool.connection() as connection:
                await leases.give_back(connection, app_id, f"import:{import_id}", actor())
    finally:
        await pool.close()


async def _keep_lease(pool: db.Pool, app_id: str, name: str) -> None:
    from tallycast import leases  # noqa: PLC0415 - other commands need not load it

    while True:
        await asyncio.sleep(leases.RENEW_SECONDS)
        with contextlib.suppress(*db.AWAY):
            async with pool.connection() as connection:
                await leases.renew(connection, app_id, [name], actor())


async def _watch(pool: db.Pool, app_id: str, campaign_id: int, import_id: str) -> "Import":
    """Run the import, and show how far it is."""
    from tallycast import audience, imports  # noqa: PLC0415 - other commands need not load it
    from tallycast.progress import bar  # noqa: PLC0415 - the same

    async def find() -> "Import":
        async with pool.connection() as connection:
            return await imports.find_import(connection, app_id, campaign_id, import_id)

    running = asyncio.create_task(audience.run_import(pool, app_id, import_id))
    found = await find()
    with bar("importing bytes", found.bytes) as advance:
        while not running.done():
            await asyncio.wait([running], timeout=_LOOK_SECONDS)
            before, found = found, await find()
            advance(found.bytes_read - before.bytes_read)
    await running
    return await find()


@campaign.command("errors")
@of_campaign
@click.option("--import", "import_id", help="of this import; of the latest when left out")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="write to this file, not to the terminal"
)
@stored
def write_errors(
    settings: Settings, app_id: str, campaign_id: str, import_id: str | None, out: Path | None
) -> None:
    """Write the rows that an import has set aside as CSV: the file's own columns first, the error next.

    Mend them in place and import the file again.
    """
    from tallycast import error_logs, imports, sendings  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)

    async def chunks(connection: db.Connection) -> AsyncIterator[bytes]:
        await sendings.find(connection, app_id, number)
        latest = await imports.list_imports(connection, app_id, number, 1, 0)
        if not latest:
            raise NotFound(f"campaign {number} has no import yet")
        wanted = import_id or latest[0].import_id
        found = await imports.find_import(connection, app_id, number, wanted)
        async for chunk in error_logs.write(db.always(connection), app_id, found):
            yield chunk

    async def work(connection: db.Connection) -> None:
        buffer = io.BytesIO()
        with out.open("wb") if out else contextlib.nullcontext(buffer) as target:
            async for chunk in chunks(connection):
                target.write(chunk)
        click.echo(buffer.getvalue().decode("utf-8-sig"), nl=False)

    with_app(settings, app_id, work)

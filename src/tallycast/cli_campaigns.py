"""The command line's `campaign`: campaigns that tallycast sends, from the draft to the error log."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from tallycast import cli_drafts, cli_stages
from tallycast.api import Api, below, read_chunks
from tallycast.commands import COUNT, print_rows, write_json
from tallycast.errors import BadQuery, NotFound
from tallycast.ways import Way, asks, of_campaign

_STAGES = ("draft", "pendingApproval", "scheduled", "sending", "paused", "sent", "cancelled")
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".txt": "text/csv",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}
_ENDED = ("done", "refused", "failed")
_FIGURES = {
    "accepted": "accepted",
    "duplicate": "duplicate",
    "optedOut": "opted out",
    "invalid": "invalid",
    "landline": "landline",
}
_LOOK_SECONDS = 0.2
_PATIENT_SECONDS = 10.0
_MARK = b"\xef\xbb\xbf"  # for spreadsheets, not for terminals
_MOST_SHOWN = click.IntRange(0, 50)


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
      tallycast tail --app APP CAMPAIGN                 watch it go out
      tallycast campaign show --app APP CAMPAIGN

    All of it works on a remote server too: --url or --profile, and --app may be left out.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


for _command in (*cli_drafts.COMMANDS, *cli_stages.COMMANDS):
    campaign.add_command(_command)


@campaign.command("list")
@click.option("--stage", type=click.Choice(_STAGES), help="only campaigns in this stage")
@click.option("--limit", type=COUNT, default=20, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def list_campaigns(way: Way, stage: str | None, limit: int, offset: int, as_json: bool) -> None:
    """List campaigns with their stage and totals, the newest first."""
    found = way.run(lambda api: api.list("/campaigns", {"stage": stage}, limit, offset))
    if as_json:
        click.echo(write_json(found))
        return
    totals = ("queued", "pending", "delivered", "failed")
    rows = [
        {"id": one["id"], "name": one["campaignName"], "kind": one["kind"], "stage": one["stage"]}
        | {"total": one["totals"]["totalRecipients"]}
        | {name: one["totals"][name] for name in totals}
        for one in found
    ]
    print_rows(rows, False, f"no campaigns: tallycast campaign create --app {way.app_id} --help")


@campaign.command("show")
@of_campaign
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def show_campaign(way: Way, campaign_id: str, as_json: bool) -> None:
    """Show how a campaign stands, and its history: who did what, when and why."""

    async def work(api: Api) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        known = await api.request("GET", below("campaigns", campaign_id))
        return known, await api.request("GET", below("campaigns", campaign_id, "transitions"))

    known, history = way.run(work)
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
@click.option("--limit", type=_MOST_SHOWN, default=5, show_default=True, help="how many messages to show")
@click.option("--cost-per-part", type=float, help="the price of one SMS part")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def preview_campaign(
    way: Way, campaign_id: str, limit: int, cost_per_part: float | None, as_json: bool
) -> None:
    """Show the first messages as they will be sent, and how many SMS parts all of them take, exactly."""
    query = {"limit": limit, "costPerPart": cost_per_part}
    found = way.run(lambda api: api.request("GET", below("campaigns", campaign_id, "preview"), query))
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
@asks
def import_audience(way: Way, campaign_id: str, file: Path, refuse: bool, mapping: str) -> None:
    """Import a draft's audience from a CSV, XLSX or NDJSON file.

    The first row names the columns: `Recipients Number`, for smsStandard `Content`, and any variable. Encoding and
    delimiter are found out. Duplicates, opted-out, invalid and landline numbers are set aside, each with its reason:
    see `tallycast campaign errors`. On the server's machine the import runs in this command; if it is ended, a worker
    finishes it.
    """
    media_type = _MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise BadQuery.of(f"FILE must end in {', '.join(_MEDIA_TYPES)}, not {file.name}")
    if mapping:
        _check_mapping(mapping)
    query = {"onError": "refuse" if refuse else "keep", "fileName": file.name, "mapping": mapping or None}
    done = way.run(lambda api: _import(api, campaign_id, file, media_type, query))
    figures = ", ".join(f"{done[name]} {words}" for name, words in _FIGURES.items())
    click.echo(f"{done['state']}: {done['rows']} rows, {figures}")
    if done["reason"]:
        click.echo(done["reason"])
    if done["rows"] != done["accepted"]:
        click.echo(f"why: tallycast campaign errors --app {way.app_id} {campaign_id} --out error-log.csv")
    sys.exit(0 if done["state"] == "done" else 2)


async def _import(
    api: Api, campaign_id: str, file: Path, media_type: str, query: dict[str, str | None]
) -> dict[str, Any]:
    """Send the file and wait for its import's end, here or by a worker of the server."""
    from tallycast.progress import bar  # noqa: PLC0415 - other commands need not load it

    path = below("campaigns", campaign_id, "audience")
    size = (await asyncio.to_thread(file.stat)).st_size
    with file.open("rb") as source, bar("sending bytes", size) as advance:
        chunks = read_chunks(source, advance)
        made: dict[str, Any] = await api.request("POST", path, query, stream=chunks, content_type=media_type)
    doing = asyncio.ensure_future(api.do_import(made["id"]) if api.do_import else asyncio.sleep(0))
    with bar("importing, percent", 100) as advance:
        while made["state"] not in _ENDED:
            await asyncio.wait({doing}, timeout=_LOOK_SECONDS)
            before, made = made, await api.request("GET", path + below(made["id"]))
            advance(made["percent"] - before["percent"])
            if doing.done() and made["state"] not in _ENDED:
                await _wait_for_worker(made)
    await doing
    return made


async def _wait_for_worker(made: dict[str, Any]) -> None:
    """Somebody else does the import, or nobody."""
    if "waitingFor" in made:
        click.echo(f"tallycast: {made['waitingFor']['reason']}", err=True)
    await asyncio.sleep(_PATIENT_SECONDS if "waitingFor" in made else _LOOK_SECONDS * 2)


def _check_mapping(text: str) -> None:
    import msgspec  # noqa: PLC0415 - other commands need not load it

    from tallycast.candidates import Mapping  # noqa: PLC0415 - the same

    try:
        msgspec.json.decode(text, type=Mapping)
    except msgspec.MsgspecError as error:
        raise BadQuery.of(f"--mapping is not what is expected: {error}") from None


@campaign.command("errors")
@of_campaign
@click.option("--import", "import_id", help="of this import; of the latest when left out")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="write to this file, not to the terminal"
)
@asks
def write_errors(way: Way, campaign_id: str, import_id: str | None, out: Path | None) -> None:
    """Write the rows that an import has set aside as CSV: the file's own columns first, the error next.

    Mend them in place and import the file again.
    """
    path = below("campaigns", campaign_id, "audience")

    async def work(api: Api) -> None:
        latest = await api.list(path, limit=1)
        if not latest:
            raise NotFound(f"campaign {campaign_id} has no import yet")
        wanted = import_id or latest[0]["id"]
        async with api.open("GET", path + below(wanted, "errors")) as answer:
            with out.open("wb") if out else contextlib.nullcontext() as target:
                start = b"" if target else _MARK
                async for chunk in answer.body:
                    target.write(chunk) if target else click.echo(chunk.removeprefix(start), nl=False)
                    start = b""

    way.run(work)

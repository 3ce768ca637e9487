"""`tallycast doctor`: looks at everything that can go wrong, and says what to do about it."""

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import click
import msgspec
from psycopg import OperationalError

from tallycast import databases, embedded
from tallycast.api import Api, Refused
from tallycast.commands import name_operator, write_json
from tallycast.config import BadSetting, Settings
from tallycast.findings import Finding, check_app
from tallycast.ways import Way, asks

_STYLES = {"well": "green", "mend": "red", "unknown": "yellow", "away": "red"}


class _Report:
    """Findings as they are made: printed at once, or as JSON at the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._findings: list[Finding] = []

    def add(self, *findings: Finding) -> None:
        for one in findings:
            self._findings.append(one)
            if not self._as_json:
                click.echo(f"{click.style(f'{one.state:8}', _STYLES[one.state])}{one.about:18}{one.found}")
                if one.advice and one.state != "well":
                    click.echo(f"{'':26}{one.advice}")

    def has(self, state: str, about: str = "") -> bool:
        return any(one.state == state and about in {"", one.about} for one in self._findings)

    def end(self) -> None:
        """Exit status 0 where all is well, 1 where something is to be mended, 2 where not all could be checked."""
        worst = next((state for state in ("away", "mend", "unknown") if self.has(state)), "well")
        if self._as_json:
            click.echo(write_json({"state": worst, "findings": msgspec.to_builtins(self._findings)}))
        sys.exit({"well": 0, "mend": 1}.get(worst, 2))


@click.command()
@click.option(
    "--full", "is_full", is_flag=True, help="recount everything, not a sample; takes as long as `audit`"
)
@click.option("--json", "as_json", is_flag=True, help='print {"state", "findings"}')
@asks
def doctor(way: Way, is_full: bool, as_json: bool) -> None:
    """Check everything that can go wrong, and say what to do about it.

    On the server's machine: the data folder, the key, the database, its schema and clock, the spool, the public
    address, the workers, the counts, and each app (or --app): its channels, its receipts, what is parked, unknown or
    does not move. Give it the options, or the environment, of `tallycast serve`. Of a remote server: what its API tells.

    Exit status 0: all is well; 1: something is to be mended; 2: not all could be checked.
    """
    report = _Report(as_json)
    if way.server is not None:
        way.run(lambda api: _check_remote(api, report))
    else:
        _check_here(way, is_full, report)
    report.end()


async def _check_remote(api: Api, report: _Report) -> None:
    from tallycast import machine  # noqa: PLC0415 - other commands need not load it

    async with api.open("GET", "/policy") as answer:
        said = answer.headers.get("date")
    report.add(Finding("server", "well", f"it answers for {api.app_id}"))
    if said:
        apart = (datetime.now(UTC) - parsedate_to_datetime(said)).total_seconds()
        report.add(machine.check_clock(apart - 0.5, "the server's"))  # its clock is told in whole seconds
    async for one in check_app(api):
        report.add(one)
    with contextlib.suppress(Refused):  # a token that may not see channels was told of already
        for one in (await api.request("GET", "/channels"))[:1]:
            report.add(await machine.reach(one["webhookURL"]))


def _check_here(way: Way, is_full: bool, report: _Report) -> None:
    from tallycast import machine  # noqa: PLC0415 - other commands need not load it

    settings = way.settings
    report.add(*machine.check_folder(settings.data_dir), machine.check_spool(settings.data_dir))
    report.add(asyncio.run(machine.check_address(settings)))
    with contextlib.ExitStack() as stack:
        try:
            url = _find_database(settings, report, stack)
            asyncio.run(_check_database(way, url, is_full, report))
        except (OperationalError, BadSetting, embedded.EmbeddedPostgresError) as error:
            advice = "is it running, and does --database-url lead to it?"
            report.add(Finding("database", "away", " ".join(str(error).split()), advice))


def _find_database(settings: Settings, report: _Report, stack: contextlib.ExitStack) -> str:
    """The database's URL; an embedded one is joined, or started for the while."""
    if settings.database_url is None:
        if not embedded.has_database(settings.data_dir):
            raise BadSetting(
                f"there is none in {settings.data_dir.absolute()}: give the --data-dir of `serve`"
            )
        running = embedded.find(settings.data_dir)
        if running is not None:
            stack.callback(running.stop)
        state = f"runs as process {running.pid}" if running else "did not run, and was started for the while"
        report.add(Finding("embedded server", "well", f"it {state}"))
    return stack.enter_context(databases.reach(settings))


async def _check_database(way: Way, url: str, is_full: bool, report: _Report) -> None:
    from tallycast import api_local, db, machine  # noqa: PLC0415 - other commands need not load it

    async with db.connect(url) as connection:
        async for one in machine.check_database(connection):
            report.add(one)
        if report.has("mend", "schema"):
            return
        app_ids = await machine.list_app_ids(connection, way.app_id)
        if way.app_id is not None and not app_ids:
            raise BadSetting(f"no app {way.app_id}")
        key = await machine.check_key(connection, way.settings, app_ids)
        report.add(key, await machine.check_workers(connection, app_ids))
        async for one in machine.check_counts(connection, app_ids, is_full):
            report.add(one)
    if key.state != "well":  # the API shows channels by what the key opens
        return
    async with api_local.open_local(way.settings, url, name_operator()) as (caller, _):
        for app_id in app_ids:
            async for one in check_app(Api(caller, app_id)):
                report.add(one)

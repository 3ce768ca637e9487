"""What `tallycast doctor` finds out on the server's own machine: folder, keys, database, clock, address, counts."""

import asyncio
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from psycopg.errors import UndefinedTable

from tallycast import apps, audit, channels, db, endpoints, leases, migrations
from tallycast.config import Settings
from tallycast.findings import Finding
from tallycast.keys import BadKey, Cipher, load_cipher

_CLOCK = b"select extract(epoch from clock_timestamp())::float8"
_APPLIED = b"select name from migrations"
_LEAST_FREE_GB = 2.0
_SPOOL_SECONDS = 60
_CLOCK_SECONDS = 2.0
_ANSWER_SECONDS = 5
_OTHERS = 0o077


def check_folder(data_dir: Path) -> list[Finding]:
    """Whether there is room, and nobody else can read the key."""
    if not data_dir.is_dir():
        advice = "give the --data-dir that `tallycast serve` has"
        return [Finding("data folder", "mend", f"{data_dir.absolute()} is not there", advice)]
    key = data_dir / "secret.key"
    found = []
    if key.exists() and key.stat().st_mode & _OTHERS:
        found.append(Finding("data folder", "mend", f"others can read {key}", f"chmod 600 {key}"))
    free = shutil.disk_usage(data_dir).free / 1e9
    if free < _LEAST_FREE_GB:
        advice = "make room: a full disk stops the database and the spool"
        found.append(Finding("data folder", "mend", f"{free:.1f} GB are free in {data_dir}", advice))
    return found or [Finding("data folder", "well", f"{data_dir}, {free:.0f} GB free")]


def check_spool(data_dir: Path) -> Finding:
    """What waits on disk since the database was away."""
    files = [one.stat() for one in (data_dir / "spool").glob("*.ndjson")]
    size = sum(one.st_size for one in files)
    if not size:
        return Finding("spool", "well", "empty")
    age = time.time() - min(one.st_mtime for one in files)
    found = f"{size:,} bytes of receipts wait in {len(files)} files, the oldest for {timedelta(seconds=round(age))}"
    if age < _SPOOL_SECONDS:
        return Finding("spool", "well", found)
    advice = "they are taken in as soon as a server or a worker with this data folder reaches the database: start one"
    return Finding("spool", "mend", found, advice)


async def check_address(settings: Settings) -> Finding:
    """Whether providers can reach the webhooks."""
    if settings.public_url is None:
        advice = "give the --public-url that `tallycast serve` has: webhook URLs and links are made from it"
        return Finding("public address", "mend", "it is not set", advice)
    return await reach(f"{settings.base_url}/webhooks/generic/doctor")


async def reach(url: str) -> Finding:
    """Whether a webhook URL leads to tallycast: all of its answers have a correlation id, also to who may not ask."""
    base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    try:
        headers = await asyncio.to_thread(_ask, url)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        advice = "look at the name, the firewall and the proxy; receipts cannot come in"
        return Finding("public address", "mend", f"{base} cannot be reached from here: {reason}", advice)
    if "x-correlation-id" in headers:
        return Finding("public address", "well", f"{base} leads to tallycast")
    advice = "let the proxy pass /webhooks/ and /r/ on to `tallycast serve`"
    return Finding("public address", "mend", f"{base}/webhooks/ leads to something else", advice)


def _ask(url: str) -> set[str]:
    """The names of the answer's headers."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - the person's own URL  # nosec B310 - the person's own URL
            return {name.lower() for name in answer.headers}
    except urllib.error.HTTPError as error:
        with error:
            return {name.lower() for name in error.headers}


def check_clock(apart: float, whose: str) -> Finding:
    """`apart`: seconds that this machine's clock is ahead."""
    found = f"{abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} {whose}"
    if abs(apart) < _CLOCK_SECONDS:
        return Finding("clock", "well", f"as {whose}")
    return Finding(
        "clock", "mend", found, "let both keep time by NTP: receipts and schedules go by the clock"
    )


async def check_database(connection: db.Connection) -> AsyncIterator[Finding]:
    """Its version, its schema and its clock. Without the schema nothing else can be asked."""
    version = connection.info.server_version
    yield Finding("database", "well", f"PostgreSQL {version // 10_000}.{version % 10_000}")
    yield await _check_schema(connection)
    before = time.time()
    [(theirs,)] = await db.fetch_rows(connection, _CLOCK, {})
    yield check_clock((before + time.time()) / 2 - float(theirs), "the database's")


async def _check_schema(connection: db.Connection) -> Finding:
    known = {name for _, name, _ in migrations.available()}
    try:
        applied = {name for (name,) in await db.fetch_rows(connection, _APPLIED, {})}
    except UndefinedTable:  # a database that nobody has used yet
        applied = set()
    missing = sorted(known - applied)
    if missing:
        advice = "start the new `tallycast serve`, or: tallycast migrate"
        return Finding("schema", "mend", f"not up to date: {', '.join(missing)}", advice)
    if applied - known:
        advice = "install the version of tallycast that the server has"
        return Finding(
            "schema", "mend", f"newer than this program: {', '.join(sorted(applied - known))}", advice
        )
    return Finding("schema", "well", f"up to date, {len(applied)} migrations")


def find_cipher(settings: Settings) -> Cipher | None:
    """The key, where there is one: looking must not make it. BadKey."""
    has_key = settings.encryption_key or (settings.data_dir / "secret.key").exists()
    return load_cipher(settings.encryption_key, settings.data_dir) if has_key else None


async def check_key(connection: db.Connection, settings: Settings, app_ids: list[str]) -> Finding:
    """Whether the key opens what is sealed: channels' secrets, and those of webhook endpoints."""
    try:
        cipher = find_cipher(settings)
    except BadKey as error:
        return Finding("encryption key", "mend", str(error), "put back the key that was used before")
    sealed: list[tuple[str, _Open]] = []
    for app_id in app_ids:
        sealed += await _list_sealed(connection, app_id)
    shut = [name for name, open_secrets in sealed if cipher is None or not _opens(open_secrets, cipher)]
    if not shut:
        return Finding("encryption key", "well", f"it opens all {len(sealed)} secrets")
    return Finding(
        "encryption key",
        "mend",
        f"{'it does not open' if cipher else 'there is none, and one is needed for'} {', '.join(shut)}",
        "give the TALLYCAST_ENCRYPTION_KEY, or the data folder's secret.key, with which they were made",
    )


_Open = Callable[[Cipher], object]


async def _list_sealed(connection: db.Connection, app_id: str) -> list[tuple[str, _Open]]:
    found: list[tuple[str, _Open]] = [
        (f"channel {one.channel_id}", one.open_secrets)
        for one in await channels.list_all(connection, app_id)
        if one.secrets is not None
    ]
    kept = await endpoints.list_all(connection, app_id)
    return found + [(f"webhook endpoint {one.endpoint_id}", one.open_secrets) for one in kept]


def _opens(open_secrets: _Open, cipher: Cipher) -> bool:
    try:
        open_secrets(cipher)
    except BadKey:
        return False
    return True


async def check_workers(connection: db.Connection, app_ids: list[str]) -> Finding:
    """Who holds a lease; a worker with nothing to do holds none."""
    names: set[str] = set()
    for app_id in app_ids:
        names |= await leases.list_workers(connection, app_id)
    hosts = sorted({name.partition("@")[2].partition(" ")[0] or name for name in names})
    found = f"{len(names)} at work, on {', '.join(hosts)}" if names else "none is at work at the moment"
    return Finding("workers", "well", found)


async def check_counts(
    connection: db.Connection, app_ids: list[str], is_full: bool
) -> AsyncIterator[Finding]:
    """Recount the first half million messages of each app, or all, and compare."""
    campaigns = messages = drifting = 0
    for app_id in app_ids:
        async for portion in audit.audit(connection, app_id):
            campaigns, messages = campaigns + portion.campaigns, messages + portion.messages
            drifting += len(portion.drifts)
            for one in portion.drifts:
                found = f"campaign {one.id} of {one.app_id}: [counted, recounted] {one.fields}"
                advice = "keep the database as it is and report this: counts move with the rows, always"
                yield Finding("counts", "mend", found, advice)
            if not is_full:
                break
    whole = "" if is_full else ", a sample: --full recounts all"
    if not drifting:
        yield Finding(
            "counts", "well", f"{campaigns} campaigns and {messages} messages were recounted{whole}"
        )


async def list_app_ids(connection: db.Connection, app_id: str | None) -> list[str]:
    return [one.app_id for one in await apps.list_apps(connection) if app_id in {None, one.app_id}]

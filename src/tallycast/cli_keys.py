"""The command line's `keys`: the encryption keys, what each has sealed, and their rotation."""

import json
import sys

import click

from tallycast import db, keyholders, rotation
from tallycast.administrations import By
from tallycast.commands import name_operator, print_rows, stored, with_database
from tallycast.config import Settings
from tallycast.errors import Problem
from tallycast.keys import Cipher, Key, KeyFile, load_cipher
from tallycast.rotation import Rotation

_STEPS = """The key is given in TALLYCAST_ENCRYPTION_KEY, so it is changed where that is set:

  1. Make a key (openssl rand -base64 32), set TALLYCAST_ENCRYPTION_KEY=NEW,OLD everywhere, and restart the servers and
     workers one after another. Both keys open, the first one seals. Change no channel until all have restarted.
  2. Run `tallycast keys rotate` with the same TALLYCAST_ENCRYPTION_KEY=NEW,OLD.
  3. Set TALLYCAST_ENCRYPTION_KEY=NEW everywhere, and restart one after another.

Nothing was changed now."""


@click.group()
def keys() -> None:
    """Encryption keys: which there are, what each has sealed, and changing them while everything runs.

    \b
      tallycast keys list
      tallycast keys rotate
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


def _find_cipher(settings: Settings) -> Cipher:
    """Problem where there is no key: looking must not make one."""
    if not settings.encryption_key and not KeyFile(settings.data_dir).path.exists():
        raise Problem(
            f"there is no encryption key: no TALLYCAST_ENCRYPTION_KEY, no secret.key in {settings.data_dir}"
        )
    return load_cipher(settings.encryption_key, settings.data_dir)


@keys.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="print JSON, with what no key opens, and the processes that run"
)
@stored
def list_keys(settings: Settings, as_json: bool) -> None:
    """List the keys by their ids, and how many secrets each has sealed. A key itself is never shown."""
    cipher = _find_cipher(settings)

    async def work(
        connection: db.Connection,
    ) -> tuple[list[dict[str, object]], list[str], list[dict[str, object]]]:
        sealed, shut = await rotation.count(connection, cipher)
        rows: list[dict[str, object]] = [
            {"keyID": key.key_id.hex(), "use": _describe(n, key), "sealed": sealed[key]}
            for n, key in enumerate(cipher.keys)
        ]
        holders = await keyholders.list_live(connection)
        return rows, shut, [{"process": one.process, "keyIDs": one.key_ids} for one in holders]

    rows, shut, processes = with_database(settings, work)
    if as_json:
        click.echo(json.dumps({"keys": rows, "shut": shut, "processes": processes}, indent=2))
        return
    print_rows(rows, False, "")
    for one in shut:
        click.echo(f"none of these keys opens {one}")


def _describe(n: int, key: Key) -> str:
    if key.is_next:
        return "opens, will seal"
    return "opens" if n else "seals"


@keys.command("rotate")
@click.option(
    "--keep",
    "keeps",
    is_flag=True,
    help="leave the old key in the file, still opening; the next time takes it out",
)
@click.option(
    "--patience",
    type=float,
    default=90.0,
    show_default=True,
    help="seconds to wait for processes to take up a key",
)
@stored
def rotate(settings: Settings, keeps: bool, patience: float) -> None:
    """Seal all secrets with a new key, while servers and workers run, and take the old one out.

    Can be cut off at any moment: run again, it goes on. With TALLYCAST_ENCRYPTION_KEY it says what to do. Backups of the
    database from before need the old key: keep a copy of secret.key with them.
    """
    cipher = _find_cipher(settings)
    if settings.encryption_key and len(cipher.keys) == 1:
        click.echo(_STEPS)
        sys.exit(1)

    async def work(connection: db.Connection) -> None:
        rotating = Rotation(connection, By(name_operator()), click.echo, patience)
        if settings.encryption_key:
            await rotating.run_given(cipher)
        else:
            await rotating.run_file(KeyFile(settings.data_dir), keeps=keeps)

    with_database(settings, work)
    if settings.encryption_key:
        click.echo(
            "now set TALLYCAST_ENCRYPTION_KEY to its first key alone, everywhere, and restart one after another"
        )

"""Importing a file: sending it, and waiting for the end."""

import time
from collections.abc import Mapping
from os import PathLike

from tallycast_client import exchange
from tallycast_client.bodies import FileBody
from tallycast_client.campaigns import Import
from tallycast_client.reading import read
from tallycast_client.retries import Retries
from tallycast_client.steps import Call, Script, Wait, create

_MAX_WAIT = 30
_LOOK_SECONDS = 1.0


def import_file(
    path: str, params: Mapping[str, str], file: str | PathLike[str], patience: float, retries: Retries
) -> Script[Import]:
    """The import, ended or still going on when the patience is."""
    body = FileBody(file)
    wait = int(min(patience, _MAX_WAIT))
    params = {**params, "wait": str(wait), "fileName": body.name}
    call = create(path, body, body.content_type, params=params, seconds=float(wait))
    return _follow(call, time.monotonic() + patience, retries)


def _follow(call: Call, deadline: float, retries: Retries) -> Script[Import]:
    found = read(Import, (yield from exchange.ask(call, retries)).result)
    while not found.has_ended and time.monotonic() < deadline:
        yield Wait(_LOOK_SECONDS)
        found = read(Import, (yield from exchange.ask(Call(path=f"{call.path}/{found.id}"), retries)).result)
    return found

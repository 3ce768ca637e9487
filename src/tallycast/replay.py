"""Replay: a file of webhook bodies through the same parsing and folding as webhooks."""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from typing import IO

import msgspec

from tallycast import channels, db, receipts
from tallycast.events import Unreadable
from tallycast.progress import bar
from tallycast.providers import PROVIDERS
from tallycast.receipts import Applied, Arrival, now_ms

# One statement and one commit. What is said of a message within seconds is one change in it: of bodies in the order of
# time, 5000 make an eighth fewer changes than 2000. More would hold the locks on counts for longer than webhooks like.
_BODIES = 5000


class Replayed(msgspec.Struct):
    bodies: int = 0
    events: int = 0
    matched: int = 0
    parked: int = 0
    unreadable: int = 0
    seconds: float = 0.0


async def replay_file(connection: db.Connection, channel_id: str, file: IO[bytes]) -> Replayed:
    """Apply all bodies of a channel, batch by batch; the next batch is read while one commits."""
    channel = await channels.find(connection, channels.app_of(channel_id), channel_id)
    done, began = Replayed(), time.perf_counter()
    committing: asyncio.Task[Applied] | None = None
    with bar("replaying", _size(file)) as advance:
        for lines in _read(file):
            arrival = _parse(channel, lines, done)
            if committing is not None:
                _add(done, await committing)
            committing = asyncio.create_task(receipts.apply(connection, channel.app_id, [arrival]))
            await asyncio.sleep(0)  # lets the commit start before the next batch is parsed
            advance(sum(map(len, lines)))
        if committing is not None:
            _add(done, await committing)
    done.seconds = max(time.perf_counter() - began, 1e-9)
    return done


def _parse(channel: channels.Channel, lines: tuple[bytes, ...], done: Replayed) -> Arrival:
    parse = PROVIDERS[channel.provider].parse
    events = [event for line in lines for event in parse(line.strip(), "application/json")]
    done.bodies += len(lines)
    done.events += len(events)
    done.unreadable += sum(isinstance(event, Unreadable) for event in events)
    return Arrival(channel.app_id, channel.channel_number, now_ms(), events)


def _add(done: Replayed, applied: Applied) -> None:
    done.matched += applied.matched
    done.parked += applied.parked


def _read(file: IO[bytes]) -> Iterator[tuple[bytes, ...]]:
    lines = (line for line in file if line.strip())
    while batch := tuple(islice(lines, _BODIES)):
        yield batch


def _size(file: IO[bytes]) -> int:
    if not file.seekable():
        return 0
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here

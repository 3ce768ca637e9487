"""Bodies that are sent as they are made, so that a million messages or a large file take no memory."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from os import PathLike
from pathlib import Path

from tallycast_client.campaigns import Message
from tallycast_client.steps import Body

NDJSON = "application/x-ndjson"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".txt": "text/csv",
    ".xlsx": _XLSX,
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
}
_CHUNK = 65_536


class FileBody:
    """A file's bytes, from its beginning each time."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        self.name = self._path.name
        try:
            self.content_type = _TYPES[self._path.suffix.lower()]
        except KeyError:
            raise ValueError(f"{self.name} must end in {', '.join(_TYPES)}") from None

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


class Lines:
    """Messages as NDJSON, from the first each time."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = messages

    def __iter__(self) -> Iterator[bytes]:
        return _chunks(self._messages)


def write_lines(messages: Iterable[Message] | AsyncIterable[Message]) -> Body:
    """NDJSON; of an iterator, which has its messages only once, one that can be sent only once."""
    if isinstance(messages, AsyncIterable):
        return _async_chunks(messages)
    return _chunks(messages) if isinstance(messages, Iterator) else Lines(messages)


def _line(message: Message) -> bytes:
    return json.dumps(message.write(), ensure_ascii=False).encode() + b"\n"


def _chunks(messages: Iterable[Message]) -> Iterator[bytes]:
    chunk = bytearray()
    for message in messages:
        chunk += _line(message)
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


async def _async_chunks(messages: AsyncIterable[Message]) -> AsyncIterator[bytes]:
    chunk = bytearray()
    async for message in messages:
        chunk += _line(message)
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)

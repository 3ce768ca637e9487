"""Requests and answers of any length: lines as they come, and a report of those that were not taken."""

from collections.abc import AsyncIterator
from typing import IO

from tallycast.errors import BadQuery
from tallycast.web.answers import Asked


async def read_chunks(request: Asked) -> AsyncIterator[bytes]:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadQuery.of("the body was cut off; the lines until then are kept, send it again")
        yield message["body"]  # type: ignore[typeddict-item]
        if not message.get("more_body"):
            return


async def send_report(report: IO[bytes], head: bytes, cid: str) -> AsyncIterator[bytes]:
    with report:
        yield head
        report.seek(0)
        while chunk := report.read(65_536):
            yield chunk
        yield b']},"cid":"%b"}' % cid.encode()

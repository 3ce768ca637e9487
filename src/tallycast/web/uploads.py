"""Files as they are sent: as the body itself, or as the one file of a browser's form (RFC 7578)."""

import asyncio
import codecs
import hashlib
import io
import mmap
import re
import tempfile
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote

from tallycast.errors import BadQuery, TooLarge, UnsupportedMediaType
from tallycast.spreadsheets import CSV, NDJSON, XLSX
from tallycast.web.answers import Asked, refuse_compressed
from tallycast.web.services import of

FORM = "multipart/form-data"
_KINDS = {
    CSV: CSV,
    "application/csv": CSV,
    "text/plain": CSV,
    "text/tab-separated-values": CSV,
    XLSX: XLSX,
    NDJSON: NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
}
_SUFFIXES = {"csv": CSV, "tsv": CSV, "txt": CSV, "xlsx": XLSX, "ndjson": NDJSON, "jsonl": NDJSON}
_CHARSET = re.compile(r'charset="?([\w.:-]{1,40})', re.ASCII | re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_FILE_NAME = re.compile(r'\bfilename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_CODED_NAME = re.compile(r"\bfilename\*=utf-8''([^\s;]+)", re.IGNORECASE)
_PART_TYPE = re.compile(r"^content-type:\s*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
# Encodings of names and of source code: no file is in one, and some take very long.
_NO_FILES = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"})
_MAX_NAME = 255


class Received(NamedTuple):
    """A file on disk; `media_type` is one of the three that can be read, perhaps with a charset."""

    file: IO[bytes]
    size: int
    digest: bytes
    file_name: str
    media_type: str


class _Part(NamedTuple):
    file_name: str
    content_type: str
    start: int
    end: int


async def receive_file(request: Asked) -> Received:
    """The file, once all of it is here; UnsupportedMediaType, TooLarge or BadQuery. The caller closes it."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind != FORM and kind not in _KINDS:
        kinds = f"{CSV}, {XLSX}, {NDJSON}, {FORM}"
        raise UnsupportedMediaType(f"Content-Type must be one of {kinds}, not {kind[:80] or 'absent'}")
    refuse_compressed(request)
    folder = of(request).settings.data_dir
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the caller
    try:
        size, digest = await _save(request, file)
        if kind != FORM:
            return Received(file, size, digest, "", _KINDS[kind] + _read_charset(content_type))
        with file:
            return await asyncio.to_thread(_take_part, file, size, digest, content_type, folder)
    except BaseException:
        file.close()
        raise


async def _save(request: Asked, file: IO[bytes]) -> tuple[int, bytes]:
    """Write the body as it comes; its size and SHA-256."""
    limit = of(request).settings.max_upload_mb * 1_000_000
    said = request.headers.get("content-length", "")
    size, digest = 0, hashlib.sha256()
    if said.isdecimal() and int(said) > limit:
        raise TooLarge(f"the file must be at most {limit} bytes")
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadQuery.of("the body was cut off; nothing of it is kept, send it again")
        body: bytes = message["body"]  # type: ignore[typeddict-item]
        size += len(body)
        if size > limit:
            raise TooLarge(f"the file must be at most {limit} bytes")
        digest.update(body)
        file.write(body)
        if not message.get("more_body"):
            return size, digest.digest()


def _read_charset(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    if found is None:
        return ""
    try:
        io.TextIOWrapper(io.BytesIO(), found[1])
        is_text = codecs.lookup(found[1]).name not in _NO_FILES
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise BadQuery.of(f"charset must be the name of a text encoding, not {found[1]!r}")
    return f"; charset={found[1]}"


def _take_part(file: IO[bytes], size: int, digest: bytes, content_type: str, folder: Path) -> Received:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadQuery.of("multipart/form-data must name its boundary")
    file.flush()
    parts = _find_files(file, (found[1] or found[2]).encode()) if size else []
    if len(parts) != 1:
        raise BadQuery.of(f"the form must have one file, not {len(parts)}")
    part = parts[0]
    kind = _find_kind(part)
    taken = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the caller of receive_file
    file.seek(part.start)
    left = part.end - part.start
    while left:
        chunk = file.read(min(left, 1 << 20))
        taken.write(chunk)
        left -= len(chunk)
    return Received(taken, part.end - part.start, digest, part.file_name, kind)


def _find_kind(part: _Part) -> str:
    """By the name first: browsers take a type from what the machine has installed."""
    suffix = part.file_name.rpartition(".")[2].lower()
    said = part.content_type.partition(";")[0].strip().lower()
    kind = _SUFFIXES.get(suffix) or _KINDS.get(said)
    if kind is None:
        raise UnsupportedMediaType(f"the file must be .csv, .xlsx or .ndjson, not {part.file_name[:80]!r}")
    return kind + _read_charset(part.content_type)


def _find_files(file: IO[bytes], boundary: bytes) -> list[_Part]:
    """The parts of the form that are files. A body that ends before its last boundary was cut off."""
    files: list[_Part] = []
    mark = b"--" + boundary
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        position = body.find(mark)
        while body[position + len(mark) : position + len(mark) + 2] != b"--":
            head_end = body.find(b"\r\n\r\n", position)
            end = body.find(b"\r\n" + mark, head_end + 4)
            if min(position, head_end, end) < 0:
                raise BadQuery.of("the form was cut off, or is none")
            head = body[position + len(mark) : head_end].decode(errors="replace")
            name = _read_name(head)
            if name is not None:
                said = _PART_TYPE.search(head)
                files.append(_Part(name, said[1] if said else "", head_end + 4, end))
            position = end + 2
    return files


def _read_name(head: str) -> str | None:
    """The name of a part that is a file, without a path; None for other fields."""
    coded, plain = _CODED_NAME.search(head), _FILE_NAME.search(head)
    if coded is None and plain is None:
        return None
    name = unquote(coded[1]) if coded else re.sub(r"\\(.)", r"\1", plain[1]) if plain else ""
    return clean_name(re.split(r"[/\\]", name)[-1])


def clean_name(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:_MAX_NAME]

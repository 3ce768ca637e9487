"""What pages load: files of our own, kept by browsers for good under the hash of what is in them."""

import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

from litestar import Response, get

from tallycast.errors import MethodNotFound
from tallycast.web.answers import Asked, path_of
from tallycast.web.openapi import STATIC

_FOLDERS = (Path(__file__).parent / "static", STATIC)
# A name that is not here leads nowhere, whatever is in it.
_FILES = {
    path.relative_to(folder).as_posix(): path
    for folder in _FOLDERS
    for path in folder.rglob("*")
    if path.is_file()
}


class Asset(NamedTuple):
    content: bytes
    media_type: str
    digest: str


@cache
def load(name: str) -> Asset:
    content = _FILES[name].read_bytes()
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    return Asset(content, kind, hashlib.sha256(content).hexdigest()[:16])


def url_of(name: str) -> str:
    return f"/static/{name}?v={load(name).digest}"


@get("/static/{name:path}")
async def get_asset(request: Asked, name: str) -> Response[bytes]:
    """For good when it is asked for by its hash; a server with another version does not let its own be kept so."""
    if name.lstrip("/") not in _FILES:
        raise MethodNotFound.at("GET", path_of(request))
    asset = load(name.lstrip("/"))
    is_exact = request.query_params.get("v") == asset.digest
    headers = {
        "ETag": f'"{asset.digest}"',
        "Cache-Control": "public, max-age=31536000, immutable" if is_exact else "no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)

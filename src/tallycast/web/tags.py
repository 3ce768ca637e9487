"""Entity tags: who has a report already is told so, without the report (RFC 9110 section 13.1.2)."""

import re
from collections.abc import Iterable
from hashlib import blake2b

from tallycast.web.answers import Asked, Encoded, encode, encode_headers, succeed_encoded

_TAG = re.compile(rb'(?:W/)?("[!#-~\x80-\xff]*")')
_CACHE = (b"cache-control", b"private, no-cache")
_VARY = (b"vary", b"Accept-Encoding")


def make_tag(result: bytes) -> bytes:
    """Of the result alone: the answer's `cid` is another each time. BLAKE2b, for its speed."""
    return b'"%b"' % blake2b(result, digest_size=12).hexdigest().encode()


def is_known(headers: Iterable[tuple[bytes, bytes]], tag: bytes) -> bool:
    """Whether If-None-Match, which may come in several lines, names the tag, weak or strong, or is `*`."""
    given = [value for name, value in headers if name == b"if-none-match"]
    return bool(given) and (given == [b"*"] or tag in _TAG.findall(b",".join(given)))


def succeed_tagged(request: Asked, result: object, headers: dict[str, str] | None = None) -> Encoded:
    """The result with its tag; 304 without a body where the client has it."""
    body = encode(result)
    tag = make_tag(body)
    if is_known(request.scope["headers"], tag):
        answer = Encoded(b"", [*encode_headers(headers or {}), _VARY], 304)
    else:
        answer = succeed_encoded(request, body, headers)
    answer.headers.extend([(b"etag", tag), _CACHE])
    return answer

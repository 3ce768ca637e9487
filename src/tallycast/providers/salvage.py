"""Reading a body part by part, so that an odd part is kept for people and costs none of the others."""

import json
import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from tallycast.events import Event, Unreadable
from tallycast.providers.values import MAX_TITLE

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ARRAY = msgspec.json.Decoder(list[Raw] | None)
_SURROGATE = re.compile("[\ud800-\udfff]")

Reader = Callable[[bytes | Raw], list[Event]]


def read_or_keep(part: bytes | Raw, read: Reader) -> list[Event]:
    """What the reader finds in the part, or the part itself where it finds it odd."""
    try:
        return read(part)
    except (ValueError, RecursionError) as error:
        return [Unreadable(str(error)[:MAX_TITLE], bytes(part))]


def read_each(array: bytes | Raw, read: Reader) -> list[Event]:
    """What the reader finds in the items of a JSON array, each on its own; null is an empty array."""
    return [event for item in _ARRAY.decode(array) or () for event in read_or_keep(item, read)]


def members(part: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object, each with the very bytes that arrived."""
    return _OBJECT.decode(part)


def members_of_body(body: bytes) -> dict[str, Raw]:
    """The members of a body, mended where it holds half an emoji: somebody's name must not cost it."""
    try:
        return members(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return members(_without_lone_surrogates(body))


def _without_lone_surrogates(body: bytes) -> bytes:
    return _SURROGATE.sub("\ufffd", json.dumps(json.loads(body.decode()), ensure_ascii=False)).encode()

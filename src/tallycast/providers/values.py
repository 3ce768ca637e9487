"""The single values in providers' bodies: which of them can be used, and in which form they are stored."""

from typing import Any

from tallycast.references import read_reference, split_payload, write_reference

MAX_ID = 255
MAX_BUTTON = 512
MAX_TITLE = 500
_MAX_CODE = 64
_MAX_QUOTE = 60
_MAX_INTEGER = 2**63

# Receipts from before 2000 or after 2100 are the work of a broken clock, or of another unit than was agreed.
_FIRST_MS = 946_684_800_000
_LAST_MS = 4_102_444_800_000


class OddError(ValueError):
    """A part of a body is not understood; the text is the reason that people read."""


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL cannot store (SMPP gateways leave one at the end of an id)."""
    return text.replace("\0", "") if "\0" in text else text


def identity(text: str) -> str:
    """An id that can be a key."""
    found = storable(text)
    if not found:
        raise OddError("an empty id")
    if len(found) > MAX_ID:
        raise OddError(f"an id of {len(found)} characters, at most {MAX_ID} are expected")
    return found


def identity_or_none(text: str | None) -> str | None:
    """An id that may be absent; an empty one is."""
    return identity(text) if text else None


def quote(text: str) -> str:
    """A provider's own word inside a reason: short, and safe to print."""
    return repr(text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…")


def plausible_ms(at_ms: int) -> int | None:
    return at_ms if _FIRST_MS <= at_ms < _LAST_MS else None


def seconds_to_ms(value: Any) -> int | None:
    """Unix seconds, as an integer or as its digits, in milliseconds."""
    if type(value) is int:
        return plausible_ms(value * 1000)
    if type(value) is str and len(value) <= _MAX_CODE and value.isascii() and value.isdigit():
        return plausible_ms(int(value) * 1000)
    return None


def error_code(value: Any) -> str | None:
    """A code as text: providers write the same code as a number and as a string."""
    if type(value) is int and abs(value) < _MAX_INTEGER:
        return str(value)
    return storable(value)[:_MAX_CODE] or None if type(value) is str else None


def error_title(value: Any) -> str | None:
    return storable(value)[:MAX_TITLE] or None if type(value) is str else None


def own_reference(value: Any) -> str | None:
    """The value, if it is a reference which tallycast gave; other systems put theirs in the same places."""
    address = read_reference(value) if type(value) is str else None
    return address and write_reference(*address)


def choice(payload: str | None, text: str | None) -> tuple[str | None, str]:
    """(reference, button) of a click, from the button's payload or, if that says nothing, its text."""
    reference, button = split_payload(payload or "")
    if reference is not None and own_reference(reference) is None:
        reference, button = None, payload or ""
    button = storable(button) or storable(text or "")
    if not button:
        raise OddError("a click that names no button")
    if len(button) > MAX_BUTTON:
        raise OddError(f"a button of {len(button)} characters, at most {MAX_BUTTON} are expected")
    return reference, button


def label_of(button: str, text: str | None) -> str | None:
    """A button's text, where it says something else than the button's identity."""
    label = storable(text or "")[:MAX_BUTTON]
    return label if label and label != button else None

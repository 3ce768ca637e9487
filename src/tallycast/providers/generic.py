"""Plain JSON receipts, for gateways that tallycast does not know by name."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw

from tallycast.events import Event, Receipt, Status
from tallycast.providers.contract import Signed
from tallycast.providers.proofs import carries_secret
from tallycast.providers.salvage import members_of_body, read_each, read_or_keep
from tallycast.providers.values import (
    OddError,
    error_code,
    error_title,
    identity,
    own_reference,
    plausible_ms,
    seconds_to_ms,
)

# A number of this size is a time in milliseconds (1973 or later): as seconds it would be the year 5138.
_FIRST_MILLISECONDS = 100_000_000_000
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Receipt(
    msgspec.Struct,
    gc=False,
    rename={"message_id": "messageID", "error_code": "errorCode", "error_title": "errorTitle"},
):
    message_id: str
    status: Status
    timestamp: Any = None
    error_code: Any = None
    error_title: Any = None
    reference: Any = None


class _Body(msgspec.Struct, gc=False):
    receipts: list[_Receipt]


_BODY = msgspec.json.Decoder(_Body)
_RECEIPT = msgspec.json.Decoder(_Receipt)


def verify(secret: str, credentials: Mapping[str, str], request: Signed) -> bool:  # noqa: ARG001 - all are called alike
    return carries_secret(request.headers.get("authorization", ""), secret)


def parse(body: bytes, content_type: str) -> list[Event]:  # noqa: ARG001 - every provider is called alike
    try:
        return [_read_receipt(item) for item in _BODY.decode(body).receipts]
    except (ValueError, RecursionError):
        return read_or_keep(body, _walk_body)


def _read_receipt(item: _Receipt) -> Receipt:
    failed = item.status is Status.FAILED
    return Receipt(
        identity(item.message_id),
        item.status,
        None if item.timestamp is None else _read_time(item.timestamp),
        error_code(item.error_code) if failed else None,
        error_title(item.error_title) if failed else None,
        None if item.reference is None else own_reference(item.reference),
    )


def _read_time(value: Any) -> int | None:
    """RFC 3339, or a number of Unix seconds or milliseconds; None for anything else."""
    if isinstance(value, float):
        value = max(value, 0.0)  # a large negative number of seconds is an infinite number of milliseconds
        return plausible_ms(round(value if value >= _FIRST_MILLISECONDS else value * 1000))
    if type(value) is int:
        return plausible_ms(value) if value >= _FIRST_MILLISECONDS else seconds_to_ms(value)
    if type(value) is str:
        return _read_rfc3339(value)
    return None


def _read_rfc3339(text: str) -> int | None:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    if moment.tzinfo is None:
        return None
    return plausible_ms((moment - _EPOCH) // _MILLISECOND)


def _walk_body(body: bytes | Raw) -> list[Event]:
    receipts = members_of_body(bytes(body)).get("receipts")
    if receipts is None:
        raise OddError("no receipts")
    return read_each(receipts, _walk_receipt)


def _walk_receipt(raw: bytes | Raw) -> list[Event]:
    return [_read_receipt(_RECEIPT.decode(raw))]

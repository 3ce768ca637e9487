"""What 360dialog and Meta have in common when they send: the Cloud API's bodies, answers and errors."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tallycast.providers.cloud_errors import ERRORS, OPEN_CODES
from tallycast.providers.contract import (
    Accepted,
    Outcome,
    Outgoing,
    Refused,
    Rule,
    SendError,
    TemplateMessage,
    Unknown,
)
from tallycast.providers.needs import text_of
from tallycast.providers.refusals import judge, read_retry_after, title_of
from tallycast.providers.values import MAX_TITLE, OddError, error_code, error_title, identity

# Whose message may repeat the key that was refused.
_SILENT_CODES = frozenset({"0", "190", "401"})
# "The object does not exist": Meta writes a deleted number as a subcode of "invalid parameter".
_GONE_NUMBER = ("100", "33")

# A provider's own refusals that carry no code: what they say, and what follows.
Phrases = Sequence[tuple[re.Pattern[str], Rule]]


class _Sent(msgspec.Struct, gc=False):
    id: str


class _Taken(msgspec.Struct, gc=False):
    messages: list[_Sent]


class Fault(NamedTuple):
    """An error as a body tells it. `code` is the HTTP status where a readable error has no code of its own."""

    code: str | None
    text: str | None
    is_temporary: bool = False


_TAKEN = msgspec.json.Decoder(_Taken)
_JSON = msgspec.json.Decoder()
_NO_FAULT = Fault(None, None)


def write_body(message: Outgoing) -> bytes:
    """The JSON of a template message, or of a text; ValueError where it is neither."""
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": message.recipient.removeprefix("+"),
    }
    if message.template is not None:
        body |= {"type": "template", "template": _write_template(message.template)}
    else:
        body |= {"type": "text", "text": {"body": text_of(message)}}
    return msgspec.json.encode(body | {"biz_opaque_callback_data": message.reference})


def _write_template(template: TemplateMessage) -> dict[str, Any]:
    written: dict[str, Any] = {"name": template.name, "language": {"code": template.language}}
    return written | ({"components": template.components} if template.components else {})


def read_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    rules: Mapping[str, Rule] = ERRORS,
    phrases: Phrases = (),
) -> Outcome:
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's successes
        return _read_success(body)
    fault = read_fault(status, body)
    rule = _find_phrase(fault, rules, phrases) or judge(
        rules, status, fault.code, is_temporary=fault.is_temporary, open_codes=OPEN_CODES
    )
    if rule is None:
        said = f": {fault.text}" if fault.text else ""
        return Unknown(f"HTTP {status}{said}"[:MAX_TITLE])
    code = fault.code or str(status)
    title = None if code in _SILENT_CODES else fault.text
    return Refused(SendError(code, title or title_of(rule), rule, read_retry_after(headers)))


def _read_success(body: bytes) -> Outcome:
    try:
        return Accepted([identity(_TAKEN.decode(body).messages[0].id)])
    except (ValueError, IndexError, RecursionError) as error:
        reason = str(error) if isinstance(error, OddError) else "an answer without a message id"
        return Unknown(reason)


def _find_phrase(fault: Fault, rules: Mapping[str, Rule], phrases: Phrases) -> Rule | None:
    if fault.text is None or fault.code in rules:
        return None
    return next((rule for pattern, rule in phrases if pattern.search(fault.text)), None)


def read_fault(status: int, body: bytes) -> Fault:
    """What an error's body says, in any of the shapes that the gateways use; never raises."""
    try:
        members = _JSON.decode(body)
    except (ValueError, RecursionError):
        return _NO_FAULT  # a page of the edge, or a body that was cut off
    if not isinstance(members, dict):
        return _NO_FAULT
    fault = _read_members(members)
    return fault if fault.code else fault._replace(code=str(status))


def _read_members(members: dict[str, Any]) -> Fault:
    match members:
        case {"error": dict(error)}:
            return _read_graph_error(error)
        case {"errors": [dict(error), *_]}:
            return _read_graph_error(error)
        case {"meta": dict(meta)}:
            return Fault(error_code(meta.get("http_code")), error_title(meta.get("developer_message")))
        case {"error": str(text)} | {"message": str(text)}:
            return Fault(None, error_title(text))
    return Fault(None, None)


def _read_graph_error(error: dict[str, Any]) -> Fault:
    code = error_code(error.get("code"))
    if (code, error_code(error.get("error_subcode"))) == _GONE_NUMBER:
        code = "33"
    data = error.get("error_data")
    details = error.get("details") or (data.get("details") if isinstance(data, dict) else None)
    said = [error_title(error.get("message")) or error_title(error.get("title")), error_title(details)]
    text = ": ".join(part for part in said if part)[:MAX_TITLE]
    return Fault(code, text or None, error.get("is_transient") is True)

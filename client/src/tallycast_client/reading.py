"""From JSON to dataclasses: missing fields keep their defaults, unknown ones are kept in `extra`.

A field stands in JSON under its name in camelCase, or under what `named` says. Numbers are taken for strings and
strings of digits for numbers, since servers differ; anything else that does not fit is an UnreadableAnswer.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tallycast_client.errors import UnreadableAnswer
from tallycast_client.moments import read_moment

Kind = TypeVar("Kind")
EXTRA = "extra"


def named(wire_name: str, default: Any) -> Any:
    """A field whose name in JSON is not its own in camelCase."""
    return dataclasses.field(default=default, metadata={"wire": wire_name})


def extra() -> Any:
    """The field that keeps what is not known; two answers may be equal though a server says more."""
    return dataclasses.field(default_factory=dict, repr=False, compare=False)


def read(kind: type[Kind], raw: Any) -> Kind:
    """`raw` as a dataclass."""
    if not isinstance(raw, Mapping):
        raise UnreadableAnswer(f"expected an object for {kind.__name__}, not {raw!r:.80}")
    of_kind: Any = kind
    known = _fields(of_kind)
    given = {
        known[name][0]: known[name][1](value, f"{kind.__name__}.{name}")
        for name, value in raw.items()
        if name in known and value is not None
    }
    return kind(**given, **{EXTRA: {name: value for name, value in raw.items() if name not in known}})


def reader(kind: type[Kind]) -> Callable[[Any], Kind]:
    return functools.partial(read, kind)


def read_list(kind: type[Kind], raw: Any) -> list[Kind]:
    """A list of dataclasses; nothing is an empty list."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise UnreadableAnswer(f"expected a list of {kind.__name__}, not {raw!r:.80}")
    return [read(kind, one) for one in raw]


Convert = Callable[[Any, str], Any]


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, Convert]]:
    """By the name in JSON: the field, and what makes its value."""
    hints = get_type_hints(kind)
    return {
        field.metadata.get("wire", camel(field.name)): (field.name, _converter(hints[field.name]))
        for field in dataclasses.fields(kind)
        if field.name != EXTRA
    }


def bare(hint: Any) -> Any:
    """A type without its `| None`."""
    if get_origin(hint) in {Union, types.UnionType}:
        return next(one for one in get_args(hint) if one is not types.NoneType)
    return hint


def _converter(hint: Any) -> Convert:
    hint = bare(hint)
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return lambda value, _where: read(kind, value)
    if get_origin(hint) is tuple:
        return functools.partial(_read_tuple, _converter(get_args(hint)[0]))
    return _CONVERTERS.get(hint, lambda value, _where: value)


def _read_tuple(convert: Convert, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _misfit(where, "a list", value)
    return tuple(convert(one, where) for one in value)


def _read_text(value: Any, where: str) -> str:
    if isinstance(value, bool | list | dict):
        raise _misfit(where, "a text", value)
    return str(value)


def _read_int(value: Any, where: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise _misfit(where, "a whole number", value) from None
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise _misfit(where, "a whole number", value)
    return number


def _read_float(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _misfit(where, "a number", value) from None


def _read_flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _misfit(where, "true or false", value)
    return value


def _read_time(value: Any, where: str) -> datetime | None:
    if value == "":
        return None
    try:
        return read_moment(value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise _misfit(where, "a date and time (RFC 3339)", value) from None


def _misfit(where: str, expected: str, value: Any) -> UnreadableAnswer:
    return UnreadableAnswer(f"{where} must be {expected}, not {value!r:.80}")


_CONVERTERS: dict[Any, Convert] = {
    str: _read_text,
    int: _read_int,
    float: _read_float,
    bool: _read_flag,
    datetime: _read_time,
}

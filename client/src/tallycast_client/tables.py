"""Rows as data frames, with the types that the fields have also where no row has a value."""

import dataclasses
import importlib
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, get_type_hints

from tallycast_client.reading import EXTRA, bare

_PANDAS = {str: "string", int: "Int64", float: "Float64", bool: "boolean", datetime: "datetime64[ms, UTC]"}


def to_pandas(kind: type[Any], rows: Sequence[Any]) -> Any:
    pandas = _load("pandas")
    return pandas.DataFrame(
        {
            name: pandas.Series(list(map(attrgetter(path), rows)), dtype=_PANDAS[hint])
            for name, path, hint in _columns(kind)
        }
    )


def to_polars(kind: type[Any], rows: Sequence[Any]) -> Any:
    polars = _load("polars")
    types = {
        str: polars.String,
        int: polars.Int64,
        float: polars.Float64,
        bool: polars.Boolean,
        datetime: polars.Datetime("ms", "UTC"),
    }
    columns = _columns(kind)
    return polars.DataFrame(
        {name: list(map(attrgetter(path), rows)) for name, path, _ in columns},
        schema={name: types[hint] for name, _, hint in columns},
    )


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this needs {name}: pip install 'tallycast-client[{name}]'") from error


def _columns(kind: type[Any]) -> list[tuple[str, str, Any]]:
    """(name, attribute, type) of each; of a field that is a dataclass each of its own. Lists have no column."""
    hints = get_type_hints(kind)
    columns: list[tuple[str, str, Any]] = []
    for field in dataclasses.fields(kind):
        hint = bare(hints[field.name])
        if dataclasses.is_dataclass(hint):
            inner = _columns(hint)  # type: ignore[arg-type]
            columns += [(f"{field.name}_{name}", f"{field.name}.{path}", one) for name, path, one in inner]
        elif field.name != EXTRA and hint in _PANDAS:
            columns.append((field.name, field.name, hint))
    return columns

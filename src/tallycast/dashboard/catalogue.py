"""Every text of the dashboard, in each language: `locales/<language>.toml`, by key.

The texts of the domain are in English where they are made: other languages have them in the table `sayings`, by the
English text (`sayings.py`).
"""

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

# In their own words: whoever looks for a language may read no other.
LANGUAGES = {"en": "English", "zh-Hant": "繁體中文"}
_PLURAL = {"one", "other"}
_SAYINGS = "sayings"
_WEIGHTED = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([0-9.]+))?\s*")


@cache
def load(language: str) -> dict[str, str | dict[str, str]]:
    """Text by dotted key; where it depends on a number `n`, the texts for `one` and `other`."""
    return dict(_flatten({name: table for name, table in _read(language).items() if name != _SAYINGS}, ""))


def load_sayings(language: str) -> dict[str, str]:
    """What the domain says, by the English text; nothing for English."""
    found: dict[str, str] = _read(language).get(_SAYINGS, {})
    return found


def _read(language: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / "locales" / f"{language}.toml").read_text())


def _flatten(table: dict[str, Any], prefix: str) -> list[tuple[str, str | dict[str, str]]]:
    found: list[tuple[str, str | dict[str, str]]] = []
    for name, value in table.items():
        is_text = isinstance(value, str) or set(value) <= _PLURAL
        found += [(prefix + name, value)] if is_text else _flatten(value, f"{prefix}{name}.")
    return found


def translate(language: str, key: str, /, **values: object) -> Markup:
    """The text with its {placeholders} filled in, safe in any place of a page; `n` chooses between one and many."""
    text = load(language)[key]
    if isinstance(text, dict):
        text = text["one"] if values["n"] == 1 and "one" in text else text["other"]
    return escape(text).format(**{name: _write(value) for name, value in values.items()})


def name_country(language: str, code: str) -> str:
    """Hong Kong (HK); for a code that has no name, the code."""
    name = load(language).get(f"countries.{code}")
    return f"{name} ({code})" if name else code


def _write(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def choose(accepted: str) -> str:
    """The language that a browser likes best of ours (Accept-Language, RFC 9110 section 12.5.4), else English."""
    liked = [
        (match[1].lower(), _weight(match[2]))
        for match in map(_WEIGHTED.fullmatch, accepted.split(","))
        if match
    ]
    for tag, weight in sorted(liked, key=lambda one: -one[1]):
        if weight > 0 and tag.startswith(("en", "zh")):
            return "zh-Hant" if tag.startswith("zh") else "en"
    return "en"


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0

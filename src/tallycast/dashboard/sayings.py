"""What the domain says in English, in the language of the page: `[sayings]` of its catalogue, by the English text.

The API and the commands speak English alone, so the English text is the key, as in gettext; what has no translation
(a provider's or a person's own words) stays as it is. `{name}` in a key stands for a value, which is looked up as well:
so one text may hold another. The first key that fits is taken; those without a word of their own, such as
`{first}. {rest}`, come last, and take a text apart where it is not known as a whole.
"""

import re
from functools import cache
from typing import NamedTuple

from tallycast.dashboard import catalogue

# Two braces are no value: so texts write a campaign's variables.
_VALUE = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
# Longer and deeper ones are no texts of ours: what others write must not keep a page waiting.
_LONGEST = 1000
_DEEPEST = 10


class _Saying(NamedTuple):
    pattern: re.Pattern[str]
    said: str
    has_words: bool


class _Sayings(NamedTuple):
    """`whole`: without values, by the text in lower case, for it may stand within a sentence."""

    whole: dict[str, str]
    patterns: list[_Saying]


def say(language: str, text: str, depth: int = 0) -> str:
    """The text in this language; itself where nothing of it is known."""
    known = _load(language)
    whole = known.whole.get(text.lower())
    if whole is not None or not known.patterns or len(text) > _LONGEST or depth > _DEEPEST:
        return whole or text
    found = ((one, match) for one in known.patterns if (match := one.pattern.fullmatch(text)))
    one, match = next(found, (None, None))
    if one is None or match is None:
        return text
    given = match.groupdict()
    values = {name: say(language, value, depth + 1) for name, value in given.items()}
    return _fill(one.said, values) if one.has_words or values != given else text


@cache
def _load(language: str) -> _Sayings:
    found = _Sayings({}, [])
    for english, said in catalogue.load_sayings(language).items():
        if _VALUE.search(english):
            found.patterns.append(_read(english, said))
        else:
            found.whole[english.lower()] = said
    return found


def _read(english: str, said: str) -> _Saying:
    pieces = _VALUE.split(english)
    has_words = re.search(r"\w", "".join(pieces[::2])) is not None
    pattern = "".join(
        f"(?P<{piece}>.*?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
    )
    if has_words and not pieces[0]:
        # A value that begins a text is a name, and no sentence that stands before it.
        pattern = pattern.replace(".*?", r"(?:(?!\. ).)*?", 1)
    return _Saying(re.compile(pattern, re.DOTALL | re.IGNORECASE), said, has_words)


def _fill(said: str, values: dict[str, str]) -> str:
    return _VALUE.sub(lambda place: values[place[1]], said)

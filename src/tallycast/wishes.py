"""The words by which people stop messages, and start them again.

A message is a wish when it is one of these words and nothing else: any case, accents, punctuation and emoji aside.
"STOP!" is one, "please don't stop" is none. The words of telephone companies and of the larger providers are known
in several languages; an app adds its own words and phrases.
"""

import unicodedata
from collections.abc import Iterable, Sequence

MAX_WORD = 100
# Nobody writes a word of a hundred characters in three hundred: what is longer need not be looked at.
_MAX_TEXT = 300
_IGNORED_CATEGORIES = frozenset("PSC")  # punctuation, symbols such as emoji, and what is not seen
_MARKS = (range(0x0300, 0x0370), range(0xFE00, 0xFE10))  # accents, and how an emoji is drawn

STOP_WORDS = (
    "stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "opt out",
    "arret", "arrete", "stopp", "退訂", "退订", "取消",
)  # fmt: skip
START_WORDS = ("start", "yes", "unstop")


def plain(text: str) -> str:
    """The text as it is compared: without case, accents, punctuation, and with single spaces."""
    if len(text) > _MAX_TEXT:
        return ""
    decomposed = unicodedata.normalize("NFKD", text.casefold()).casefold()
    kept = (character for character in decomposed if not _is_ignored(character))
    return " ".join("".join(kept).split())


def _is_ignored(character: str) -> bool:
    if character.isspace():
        return False
    return unicodedata.category(character)[0] in _IGNORED_CATEGORIES or any(
        ord(character) in marks for marks in _MARKS
    )


_STOPS = frozenset(map(plain, STOP_WORDS))
_STARTS = frozenset(map(plain, START_WORDS))


def read_wish(texts: Iterable[str], stop_words: Sequence[str], start_words: Sequence[str]) -> bool | None:
    """Whether somebody who says this wants messages; None where it says neither. An app's words go before ours."""
    said = {plain(text) for text in texts} - {""}
    if said & set(map(plain, stop_words)):
        return False
    if said & set(map(plain, start_words)):
        return True
    if said & _STOPS:
        return False
    return True if said & _STARTS else None

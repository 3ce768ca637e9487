"""How figures and moments look: the same in every language, in the app's time zone."""

from datetime import UTC, datetime

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from tallycast.dashboard import catalogue
from tallycast.dashboard.sayings import say
from tallycast.moments import write_moment

NOTHING = "\u2013"
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def number(value: int | None) -> str:
    """1,234,567; a dash for what is not known."""
    return NOTHING if value is None else f"{value:,}"


def percent(fraction: float | None) -> str:
    """97.3%, never rounded to all or to nothing: 100% and 0% are said only of what is."""
    if fraction is None:
        return NOTHING
    if fraction in {0, 1}:
        return f"{fraction:.0%}"
    return "<0.1%" if 0 < fraction < 0.001 else f"{min(int(fraction * 1000 + 0.5) / 10, 99.9):.1f}%"  # noqa: PLR2004


@pass_context
def moment(context: Context, value: datetime | None, with_seconds: bool = False) -> str:
    """2026-11-23 14:05, in the time zone of the page."""
    if value is None:
        return NOTHING
    local = value.astimezone(context["zone"])
    text = local.strftime("%Y-%m-%d %H:%M:%S" if with_seconds else "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}">{}</time>').format(write_moment(value), text)


@pass_context
def day(context: Context, value: datetime | None) -> str:
    return NOTHING if value is None else value.astimezone(context["zone"]).strftime("%Y-%m-%d")


@pass_context
def duration(context: Context, seconds: float | None) -> str:
    """The two largest units: 2 h 5 min."""
    if seconds is None:
        return NOTHING
    left, parts = int(seconds), list[str]()
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or (unit == "second" and not parts):
            parts.append(context["t"](f"unit.{unit}", n=count))
    return " ".join(parts[:2])


@pass_context
def age(context: Context, value: datetime | None) -> str:
    """How long ago."""
    return NOTHING if value is None else duration(context, (datetime.now(UTC) - value).total_seconds())


@pass_context
def said(context: Context, text: str, is_marked: bool = True) -> str:
    """What the domain says, in the page's language; English that stays is marked as such, but in an option's label."""
    language: str = context["language"]
    told = say(language, text)
    is_english = language != "en" and told == text and text.isascii() and text != ""
    return Markup('<span lang="en">{}</span>').format(text) if is_english and is_marked else told


@pass_context
def country(context: Context, code: str | None) -> str:
    return catalogue.name_country(context["language"], code) if code else ""


def utc(value: datetime) -> str:
    """2026-11-23 06:05, wherever the page is read."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


FILTERS = {
    "utc": utc,
    "number": number,
    "percent": percent,
    "moment": moment,
    "day": day,
    "duration": duration,
    "age": age,
    "said": said,
    "country": country,
}

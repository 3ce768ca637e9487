"""What becomes of a request and of a message: drawn from the seed, the channel and the recipient alone, so that a run
is repeated whatever its timing.
"""

import random
from enum import StrEnum
from typing import Literal, NamedTuple

from tallycast.simulator.profiles import Profile, Range

Medium = Literal["whatsApp", "sms"]
Became = Literal["read", "delivered", "failed", "lost"]
STOPPED_MARKETING = 131050


class Why(StrEnum):
    """Why a request is refused, in words that fit every provider."""

    KEY = "invalid key"
    CEILING = "above the channel's rate"
    PAIR = "too soon for this recipient"
    STOPPED = "the recipient opted out"
    THROTTLED = "throttled"
    LIMITED = "limited"
    BROKEN = "broken"


class Silence(StrEnum):
    """How a request that was taken is left without an answer."""

    CUT = "cut"
    HUNG = "hung"


class Happening(StrEnum):
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    BUTTON = "button"
    PREVIEW = "preview"
    CLICK = "click"
    STOP_TEXT = "stopText"
    STOP_PREFERENCE = "stopPreference"


class Hearing(NamedTuple):
    """What becomes of one request: refused, taken and left without an answer, or answered after so many seconds."""

    why: Why | None
    silence: Silence | None
    seconds: float


class Fate(NamedTuple):
    """What becomes of a message once it is taken. `events` are seconds after the taking, and what happens then.

    `turn` is a share for every other choice that the message offers: which button, which form of receipt.
    """

    became: Became
    code: int
    is_early: bool
    events: tuple[tuple[float, Happening], ...]
    turn: float


def draw_hearing(profile: Profile, seed: str) -> Hearing:
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    chance = dice.random()
    silence_chance = dice.random()
    seconds = dice.uniform(*profile.answer_seconds)
    for why, share in (
        (Why.THROTTLED, profile.throttled),
        (Why.LIMITED, profile.limited),
        (Why.BROKEN, profile.broken),
        (Why.PAIR, profile.pair_limited),
    ):
        chance -= share
        if chance < 0:
            return Hearing(why, None, seconds)
    if silence_chance < profile.cut:
        return Hearing(None, Silence.CUT, seconds)
    if silence_chance < profile.cut + profile.hung:
        return Hearing(None, Silence.HUNG, seconds)
    return Hearing(None, None, seconds)


class _Course:
    """The dice of one message, and what they have said so far."""

    def __init__(self, profile: Profile, medium: Medium, seed: str) -> None:
        self.profile, self.medium = profile, medium
        self.dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.events: list[tuple[float, Happening]] = []

    def chances(self, share: float) -> bool:
        return self.dice.random() < share

    def after(self, base: float, span: Range) -> float:
        return base + self.dice.uniform(*span)

    def happens(self, seconds: float, what: Happening) -> None:
        self.events.append((seconds, what))
        if self.chances(self.profile.repeated):
            self.events.append((self.after(seconds, self.profile.repeated_seconds), what))


def draw_fate(profile: Profile, medium: Medium, seed: str, has_opted_out: bool = False) -> Fate:
    course = _Course(profile, medium, seed)
    turn, is_early = course.dice.random(), course.chances(profile.early)
    is_lost = course.chances(profile.lost) and not has_opted_out
    delivery = 0.0 if is_early else course.after(0, profile.delivered_seconds)
    code = STOPPED_MARKETING if has_opted_out else _draw_failure(course)
    if not is_lost:
        course.happens(delivery / 2, Happening.SENT)
        if code:
            course.happens(delivery, Happening.FAILED)
            return Fate("failed", code, is_early, tuple(course.events), turn)
    was_read = course.chances(profile.read) and medium == "whatsApp"
    if not is_lost:
        _draw_receipts(course, delivery, was_read)
    _draw_replies(course, delivery)
    became: Became = "lost" if is_lost else "read" if was_read else "delivered"
    return Fate(became, 0, is_early, tuple(course.events), turn)


def _draw_failure(course: _Course) -> int:
    """The code of the failure, or 0. Who opted out of SMS is refused by the gate, if he is at all."""
    profile = course.profile
    if course.chances(profile.opted_out) and course.medium == "whatsApp":
        return STOPPED_MARKETING
    codes = profile.failures if course.medium == "whatsApp" else profile.sms_failures
    return course.dice.choice(codes) if codes and course.chances(profile.failed) else 0


def _draw_receipts(course: _Course, delivery: float, was_read: bool) -> None:
    reading = course.after(delivery, course.profile.read_seconds)
    overtakes = course.chances(course.profile.overtaking)
    if was_read and overtakes:
        delivery, reading = reading, delivery
    course.happens(delivery, Happening.DELIVERED)
    if was_read:
        course.happens(reading, Happening.READ)


def _draw_replies(course: _Course, delivery: float) -> None:
    profile = course.profile
    for share, what in (
        (profile.buttons, Happening.BUTTON),
        (profile.stop_texts, Happening.STOP_TEXT),
        (profile.stop_preferences, Happening.STOP_PREFERENCE),
    ):
        if course.chances(share):
            course.happens(course.after(delivery, profile.reply_seconds), what)
    for share, what in ((profile.previews, Happening.PREVIEW), (profile.clicks, Happening.CLICK)):
        if course.chances(share):  # a person's click is not repeated by a provider
            course.events.append((course.after(delivery, profile.reply_seconds), what))

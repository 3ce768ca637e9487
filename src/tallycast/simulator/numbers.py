"""Telephone numbers that nobody has."""

import random

_AREAS = (212, 305, 312, 404, 415, 416, 503, 604, 617, 702, 808, 907)


def make_numbers(amount: int, dice: random.Random) -> list[str]:
    """Distinct numbers reserved for fiction: +1 xxx 555-01xx (United States and Canada) and +33 6 39 98 xx xx."""
    american = [f"+1{area}55501{line:02d}" for area in _AREAS for line in range(100)]
    french = [f"+33639980{line:03d}" for line in range(1000)]
    return dice.sample(american + french, amount)

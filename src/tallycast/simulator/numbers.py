"""Telephone numbers that nobody has."""

import random

_AREAS = (212, 305, 312, 404, 415, 503, 617, 702, 808, 907)


def make_numbers(amount: int, dice: random.Random) -> list[str]:
    """Distinct numbers reserved for fiction: +1 xxx 555-01xx and +44 7700 900xxx."""
    american = [f"+1{area}55501{line:02d}" for area in _AREAS for line in range(100)]
    british = [f"+447700900{line:03d}" for line in range(1, 1000)]
    return dice.sample(american + british, amount)

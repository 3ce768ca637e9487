"""The fault suite: one storm in both directions, everything that can break, and a checker that knows all promises."""

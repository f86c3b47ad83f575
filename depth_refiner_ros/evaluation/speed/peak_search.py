"""The search for the highest rate that something sustains."""

from __future__ import annotations

import math

RESOLUTION = 0.05
"""How closely the peak rate is searched for, as a share of it."""

_BRACKET = (1 + RESOLUTION) ** 8  # three halvings on a logarithmic scale end at the resolution
_LOWEST_HZ, _HIGHEST_HZ = 0.05, 2000.0


class PeakSearch:
    """Finds the highest rate that something sustains, by trying.

    Starting from a guess, rates are raised or lowered by about half until one is sustained and
    one is not; then their geometric mean is tried, until they are close.

    Args:
        guess_hz: Where to begin.
        resolution: How close the two rates must come, as a share.

    Attributes:
        next_hz: What to try next.
        low_hz: Highest rate known to be sustained; 0 before there is one.
        high_hz: Lowest rate above it known not to be; inf before there is one.
    """

    def __init__(self, guess_hz: float, resolution: float = RESOLUTION) -> None:
        self.next_hz = min(max(guess_hz, _LOWEST_HZ), _HIGHEST_HZ)
        self.low_hz, self.high_hz = 0.0, math.inf
        self._resolution = resolution

    @property
    def done(self) -> bool:
        """Whether there is nothing left to try."""
        if self.low_hz == 0:
            return self.high_hz <= _LOWEST_HZ
        close = self.high_hz <= (1 + self._resolution) * (1 + 1e-9) * self.low_hz
        return close or self.low_hz >= _HIGHEST_HZ

    def add(self, sustained: bool) -> None:
        """Take in how `next_hz` went."""
        if sustained:
            self.low_hz = self.next_hz
        else:
            self.high_hz = self.next_hz
        if self.low_hz == 0:
            self.next_hz = max(self.high_hz / _BRACKET, _LOWEST_HZ)
        elif self.high_hz == math.inf:
            self.next_hz = min(self.low_hz * _BRACKET, _HIGHEST_HZ)
        else:
            self.next_hz = math.sqrt(self.low_hz * self.high_hz)

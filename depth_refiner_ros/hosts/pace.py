"""Whether a pipeline keeps its camera's rate with a model that nobody asked for by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

MARGIN = 0.8
"""Share of the time between two frames that the work on one may take."""
FRAMES = 10
"""Frames that are measured before it is decided."""
_GAPS = 30
_LONGEST_GAP_NS = 2_000_000_000  # a longer one is a pause, no rate
_OTHER_RATE = 1.25


class Verdict(NamedTuple):
    """What was decided, and on what grounds.

    Attributes:
        keeps: Whether the model is to be kept.
        cost_s: Seconds of work on a frame with the model, the median.
        period_s: Seconds between two frames of the camera.
    """

    keeps: bool
    cost_s: float
    period_s: float

    def text(self, stage: str, model: str) -> str:
        """Return it as a sentence."""
        cost = f'a frame takes {1e3 * self.cost_s:.0f} ms with it'
        camera = f'the camera sends one every {1e3 * self.period_s:.0f} ms'
        if self.keeps:
            return f'{stage} takes {model}: {cost}, and {camera}'
        return (
            f'{stage} does without {model}, which is too slow here: {cost}, and {camera}, of '
            f'which {MARGIN:.0%} may be work; {stage}.model: {model} takes it all the same'
        )


class Pace:
    """Decides on the first frames whether the work on them keeps the camera's rate.

    Stamps give the rate: their gaps' lower quartile, so that messages lost on the way do not
    make a camera slow. It is decided anew when the rate changes by a quarter, or when the work
    does: other parameters, another size, other stages.
    """

    def __init__(self) -> None:
        self._stamp_ns: int | None = None
        self._gaps_ns: deque[int] = deque(maxlen=_GAPS)
        self._work: Hashable = None
        self._verdict: Verdict | None = None
        self._spent_s: list[float] = []

    @property
    def period_s(self) -> float | None:
        """Seconds between two frames of the camera; None after too few frames."""
        if len(self._gaps_ns) < FRAMES:
            return None
        return float(np.percentile(self._gaps_ns, 25)) * 1e-9

    def stamped(self, stamp_ns: int) -> None:
        """Take in the stamp of a frame that the camera sent."""
        if self._stamp_ns is not None and 0 < stamp_ns - self._stamp_ns < _LONGEST_GAP_NS:
            self._gaps_ns.append(stamp_ns - self._stamp_ns)
        self._stamp_ns = stamp_ns

    def renewed(self, work: Hashable) -> bool:
        """Forget what was decided if the rate or the work is another; tell whether it is.

        Args:
            work: What the cost of a frame depends on.
        """
        decided, period_s = self._verdict, self.period_s
        changed = work != self._work
        if decided is not None and period_s is not None:
            ratio = period_s / decided.period_s
            changed |= not 1 / _OTHER_RATE <= ratio <= _OTHER_RATE
        if changed:
            self._work, self._verdict = work, None
            self._spent_s.clear()
        return changed

    def worked(self, seconds: float) -> Verdict | None:
        """Take in what the work on a frame took with the model.

        Returns:
            The verdict, when it falls.
        """
        if self._verdict is not None:
            return None
        self._spent_s.append(seconds)
        period_s = self.period_s
        if period_s is None or len(self._spent_s) < FRAMES:
            return None
        cost_s = float(np.median(self._spent_s[-FRAMES:]))
        self._verdict = Verdict(cost_s <= MARGIN * period_s, cost_s, period_s)
        return self._verdict

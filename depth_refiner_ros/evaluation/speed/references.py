"""What a pipeline is timed against: copying its bytes, and librealsense's filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...stage import Stage
from ..peers import LibrealsenseTemporal
from .clips import arrays


class MemoryCopy:
    """Copies as many bytes as a frame's inputs and outputs have, into memory that is there.

    Done again and again it finds much of them in the processor's caches: a floor.
    """

    def __init__(self, frame: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._pairs = [(a, np.zeros_like(a)) for a in arrays(frame) + arrays(outputs)]
        self.megabytes = sum(array.nbytes for array, _ in self._pairs) / 1e6

    def __call__(self, frame: Mapping[str, Any]) -> None:
        """Copy; the frame is not looked at."""
        for source, target in self._pairs:
            np.copyto(target, source)


def librealsense(frame: Mapping[str, Any]) -> Stage | str:
    """Return librealsense's chain, tried on a frame, or the reason why there is none."""
    if not {'depth', 'camera'} <= frame.keys():
        return 'the pipeline takes no depth'
    try:
        peer = LibrealsenseTemporal()
        peer(frame['depth'], frame['camera'])
    except (ValueError, RuntimeError, OSError) as error:
        return ' '.join(str(error).split())
    return peer

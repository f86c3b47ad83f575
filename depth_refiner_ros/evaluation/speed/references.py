"""What a pipeline's time is compared with, on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..peers import LibrealsenseTemporal
from .clips import arrays

Frame = Mapping[str, Any]

LIBREALSENSE = (
    'disparity, spatial, temporal and hole filling filter at their defaults on a software device, '
    'conversion from and to metres included'
)


class MemoryCopy:
    """Copies as many bytes as a frame's inputs and outputs have, into memory that is there.

    Done again and again it finds much of them in the processor's caches: a floor.
    """

    def __init__(self, frame: Frame, outputs: Mapping[str, Any]) -> None:
        self._pairs = [(a, np.zeros_like(a)) for a in arrays(frame) + arrays(outputs)]
        self.megabytes = sum(array.nbytes for array, _ in self._pairs) / 1e6

    def __call__(self, frame: Frame) -> None:
        """Copy; the frame is not looked at."""
        for source, target in self._pairs:
            np.copyto(target, source)


def librealsense(frame: Frame) -> Callable[[Frame], object] | str:
    """Return librealsense's chain, tried on a frame, or the reason why there is none."""
    if not {'depth', 'camera'} <= frame.keys():
        return 'the pipeline takes no depth'
    try:
        peer = LibrealsenseTemporal()
        peer(frame['depth'], frame['camera'])
    except (ValueError, RuntimeError, OSError) as error:
        return ' '.join(str(error).split())
    return lambda frame: peer(frame['depth'], frame['camera'])


def references(
    frame: Frame, outputs: Mapping[str, Any]
) -> tuple[dict[str, Callable[[Frame], object]], dict[str, dict[str, Any]]]:
    """Return the references that there are, by name, and what each is, or why it is not there."""
    copy, chain = MemoryCopy(frame, outputs), librealsense(frame)
    there: dict[str, Callable[[Frame], object]] = {'memory_copy': copy}
    what = f'np.copyto of the {copy.megabytes:.2f} MB that a frame and its outputs have'
    described: dict[str, dict[str, Any]] = {
        'memory_copy': {'what': what, 'megabytes': copy.megabytes, 'reason': None},
        'librealsense': {'what': LIBREALSENSE, 'reason': None},
    }
    if isinstance(chain, str):
        described['librealsense']['reason'] = chain
    else:
        there = {'librealsense': chain, **there}
    return there, described

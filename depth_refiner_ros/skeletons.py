"""Hands as skeletons: what viewers draw of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .data import HAND_BONES, Float32Array, Hands

_BONE_WIDTH_M, _JOINT_WIDTH_M = 0.006, 0.012
_RIGHT_RGB, _LEFT_RGB = (0.34, 0.71, 0.91), (0.9, 0.62, 0.0)


class Skeleton(NamedTuple):
    """One hand: a line for every bone, a ball for every joint.

    Attributes:
        number: The hand's number, the same from frame to frame.
        lines_m: Where bones begin and end, shape (2 * bones, 3): every two points are a line.
        line_colors: Red, green, blue and opacity of these points, 0 to 1.
        line_width_m: Width of a line.
        balls_m: The joints, shape (joints, 3).
        ball_colors: Red, green, blue and opacity of the joints, 0 to 1.
        ball_width_m: Diameter of a ball.
    """

    number: int
    lines_m: Float32Array
    line_colors: Sequence[tuple[float, ...]]
    line_width_m: float
    balls_m: Float32Array
    ball_colors: Sequence[tuple[float, ...]]
    ball_width_m: float


def skeletons(hands: Hands) -> Iterator[Skeleton]:
    """Draw hands: right ones blue, left ones orange, joints the fainter the less sure."""
    ends = np.array(HAND_BONES).ravel()
    for points_m, confidence, right, number in zip(
        hands.points_m, hands.confidence, hands.right, hands.ids, strict=True
    ):
        rgb = _RIGHT_RGB if right >= 0.5 else _LEFT_RGB
        colors = [(*rgb, 0.15 + 0.85 * float(c)) for c in confidence]
        yield Skeleton(
            int(number),
            points_m[ends],
            [colors[joint] for joint in ends],
            _BONE_WIDTH_M,
            points_m,
            colors,
            _JOINT_WIDTH_M,
        )

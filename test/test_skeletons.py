from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import Hands, Header
from depth_refiner_ros.skeletons import skeletons


def test_a_left_and_a_right_hand():
    points_m = np.arange(2 * 21 * 3, dtype=np.float32).reshape(2, 21, 3)
    confidence = np.ones((2, 21), np.float32)
    confidence[0, 4] = 0
    sides = np.array([1.0, 0.0], np.float32)
    hands = Hands(
        Header(0, 'camera'),
        points_m,
        points_m[..., :2],
        confidence,
        sides,
        np.array([4, 7], np.int32),
    )
    right, left = skeletons(hands)
    assert (right.number, left.number) == (4, 7)
    # The first bone begins at the wrist, the last ends at the tip of the little finger.
    assert right.lines_m.shape == (40, 3)
    assert right.lines_m[0].tolist() == points_m[0, 0].tolist()
    assert right.lines_m[-1].tolist() == points_m[0, 20].tolist()
    assert left.balls_m.tolist() == points_m[1].tolist()
    # Blue and orange; the tip of the thumb is hardly there.
    assert right.ball_colors[0] == pytest.approx((0.34, 0.71, 0.91, 1))
    assert left.ball_colors[0] == pytest.approx((0.9, 0.62, 0, 1))
    assert right.ball_colors[4][3] == pytest.approx(0.15)
    # The fourth line ends there.
    assert right.line_colors[7][3] == pytest.approx(0.15)

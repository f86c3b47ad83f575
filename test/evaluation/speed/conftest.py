from __future__ import annotations

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed.clips import simulated_frames


@pytest.fixture(scope='module')
def clip():
    return simulated_frames(3, 32, 24, configure({}).pipeline)

from __future__ import annotations

import pytest


@pytest.fixture(params=['ROS 1', 'ROS 2'])
def store(request):
    from .builders import STORES  # skips where rosbags is not installed

    return STORES[request.param]

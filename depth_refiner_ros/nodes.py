"""The ROS executables: one line each.

ROS, NumPy and OpenCV take a second to import, in which Ctrl-C works already.
"""

from __future__ import annotations

from typing import NoReturn

from .hosts.stopping import Stopping, leave


def _run(stages: str | None, name: str) -> NoReturn:
    stopping = Stopping()
    from .hosts import ros_node

    leave(ros_node.run(stages, name, stopping))


def pipeline() -> NoReturn:
    """Run the stages that the parameter `stages` lists, in one process."""
    _run(None, 'depth_refiner')


def refine_depth() -> NoReturn:
    """Run `RefineDepth`."""
    _run('refine_depth', 'refine_depth')


def inpaint_depth() -> NoReturn:
    """Run `InpaintDepth`."""
    _run('inpaint_depth', 'inpaint_depth')


def estimate_depth() -> NoReturn:
    """Run `EstimateDepth`."""
    _run('estimate_depth', 'estimate_depth')


def track_hands() -> NoReturn:
    """Run `TrackHands`."""
    _run('track_hands', 'track_hands')


def project_points() -> NoReturn:
    """Run `ProjectPoints`."""
    _run('project_points', 'project_points')


def register_depth() -> NoReturn:
    """Run `RegisterDepth`."""
    _run('register_depth', 'register_depth')


def register_color() -> NoReturn:
    """Run `RegisterColor`."""
    _run('register_color', 'register_color')


def realsense_source() -> NoReturn:
    """Publish a RealSense."""
    stopping = Stopping()
    from .hosts import realsense_node

    leave(realsense_node.run('realsense_source', stopping))


def blur_background() -> NoReturn:
    """Run `BlurBackground`."""
    _run('blur_background', 'blur_background')

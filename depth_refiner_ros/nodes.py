"""The ROS executables: one line each."""

from __future__ import annotations

from .hosts import realsense_node
from .hosts.ros_node import run


def pipeline() -> int:
    """Run the stages that the parameter `stages` lists, in one process."""
    return run(None, 'depth_refiner')


def refine_depth() -> int:
    """Run `RefineDepth`."""
    return run('refine_depth', 'refine_depth')


def inpaint_depth() -> int:
    """Run `InpaintDepth`."""
    return run('inpaint_depth', 'inpaint_depth')


def estimate_depth() -> int:
    """Run `EstimateDepth`."""
    return run('estimate_depth', 'estimate_depth')


def track_hands() -> int:
    """Run `TrackHands`."""
    return run('track_hands', 'track_hands')


def project_points() -> int:
    """Run `ProjectPoints`."""
    return run('project_points', 'project_points')


def register_depth() -> int:
    """Run `RegisterDepth`."""
    return run('register_depth', 'register_depth')


def register_color() -> int:
    """Run `RegisterColor`."""
    return run('register_color', 'register_color')


def realsense_source() -> int:
    """Publish a RealSense."""
    return realsense_node.run('realsense_source')


def blur_background() -> int:
    """Run `BlurBackground`."""
    return run('blur_background', 'blur_background')

"""Needs ROS 2: source its setup.bash, then `pytest test/ros`."""

import importlib.util

if importlib.util.find_spec('rclpy') is None:
    collect_ignore_glob = ['test_*.py']
elif importlib.util.find_spec('pyrealsense2') is None:
    # A module that skips itself while it is imported makes launch_testing's collector, which
    # imports modules, drop the whole folder.
    collect_ignore = ['test_ros_realsense.py']

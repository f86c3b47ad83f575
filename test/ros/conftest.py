"""Needs ROS 2: source its setup.bash, then `pytest test/ros`."""

import importlib.util

if importlib.util.find_spec('rclpy') is None:
    collect_ignore_glob = ['test_*.py']

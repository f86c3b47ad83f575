"""How this installation runs the depth-refiner command."""

from __future__ import annotations

from functools import cache
import os
import shutil

COMMAND = 'depth-refiner'


@cache
def _prefix() -> str:
    # colcon installs it where `ros2 run` looks for it, and not on PATH.
    found = shutil.which(COMMAND) is not None or 'AMENT_PREFIX_PATH' not in os.environ
    return '' if found else 'ros2 run depth_refiner_ros '


def command(arguments: str) -> str:
    """Return a command line that can be run here, in backquotes: what messages recommend."""
    return f'`{_prefix()}{COMMAND} {arguments}`'

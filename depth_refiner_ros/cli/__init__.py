"""The depth-refiner command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code. See `commands.main`.

    The commands need packages that a ROS installation lacks; without them this says so.
    """
    try:
        from . import commands
    except ModuleNotFoundError as error:
        if error.name not in ('rich', 'rosbags', 'tyro'):
            raise
        print(
            f'depth-refiner: the command line needs {error.name}: pip install rich rosbags tyro '
            '(the ROS nodes do without)',
            file=sys.stderr,
        )
        return 2
    return commands.main(arguments)

"""The depth-refiner command."""

from __future__ import annotations

import os
import sys

from . import signals

_PIPE_CLOSED = 128 + 13  # as if SIGPIPE had ended it


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code. See `commands.main`.

    Ends quietly at any moment that a signal comes, and where its reader went away (`| head`). The
    commands need packages that a ROS installation lacks; without them this says so.
    """
    try:
        with signals.handled(leaves=arguments is None):
            try:
                return _run(arguments)
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        return signals.exit_code(interruption)
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED


def _run(arguments: list[str] | None) -> int:
    if (sys.argv[1:] if arguments is None else arguments) == ['--version']:
        print(f'depth-refiner {_version()}')
        return 0
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


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version('depth_refiner_ros')
    except metadata.PackageNotFoundError:
        return 'of a checkout that is not installed'

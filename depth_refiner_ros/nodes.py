"""The ROS executables: `pipeline`, `realsense_source`, and one by the name of every stage.

ROS, NumPy and OpenCV take a second to import, in which Ctrl-C is heard already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from .hosts.stopping import Stopping, leave

_STAGES = Path(__file__).parent / 'stages'


def _run(stages: str | None, name: str) -> NoReturn:
    stopping = Stopping()
    from .hosts import ros_node

    leave(ros_node.run(stages, name, stopping))


def __getattr__(name: str) -> Callable[[], NoReturn]:
    # A stage is a file of stages/; to import them all takes NumPy.
    if name.isidentifier() and (_STAGES / f'{name}.py').is_file() and not name.startswith('_'):
        return partial(_run, name, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def pipeline() -> NoReturn:
    """Run the stages that the parameter `stages` lists, in one process."""
    _run(None, 'depth_refiner')


def realsense_source() -> NoReturn:
    """Publish a RealSense."""
    stopping = Stopping()
    from .hosts import realsense_node

    leave(realsense_node.run('realsense_source', stopping))

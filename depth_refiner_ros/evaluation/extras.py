"""Tools that only part of the evaluation needs, each with the sentence that says how to get it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
import shutil
import sys
from typing import Any


def open3d() -> Any:
    """Import Open3D (MIT), which tracks and fuses.

    Raises:
        ImportError: If it is not installed, or a library of the system that it needs; the message
            says how to get it.
    """
    try:
        return importlib.import_module('open3d')
    except ImportError as error:
        if error.name != 'open3d':
            raise ImportError(
                f'Open3D does not start: {error}. On Debian and Ubuntu: '
                'apt install libusb-1.0-0 libgl1 libgomp1'
            ) from None
        raise ModuleNotFoundError(
            'odometry and fusion need Open3D, run: pip install open3d-cpu '
            '(where there is no such wheel: pip install open3d)',
            name='open3d',
        ) from None


def evo(program: str) -> str:
    """Return the path of one of evo's programs, which compare trajectories.

    evo is GPL-3.0: it runs as a process of its own and is never imported.

    Args:
        program: `evo_ape` or `evo_rpe`.

    Raises:
        FileNotFoundError: If it is not installed; the message says how to get it.
    """
    # A virtual environment that is used without being activated is not on the PATH.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(program, path=os.pathsep.join([beside, os.environ.get('PATH', '')]))
    if found is None:
        raise FileNotFoundError(
            f'comparing trajectories needs {program}, run: pip install evo '
            '(or pipx install evo: it only has to be on the PATH)'
        )
    return found

"""The machine that figures come from: its memory, its load, the versions at work."""

from __future__ import annotations

from importlib import metadata
import os
from pathlib import Path
import platform
import subprocess
from typing import Any

import cv2
import numpy as np


def resident_mb() -> float | None:
    """Return the memory that the process has now; None where there is no /proc."""
    try:
        pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def peak_resident_mb() -> float | None:
    """Return the most memory that the process ever had; None where the system counts none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / 1e6 if platform.system() == 'Darwin' else peak * 1024 / 1e6
    return max(peak_mb, resident_mb() or 0.0)  # Linux counts the first one late


def machine_ticks() -> tuple[int, int] | None:
    """Return how long all cores were busy and how long they were there, in clock ticks."""
    try:
        first = Path('/proc/stat').read_text(encoding='ascii').partition('\n')[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *rest = (int(ticks) for ticks in first.split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + waiting


def busy_percent(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Return the share of all cores that was busy between two counts of `machine_ticks`."""
    if before is None or after is None or after[1] == before[1]:
        return None
    return 100 * (after[0] - before[0]) / (after[1] - before[1])


def cores_allowed() -> int | None:
    """Return how many cores the process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def machine() -> dict[str, Any]:
    """Describe the machine and the versions at work, so that figures stand on their own."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = None
    return {
        'cpu': cpu_model(),
        'cores': os.cpu_count(),
        'cores_allowed': cores_allowed(),
        'load_average_1_min': load,
        'system': platform.platform(),
        'architecture': platform.machine(),
        'python': platform.python_version(),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'opencv_threads': cv2.getNumThreads(),
        'rosbags': installed('rosbags'),
        'pyrealsense2': installed('pyrealsense2'),
    }


def cpu_model() -> str:
    """Return the name of the processor, or of the board."""
    # Arm's cpuinfo names no model, but its device tree names the board.
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
        return Path('/proc/device-tree/model').read_text(encoding='utf-8').strip('\0\n')
    except OSError:
        return platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    """Return the version of a Python package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def revision() -> dict[str, Any]:
    """Return the package's version and, in a checkout, its commit and whether files differ."""
    found: dict[str, Any] = {
        'version': installed('depth_refiner_ros'),
        'commit': None,
        'modified': None,
    }
    found['commit'] = git('rev-parse', 'HEAD')
    status = git('status', '--porcelain', '--untracked-files=no')
    found['modified'] = None if status is None else bool(status)
    return found


def git(*arguments: str) -> str | None:
    """Return what git says of the checkout that the package is; None if it is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None  # installed: a repository around it would be somebody else's
    command = ['git', '-C', str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

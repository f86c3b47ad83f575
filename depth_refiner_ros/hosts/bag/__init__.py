"""Runs a pipeline over a recorded bag, without ROS, as fast as it goes and never dropping a frame.

Reads ROS 1 .bag files and rosbag2 recordings (sqlite3 and mcap) and writes rosbag2 recordings.
Time is the recording's, so the same bag gives the same bytes.
"""

from __future__ import annotations

from .errors import BagError, RunError, rescue
from .frames import Frames
from .recording import (
    TF_TOPICS,
    Recording,
    contents,
    open_bag,
    recorded,
    recorded_depth_unit_m,
    static_transforms,
    tf_connections,
)
from .replaying import Result, Summary, record, replay
from .writer import BagWriter

__all__ = [
    'TF_TOPICS',
    'BagError',
    'BagWriter',
    'Frames',
    'Recording',
    'Result',
    'RunError',
    'Summary',
    'contents',
    'open_bag',
    'record',
    'recorded',
    'recorded_depth_unit_m',
    'replay',
    'rescue',
    'static_transforms',
    'tf_connections',
]

"""Reads recordings that are folders of images: the project's own layout and TUM RGB-D's.

The project's layout:

    camera.json    width height fx fy cx cy (pixels), depth_unit_m (metres a count),
                   color_aligned_to_depth; where it is false, color_K (fx fy cx cy) and
                   color_from_depth_t_m (x y z)
    depth/NNN.png  16 bits, 0 for no return
    color/NNN.jpg  optional; .png too
    reference/NNN.png  optional, true depth in the same unit
    poses/NNN.txt  optional, 4x4 camera to world, metres
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from .data import (
    ColorImage,
    DepthEncoding,
    DepthImage,
    Float32Array,
    Header,
    PinholeCamera,
    RigidTransform,
    UInt8Array,
)
from .geometry import rotation_from_quaternion

DEPTH_FRAME = 'camera_depth_optical_frame'
COLOR_FRAME = 'camera_color_optical_frame'
WORLD_FRAME = 'world'

# Folders without stamps start at a fixed moment, so that importing twice gives the same bytes.
_EPOCH_NS = 1_700_000_000_000_000_000


_NO_COLOR = (1, 1, 0, 0)


class FolderFrame(NamedTuple):
    """One frame of a folder."""

    depth: DepthImage
    camera: PinholeCamera
    color: ColorImage | None
    color_camera: PinholeCamera | None
    reference: DepthImage | None
    world_from_camera: RigidTransform | None


@dataclass(frozen=True)
class _Entry:
    stamp_ns: int
    depth: Path
    color: Path | None = None
    reference: Path | None = None
    pose: Any = None


class Folder:
    """A recording in a folder; iterate to get its frames in order.

    Args:
        path: The folder.
        rate_hz: Frames a second, where the layout holds no stamps.

    Attributes:
        color_from_depth: Where the depth camera sits in the colour camera, if they differ.
        sensor: What camera.json says of the camera, or empty.
        note: What it says besides, or empty.

    Raises:
        ValueError: If the folder has neither layout, or its calibration is incomplete.
        FileNotFoundError: If there is no folder.
    """

    def __init__(self, path: Path, *, rate_hz: float = 30.0) -> None:
        if not path.is_dir():
            raise FileNotFoundError(f'there is no folder {path}')
        self.path = path
        self.color_from_depth: RigidTransform | None = None
        self.sensor = self.note = ''
        if (path / 'camera.json').exists():
            self._open_own(rate_hz)
        elif (path / 'depth.txt').exists():
            self._open_tum()
        else:
            raise ValueError(
                f"{path} holds neither camera.json (this project's layout) "
                'nor depth.txt (TUM RGB-D)'
            )
        if not self._entries:
            raise ValueError(f'{path} has no depth images')

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[FolderFrame]:
        return map(self.read, range(len(self)))

    @property
    def names(self) -> list[str]:
        """The names of the frames: those of their depth images."""
        return [entry.depth.stem for entry in self._entries]

    def read(self, index: int) -> FolderFrame:
        """Read one frame.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file is not what it should be.
        """
        entry = self._entries[index]
        header = Header(entry.stamp_ns, DEPTH_FRAME)
        color = color_camera = reference = pose = None
        if entry.color is not None:
            color_header = Header(entry.stamp_ns, self._color_frame)
            color = ColorImage(color_header, _read_color(entry.color))
            color_camera = self._color_camera(color_header, color)
        if entry.reference is not None:
            reference = self._depth_image(header, entry.reference)
        if entry.pose is not None:
            pose = RigidTransform(
                Header(entry.stamp_ns, WORLD_FRAME),
                DEPTH_FRAME,
                np.ascontiguousarray(entry.pose[:3, :3]),
                np.ascontiguousarray(entry.pose[:3, 3]),
            )
        depth = self._depth_image(header, entry.depth)
        return FolderFrame(depth, self._camera(header), color, color_camera, reference, pose)

    # -- the project's layout

    def _open_own(self, rate_hz: float) -> None:
        path = self.path / 'camera.json'
        try:
            self._info = json.loads(path.read_text(encoding='utf-8'))
            if not isinstance(self._info, dict):
                raise ValueError('expected names and values')
            self._camera(Header(0, DEPTH_FRAME))
            self._unit_m = float(self._info['depth_unit_m'])
            if not 0 < self._unit_m < 1:
                raise ValueError(
                    f'depth_unit_m is the metres of one count, got {self._unit_m:g}; '
                    'millimetres are 0.001'
                )
            if len(self._info.get('color_K', _NO_COLOR)) != 4:
                raise ValueError('color_K must be four numbers: fx fy cx cy')
            PinholeCamera(Header(0, COLOR_FRAME), 1, 1, *self._info.get('color_K', _NO_COLOR))
            if len(self._info.get('color_from_depth_t_m', (0, 0, 0))) != 3:
                raise ValueError('color_from_depth_t_m must be three numbers: x y z')
        except KeyError as error:
            raise ValueError(f'{path} has no {error.args[0]!r}') from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f'{path} is not JSON: {error}') from None
        except (TypeError, ValueError) as error:
            raise ValueError(f'{path}: {error}') from None
        self.sensor = str(self._info.get('sensor', ''))
        self.note = str(self._info.get('note', ''))
        aligned = self._info.get('color_aligned_to_depth', False)
        self._color_frame = DEPTH_FRAME if aligned else COLOR_FRAME
        if not aligned and 'color_from_depth_t_m' in self._info:
            self.color_from_depth = RigidTransform(
                Header(0, COLOR_FRAME),
                DEPTH_FRAME,
                np.eye(3),
                np.array(self._info['color_from_depth_t_m'], np.float64),
            )
        self._entries = [
            _Entry(
                _EPOCH_NS + round(i * 1e9 / rate_hz),
                depth,
                _first(self.path / 'color', depth.stem, ('.jpg', '.png')),
                _first(self.path / 'reference', depth.stem, ('.png',)),
                _read_pose(self.path / 'poses' / f'{depth.stem}.txt'),
            )
            for i, depth in enumerate(sorted((self.path / 'depth').glob('*.png')))
        ]

    def _camera(self, header: Header) -> PinholeCamera:
        i = self._info
        return PinholeCamera(header, i['width'], i['height'], i['fx'], i['fy'], i['cx'], i['cy'])

    def _color_camera(self, header: Header, color: ColorImage) -> PinholeCamera | None:
        height, width = color.rgb.shape[:2]
        if 'color_K' in self._info:
            return PinholeCamera(header, width, height, *self._info['color_K'])
        if self._color_frame == DEPTH_FRAME:
            return self._camera(header).scaled(width, height)
        return None

    def _depth_image(self, header: Header, path: Path) -> DepthImage:
        raw = _read_png16(path)
        if raw.shape != (self._info['height'], self._info['width']):
            raise ValueError(
                f'{path} is {raw.shape[1]}x{raw.shape[0]}, but its camera '
                f'{self._info["width"]}x{self._info["height"]}'
            )
        # Whole millimetres stay 16UC1; finer units would be rounded by it.
        encoding: DepthEncoding = '16UC1' if self._unit_m == 0.001 else '32FC1'
        return DepthImage(header, metres(raw, self._unit_m), encoding)

    # -- TUM RGB-D: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats

    def _open_tum(self) -> None:
        self._unit_m = 1 / 5000
        self._color_frame = DEPTH_FRAME  # TUM's depth is registered to its colour
        self._info = {'width': 640, 'height': 480, 'fx': 525.0, 'fy': 525.0}
        self._info |= {'cx': 319.5, 'cy': 239.5}  # TUM's recommendation for all its sequences
        color = _read_list(self.path / 'rgb.txt', 1)
        poses = _read_list(self.path / 'groundtruth.txt', 7)
        color_ns, poses_ns = list(color), list(poses)
        self._entries = []
        for stamp_ns, (name, *_) in _read_list(self.path / 'depth.txt', 1).items():
            color_row = _nearest(color, color_ns, stamp_ns)
            pose_row = _nearest(poses, poses_ns, stamp_ns)
            self._entries.append(
                _Entry(
                    stamp_ns,
                    self.path / name,
                    self.path / color_row[0] if color_row else None,
                    None,
                    _pose_from_tum(pose_row) if pose_row else None,
                )
            )


# TUM's own association tool pairs what lies within 20 ms.
_TUM_SLOP_NS = 20_000_000

_Row = TypeVar('_Row')


def _read_list(path: Path, columns: int) -> dict[int, list[str]]:
    """Return the columns after the stamp, by stamp, in the order of the stamps."""
    if not path.exists():
        return {}
    rows: dict[int, list[str]] = {}
    text = path.read_text(encoding='utf-8', errors='replace')
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith('#'):
            continue
        stamp, *rest = line.split()
        try:
            if len(rest) < columns:
                raise ValueError
            seconds, _, fraction = stamp.partition('.')
            rows[int(seconds) * 1_000_000_000 + int(f'{fraction:0<9}'[:9])] = rest
            if columns > 1:
                [float(value) for value in rest[:columns]]
        except ValueError:
            kind = 'file name' if columns == 1 else 'tx ty tz qx qy qz qw'
            raise ValueError(
                f'{path}, line {number}: expected a timestamp and {kind}, got {line.strip()!r}'
            ) from None
    return dict(sorted(rows.items()))


def _nearest(rows: dict[int, _Row], stamps_ns: list[int], stamp_ns: int) -> _Row | None:
    after = bisect_left(stamps_ns, stamp_ns)
    candidates = stamps_ns[max(0, after - 1) : after + 1]
    near = min(candidates, key=lambda key: abs(key - stamp_ns), default=None)
    if near is None or abs(near - stamp_ns) > _TUM_SLOP_NS:
        return None
    return rows[near]


def _pose_from_tum(row: list[str]) -> Any:
    x, y, z, qx, qy, qz, qw = (float(value) for value in row[:7])
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    pose[:3, :3] = rotation_from_quaternion(qx, qy, qz, qw)
    return pose


def _first(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    return next((p for s in suffixes if (p := folder / f'{stem}{s}').exists()), None)


def _imread(path: Path, flags: int) -> Any:
    # Decoded from memory: cv2.imread prints its own complaints beside ours.
    octets = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(octets, flags) if octets.size else None
    if image is None:
        raise ValueError(f'{path} is not a readable image')
    return image


def _read_png16(path: Path) -> Any:
    raw = _imread(path, cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ValueError(f'{path} must be a 16-bit grey PNG, got {raw.dtype} {raw.shape}')
    return raw


def metres(raw: Any, unit_m: float) -> Float32Array:
    """Return depth in metres of counts with this many metres each; 0 counts are no return."""
    # Divided by whole counts a metre where there are such: 0.001 has no exact float, 1000 has.
    per_metre = 1 / unit_m
    if abs(per_metre - round(per_metre)) < 1e-6 * per_metre:
        per_metre = round(per_metre)
    depth_m = (raw / np.float64(per_metre)).astype(np.float32)
    depth_m[raw == 0] = np.nan
    return np.asarray(depth_m)


def _read_color(path: Path) -> UInt8Array:
    bgr = _imread(path, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _read_pose(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        pose = np.array(path.read_text(encoding='utf-8').split(), np.float64).reshape(4, 4)
    except ValueError:
        pose = np.full((4, 4), np.nan)
    if not np.isfinite(pose).all():
        raise ValueError(f'{path} is not a 4x4 matrix of numbers')
    return pose

"""Reads recordings that are folders of images: the project's own layout, and those of `tum`.

The project's layout:

    camera.json    width height fx fy cx cy (pixels), depth_unit_m (metres a count),
                   color_aligned_to_depth; where it is false, color_K (fx fy cx cy) and
                   color_from_depth_t_m (x y z)
    depth/NNN.png  16 bits, 0 for no return
    color/NNN.jpg  optional; .png too
    reference/NNN.png  optional, true depth in the same unit
    poses/NNN.txt  optional, 4x4 camera to world, metres

Frames come in the order of their numbers, padded with zeros or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
import json
import math
from pathlib import Path
import re
from typing import Any, NamedTuple

import cv2
import numpy as np

from .counts import metres_from_counts
from .data import (
    ColorImage,
    DepthEncoding,
    DepthImage,
    Header,
    PinholeCamera,
    RigidTransform,
    UInt8Array,
)
from .tum import EPOCH_NS, Intrinsics, is_listed, read_listing

DEPTH_FRAME = 'camera_depth_optical_frame'
COLOR_FRAME = 'camera_color_optical_frame'
WORLD_FRAME = 'world'


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
        depth_unit_m: Metres of one count, in place of what the folder says.
        intrinsics: fx fy cx cy of the depth image in pixels, likewise; a negative fy means that y
            points up in the poses, as in ICL-NUIM, and turns them.

    Attributes:
        color_from_depth: Where the depth camera sits in the colour camera, if they differ.
        sensor: What camera.json says of the camera, or empty.
        note: What it says besides, or empty.
        remarks: What was assumed, and what was left out: sentences for the user.

    Raises:
        ValueError: If the folder has neither layout, or its calibration is incomplete.
        FileNotFoundError: If there is no folder.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate_hz: float = 30.0,
        depth_unit_m: float | None = None,
        intrinsics: Intrinsics | None = None,
    ) -> None:
        if not path.is_dir():
            raise FileNotFoundError(f'there is no folder {path}')
        self.path = path
        self.color_from_depth: RigidTransform | None = None
        self.sensor = self.note = ''
        self.remarks: list[str] = []
        self._color_k: tuple[float, ...] = ()
        if (path / 'camera.json').exists():
            self._open_own(rate_hz, depth_unit_m, intrinsics)
        elif is_listed(path):
            self._open_listed(rate_hz, depth_unit_m, intrinsics)
        else:
            raise ValueError(
                f"{path} holds neither camera.json (this project's layout) "
                'nor depth.txt or associations.txt (TUM RGB-D and its like)'
            )

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
            pose = _transform(
                Header(entry.stamp_ns, WORLD_FRAME),
                _Y_UP @ entry.pose @ _Y_UP if self._y_up else entry.pose,
            )
        depth = self._depth_image(header, entry.depth)
        return FolderFrame(depth, self._camera(header), color, color_camera, reference, pose)

    # -- the project's layout

    def _open_own(
        self, rate_hz: float, depth_unit_m: float | None, intrinsics: Intrinsics | None
    ) -> None:
        path = self.path / 'camera.json'
        try:
            info = json.loads(path.read_text(encoding='utf-8-sig'))
            if not isinstance(info, dict):
                raise ValueError('expected names and values')
            size = _whole(info, 'width'), _whole(info, 'height')
            if intrinsics is None:
                fx, fy, cx, cy = (_number(info, name) for name in ('fx', 'fy', 'cx', 'cy'))
                intrinsics = fx, fy, cx, cy
            if depth_unit_m is None:
                depth_unit_m = _number(info, 'depth_unit_m')
            self._calibrate(size, intrinsics, depth_unit_m)
            self._color_k = _numbers(info, 'color_K', 'fx fy cx cy')
            if self._color_k:
                _pinhole(Header(0, COLOR_FRAME), (1, 1), self._color_k)
            placed_m = _numbers(info, 'color_from_depth_t_m', 'x y z')
        except KeyError as error:
            raise ValueError(f'{path} has no {error.args[0]!r}') from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f'{path} is not JSON: {error}') from None
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        self.sensor = str(info.get('sensor', ''))
        self.note = str(info.get('note', ''))
        aligned = info.get('color_aligned_to_depth', False)
        if not isinstance(aligned, bool):
            raise ValueError(f'{path}: color_aligned_to_depth must be true or false')
        self._color_frame = DEPTH_FRAME if aligned else COLOR_FRAME
        if placed_m and not aligned:
            self.color_from_depth = RigidTransform(
                Header(0, COLOR_FRAME), DEPTH_FRAME, np.eye(3), np.array(placed_m)
            )
        depths = _in_order(self.path / 'depth')
        if not depths:
            raise ValueError(f'{self.path} has no depth images: there is no depth/*.png')
        poses = [_read_pose(self.path / 'poses' / f'{depth.stem}.txt') for depth in depths]
        if bad := sum(pose is not None and not _is_pose(pose) for pose in poses):
            self.remarks.append(
                f'{bad} of {len(poses)} poses are no pose (not finite, or no rotation) and were '
                'left out'
            )
        self._entries = [
            _Entry(
                EPOCH_NS + round(i * 1e9 / rate_hz),
                depth,
                _first(self.path / 'color', depth.stem, ('.jpg', '.png')),
                _first(self.path / 'reference', depth.stem, ('.png',)),
                pose if pose is not None and _is_pose(pose) else None,
            )
            for i, (depth, pose) in enumerate(zip(depths, poses, strict=True))
        ]

    def _calibrate(
        self, size: tuple[int, int], intrinsics: Intrinsics, depth_unit_m: float
    ) -> None:
        """Take the calibration of the depth image over."""
        if not 0 < depth_unit_m < 1:
            raise ValueError(
                f'depth_unit_m is the metres of one count, got {depth_unit_m:g}; '
                'millimetres are 0.001'
            )
        fx, fy, cx, cy = intrinsics
        self._unit_m = depth_unit_m
        self._y_up = fy < 0
        self._depth_camera = _pinhole(Header(0, DEPTH_FRAME), size, (fx, abs(fy), cx, cy))

    def _camera(self, header: Header) -> PinholeCamera:
        return replace(self._depth_camera, header=header)

    def _color_camera(self, header: Header, color: ColorImage) -> PinholeCamera | None:
        height, width = color.rgb.shape[:2]
        if self._color_k:
            return _pinhole(header, (width, height), self._color_k)
        if self._color_frame == DEPTH_FRAME:
            return self._camera(header).scaled(width, height)
        return None

    def _depth_image(self, header: Header, path: Path) -> DepthImage:
        raw = _read_png16(path)
        camera = self._depth_camera
        if raw.shape != (camera.height, camera.width):
            raise ValueError(
                f'{path} is {raw.shape[1]}x{raw.shape[0]}, but its camera '
                f'{camera.width}x{camera.height}'
            )
        # Whole millimetres stay 16UC1; finer units would be rounded by it.
        encoding: DepthEncoding = '16UC1' if self._unit_m == 0.001 else '32FC1'
        return DepthImage(header, metres_from_counts(raw, self._unit_m), encoding)

    # -- TUM RGB-D and its like

    def _open_listed(
        self, rate_hz: float, depth_unit_m: float | None, intrinsics: Intrinsics | None
    ) -> None:
        listing = read_listing(self.path, rate_hz=rate_hz)
        if not listing.rows:
            raise ValueError(f'{self.path} has no depth images: its list is empty')
        self._entries = [
            _Entry(row.stamp_ns, row.depth, row.color, None, row.world_from_camera)
            for row in listing.rows
        ]
        height, width = _read_png16(self._entries[0].depth).shape
        self.remarks += listing.notes
        if intrinsics is None:
            intrinsics = listing.intrinsics
            fx, fy, cx, cy = intrinsics
            assumed = listing.intrinsics_note.startswith('assumed')
            if assumed and (width, height) != (640, 480):
                raise ValueError(
                    f'{self._entries[0].depth} is {width}x{height}, and nothing says what its '
                    'camera is (only 640x480 is taken for that of TUM RGB-D): '
                    'give --camera fx,fy,cx,cy, or put them into calibration.txt'
                )
            self.remarks.append(
                f'camera fx {fx:g} fy {fy:g} cx {cx:g} cy {cy:g} px: {listing.intrinsics_note}'
                + ('; --camera fx,fy,cx,cy says otherwise' if assumed else '')
            )
        if depth_unit_m is None:
            depth_unit_m = listing.depth_unit_m
            self.remarks.append(
                f'depth {depth_unit_m:g} m a count ({1 / depth_unit_m:g} counts a metre): '
                f'{listing.unit_note}; --depth-unit-m says otherwise'
            )
        self._calibrate((width, height), intrinsics, depth_unit_m)
        self._color_frame = DEPTH_FRAME  # TUM's depth is registered to its colour
        if listing.color_intrinsics is not None:
            self._color_k, self._color_frame = listing.color_intrinsics, COLOR_FRAME
            if listing.color_from_depth is not None:
                self.color_from_depth = _transform(
                    Header(0, COLOR_FRAME), listing.color_from_depth
                )


def _pinhole(header: Header, size: tuple[int, int], k: tuple[float, ...]) -> PinholeCamera:
    fx, fy, cx, cy = k
    return PinholeCamera(header, *size, fx, fy, cx, cy)


def _transform(header: Header, matrix: Any) -> RigidTransform:
    return RigidTransform(
        header,
        DEPTH_FRAME,
        np.ascontiguousarray(matrix[:3, :3]),
        np.ascontiguousarray(matrix[:3, 3]),
    )


# Mirrors a camera, and the world with it, whose y axis points up.
_Y_UP = np.diag([1.0, -1.0, 1.0, 1.0])


def _number(info: dict[str, Any], name: str) -> float:
    value = info[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'{name} must be a number, got {value!r}')
    return float(value)


def _whole(info: dict[str, Any], name: str) -> int:
    value = _number(info, name)
    if value != int(value):
        raise ValueError(f'{name} must be a whole number, got {value!r}')
    return int(value)


def _numbers(info: dict[str, Any], name: str, words: str) -> tuple[float, ...]:
    """Return a list of numbers that may be missing: then none."""
    values = info.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) != len(words.split()):
        raise ValueError(f'{name} must be {len(words.split())} numbers: {words}')
    named = {f'{name}[{i}]': value for i, value in enumerate(values)}
    return tuple(_number(named, key) for key in named)


def _in_order(folder: Path) -> list[Path]:
    """Return the PNG files of a folder in the order of the numbers in their names."""
    if not folder.is_dir():
        return []
    paths = [p for p in folder.iterdir() if p.suffix.lower() == '.png' and p.name[0] != '.']
    numbers = all(re.fullmatch(r'\d+(\.\d+)?', path.stem, re.ASCII) for path in paths)

    def key(path: Path) -> Any:
        if numbers:  # also those with a point: 1.5 comes after 1.25
            return Decimal(path.stem), path.name
        parts = re.split(r'(\d+)', path.stem, flags=re.ASCII)
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


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


def _read_color(path: Path) -> UInt8Array:
    bgr = _imread(path, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _read_pose(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return np.array(path.read_text(encoding='utf-8').split(), np.float64).reshape(4, 4)
    except ValueError:
        raise ValueError(f'{path} is not a 4x4 matrix of numbers') from None


def _is_pose(pose: Any) -> bool:
    if not np.isfinite(pose).all():  # what trackers write where they are lost
        return False
    rotation = pose[:3, :3]
    return bool(
        np.allclose(rotation @ rotation.T, np.eye(3), atol=0.02) and np.linalg.det(rotation) > 0
    )

"""Reads folders whose images are listed in text files: TUM RGB-D and the sets that followed it.

    depth.txt        a stamp and a file name in every line; aligned_depth.txt in OpenLORIS-Scene
    rgb.txt          optional, likewise; color.txt in OpenLORIS-Scene
    associations.txt in place of both: stamp, file, stamp, file (ICL-NUIM)
    groundtruth.txt  optional: stamp tx ty tz qx qy qz qw, camera to world; *.gt.freiburg in
                     ICL-NUIM; the pose of the robot's base_link in OpenLORIS-Scene
    calibration.txt  optional: fx fy cx cy (ETH3D); sensors.yaml and trans_matrix.yaml in
                     OpenLORIS-Scene

https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
import re
from statistics import median
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from .data import Float64Array, Header, RigidTransform
from .geometry import TransformTree, rotation_from_quaternion

Intrinsics = tuple[float, float, float, float]
"""fx fy cx cy, pixels; fy is negative where y points up."""

EPOCH_NS = 1_700_000_000_000_000_000
"""When frames without stamps start: a fixed moment, so that reading twice gives the same bytes."""

_DEPTH_LISTS = ('aligned_depth.txt', 'depth.txt')
_COLOR_LISTS = ('rgb.txt', 'color.txt')
_CALIBRATIONS = ('calibration.txt', 'intrinsics.txt', 'camera-intrinsics.txt')

# TUM's own association tool pairs what lies within 20 ms.
_SLOP_NS = 20_000_000

_TUM_INTRINSICS: Intrinsics = (525.0, 525.0, 319.5, 239.5)
_ICL_INTRINSICS: Intrinsics = (481.2, -480.0, 319.5, 239.5)


class Row(NamedTuple):
    """One frame of a listing.

    Attributes:
        stamp_ns: Its stamp, nanoseconds.
        depth: Its depth image.
        color: Its colour image, if there is one.
        world_from_camera: (4, 4), metres, if there is one.
    """

    stamp_ns: int
    depth: Path
    color: Path | None
    world_from_camera: Float64Array | None


@dataclass
class Listing:
    """The lists of a folder.

    Attributes:
        rows: The frames, by stamp.
        intrinsics: Intrinsics of the depth image.
        color_intrinsics: Intrinsics of the colour image, where the depth is not registered to it.
        color_from_depth: Where the depth camera sits in that of the colour, (4, 4), if known.
        depth_unit_m: Metres of one count.
        intrinsics_note: Where the intrinsics come from.
        unit_note: Where the unit comes from.
        notes: What else was assumed, and what was left out.
    """

    rows: list[Row] = field(default_factory=list)
    intrinsics: Intrinsics = _TUM_INTRINSICS
    color_intrinsics: Intrinsics | None = None
    color_from_depth: Float64Array | None = None
    depth_unit_m: float = 1 / 5000
    intrinsics_note: str = 'assumed, as TUM recommends for its sequences'
    unit_note: str = 'assumed, as in TUM RGB-D'
    notes: list[str] = field(default_factory=list)


def is_listed(folder: Path) -> bool:
    """Return whether a folder holds a list of depth images."""
    return _first(folder, _DEPTH_LISTS) is not None or _associations(folder) is not None


def read_listing(folder: Path, *, rate_hz: float) -> Listing:
    """Read all the lists and calibrations of a folder, but no image.

    Args:
        folder: The folder.
        rate_hz: Frames a second, where the lists number their frames.

    Raises:
        ValueError: If a file is not what it should be.
        FileNotFoundError: If depth images are listed that are not there.
    """
    listing = Listing()
    clock = _Clock(rate_hz, listing.notes)
    depth_list = _first(folder, _DEPTH_LISTS)
    if depth_list is not None:
        depth = {ns: row[0] for ns, row in clock.stamped(depth_list, _rows(depth_list, 1)).items()}
        color_list = _first(folder, _COLOR_LISTS)
        colors = clock.stamped(color_list, _rows(color_list, 1)) if color_list else {}
        near = _nearest({ns: row[0] for ns, row in colors.items()}, depth)
        color = {ns: name for ns, name in near.items() if name is not None}
        if color_list:
            _tell_unmatched(listing.notes, 'colour', len(depth) - len(color), len(depth))
    else:
        depth_list = _associations(folder)
        assert depth_list is not None
        rows = clock.stamped(depth_list, _rows(depth_list, 3))
        first = _depth_column(depth_list, rows)
        depth = {ns: row[first] for ns, row in rows.items()}
        color = {ns: row[2 - first] for ns, row in rows.items()}
    missing = [name for name in depth.values() if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f'{depth_list} lists {len(missing)} depth images that are not there, '
            f'the first of them {folder / missing[0]}: put them there, or remove their lines'
        )
    lost = [ns for ns, name in color.items() if not (folder / name).exists()]
    if lost:
        listing.notes.append(
            f'{len(lost)} listed colour images are not there and were left out, '
            f'the first of them {folder / color[lost[0]]}'
        )
    for ns in lost:
        del color[ns]

    poses: dict[int, Float64Array] = {}
    truth = _first(folder, ('groundtruth.txt',)) or _only(folder, '*.gt.freiburg')
    if truth is not None:
        poses = _poses(truth, clock, listing.notes)
    _calibrate(folder, listing, truth, aligned=depth_list.name == _DEPTH_LISTS[0])
    if (folder / 'sensors.yaml').exists():
        poses = _of_camera(folder, poses, listing, aligned=depth_list.name == _DEPTH_LISTS[0])
    placed = _nearest(poses, depth)
    if poses:
        found = sum(pose is not None for pose in placed.values())
        _tell_unmatched(listing.notes, 'pose', len(depth) - found, len(depth))
    listing.rows = [
        Row(ns, folder / name, folder / color[ns] if ns in color else None, placed[ns])
        for ns, name in depth.items()
    ]
    return listing


def _tell_unmatched(notes: list[str], what: str, count: int, total: int) -> None:
    if count:
        notes.append(f'{count} of {total} frames have no {what} within {_SLOP_NS / 1e6:g} ms')


def _first(folder: Path, names: Collection[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        names = ', '.join(path.name for path in found)
        raise ValueError(f'{folder} has several of {pattern}: {names}; leave one there')
    return found[0] if found else None


def _associations(folder: Path) -> Path | None:
    return _only(folder, 'assoc*.txt')


# --------------------------------------------------------------------------------- rows


class _Line(NamedTuple):
    number: int
    stamp: Decimal
    columns: list[str]


def _rows(path: Path, columns: int) -> list[_Line]:
    """Return the rows of a list, which blanks, tabs or commas divide."""
    kind = {1: 'file name', 3: 'file name, twice', 7: 'tx ty tz qx qy qz qw'}[columns]
    lines = []
    text = path.read_text(encoding='utf-8-sig', errors='replace')
    for number, line in enumerate(text.splitlines(), 1):
        words = re.split(r'\s*[,;\s]\s*', line.strip())
        if not words[0] or words[0].startswith(('#', '%')):
            continue
        try:
            stamp, rest = Decimal(words[0]), [word for word in words[1:] if word]
            if not 0 <= stamp < 10**19 or len(rest) < columns:
                raise ValueError
            if columns == 7:
                [float(value) for value in rest[:columns]]
        except (InvalidOperation, ValueError):
            raise ValueError(
                f'{path}, line {number}: expected a timestamp and {kind}, got {line.strip()!r}'
            ) from None
        lines.append(_Line(number, stamp, rest))
    return lines


# Where a recording's clock counts from 1970, its size tells the unit.
_SINCE_1970 = (
    (10**17, 1, 'nanoseconds'),
    (10**14, 10**3, 'microseconds'),
    (10**11, 10**6, 'milliseconds'),
    (10**8, 10**9, 'seconds'),
)
# Where it counts from its start in whole numbers, the step from frame to frame does.
_STEPS = ((10**6, 1, 'nanoseconds'), (10**3, 10**3, 'microseconds'), (10, 10**6, 'milliseconds'))


class _Clock:
    """Turns the stamps of a folder's lists into nanoseconds."""

    def __init__(self, rate_hz: float, notes: list[str]) -> None:
        self._rate_hz = rate_hz
        self._notes = notes
        self._whole: tuple[int, str] | None = None

    def stamped(self, path: Path, lines: list[_Line]) -> dict[int, list[str]]:
        """Return the columns after the stamp by stamp in nanoseconds, in the order of time."""
        scale_ns, unit = self._unit([line.stamp for line in lines])
        if unit != 'seconds' and lines:
            at = f' at {self._rate_hz:g} Hz (--rate-hz)' if unit == 'frame numbers' else ''
            self._notes.append(f'the stamps of {path.name} were read as {unit}{at}')
        found: dict[int, list[str]] = {}
        repeated: list[_Line] = []
        for line in lines:
            if unit == 'frame numbers':
                ns = EPOCH_NS + round(float(line.stamp) * 1e9 / self._rate_hz)
            else:
                ns = round(line.stamp * scale_ns)
            if not ns < 2**31 * 10**9:
                raise ValueError(
                    f'{path}, line {line.number}: the timestamp {line.stamp} is no time ROS has'
                )
            if ns in found:
                repeated.append(line)
            else:
                found[ns] = line.columns
        if repeated:
            self._notes.append(
                f'{len(repeated)} of {len(lines)} rows of {path.name} repeat a stamp and were '
                f'left out, the first of them line {repeated[0].number}: give every row its own'
            )
        return dict(sorted(found.items()))

    def _unit(self, stamps: list[Decimal]) -> tuple[int, str]:
        largest = max(stamps, default=Decimal(0))
        for least, scale_ns, unit in _SINCE_1970:
            if largest >= least:
                return scale_ns, unit
        if any(stamp != int(stamp) for stamp in stamps):
            return 10**9, 'seconds'
        if self._whole is None:
            distinct = sorted(set(stamps))
            steps = [b - a for a, b in pairwise(distinct)]
            step = median(steps) if steps else 0
            self._whole = next(
                ((scale_ns, unit) for least, scale_ns, unit in _STEPS if step >= least),
                (0, 'frame numbers'),
            )
        return self._whole


_T = TypeVar('_T')


def _nearest(of: Mapping[int, _T], stamps_ns: Collection[int]) -> dict[int, _T | None]:
    """Return what lies nearest to every stamp, and not too far from it."""
    have = sorted(of)
    found: dict[int, _T | None] = {}
    for stamp_ns in stamps_ns:
        after = bisect_left(have, stamp_ns)
        near = min(
            have[max(0, after - 1) : after + 1], key=lambda ns: abs(ns - stamp_ns), default=None
        )
        close = near is not None and abs(near - stamp_ns) <= _SLOP_NS
        found[stamp_ns] = of[near] if near is not None and close else None
    return found


def _depth_column(path: Path, rows: Mapping[int, list[str]]) -> int:
    """Return which column of an association names the depth, 0 or 2: that in a depth folder."""
    for row in rows.values():
        depth = ['depth' in row[column].lower() for column in (0, 2)]
        if depth[0] == depth[1]:
            raise ValueError(
                f'{path}: neither or both of {row[0]} and {row[2]} have depth in their name; '
                'name the folder of the depth images depth'
            )
        return 0 if depth[0] else 2
    return 0


def _poses(path: Path, clock: _Clock, notes: list[str]) -> dict[int, Float64Array]:
    header = ' '.join(
        line
        for line in path.read_text(encoding='utf-8-sig', errors='replace').splitlines()[:20]
        if line.startswith('#')
    )
    scalar_first = re.search(r'q_?\w*w\b.*q_?\w*x\b', header.lower()) is not None
    poses = {}
    rows = clock.stamped(path, _rows(path, 7))
    for ns, row in rows.items():
        x_m, y_m, z_m, *quaternion = (float(value) for value in row[:7])
        if scalar_first:
            quaternion = [*quaternion[1:], quaternion[0]]
        pose = np.eye(4)
        pose[:3, 3] = x_m, y_m, z_m
        if np.isfinite([*pose[:3, 3], *quaternion]).all() and np.linalg.norm(quaternion) > 1e-6:
            pose[:3, :3] = rotation_from_quaternion(*quaternion)
            poses[ns] = pose
    if len(poses) < len(rows):
        notes.append(
            f'{len(rows) - len(poses)} of {len(rows)} poses of {path.name} are no pose (not '
            'finite, or a quaternion of zeros) and were left out'
        )
    return poses


# -------------------------------------------------------------------------- calibration

_LORIS_DEPTH, _LORIS_COLOR = 'd400_depth_optical_frame', 'd400_color_optical_frame'


def _calibrate(folder: Path, listing: Listing, truth: Path | None, *, aligned: bool) -> None:
    """Find the intrinsics and the unit."""
    sensors = folder / 'sensors.yaml'
    if aligned or sensors.exists():
        listing.depth_unit_m = 0.001
        listing.unit_note = 'as in OpenLORIS-Scene'
    if (text := _first(folder, _CALIBRATIONS)) is not None:
        listing.intrinsics, listing.intrinsics_note = _numbers(text), f'from {text.name}'
    elif sensors.exists():
        name = _LORIS_COLOR if aligned else _LORIS_DEPTH
        listing.intrinsics = _loris_intrinsics(sensors, name)
        listing.intrinsics_note = f'{name} of {sensors.name}'
        if not aligned:
            listing.color_intrinsics = _loris_intrinsics(sensors, _LORIS_COLOR)
    elif (truth is not None and truth.suffix == '.freiburg') or (
        _first(folder, _DEPTH_LISTS) is None and any('frame numbers' in n for n in listing.notes)
    ):
        listing.intrinsics, listing.intrinsics_note = _ICL_INTRINSICS, "assumed, ICL-NUIM's"


def _numbers(path: Path) -> Intrinsics:
    """Read fx fy cx cy, or a 3x3 matrix of them."""
    text = path.read_text(encoding='utf-8-sig', errors='replace')
    words = re.sub(r'[#%].*', '', text).replace(',', ' ').split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) == 9 and values[1] == values[3] == 0 and values[6:] == [0, 0, 1]:
        values = [values[0], values[4], values[2], values[5]]
    if len(values) != 4 or not np.isfinite(values).all():
        raise ValueError(
            f'{path}: expected fx fy cx cy or a 3x3 matrix of them; '
            'else name them with --camera fx,fy,cx,cy'
        )
    fx, fy, cx, cy = values
    return fx, fy, cx, cy


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a YAML file of OpenCV; its nodes live no longer than this."""
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        if not storage.isOpened():
            raise ValueError(f'{path} cannot be opened')
        yield storage
    except (cv2.error, SystemError):
        raise ValueError(f'{path} is not what OpenCV writes as YAML') from None


def _loris_intrinsics(path: Path, camera: str) -> Intrinsics:
    with _opened(path) as storage:
        node = storage.getNode(camera).getNode('intrinsics')
        values = None if node.empty() else node.mat()
    if values is None or values.size != 4:
        raise ValueError(
            f'{path} has no intrinsics of {camera}; name them with --camera fx,fy,cx,cy'
        )
    fx, cx, fy, cy = (float(value) for value in values.ravel())  # in this order there
    if not 0.8 < fx / (fy or 1e-9) < 1.25:
        raise ValueError(
            f'{path}: the intrinsics of {camera} must be fx cx fy cy, got {fx:g} {cx:g} {fy:g} '
            f'{cy:g}; name them with --camera fx,fy,cx,cy'
        )
    return fx, fy, cx, cy


def _of_camera(
    folder: Path, poses: dict[int, Float64Array], listing: Listing, *, aligned: bool
) -> dict[int, Float64Array]:
    """Move the poses of OpenLORIS-Scene from the robot's base to its camera."""
    path = folder / 'trans_matrix.yaml'
    frame = _LORIS_COLOR if aligned else _LORIS_DEPTH
    base_from_camera = None
    if path.exists():
        tree = _tree(path)
        base_from_camera = tree.lookup('base_link', frame)
        if not aligned and (placed := tree.lookup(_LORIS_COLOR, _LORIS_DEPTH)):
            listing.color_from_depth = _matrix(placed)
    if poses and base_from_camera is None:
        listing.notes.append(
            f'the poses were left out: they are those of base_link, and {path.name} does not say '
            f'where {frame} sits in it'
        )
        return {}
    if base_from_camera is None:
        return {}
    mounted = _matrix(base_from_camera)
    return {ns: pose @ mounted for ns, pose in poses.items()}


def _tree(path: Path) -> TransformTree:
    tree = TransformTree()
    with _opened(path) as storage:
        items = storage.getNode('trans_matrix')
        for index in range(items.size()):
            item = items.at(index)
            parent, child = (
                item.getNode(f'{name}_frame').string() for name in ('parent', 'child')
            )
            matrix = item.getNode('matrix').mat()
            if not parent or not child or matrix is None or matrix.shape != (4, 4):
                raise ValueError(f'{path}: expected parent_frame, child_frame and a 4x4 matrix')
            place = np.array(matrix, np.float64)
            placed = RigidTransform(Header(0, parent), child, place[:3, :3], place[:3, 3])
            tree.update([placed])
    return tree


def _matrix(transform: RigidTransform) -> Float64Array:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = transform.rotation, transform.translation_m
    return matrix

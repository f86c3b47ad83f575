"""Where the truth comes from: what is fed to the contenders, and what they are compared with.

Three protocols, chosen by what a source has:

- *reference*: the source holds true depth for some frames. All frames are fed in order, so that
  filters over time work as they would live; those with a reference are scored.
- *static*: nothing moves where a mask says so; the truth of a frame is the temporal median of the
  other frames (of 64 of them, spread over the source, where there are more).
- *later*: the camera moves through a scene that stands still; the truth of every tenth frame is
  the median of frames after it, each aligned with it by its depth and seen from it. Filters over
  time are not judged by what they remember.
- *punched*: the hole pattern of another frame of the source, flipped, shifted and opened 3x3, is
  cut into the measurements, which are then the truth. It says nothing about noise. A source of one
  frame lends its own pattern.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
import warnings

import cv2
import numpy as np

from ..config import port_topics
from ..data import (
    BoolArray,
    ColorImage,
    DepthImage,
    Float32Array,
    Header,
    PinholeCamera,
    RigidTransform,
)
from ..discovery import guessed_topics
from ..filters.motion import estimate_motion, surface
from ..filters.noise import SENSORS, SensorNoise
from ..folders import Folder
from ..geometry import TransformTree, check_camera_fits, seen_from
from ..hosts.bag import BagError, Frames, contents, open_bag
from ..stage import Topic

ProtocolName = Literal['reference', 'static', 'later', 'punched']

FARTHEST_SCORED_M = 4.0
"""Truth beyond this is not scored: there the sensors themselves are inexact."""

REFERENCE_TOPIC = '/camera/reference/image_rect'
"""Where `depth-refiner import` writes a folder's reference."""

_MAX_PATTERNS = 32
_MAX_STATIC_SAMPLES = 64
_STRAY_COLOR = 'Colour is left out where tf does not say how its camera sits to the depth camera.'


class Frame(NamedTuple):
    """One frame of a source.

    Attributes:
        name: What to call it in a report.
        values: What is fed to a pipeline, by port; empty if the frame is corrupt.
        reference: True depth, where there is some.
        corrupt: Why the frame cannot be used, if so.
    """

    name: str
    values: dict[str, Any]
    reference: DepthImage | None = None
    corrupt: str = ''


class Source(Protocol):
    """A recording, reduced to what the protocols need; iterate for its frames, again and again.

    Attributes:
        name: What to call it in a report.
        sensor: Name of its noise model, or empty if unknown.
        transforms: Its transforms.
        static: Shape (H, W): where nothing moves, if that is known.
        has_reference: Whether some frame has a reference.
        note: What a reader of the figures must know.
    """

    name: str
    sensor: str
    transforms: TransformTree
    static: BoolArray | None
    has_reference: bool
    note: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...


class FolderSource:
    """A folder of images as a source; see `folders.Folder`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If the folder is not a recording.
    """

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        self.name = path.resolve().name
        self.sensor = _sensor(self._folder.sensor)
        self.note = self._folder.note
        self.transforms = TransformTree()
        if self._folder.color_from_depth is not None:
            self.transforms.update([self._folder.color_from_depth])
        self.has_reference = any((path / 'reference').glob('*.png'))
        mask = path / 'static_mask.png'
        self.static: BoolArray | None = None
        if mask.exists():
            image = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            if image is None:
                raise ValueError(f'{mask} is not a readable image')
            self.static = np.asarray(image > 0)

    def __len__(self) -> int:
        return len(self._folder)

    def __iter__(self) -> Iterator[Frame]:
        for i, name in enumerate(self._folder.names):
            try:
                frame = self._folder.read(i)
            except (OSError, ValueError) as error:
                yield Frame(name, {}, corrupt=str(error))
                continue
            if self.static is not None and self.static.shape != frame.depth.depth_m.shape:
                sizes = f'{self.static.shape} and {frame.depth.depth_m.shape}'
                reason = f'static_mask.png and depth differ in size: {sizes}'
                yield Frame(name, {}, corrupt=reason)
                continue
            values = {p: getattr(frame, p) for p in ('depth', 'camera', 'color', 'color_camera')}
            yield Frame(name, _usable(values, self), frame.reference)


def _usable(values: Mapping[str, Any], source: FolderSource | BagSource) -> dict[str, Any]:
    """Return the values that a pipeline can use: without colour seen from an unknown place."""
    found = {port: value for port, value in values.items() if value is not None}
    if 'color' in found and 'color_camera' in found:
        frames = (found[port].header.frame_id for port in ('color_camera', 'camera'))
        if source.transforms.lookup(*frames) is None:
            del found['color'], found['color_camera']
            if _STRAY_COLOR not in source.note:
                source.note = f'{source.note} {_STRAY_COLOR}'.strip()
    return found


def _sensor(words: str) -> str:
    """Return the noise model that fits a sensor's name, or nothing."""
    known = {
        'kinect v1': 'kinect_v1',
        'xtion': 'kinect_v1',
        'primesense': 'kinect_v1',
        'kinect v2': 'kinect_v2',
        'azure': 'azure_kinect',
        'femto': 'azure_kinect',
        'realsense': 'realsense_d400',
        'oak': 'oak_d',
    }
    return next((model for word, model in known.items() if word in words.lower()), '')


class BagSource:
    """A bag as a source.

    Args:
        path: A bag of any kind.
        topics: Topics of the ports depth, camera, color, color_camera and reference; what is left
            out is guessed by name.
        namespace: Namespace of relative names.
        depth_unit_m: See `Frames`.

    Raises:
        BagError: If the bag cannot be read or has no depth.
    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, str] | None = None,
        namespace: str = '/camera',
        *,
        depth_unit_m: float = 0.0,
    ) -> None:
        topics = topics or {}
        self._depth_unit_m = depth_unit_m
        self._path = path
        self.name = path.resolve().stem
        self.sensor = ''
        self.static: BoolArray | None = None
        self.note = ''
        inputs = {
            'depth': Topic(DepthImage, 'depth/image_rect'),
            'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
            'color': Topic(ColorImage, 'color/image_rect', optional=True),
            'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
            'reference': Topic(DepthImage, REFERENCE_TOPIC, optional=True),
        }
        self._inputs = inputs
        with open_bag(path) as reader:
            recorded, encodings = contents(reader)
            wanted = port_topics(inputs, topics, namespace)
            self._topics = guessed_topics(wanted, recorded, topics, encodings)
            frames = Frames(reader, inputs, self._topics)
            self._count = frames.frame_count
            if self._count == 0:
                raise BagError(f'{path} has no message on {frames.topics["depth"]}')
            truth = frames.topics.get('reference')
            self.has_reference = any(c.topic == truth and c.msgcount for c in reader.connections)
            if topics.get('reference') and not self.has_reference:
                has = ', '.join(sorted(recorded))
                raise BagError(f'{path} has no reference on {topics["reference"]}; it has {has}')
            self.transforms = frames.transforms

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        with open_bag(self._path) as reader:
            frames = Frames(reader, self._inputs, self._topics, depth_unit_m=self._depth_unit_m)
            self.transforms = frames.transforms
            name = 'the start'
            try:
                for _, matched in frames:
                    stamp = matched['depth'].header.stamp
                    name = f'{stamp.sec}.{stamp.nanosec // 1_000_000:03d}'
                    yield self._read(name, frames, matched)
            except BagError as error:
                yield Frame(f'after {name}', {}, corrupt=str(error))

    def _read(self, name: str, frames: Frames, matched: Mapping[str, Any]) -> Frame:
        try:
            values = frames.decoded(matched)
            check_camera_fits(values['depth'].depth_m, values['camera'])
        except ValueError as error:
            return Frame(name, {}, corrupt=str(error))
        reference = values.pop('reference', None)
        return Frame(name, _usable(values, self), reference)


def open_source(
    path: Path,
    topics: Mapping[str, str] | None = None,
    namespace: str = '/camera',
    *,
    depth_unit_m: float = 0.0,
) -> Source:
    """Open a folder of images or a bag.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is neither.
    """
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        return FolderSource(path)
    return BagSource(path, topics, namespace, depth_unit_m=depth_unit_m)


class Case(NamedTuple):
    """One frame under a protocol.

    Attributes:
        name: What to call it in a report.
        values: What is fed to a pipeline, by port; empty if the frame is corrupt.
        truth_m: Shape (H, W), metres, NaN where unknown; None if the frame is fed but not scored.
        scored: Shape (H, W): where the truth counts.
        corrupt: Why the frame cannot be used, if so.
    """

    name: str
    values: dict[str, Any]
    truth_m: Float32Array | None = None
    scored: BoolArray | None = None
    corrupt: str = ''


def protocol_of(source: Source) -> ProtocolName:
    """Return the protocol that fits a source."""
    if source.has_reference:
        return 'reference'
    return 'static' if source.static is not None and len(source) > 1 else 'punched'


def cases(source: Source, protocol: ProtocolName | None = None, seed: int = 0) -> Iterator[Case]:
    """Yield the frames of a source under a protocol, in order.

    Args:
        source: What to evaluate on.
        protocol: By default the one that fits.
        seed: Seed of the choice and shift of punched patterns.

    Raises:
        ValueError: If the source lacks what the protocol needs.
    """
    protocol = protocol or protocol_of(source)
    if protocol == 'reference':
        return _with_reference(source)
    if protocol == 'static':
        return _static(source)
    if protocol == 'later':
        return _later(source)
    return _punched(source, seed)


def _near(truth_m: Float32Array) -> BoolArray:
    with np.errstate(invalid='ignore'):
        return np.asarray(truth_m < FARTHEST_SCORED_M)


def _with_reference(source: Source) -> Iterator[Case]:
    if not source.has_reference:
        raise ValueError(f'{source.name} has no reference depth')
    for frame in source:
        depth = frame.values.get('depth')
        if frame.reference is None or depth is None:
            yield Case(frame.name, frame.values, corrupt=frame.corrupt)
        elif frame.reference.depth_m.shape != depth.depth_m.shape:
            sizes = f'{frame.reference.depth_m.shape} and {depth.depth_m.shape}'
            yield Case(frame.name, {}, corrupt=f'reference and depth differ in size: {sizes}')
        else:
            truth_m = frame.reference.depth_m
            yield Case(frame.name, frame.values, truth_m, _near(truth_m))


def _static(source: Source) -> Iterator[Case]:
    if source.static is None:
        raise ValueError(f'{source.name} has no static_mask.png')
    every = max(1, -(-len(source) // _MAX_STATIC_SAMPLES))
    samples_m = {
        i: frame.values['depth'].depth_m
        for i, frame in enumerate(source)
        if i % every == 0 and frame.values
    }
    median_m: Float32Array | None = None
    for i, frame in enumerate(source):
        if not frame.values:
            yield Case(frame.name, {}, corrupt=frame.corrupt)
            continue
        if i in samples_m:
            truth_m = _median([depth_m for j, depth_m in samples_m.items() if j != i])
        else:
            if median_m is None:
                median_m = _median(list(samples_m.values()))
            truth_m = median_m
        if truth_m is None:
            yield Case(frame.name, frame.values)
        else:
            yield Case(frame.name, frame.values, truth_m, _near(truth_m) & source.static)


# Of a frame: how often one is scored, how far ahead is looked, and in which steps.
_SCORED_EVERY, _AHEAD, _AHEAD_STEP, _FEWEST_VIEWS = 10, 20, 2, 5


def _later(source: Source) -> Iterator[Case]:
    noise = SENSORS[source.sensor or 'kinect_v1']
    window: deque[tuple[int, Frame]] = deque()
    for number, frame in enumerate(source):
        window.append((number, frame))
        if len(window) > _AHEAD:
            yield _seen_later(window, noise)
            window.popleft()
    while window:
        yield _seen_later(window, noise)
        window.popleft()


def _seen_later(window: Sequence[tuple[int, Frame]], noise: SensorNoise) -> Case:
    """Return the first frame of a window with the truth that the others make, if it is due."""
    number, frame = window[0]
    if not frame.values or number % _SCORED_EVERY:
        return Case(frame.name, frame.values, corrupt=frame.corrupt)
    camera: PinholeCamera = frame.values['camera']
    here = surface(frame.values['depth'].depth_m, camera, noise)
    views_m, pose = [], np.eye(4)
    for ahead, (_, later) in enumerate(window):
        if not (ahead and later.values) or later.values['camera'].width != camera.width:
            continue
        depth_m = later.values['depth'].depth_m
        motion = estimate_motion(surface(depth_m, camera, noise), here, pose)
        if motion.trouble:
            continue
        pose = motion.matrix()
        if ahead % _AHEAD_STEP == 0:
            placed = RigidTransform(Header(0, ''), '', motion.rotation, motion.translation_m)
            views_m.append(seen_from(depth_m, camera, camera, placed).depth_m)
    if len(views_m) < _FEWEST_VIEWS:
        return Case(frame.name, frame.values)
    enough = np.count_nonzero(np.isfinite(views_m), axis=0) >= _FEWEST_VIEWS
    truth_m = _median(views_m)
    assert truth_m is not None
    return Case(frame.name, frame.values, truth_m, _near(truth_m) & enough)


def _median(depths_m: list[Float32Array]) -> Float32Array | None:
    """Return the median of each pixel's measurements, NaN where it has none; None of no frame."""
    if not depths_m:
        return None
    # What np.nanmedian does, in a sixth of its time: NaN sorts behind everything.
    ordered_m = np.sort(np.stack(depths_m), axis=0)
    count = np.count_nonzero(np.isfinite(ordered_m), axis=0)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(depths_m) - 1)
    middle_m = [np.take_along_axis(ordered_m, at[None], axis=0)[0] for at in (lower, upper)]
    return np.asarray((middle_m[0] + middle_m[1]) / 2, np.float32)


def _punched(source: Source, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    patterns = _hole_patterns(source)
    for i, frame in enumerate(source):
        if not frame.values:
            yield Case(frame.name, {}, corrupt=frame.corrupt)
            continue
        depth: DepthImage = frame.values['depth']
        fitting = [(index, p) for index, p in patterns if p.shape == depth.depth_m.shape]
        others = [p for index, p in fitting if index != i] or [p for _, p in fitting]
        if not others:
            yield Case(frame.name, frame.values)
            continue
        pattern = others[rng.integers(len(others))]
        shift = rng.integers(pattern.shape)
        punched = np.roll(pattern, shift, axis=(0, 1)) & np.isfinite(depth.depth_m)
        depth_m = np.where(punched, np.float32(np.nan), depth.depth_m)
        values = {**frame.values, 'depth': replace(depth, depth_m=depth_m)}
        yield Case(frame.name, values, depth.depth_m, punched & _near(depth.depth_m))


def _hole_patterns(source: Source) -> list[tuple[int, BoolArray]]:
    """Return the flipped, opened holes of some frames, spread over the source."""
    every = max(1, -(-len(source) // _MAX_PATTERNS))
    patterns = []
    for i, frame in enumerate(source):
        if i % every == 0 and frame.values:
            hole = np.isnan(frame.values['depth'].depth_m).astype(np.uint8)
            opened = cv2.morphologyEx(hole, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
            patterns.append((i, np.ascontiguousarray(opened[:, ::-1]) > 0))
    return patterns


_REST_FRAMES = 32
_REST_SHARE = 0.2  # of the pixels, below which the camera itself moved
_REST_SPREAD = 0.01  # of the depth: twice what a Kinect's noise is at 3 m


def at_rest(source: Source) -> BoolArray | None:
    """Find the pixels that show something at rest, if the camera is at rest.

    Judged by the raw depth of frames spread over the source, the same for every contender: a
    pixel rests if it nearly always has a depth, and that spreads by less than 1 %.

    Returns:
        Shape (H, W), or None if the camera moves or there are fewer than four frames.
    """
    every = max(1, -(-len(source) // _REST_FRAMES))
    used = (frame for i, frame in enumerate(source) if i % every == 0 and frame.values)
    stack = [frame.values['depth'].depth_m for frame in used]
    if len(stack) < 4 or len({depth_m.shape for depth_m in stack}) > 1:
        return None
    depths_m = np.stack(stack)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Degrees of freedom|Mean of empty')
        spread = np.nanstd(depths_m, axis=0) / np.nanmean(depths_m, axis=0)
    present = np.isfinite(depths_m).mean(axis=0) >= 0.8
    rest = present & (np.nan_to_num(spread, nan=np.inf) < _REST_SPREAD)
    return np.asarray(rest) if rest.mean() >= _REST_SHARE else None

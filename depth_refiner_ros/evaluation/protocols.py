"""Where the truth comes from: what is fed to the contenders, and what they are compared with.

Three protocols, chosen by what a recording offers:

- *reference*: the recording holds true depth for some frames. All frames are fed in order, so
  that filters over time work as they would live; those with a reference are scored.
- *static*: nothing moves where a mask says so; the truth of a frame is the temporal median of the
  other frames.
- *punched*: the hole pattern of another frame of the recording, flipped, shifted and opened 3x3,
  is cut into the measurements, which are then the truth. It says nothing about noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple
import warnings

import cv2
import numpy as np

from ..data import BoolArray, DepthImage, Float32Array
from ..folders import Folder
from ..geometry import TransformTree

Protocol = Literal['reference', 'static', 'punched']

FARTHEST_SCORED_M = 4.0
"""Truth beyond this is not scored: there the sensors themselves say little."""

_MAX_PATTERNS = 32
_MAX_STATIC_FRAMES = 64


class Case(NamedTuple):
    """One frame of a sequence.

    Attributes:
        name: What to call it in a report.
        values: What is fed to a pipeline, by port.
        truth_m: Shape (H, W), metres, NaN where unknown; None if the frame is fed but not scored.
        scored: Shape (H, W): where the truth counts.
    """

    name: str
    values: dict[str, Any]
    truth_m: Float32Array | None = None
    scored: BoolArray | None = None


@dataclass(frozen=True)
class Recording:
    """A recording, reduced to what the protocols need.

    Attributes:
        name: What to call it in a report.
        frames: Returns an iterator over the frames from the start: values by port, with
            `reference`, a DepthImage, where there is one.
        frame_count: How many there are.
        transforms: The static transforms.
        static: Shape (H, W): where nothing moves, if that is known.
        has_reference: Whether some frame has a reference.
        note: What a reader of the figures must know.
    """

    name: str
    frames: Callable[[], Iterator[dict[str, Any]]]
    frame_count: int
    transforms: TransformTree = field(default_factory=TransformTree)
    static: BoolArray | None = None
    has_reference: bool = False
    note: str = ''

    @property
    def protocol(self) -> Protocol:
        """The protocol that fits the recording."""
        if self.has_reference:
            return 'reference'
        return 'static' if self.static is not None else 'punched'


def open_folder(path: Path) -> Recording:
    """Open a folder of images as a recording; see `folders.Folder`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If the folder is not a recording.
    """
    folder = Folder(path)

    def frames() -> Iterator[dict[str, Any]]:
        for frame in folder:
            values = frame._asdict()
            del values['world_from_camera']
            yield {port: value for port, value in values.items() if value is not None}

    tree = TransformTree()
    if folder.color_from_depth is not None:
        tree.update([folder.color_from_depth])
    mask = path / 'static_mask.png'
    static = None
    if mask.exists():
        image = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ValueError(f'{mask} is not a readable image')
        static = image > 0
    return Recording(
        path.name,
        frames,
        len(folder),
        tree,
        static,
        any((path / 'reference').glob('*.png')),
    )


def cases(recording: Recording, protocol: Protocol | None = None, seed: int = 0) -> Iterator[Case]:
    """Yield the frames of a recording under a protocol, in order.

    Args:
        recording: What to evaluate on.
        protocol: By default the one that fits.
        seed: Of the choice and shift of punched patterns.

    Raises:
        ValueError: If the recording does not offer what the protocol needs.
    """
    protocol = protocol or recording.protocol
    if protocol == 'reference':
        return _with_reference(recording)
    if protocol == 'static':
        return _static(recording)
    return _punched(recording, seed)


def _near(truth_m: Float32Array) -> BoolArray:
    with np.errstate(invalid='ignore'):
        return np.asarray(truth_m < FARTHEST_SCORED_M)


def _with_reference(recording: Recording) -> Iterator[Case]:
    if not recording.has_reference:
        raise ValueError(f'{recording.name} has no reference depth')
    for i, values in enumerate(recording.frames()):
        reference = values.pop('reference', None)
        if reference is None:
            yield Case(f'{i:03d}', values)
        else:
            truth_m = reference.depth_m
            yield Case(f'{i:03d}', values, truth_m, _near(truth_m))


def _static(recording: Recording) -> Iterator[Case]:
    if recording.static is None:
        raise ValueError(f'{recording.name} has no static_mask.png')
    if recording.frame_count > _MAX_STATIC_FRAMES:
        raise ValueError(
            f'{recording.name} has {recording.frame_count} frames; the static protocol holds all '
            f'of them and takes at most {_MAX_STATIC_FRAMES}'
        )
    frames = list(recording.frames())
    stack_m = np.stack([values['depth'].depth_m for values in frames])
    for i, values in enumerate(frames):
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'All-NaN slice')
            truth_m = np.nanmedian(np.delete(stack_m, i, 0), axis=0).astype(np.float32)
        yield Case(f'{i:03d}', values, truth_m, _near(truth_m) & recording.static)


def _punched(recording: Recording, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    patterns = _hole_patterns(recording)
    for i, values in enumerate(recording.frames()):
        values.pop('reference', None)
        depth: DepthImage = values['depth']
        others = [pattern for index, pattern in patterns if index != i] or [patterns[0][1]]
        pattern = others[rng.integers(len(others))]
        shift = rng.integers(pattern.shape)
        punched = np.roll(pattern, shift, axis=(0, 1)) & np.isfinite(depth.depth_m)
        depth_m = np.where(punched, np.float32(np.nan), depth.depth_m)
        values['depth'] = replace(depth, depth_m=depth_m)
        yield Case(f'{i:03d}', values, depth.depth_m, punched & _near(depth.depth_m))


def _hole_patterns(recording: Recording) -> list[tuple[int, BoolArray]]:
    """Return the flipped, opened holes of some frames, spread over the recording."""
    every = max(1, -(-recording.frame_count // _MAX_PATTERNS))
    patterns = []
    for i, values in enumerate(recording.frames()):
        if i % every == 0:
            hole = np.isnan(values['depth'].depth_m).astype(np.uint8)
            opened = cv2.morphologyEx(hole, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
            patterns.append((i, np.ascontiguousarray(opened[:, ::-1]) > 0))
    if not patterns:
        raise ValueError(f'{recording.name} has no frames')
    return patterns

"""Pairs of a colour picture and its depth, of whatever people have, split by scene.

Rendered shards (`training.examples`), and every dataset that `training.datasets` reads: Record3D
exports, DIML, NYUv2, the project's own folders. Neighbouring frames of a recording are nearly the
same picture: a network is only tested by scenes of which it has seen none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .datasets import DatasetError, open_dataset, require_shippable
from .datasets.sample import Color, Depth
from .examples import FIELDS, KIND, Shards
from .photometric import Photometric, recolored
from .shards import complete_shards

Part = Literal['train', 'validation', 'test']

_CHANGES = Photometric(colorless_share=0, grey_share=0.05, shifted_share=0)
# To read and shrink a frame takes longer than to learn from it; small ones are kept, up to this.
_KEPT_BYTES = 1 << 30
# A recording of one place is cut into so many pieces, which stand for scenes.
_PIECES = 10


class Pair(NamedTuple):
    """A picture and its depth; a batch has one more dimension in front.

    Attributes:
        color: (3, H, W), 0 to 1.
        depth_m: (1, H, W), 0 where unknown.
    """

    color: Tensor
    depth_m: Tensor


class Frames(Protocol):
    """Frames of colour and depth, pixel on pixel.

    Attributes:
        scenes: What each frame shows; frames of one scene are kept together.
    """

    scenes: list[str]

    def read(self, index: int) -> tuple[Color, Depth]:
        """Return (H, W, 3), and (H, W) in metres, NaN where unknown."""


class RenderedFrames:
    """Frames of shards, each a scene of its own.

    Args:
        folder: Written by `python -m training.examples`.
        measured: Whether depth is what a simulated sensor measures, instead of the truth.
    """

    def __init__(self, folder: Path, *, measured: bool = False) -> None:
        self._shards = Shards(folder)
        self._measured = measured
        self.scenes = [f'{folder}/{index}' for index in range(len(self._shards))]

    def read(self, index: int) -> tuple[Color, Depth]:
        """Read a frame."""
        color, truth_m, raw_m = self._shards.crop(index, 0, 0, 0, *self._shards.size)
        depth_m = raw_m if self._measured else truth_m
        return np.ascontiguousarray(color.permute(1, 2, 0).numpy()), depth_m[0].numpy()


class DatasetFrames:
    """Frames of a dataset; a folder of frames is a scene.

    Args:
        path: Where it lies.
        research: The user's word that the weights will not be shipped.

    Raises:
        DatasetError: If it is not recognised, or its licence forbids it.
    """

    def __init__(self, path: Path, *, research: bool = False) -> None:
        self._dataset = open_dataset(path)
        require_shippable([self._dataset], research=research)
        self.scenes = [str((path / name).parent) for name in self._dataset.names]

    def read(self, index: int) -> tuple[Color, Depth]:
        """Read a frame.

        Raises:
            DatasetError: If it has no colour, or that of another camera.
        """
        sample = self._dataset[index]
        if sample.rgb is None or not sample.registered:
            raise DatasetError(f'{sample.name} has no colour registered to its depth')
        return sample.rgb, sample.depth_m


class JoinedFrames:
    """Frames of several places, one after the other."""

    def __init__(self, parts: Sequence[Frames]) -> None:
        self._where = [(part, i) for part in parts for i in range(len(part.scenes))]
        self.scenes = [scene for part in parts for scene in part.scenes]

    def read(self, index: int) -> tuple[Color, Depth]:
        """Read a frame."""
        part, i = self._where[index]
        return part.read(i)


def open_frames(
    paths: Sequence[Path], *, measured: bool = False, research: bool = False
) -> Frames:
    """Open shards and datasets.

    Args:
        paths: Where they lie.
        measured: Whether to take what simulated sensors measure of rendered scenes.
        research: The user's word that the weights will not be shipped.

    Raises:
        DatasetError: If one is not recognised, or may not be used.
    """
    return JoinedFrames(
        [
            RenderedFrames(path, measured=measured)
            if path.is_dir() and complete_shards(path, KIND, FIELDS[-1])
            else DatasetFrames(path, research=research)
            for path in paths
        ]
    )


def split(scenes: Sequence[str], held_out: float) -> dict[Part, list[int]]:
    """Divide frames so that no scene is in two parts.

    The last scenes are tested on, those before them validated on. Of fewer than three scenes
    consecutive frames are taken for scenes, a tenth of all at a time.

    Args:
        scenes: What each frame shows.
        held_out: Share of the scenes that is validated on; as many are tested on.

    Returns:
        Numbers of frames. At least one scene is in each part.

    Raises:
        ValueError: If there are fewer than three frames.
    """
    order = list(dict.fromkeys(scenes))
    if len(order) < 3:
        size = math.ceil(len(scenes) / _PIECES)
        scenes = [str(index // size) for index in range(len(scenes))]
        order = list(dict.fromkeys(scenes))
    if len(order) < 3:
        raise ValueError(f'{len(scenes)} frames cannot be trained, validated and tested on')
    count = min(max(1, round(held_out * len(order))), (len(order) - 1) // 2)
    part_of: dict[str, Part] = dict.fromkeys(order, 'train')
    part_of |= dict.fromkeys(order[-2 * count : -count], 'validation')
    part_of |= dict.fromkeys(order[-count:], 'test')
    parts: dict[Part, list[int]] = {'train': [], 'validation': [], 'test': []}
    for index, scene in enumerate(scenes):
        parts[part_of[scene]].append(index)
    return parts


def spread(indices: Sequence[int], count: int) -> list[int]:
    """Return at most so many of some numbers, evenly spread."""
    return list(indices[:: max(1, math.ceil(len(indices) / count))])


def fitted(rgb: Color, depth_m: Depth, size: tuple[int, int]) -> tuple[Color, Depth]:
    """Cut the middle of a frame to the shape of a size, and scale it.

    Colour is averaged; depth is picked, for the mean of two surfaces lies on neither.

    Args:
        rgb: (H, W, 3).
        depth_m: (H, W).
        size: Rows and columns.
    """
    height, width = depth_m.shape
    scale = min(height / size[0], width / size[1])
    rows, columns = round(scale * size[0]), round(scale * size[1])
    top, left = (height - rows) // 2, (width - columns) // 2
    window = np.s_[top : top + rows, left : left + columns]
    to = size[::-1]
    small = cv2.resize(rgb[window], to, interpolation=cv2.INTER_AREA)
    picked_m = cv2.resize(depth_m[window], to, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small, np.uint8), np.asarray(picked_m, np.float32)


class Pairs(Dataset[Pair]):
    """Pairs drawn from frames: each is a function of a seed and its number.

    Args:
        frames: Where they are read from.
        indices: Which of the frames.
        size: Rows and columns, px.
        seed: None takes the frames in their order, as they are.
        changed: Whether some are mirrored, and colours vary as cameras do.
        count: How many pairs; as many as frames unless given.
    """

    def __init__(
        self,
        frames: Frames,
        indices: Sequence[int],
        size: tuple[int, int],
        *,
        seed: int | None = None,
        changed: bool = False,
        count: int | None = None,
    ) -> None:
        self._frames = frames
        self._indices = indices
        self._size = size
        self._seed = seed
        self._changed = changed
        self._count = len(indices) if count is None else count
        self._kept: dict[int, tuple[Color, Depth]] | None = None
        # Three bytes of colour and four of depth a pixel.
        if 7 * math.prod(size) * len(indices) <= _KEPT_BYTES:
            self._kept = {}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._count

    def __iter__(self) -> Iterator[Pair]:
        """Return all in turn."""
        return (self[number] for number in range(self._count))

    def __getitem__(self, number: int) -> Pair:
        """Return pair number `number`."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        rng = np.random.default_rng((self._seed or 0, number))
        drawn = number if self._seed is None else int(rng.integers(len(self._indices)))
        rgb, depth_m = self._frame(self._indices[drawn])
        color = torch.from_numpy(rgb).permute(2, 0, 1).float() / 255
        depth = torch.from_numpy(np.nan_to_num(depth_m))[None]
        if self._changed:
            color = recolored(color, _CHANGES, rng)
            if rng.random() < 0.5:
                color, depth = color.flip(2), depth.flip(2)
        return Pair(color.contiguous(), depth.contiguous())

    def _frame(self, index: int) -> tuple[Color, Depth]:
        if self._kept is None:
            return fitted(*self._frames.read(index), self._size)
        if index not in self._kept:
            self._kept[index] = fitted(*self._frames.read(index), self._size)
        return self._kept[index]


@dataclass(frozen=True)
class DepthCode:
    """How a network writes depth: 0 is nearest, 1 is farthest.

    Attributes:
        near_m: What 0 stands for.
        far_m: What 1 stands for.
        logarithmic: Whether steps are equal in proportion, not in metres: an error then weighs as
            much on a table as at the far wall.
    """

    near_m: float
    far_m: float
    logarithmic: bool

    def encode(self, depth_m: Tensor) -> Tensor:
        """Return the code of depth; unknown depth, 0, is the nearest."""
        if not self.logarithmic:
            return (depth_m.clamp_min(self.near_m) - self.near_m) / (self.far_m - self.near_m)
        ratio = depth_m.clamp_min(self.near_m) / self.near_m
        return ratio.log() / math.log(self.far_m / self.near_m)

    def decode(self, code: Tensor) -> Tensor:
        """Return depth in metres, above 0."""
        if not self.logarithmic:
            return (self.near_m + (self.far_m - self.near_m) * code).clamp_min(1e-3)
        return self.near_m * torch.exp(code * math.log(self.far_m / self.near_m))

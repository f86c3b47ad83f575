"""Crops of hands with the places of their joints in space, rendered or recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from ..datasets.hand_joints import NYU_14
from ..datasets.hands import BACKGROUND_M, SIDE_M, HandDataset
from ..render.hand_images import project, render_hands
from ..render.hands import sample_hands
from ..render.scenes import rng_of
from .crops import crop

HALF_M = SIDE_M / 2
"""Of a crop, from its middle: the unit of joints."""
_AT_ONCE = 16


class Posed(NamedTuple):
    """A crop and the pose in it; a batch has one more dimension in front.

    Attributes:
        depth: (1, H, W) metres nearer than 2 m, as negative numbers; 0 beside the hand.
        joints: (14, 3) NYU's: columns and rows in the crop, -1 to 1, and depth behind the middle
            of the hand; all in units of 150 mm at the hand.
        distance_m: () of the middle of the hand.
    """

    depth: Tensor
    joints: Tensor
    distance_m: Tensor


class RenderedPoses(Dataset[Posed]):
    """Rendered hands without a sensor, each a function of a seed and its number.

    Args:
        seed: Seed of all that is drawn.
        count: How many there are.
        size_px: Rows and columns of crops.
        keep: Hands that are rendered once and come again; 0 renders new ones.
    """

    def __init__(self, seed: int, count: int, *, size_px: int = 128, keep: int = 0) -> None:
        self.seed, self.count, self.size_px, self.keep = seed, count, size_px, keep
        self._kept: dict[int, Posed] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return self.count

    def __getitem__(self, number: int) -> Posed:
        """Return hand number `number`."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        part, place = divmod(number % self.keep if self.keep else number, _AT_ONCE)
        if part not in self._kept:
            if not self.keep:
                self._kept.clear()
            self._kept[part] = self._rendered(part)
        return Posed(*(field[place] for field in self._kept[part]))

    @torch.no_grad()
    def _rendered(self, part: int) -> Posed:
        generator = torch.Generator().manual_seed(rng_of(self.seed, part, _STREAM).getrandbits(63))
        hands, intrinsics = sample_hands(generator, _AT_ONCE, distance_m=(0.45, 1.2))
        joints_m = torch.from_numpy(NYU_14.weights).float() @ hands.joints_m
        center_m = joints_m.mean(1)
        middle_px = project(center_m[:, None], intrinsics)[:, 0]
        half_px = HALF_M * intrinsics[:, 0, 0] / center_m[:, 2]
        region = torch.cat([middle_px - half_px[:, None], middle_px + half_px[:, None]], 1)
        images = render_hands(hands, intrinsics, region, height=self.size_px, width=self.size_px)
        near = (images.depth_m - center_m[:, 2, None, None]).abs() < HALF_M
        depth = torch.where((images.parts >= 0) & near, images.depth_m - BACKGROUND_M, 0.0)
        joints_px = project(joints_m, images.intrinsics)
        return Posed(
            depth[:, None], _placed(joints_px, joints_m, center_m, self.size_px), center_m[:, 2]
        )


class LabelledPoses(Dataset[Posed]):
    """Hands of a recorded dataset whose 14 joints are labelled.

    Args:
        hands: The recordings.
        seed: Of their order.
        count: How many there are; they come again.
        size_px: Rows and columns of crops, of which the nearest pixels are taken.
    """

    def __init__(self, hands: HandDataset, seed: int, count: int, *, size_px: int = 128) -> None:
        self.hands, self.seed, self.count, self.size_px = hands, seed, count, size_px

    def __len__(self) -> int:
        """Return how many there are."""
        return self.count

    def __getitem__(self, number: int) -> Posed:
        """Return hand number `number`."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        epoch, place = divmod(number, len(self.hands))
        order = torch.randperm(
            len(self.hands), generator=torch.Generator().manual_seed((self.seed << 20) + epoch)
        )
        sample = self.hands.hand(int(order[place]))
        image, joints_px = crop(sample)
        depth = torch.from_numpy(image)[None]
        joints_m = torch.from_numpy(sample.joints_m).float()[None]
        center_m = joints_m.mean(1)
        joints = _placed(
            torch.from_numpy(joints_px).float()[None], joints_m, center_m, depth.shape[-1]
        )
        small = functional.interpolate(depth[None], (self.size_px,) * 2, mode='nearest-exact')[0]
        return Posed(small, joints[0], center_m[0, 2])


def _placed(joints_px: Tensor, joints_m: Tensor, center_m: Tensor, size_px: int) -> Tensor:
    place = (joints_px + 0.5) * (2 / size_px) - 1
    behind = (joints_m[..., 2:] - center_m[:, None, 2:]) / HALF_M
    return torch.cat([place, behind], 2)


def error_mm(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean distance of joints (B, 14, 3) from where they should be, mm at the hand."""
    distance: Tensor = (found - wanted).norm(dim=2).mean()
    return 1e3 * HALF_M * distance


def batch_of(samples: Callable[[int], Posed], count: int) -> Posed:
    """Return the first samples as a batch."""
    fields = zip(*(samples(number) for number in range(count)), strict=True)
    return Posed(*(torch.stack(field) for field in fields))


_STREAM = 25
"""Of randomness; crops without places in space have others."""

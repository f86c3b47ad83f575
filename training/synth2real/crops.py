"""Crops of hands for pose networks, from labelled recordings or rendered: SimGAN's protocol.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial
Training", CVPR 2017, prepare NYU so: pixels of the real image that the rendered one covers are
kept, the others are 0; 2000 mm are taken off (the background is thought to be there); images are
resized to 224x224. The paper does not say which window is resized, how depth is interpolated,
which unit the network sees, nor how far crops are moved for augmentation. Here the window is a
square of 300 mm around the mean of the 14 joints, as wide as evaluations of this dataset use; the
nearest pixel is taken, as depth between a hand and nothing is no depth; the unit is the metre.
"""

from __future__ import annotations

from functools import lru_cache, partial
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from ..datasets.hand_joints import NYU_14, SCHEMES
from ..datasets.hands import BACKGROUND_M, CROP_PX, SIDE_M, HandDataset, HandSample
from ..examples import SENSORS
from ..render.hand_images import project, render_hands, sample_surroundings
from ..render.hands import Draw, sample_hands
from ..render.scenes import rng_of
from ..sensors import View, draw_sensor


class HandCrops(NamedTuple):
    """A batch of crops.

    Attributes:
        depth: (B, 1, 224, 224) metres nearer than 2 m, as negative numbers; 0 beside the hand.
        joints_px: (B, J, 2) columns and rows in the crop.
    """

    depth: Tensor
    joints_px: Tensor


def crop(sample: HandSample) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Cut a labelled hand out of its frame, as SimGAN does.

    Where there is no rendered hand, what is within 150 mm of the depth of the joints' mean is
    kept instead.

    Args:
        sample: With intrinsics.

    Returns:
        (224, 224) metres nearer than 2 m, 0 beside the hand, and joints (J, 2), pixels of it.
    """
    assert sample.intrinsics is not None
    center_m = sample.joints_m.mean(0)
    focal = sample.intrinsics[[0, 1], [0, 1]]
    middle = sample.intrinsics[:2, :2] @ center_m[:2] / center_m[2] + sample.intrinsics[:2, 2]
    edge = focal * SIDE_M / center_m[2]
    corner, step = middle - edge / 2, edge / CROP_PX
    at = np.rint(corner[:, None] + step[:, None] * (np.arange(CROP_PX) + 0.5)).astype(int)
    height, width = sample.depth_m.shape
    there = (at >= 0) & (at < np.array([[width], [height]]))
    rows, columns = np.clip(at[1], 0, height - 1), np.clip(at[0], 0, width - 1)
    depth_m = sample.depth_m[rows][:, columns]
    if sample.rendered_m is not None:
        hand = np.isfinite(sample.rendered_m[rows][:, columns])
    else:
        hand = np.abs(np.nan_to_num(depth_m) - center_m[2]) < SIDE_M / 2
    hand &= np.isfinite(depth_m) & there[1][:, None] & there[0]
    joints_px = (sample.joints_px - corner) / step - 0.5
    return np.where(hand, depth_m - BACKGROUND_M, 0).astype(np.float32), joints_px


def augmented(
    crops: HandCrops, generator: torch.Generator, *, turn_deg: float = 20.0, shift: float = 0.08
) -> HandCrops:
    """Turn, shift and scale crops at random.

    Args:
        crops: As they are.
        generator: Draws angle, shift and scale.
        turn_deg: Largest turn; 20 in SimGAN's paper.
        shift: Largest shift, as a share of the crop; sizes change by as much.
    """
    count, size = len(crops.depth), crops.depth.shape[-1]
    draw = Draw(generator)
    angle = torch.deg2rad(draw.uniform(-turn_deg, turn_deg, count))
    scale = torch.exp(draw.uniform(-shift, shift, count))
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    move = draw.uniform(-2 * shift, 2 * shift, count, 2)
    # From places in the new crop to those in the old one, -1 to 1.
    turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    theta = torch.cat([turn, move[..., None]], 2).to(crops.depth.device)
    grid = functional.affine_grid(theta, list(crops.depth.shape), align_corners=False)
    depth = functional.grid_sample(crops.depth, grid, 'nearest', align_corners=False)
    place = (crops.joints_px + 0.5) * (2 / size) - 1
    place = (place - theta[:, None, :, 2]) @ torch.linalg.inv(theta[:, :, :2]).mT
    return HandCrops(depth, (place + 1) * (size / 2) - 0.5)


class LabelledHands(Dataset[HandCrops]):
    """Batches of a recorded dataset, each a function of a seed and its number.

    Args:
        hands: The recordings.
        batch: Hands of a batch.
        seed: Of their order and of augmentation.
        augment: Whether to change them.
    """

    def __init__(self, hands: HandDataset, batch: int, seed: int, *, augment: bool = True) -> None:
        self.hands, self.batch, self.seed, self.augment = hands, batch, seed, augment
        self._order = lru_cache(2)(partial(_permutation, seed, len(hands)))

    def __len__(self) -> int:
        """Return the number of batches that show each hand once."""
        return -(-len(self.hands) // self.batch)

    def __getitem__(self, number: int) -> HandCrops:
        """Return a batch; any number will do, epochs follow one another."""
        shown = range(number * self.batch, (number + 1) * self.batch)
        if not self.augment:
            indices = [n for n in shown if n < len(self.hands)]
        else:
            indices = [int(self._order(n // len(self.hands))[n % len(self.hands)]) for n in shown]
        crops = [crop(self.hands.hand(index)) for index in indices]
        depth = torch.from_numpy(np.stack([image for image, _ in crops]))[:, None]
        joints_px = torch.from_numpy(np.stack([joints for _, joints in crops])).float()
        result = HandCrops(depth, joints_px)
        if not self.augment:
            return result
        return augmented(result, _generator(self.seed, number))


class SyntheticHands(Dataset[HandCrops]):
    """Batches of rendered hands, measured by simulated sensors, without end.

    Args:
        joints: 14, 16 or 21.
        batch: Hands of a batch.
        seed: Seed of all that is drawn.
        augment: Whether to change them.
        count: Batches, if there shall be an end.
    """

    def __init__(
        self, joints: int, batch: int, seed: int, *, augment: bool = True, count: int = 2**31
    ) -> None:
        self.scheme, self.batch, self.seed = SCHEMES[joints], batch, seed
        self.augment, self.count = augment, count

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.count

    @torch.no_grad()
    def __getitem__(self, number: int) -> HandCrops:
        """Render a batch."""
        generator = _generator(self.seed, number)
        hands, intrinsics = sample_hands(generator, self.batch, distance_m=(0.45, 1.2))
        around = sample_surroundings(generator, hands, intrinsics)
        nyu, wanted = (torch.from_numpy(s.weights).float() for s in (NYU_14, self.scheme))
        center_m = (nyu @ hands.joints_m).mean(1)
        middle = project(center_m[:, None], intrinsics)[:, 0]
        half = 0.5 * SIDE_M * intrinsics[:, 0, 0] / center_m[:, 2]
        region = torch.cat([middle - half[:, None], middle + half[:, None]], 1)
        images = render_hands(
            hands, intrinsics, region, height=CROP_PX, width=CROP_PX, around=around
        )
        view = View(images.depth_m[:, None], images.intrinsics)
        shares = tuple(map(float, SENSORS.values()))
        name = list(SENSORS)[int(Draw(generator).choice(shares, 1))]
        raw_m = draw_sensor(name, view.shape, generator)(view, generator)
        near = (raw_m - center_m[:, 2].reshape(-1, 1, 1, 1)).abs() < 0.5 * SIDE_M
        hand = (images.parts >= 0)[:, None] & near
        depth = torch.where(hand, raw_m - BACKGROUND_M, 0.0)
        crops = HandCrops(depth, project(wanted @ hands.joints_m, images.intrinsics))
        return augmented(crops, generator) if self.augment else crops


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(rng_of(seed, number, _STREAM).getrandbits(63))


_STREAM = 21
"""Of a batch's randomness; scenes have others."""


def _permutation(seed: int, count: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def unnormalized_m(depth: Tensor) -> Tensor:
    """Return depth in metres, NaN beside the hand, of crops."""
    return torch.where(depth == 0, math.nan, depth + BACKGROUND_M)

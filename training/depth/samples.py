"""Samples for training, drawn from shards: every sample is a function of a seed and its number.

So a run that was stopped goes on with the very samples it would have seen, and any number of
processes share a batch by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depth_refiner_ros.filters.resizing import first_measured, model_inputs

from ..examples import Shards
from ..photometric import Photometric, recolored
from ..refiners import REFINED_SHARE, Refiner


class Sample(NamedTuple):
    """Input of a network and its target; a batch has one more dimension in front.

    Attributes:
        depth_m: (1, H, W) measured, 0 at holes.
        color: (3, H, W), 0 to 1; all zeros where there is none.
        truth_m: (1, H, W), 0 where unknown.
        draw: (1, H, W), uniform numbers that choose the pixels of the loss.
    """

    depth_m: Tensor
    color: Tensor
    truth_m: Tensor
    draw: Tensor


@dataclass(frozen=True)
class Augmentation(Photometric):
    """How often and how much samples are changed."""

    reduced_share: float = 0.75
    """Samples cut out at twice the size and reduced as `inpaint_depth` does before it runs a
    model, where frames are large enough."""
    exact_share: float = 0.4
    """Samples measured by no sensor model but with a little noise: other sensors than ours."""
    punched_share: float = 0.8
    """Samples into which the holes of other frames, and blots, are cut."""
    widened_share: float = 0.4
    """Samples whose holes grow by a few pixels, over the ragged edges of measurements."""
    rim_px: int = 2
    """Holes that a sensor model left are not learned from this close to a measurement: where
    exactly a sensor ends a surface is its own affair, and holes are filled to match it."""


class Samples(Dataset[Sample]):
    """Crops of shards, changed at random.

    Args:
        shards: Where they are cut from.
        seed: Seed of all that is drawn.
        size: Rows and columns of a sample, multiples of 32, px.
        augmentation: None leaves measurements and colours as they are.
        frames: Which frames of the shards are used.
        count: How many samples there are.
        refiner: Measures a share of the exact samples; one of whole frames, see
            `training.refiners`.
    """

    def __init__(
        self,
        shards: Shards,
        seed: int,
        size: tuple[int, int],
        augmentation: Augmentation | None,
        frames: range,
        count: int,
        *,
        refiner: Refiner | None = None,
    ) -> None:
        self.shards = shards
        self.seed = seed
        self.size = size
        self.augmentation = augmentation
        self.frames = frames
        self.count = count
        self.refiner = refiner

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, number: int) -> Sample:
        """Return sample number `number` of the seed."""
        rng = np.random.default_rng((self.seed, number))
        color, truth_m, raw_m = self._crop(rng)
        light = color.float() / 255
        if (a := self.augmentation) is not None:
            if rng.random() < a.exact_share:
                if self.refiner is not None and rng.random() < REFINED_SHARE:
                    refined_m = self.refiner(truth_m.nan_to_num(0.0)[None])[0]
                    raw_m = torch.where(refined_m > 0, refined_m, torch.nan)
                else:
                    noise = rng.uniform(0, 0.003) * rng.standard_normal(truth_m.shape, np.float32)
                    raw_m = truth_m * (1 + torch.from_numpy(noise.astype(np.float32)))
            else:
                truth_m = truth_m.masked_fill(rim(raw_m, a.rim_px), torch.nan)
            hole = torch.zeros_like(raw_m, dtype=torch.bool)
            if rng.random() < a.widened_share:
                hole |= grown(raw_m.isnan(), int(rng.integers(1, 4)))
            if rng.random() < a.punched_share:
                hole |= blots(raw_m.shape, rng)
                for _ in range(int(rng.integers(1, 3))):
                    hole |= hole_pattern(self._crop(rng)[2], rng)
            # Where a measurement was cut out it is the truth, its sensor's edges included.
            cut = hole & raw_m.isfinite()
            truth_m = torch.where(cut, raw_m, truth_m)
            raw_m = raw_m.masked_fill(cut, torch.nan)
            light = recolored(light, a, rng)
        draw = torch.from_numpy(rng.random(truth_m.shape, np.float32))
        return Sample(raw_m.nan_to_num(0.0), light, truth_m.nan_to_num(0.0), draw)

    def _crop(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.size
        rows, columns = self.shards.size
        index = self.frames[int(rng.integers(len(self.frames)))]
        measurement = int(rng.integers(self.shards.measurements))
        a, fits = self.augmentation, 2 * height <= rows and 2 * width <= columns
        factor = 2 if a is not None and rng.random() < a.reduced_share and fits else 1
        tall, wide = factor * height, factor * width
        top = int(rng.integers(rows - tall + 1))
        left = int(rng.integers(columns - wide + 1))
        whole = self.shards.crop(index, measurement, top, left, tall, wide)
        return reduced(*whole) if factor == 2 else whole


def reduced(color: Tensor, truth_m: Tensor, raw_m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return images of half the size, as `inpaint_depth` gives them to a model, and their truth.

    Args:
        color: (3, H, W) uint8.
        truth_m: (1, H, W), NaN where unknown; its pixels go with those of the measurements.
        raw_m: (1, H, W), NaN where there is no return.
    """
    raw, rgb = raw_m[0].numpy(), color.permute(1, 2, 0).contiguous().numpy()
    given = model_inputs(raw, rgb, 2)
    _, true_m = first_measured(2, raw, truth_m[0].numpy())
    return (
        torch.from_numpy(given['color']).permute(2, 0, 1),
        torch.from_numpy(true_m)[None],
        torch.from_numpy(given['depth_m'])[None],
    )


def hole_pattern(depth_m: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the holes of an image as the evaluation punches them, opened and flipped.

    Args:
        depth_m: (1, H, W), NaN at holes.
        rng: Draws the flips.

    Returns:
        (1, H, W) bool; nothing of an image that is mostly hole.
    """
    hole = depth_m[0].isnan().numpy().astype(np.uint8)
    opened = torch.from_numpy(cv2.morphologyEx(hole, cv2.MORPH_OPEN, np.ones((3, 3))))[None] > 0
    flips = [axis for axis in (1, 2) if rng.random() < 0.5]
    return opened.flip(flips) & bool(opened.float().mean() < 0.5)


def blots(shape: torch.Size, rng: np.random.Generator) -> Tensor:
    """Return a few ellipses and bars, (1, H, W) bool."""
    image = np.zeros(shape[1:], np.uint8)
    height, width = image.shape
    for _ in range(int(rng.integers(0, 6))):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        # Many small ones, few large ones.
        axes = np.exp(rng.uniform(np.log(2), np.log(60), 2)).astype(int)
        cv2.ellipse(
            image, center, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1, -1
        )
    return torch.from_numpy(image)[None] > 0


def grown(where: Tensor, by_px: int) -> Tensor:
    """Return a mask (1, H, W) and all that is within some pixels of it, in a square."""
    square = np.ones((2 * by_px + 1, 2 * by_px + 1))
    return torch.from_numpy(cv2.dilate(where[0].numpy().astype(np.uint8), square))[None] > 0


def rim(depth_m: Tensor, width_px: int) -> Tensor:
    """Return the pixels of holes that are this close to a measurement, (1, H, W) bool."""
    return depth_m.isnan() & grown(depth_m.isfinite(), width_px)

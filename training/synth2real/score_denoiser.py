r"""Score a translation of measured into rendered depth as a denoiser.

    python -m training.synth2real.score_denoiser runs/cyclegan/real2synth.onnx
    python -m training.synth2real.score_denoiser runs/rooms/real2synth.onnx --shards data/rooms

A simulated sensor measures hands or scenes that no training saw and whose depth is known. The
model is compared with leaving measurements alone, with a median filter and, in holes, with the
nearest measurement. One that does not beat these should not be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
import tyro

from ..datasets import DatasetError
from ..datasets.hand_joints import NYU_14
from ..datasets.hands import BACKGROUND_M, SIDE_M
from ..pairs import JoinedFrames, RenderedFrames, fitted, split, spread
from ..refiners import load_refiner
from ..render.hand_images import project, render_hands
from ..render.hands import Draw, sample_hands
from ..sensors import TimeOfFlight, View
from .domains import COLUMNS, DISTANCE_M, FOCAL_PX, ROWS, STAND_IN
from .hand_metrics import edges

Denoise = Callable[[Tensor], Tensor]
_SEED = 1 << 40
"""Seed of the hands; trainings have small ones."""


@dataclass(kw_only=True)
class Settings:
    """Score real2synth of CycleGAN."""

    model: tyro.conf.Positional[Path]
    """real2synth.onnx of `training.synth2real.train_cyclegan`."""
    shards: tuple[Path, ...] = ()
    """Rendered frames, of which those are taken that training held out twice; hands without."""
    size: int = 128
    """Rows and columns of crops of hands, px: as trained."""
    height: int = 96
    """Rows of frames, px: as trained."""
    width: int = 128
    """Columns of frames, px."""
    count: int = 64
    """Images to score on."""


@torch.no_grad()
def hand_pairs(count: int, size_px: int, seed: int = _SEED) -> tuple[Tensor, Tensor]:
    """Return hands as the held-out sensor measures them, and the truth.

    As `training.synth2real.domains.StandInHands`, whose pixels are picked from the sensor's own;
    truth is what the picked ones should have measured.

    Args:
        count: How many.
        size_px: Rows and columns.
        seed: Seed of all that is drawn.

    Returns:
        Both (count, 1, size_px, size_px), metres nearer than 2 m, 0 beside the hand and in holes.
    """
    generator = torch.Generator().manual_seed(seed)
    k = torch.tensor([[FOCAL_PX, 0, (COLUMNS - 1) / 2], [0, FOCAL_PX, (ROWS - 1) / 2], [0, 0, 1]])
    hands, intrinsics = sample_hands(
        generator, count, intrinsics=k.repeat(count, 1, 1), height=ROWS, width=COLUMNS,
        distance_m=DISTANCE_M,
    )  # fmt: skip
    center_m = (torch.from_numpy(NYU_14.weights).float() @ hands.joints_m).mean(1)
    middle_px = project(center_m[:, None], intrinsics)[:, 0]
    edge_px = FOCAL_PX * SIDE_M / center_m[:, 2:]
    native = int(edge_px.max()) + 5
    corner = (middle_px - native / 2).round()
    behind_m = Draw(generator).uniform(0.15, 0.7, count) + center_m[:, 2]
    images = render_hands(
        hands, intrinsics, torch.cat([corner, corner + native], 1) - 0.5,
        height=native, width=native,
        background_m=behind_m[:, None, None].expand(-1, native, native),
    )  # fmt: skip
    view = View(images.depth_m[:, None], images.intrinsics)
    raw_m = TimeOfFlight(STAND_IN, tuple(view.shape), generator)(view, generator)
    first = middle_px - corner - edge_px / 2
    at = torch.arange(size_px) + 0.5
    places = (first[:, :, None] + edge_px[:, :, None] / size_px * at).round().long()
    columns, rows = places.clamp(0, native - 1).unbind(1)
    one = torch.arange(count)[:, None, None]
    hand = (images.parts >= 0)[one, rows[:, :, None], columns[:, None, :]]
    pair = []
    for depth_m in (raw_m[:, 0], images.depth_m):
        picked = depth_m[one, rows[:, :, None], columns[:, None, :]]
        near = (picked - center_m[:, 2, None, None]).abs() < SIDE_M / 2
        pair.append(torch.where(hand & near, picked - BACKGROUND_M, 0.0)[:, None])
    return pair[0], pair[1]


def frame_pairs(
    shards: tuple[Path, ...], count: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return frames as simulated sensors measure them, and the truth, of scenes held out twice.

    Returns:
        Both (count, 1, H, W) metres, 0 in holes.
    """
    pair = []
    for measured in (True, False):
        frames = JoinedFrames([RenderedFrames(path, measured=measured) for path in shards])
        used = spread(split(frames.scenes, 0.1)['test'], count)
        depths = [fitted(*frames.read(index), size)[1] for index in used]
        pair.append(torch.from_numpy(np.nan_to_num(np.stack(depths)))[:, None])
    return pair[0], pair[1]


def median(depth: Tensor, size_px: int = 5) -> Tensor:
    """Return depth of which measurements are the median of those around them; holes stay."""
    reach = size_px // 2
    known = torch.nn.functional.pad(depth.where(depth != 0, torch.nan), (reach,) * 4, value=np.nan)
    windows = known.unfold(2, size_px, 1).unfold(3, size_px, 1).flatten(4)
    return torch.where(depth != 0, windows.nanmedian(4).values, 0.0)


def nearest(depth: Tensor) -> Tensor:
    """Return depth of which holes are as the nearest measurement; nothing is left open."""
    filled = []
    for image in depth[:, 0].numpy():
        hole = (image == 0).astype(np.uint8)
        _, label = cv2.distanceTransformWithLabels(
            hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        values = np.zeros(label.max() + 1, np.float32)
        values[label[hole == 0]] = image[hole == 0]
        filled.append(values[label])
    return torch.from_numpy(np.stack(filled))[:, None]


def score(made: Tensor, measured: Tensor, truth: Tensor) -> dict[str, float]:
    """Return how far depth is from the truth.

    Args:
        made: (B, 1, H, W) of what was measured.
        measured: What it was made of.
        truth: 0 where there is nothing.

    Returns:
        values_mm: mean absolute error where there was a measurement, edges_mm and flats_mm apart;
        lost: share of right measurements that are none any more; holes_mm: error where there was
        none but should be; filled: share of those; invented: share of where there is nothing that
        has a value. NaN where there is no such pixel.
    """
    there, had, has = truth != 0, measured != 0, made != 0
    off_mm = 1e3 * (made - truth).abs()
    at_edges = edges(truth)

    def share(part: Tensor, whole: Tensor) -> float:
        return float((part & whole).sum() / whole.sum())

    return {
        'values_mm': float(off_mm[there & had & has].mean()),
        'edges_mm': float(off_mm[there & had & has & at_edges].mean()),
        'flats_mm': float(off_mm[there & had & has & ~at_edges].mean()),
        'lost': share(~has, there & had),
        'holes_mm': float(off_mm[there & ~had & has].mean()),
        'filled': share(has, there & ~had),
        'invented': share(has, ~there),
    }


def compare(denoise: Denoise, measured: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """Return the scores of a model, and of what it should beat."""
    ways: dict[str, Denoise] = {
        'left alone': lambda depth: depth,
        'median 5x5': median,
        'nearest': nearest,
        'model': denoise,
    }
    return {name: score(way(measured), measured, truth) for name, way in ways.items()}


def main(settings: Settings) -> None:
    """Print a table."""
    if settings.shards:
        try:
            measured, truth = frame_pairs(
                settings.shards, settings.count, (settings.height, settings.width)
            )
        except (DatasetError, ValueError) as error:
            raise SystemExit(str(error)) from None
    else:
        measured, truth = hand_pairs(settings.count, settings.size)
    refine = load_refiner(settings.model)

    def denoise(depth: Tensor) -> Tensor:
        return torch.cat([refine(part) for part in depth.split(8)])

    scores = compare(denoise, measured, truth)
    names = list(scores['model'])
    print(f'| {len(truth)} images | ' + ' | '.join(names) + ' |')
    print('|---|' + '---|' * len(names))
    for way, found in scores.items():
        print(f'| {way} | ' + ' | '.join(f'{found[name]:.3f}' for name in names) + ' |')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

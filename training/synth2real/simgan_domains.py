"""Images that SimGAN refines: depth of hands, or grey pictures of eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depth_refiner_ros.pictures import depth_scale, error_scale

from ..datasets import DatasetError, open_hands, require_shippable
from ..datasets.hands import CROP_PX, HAND_LAYOUTS
from ..networks.hourglass import load_hourglass
from ..networks.simgan import (
    GAZE_LAYERS,
    HAND_LAYERS,
    SMALL_CROP_PX,
    Layer,
    Refined,
    seen_depth,
    seen_grey,
)
from .crops import HandCrops, LabelledHands, unnormalized_m
from .domains import CleanHands, RecordedHands, StandInHands
from .grey_images import GreyImages
from .hand_metrics import change_mm, drift_px, hole_share, kernel_distance, patch_features
from .simgan_settings import GazeSettings, HandSettings, Settings, updates

UInt8Array = npt.NDArray[np.uint8]
MOST_DROPPED = 0.25
"""Share of the pixels of hands: weights that drop more are not kept, whatever the rest is like."""
AREA_OFF = 0.04
"""Largest difference between the share of pixels dropped and the share that real hands lack, where
that is known; kernel distances do not see a few holes anywhere."""


class Rounds(Dataset[tuple[Tensor, Tensor]]):
    """What the steps of a run see: a batch of rendered images for every update, and real ones.

    Args:
        synthetic: Batches (B, 1, H, W) by number.
        real: Batches (B, 1, H, W) by number.
        settings: Settings of the schedule.
    """

    def __init__(
        self, synthetic: Dataset[Tensor], real: Dataset[Tensor], settings: Settings
    ) -> None:
        self.synthetic, self.real, self.settings = synthetic, real, settings

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.settings.steps

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return (U, B, 1, H, W) and (V, B, 1, H, W) of step `number` + 1."""
        wanted = updates(number + 1, self.settings)
        discriminated = self.settings.discriminator_steps
        each = self.settings.refiner_steps + discriminated
        return (
            _stacked(self.synthetic[number * each + i] for i in range(sum(wanted))),
            _stacked(self.real[number * discriminated + i] for i in range(wanted.discriminator)),
        )


def _stacked(batches: Iterable[Tensor]) -> Tensor:
    found = list(batches)
    return torch.stack(found) if found else torch.empty(0)


class DepthOf(Dataset[Tensor]):
    """The depth of batches of hands, without what else is known.

    Args:
        hands: The batches.
    """

    def __init__(self, hands: Dataset[HandCrops]) -> None:
        self.hands = hands

    def __getitem__(self, number: int) -> Tensor:
        """Return (B, 1, H, W), see `HandCrops`."""
        return self.hands[number].depth


class Domain(NamedTuple):
    """What of a run depends on what is refined.

    Attributes:
        synthetic: Batches of what is refined.
        real: Batches of what it shall look like.
        checked: Rendered images, (N, 1, H, W), for validation.
        wanted: Real images, (N, 1, H, W), for validation.
        size: Rows and columns.
        seen: Makes of images what networks see.
        channels: Its channels.
        layers: Layers of the discriminator.
        unit: Unit of images, in millimetres or levels of grey.
        hole: What a dropped pixel costs, the same.
        lacking: Share of their pixels that real images lack.
        area_weight: Weight of dropping more or less than that.
        figures: Metrics of rendered, refined and real images.
        score: Of figures; least is best, infinite is no good.
        sheet: Of rendered, refined and real images.
    """

    synthetic: Dataset[Tensor]
    real: Dataset[Tensor]
    checked: Tensor
    wanted: Tensor
    size: tuple[int, int]
    seen: Callable[[Refined], Tensor]
    channels: int
    layers: tuple[Layer, ...]
    unit: float
    hole: float
    lacking: float
    area_weight: float
    figures: Callable[[Tensor, Tensor, Tensor], dict[str, float]]
    score: Callable[[dict[str, float]], float]
    sheet: Callable[[Tensor, Tensor, Tensor], UInt8Array]


def real_hands(settings: HandSettings, seed: int) -> Dataset[HandCrops]:
    """Return batches of what rendered hands shall look like.

    Raises:
        SystemExit: If the data cannot be used.
    """
    if settings.real is None:
        return StandInHands(
            14, settings.batch, seed, size_px=settings.size, keep=settings.kept_batches
        )
    try:
        if not any(layout.recognises(settings.real) for layout in HAND_LAYOUTS):
            return RecordedHands(settings.real, settings.batch, seed, size_px=settings.size)
        opened = open_hands(settings.real)
        require_shippable([opened], research=settings.research)
    except (DatasetError, ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    if settings.size != CROP_PX:
        raise SystemExit(f'Crops of {settings.real} have {CROP_PX} px: leave --size.')
    return LabelledHands(opened, settings.batch, seed)


def hands(settings: HandSettings) -> Domain:
    """Return what refining hands takes."""
    pose = load_hourglass(settings.pose) if settings.pose else None
    if pose is None:
        print('Without --pose it is not measured how far joints move; nothing bounds it.')

    def rendered(seed: int, keep: int) -> Dataset[HandCrops]:
        return CleanHands(14, settings.batch, seed, size_px=settings.size, keep=keep)

    def some(found: Dataset[HandCrops], first: int) -> Tensor:
        count = -(-settings.checked // settings.batch)
        depth = torch.cat([found[first + n].depth for n in range(count)])
        return depth[: settings.checked]

    # Validation is of other hands than training.
    real = real_hands(settings, settings.seed + 1)
    checked = some(rendered(settings.seed + 2, 0), 0)
    wanted = some(real_hands(settings, settings.seed + 3), 0)

    synthetic = DepthOf(rendered(settings.seed, settings.kept_batches))
    lacking, bounded = 0.0, settings.holes and settings.area_weight > 0
    if bounded:
        lacking = lacking_share(synthetic, DepthOf(real), min(64, settings.kept_batches))
        print(f'Real hands lack {100 * lacking:.1f} % of the pixels that rendered ones have.')

    def figures(before: Tensor, after: Tensor, real: Tensor) -> dict[str, float]:
        changed = change_mm(before, after)
        real_features = patch_features(real)
        found = {
            'change_edges_mm': float(changed['edges']),
            'change_flats_mm': float(changed['flats']),
            'dropped': float(((before != 0) & (after == 0)).sum() / (before != 0).sum()),
            'dropped_real': 1 - float((real != 0).sum() / (before != 0).sum()),
            'holes': float(hole_share(after)),
            'holes_real': float(hole_share(real)),
            'kid': float(kernel_distance(patch_features(after), real_features)),
            'kid_rendered': float(kernel_distance(patch_features(before), real_features)),
        }
        if pose is not None:
            found['drift_px'] = float(drift_px(pose, before, after))
        return found

    def score(found: dict[str, float]) -> float:
        still = found.get('drift_px', 0.0) <= settings.drift_px
        likely = not bounded or abs(found['dropped'] - lacking) <= AREA_OFF
        kept = still and likely and found['dropped'] <= MOST_DROPPED
        return found['kid'] if kept else math.inf

    return Domain(
        synthetic=synthetic,
        real=DepthOf(real),
        checked=checked,
        wanted=wanted,
        size=(settings.size, settings.size),
        seen=seen_depth,
        channels=3,
        layers=HAND_LAYERS if settings.size >= SMALL_CROP_PX else GAZE_LAYERS,
        unit=1e3,
        hole=settings.hole_mm,
        lacking=lacking,
        area_weight=settings.area_weight if bounded else 0.0,
        figures=figures,
        score=score,
        sheet=hand_sheet,
    )


def lacking_share(synthetic: Dataset[Tensor], real: Dataset[Tensor], batches: int) -> float:
    """Return by which share real hands have less pixels than synthetic ones, 0 if they do not."""
    first, second = (
        sum(float((depths[n] != 0).sum()) for n in range(batches)) for depths in (synthetic, real)
    )
    return max(0.0, 1 - second / first)


def gaze(settings: GazeSettings) -> Domain:
    """Return what refining eyes takes."""
    size = (settings.height, settings.width)
    try:
        synthetic = GreyImages(settings.synthetic, settings.batch, settings.seed, size)
        real = GreyImages(settings.real, settings.batch, settings.seed + 1, size)
        checked = GreyImages(settings.synthetic, settings.checked, settings.seed + 2, size)[0]
        wanted = GreyImages(settings.real, settings.checked, settings.seed + 3, size)[0]
    except OSError as error:
        raise SystemExit(str(error)) from None

    def figures(before: Tensor, after: Tensor, real: Tensor) -> dict[str, float]:
        real_features = patch_features(real)
        return {
            'change_levels': 255 * float((after - before).abs().mean()),
            'kid': float(kernel_distance(patch_features(after), real_features)),
            'kid_rendered': float(kernel_distance(patch_features(before), real_features)),
        }

    return Domain(
        synthetic=synthetic,
        real=real,
        checked=checked,
        wanted=wanted,
        size=size,
        seen=seen_grey,
        channels=1,
        layers=GAZE_LAYERS,
        unit=255.0,
        hole=0.0,
        lacking=0.0,
        area_weight=0.0,
        figures=figures,
        score=lambda found: found['kid'],
        sheet=gaze_sheet,
    )


def hand_sheet(before: Tensor, after: Tensor, real: Tensor, count: int = 4) -> UInt8Array:
    """Return rows of pictures: rendered, refined, change (blue nearer, 20 mm), real.

    Depth is coloured; under it is the relief, lit from the left, which shows single millimetres.
    """
    rows = []
    for crops in zip(before[:count, 0], after[:count, 0], real[:count, 0], strict=False):
        depths_m = [unnormalized_m(crop).numpy() for crop in crops]
        upper, lower = [], []
        for depth_m in depths_m:
            known = depth_m[np.isfinite(depth_m)]
            near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
            upper.append(
                depth_scale(float(near), max(float(far), float(near) + 0.01)).paint(depth_m)
            )
            lower.append(_relief(depth_m))
        change_mm = (1e3 * (depths_m[1] - depths_m[0])).astype(np.float32)
        upper.insert(2, error_scale(20.0).paint(change_mm))
        lost = np.isfinite(depths_m[0]) & np.isnan(depths_m[1])
        lower.insert(2, np.repeat((255 * lost).astype(np.uint8)[..., None], 3, 2))
        rows += [np.hstack(upper), np.hstack(lower)]
    return np.vstack(rows)


def _relief(depth_m: npt.NDArray[np.float32]) -> UInt8Array:
    slope = np.diff(depth_m, axis=1, append=np.nan) / 1.34e-3
    light = 0.5 - 0.5 * slope / np.sqrt(1 + slope * slope)
    grey = np.where(np.isfinite(light), 40 + 215 * light, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def gaze_sheet(before: Tensor, after: Tensor, real: Tensor, count: int = 8) -> UInt8Array:
    """Return rows of pictures: rendered, refined, change (grey is none), real."""
    change = 0.5 + 2 * (after - before)
    columns = [torch.cat(list(images[:count, 0])) for images in (before, after, change, real)]
    grey = (255 * torch.cat(columns, 1).clamp(0, 1)).round().byte().numpy()
    return np.repeat(grey[..., None], 3, 2)

"""Hands that are rendered, refined or read once and kept in files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from ..datasets import DatasetError, open_hands, require_shippable
from ..datasets.hands import CROP_PX
from ..refiners import Refiner
from .crops import HandCrops, LabelledHands
from .domains import StandInHands, counts_of, depth_of
from .table_settings import Settings

CLEAN_SEED, REAL_SEED, TEST_SEED = 1000, 1001, 1002
"""Seeds of the hands; refiners are trained with small ones."""
CHUNK = 32
"""Batches of hands that are written at once."""
DRAWN_AT_ONCE = 16


class Pool(NamedTuple):
    """Hands that are kept.

    Attributes:
        counts: (N, 1, H, W) int16, see `training.synth2real.domains.counts_of`.
        joints_px: (N, 14, 2).
    """

    counts: Tensor
    joints_px: Tensor

    def crops(self, chosen: Tensor | slice) -> HandCrops:
        """Return some of them."""
        return HandCrops(depth_of(self.counts[chosen]), self.joints_px[chosen])


class Resized(Dataset[HandCrops]):
    """Batches of labelled hands, at another size.

    Args:
        hands: With crops of 224 px.
        size_px: Rows and columns.
    """

    def __init__(self, hands: LabelledHands, size_px: int) -> None:
        self.hands, self.size_px = hands, size_px

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.hands)

    def __getitem__(self, number: int) -> HandCrops:
        """Return a batch: of depth the nearest pixel is taken."""
        depth, joints_px = self.hands[number]
        size = (self.size_px, self.size_px)
        scale = self.size_px / CROP_PX
        return HandCrops(
            functional.interpolate(depth, size, mode='nearest-exact'),
            (joints_px + 0.5) * scale - 0.5,
        )


def pool(
    folder: Path,
    hands: Dataset[HandCrops],
    first: int,
    count: int,
    workers: int,
    progress: Progress,
) -> Pool:
    """Return hands, from files where they were written before.

    Args:
        folder: Folder of the files.
        hands: Batches of `DRAWN_AT_ONCE`.
        first: Number of the first batch.
        count: Hands.
        workers: Processes that make batches.
        progress: Where progress is shown.
    """
    batches = math.ceil(count / DRAWN_AT_ONCE)
    parts: list[Pool] = []
    task = progress.add_task(f'Hands: {folder.name}', total=batches)
    for start in range(0, batches, CHUNK):
        numbers = range(first + start, first + min(start + CHUNK, batches))
        file = folder / f'{numbers.start:06}_{len(numbers)}.pt'
        if not file.exists():
            made: list[Pool] = []
            for crops in DataLoader(Subset(hands, numbers), None, num_workers=workers):
                made.append(Pool(counts_of(crops[0]), crops[1]))
                progress.advance(task)
            write_whole(file, tuple(torch.cat(part) for part in zip(*made, strict=True)))
        parts.append(Pool(*torch.load(file, weights_only=True)))
        progress.update(task, completed=start + len(numbers))
    whole = Pool(*(torch.cat(part)[:count] for part in zip(*parts, strict=True)))
    progress.remove_task(task)
    return whole


def refined(folder: Path, clean: Pool, refiner: Refiner, device: str, progress: Progress) -> Pool:
    """Return the same hands, refined, from files where they were written before.

    A batch is refined with randomness of its own, so that it is the same in whatever run.
    """
    size = CHUNK * DRAWN_AT_ONCE
    starts = range(0, len(clean.counts), size)
    counts = []
    task = progress.add_task(f'Refining: {folder.name}', total=len(starts))
    for start in starts:
        part = clean.counts[start : start + size]
        file = folder / f'{start:06}_{len(part)}.pt'
        if not file.exists():
            torch.manual_seed(start)
            found = [
                counts_of(refiner(depth_of(batch).to(device)).float().cpu())
                for batch in part.split(DRAWN_AT_ONCE)
            ]
            write_whole(file, torch.cat(found))
        counts.append(torch.load(file, weights_only=True))
        progress.advance(task)
    progress.remove_task(task)
    return Pool(torch.cat(counts), clean.joints_px)


def write_whole(path: Path, value: Any) -> None:
    """Write a file of PyTorch, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix('.part')
    torch.save(value, draft)
    draft.replace(path)


def real_pools(settings: Settings, most: int, progress: Progress) -> tuple[Pool, Pool]:
    """Return labelled 'real' hands to learn from, and others to test on.

    Raises:
        SystemExit: If the data cannot be used.
    """
    folder = settings.run / 'hands'
    if settings.real is None:
        learned, held_out = (
            StandInHands(14, DRAWN_AT_ONCE, seed, size_px=settings.size)
            for seed in (REAL_SEED, TEST_SEED)
        )
        return (
            pool(folder / 'stand_in', learned, 0, most, settings.workers, progress),
            pool(folder / 'test', held_out, 0, settings.tested, settings.workers, progress),
        )
    try:
        opened = [open_hands(path) for path in (settings.real, settings.test) if path]
        require_shippable(opened, research=settings.research)
    except DatasetError as error:
        raise SystemExit(str(error)) from None
    for hands in opened:
        if len(hands.scheme.names) != 14:
            raise SystemExit(f'{hands.path} labels {len(hands.scheme.names)} joints, not 14.')
    whole = [
        Resized(LabelledHands(hands, DRAWN_AT_ONCE, 0, augment=False), settings.size)
        for hands in opened
    ]
    # Frames follow one another: a part in one piece shares the least with the rest.
    kept = len(whole[0]) if settings.test else len(whole[0]) * 4 // 5
    available = min(kept * DRAWN_AT_ONCE, len(opened[0]))
    first = 0 if settings.test else kept
    left = len(opened[-1]) - first * DRAWN_AT_ONCE
    if available < most:
        raise SystemExit(
            f'{settings.real} has {available} hands to learn from, {most} are wanted: '
            'give fewer --hands or --times.'
        )
    return (
        pool(folder / 'real', whole[0], 0, most, settings.workers, progress),
        pool(
            folder / 'test',
            whole[-1],
            first,
            min(settings.tested, left),
            settings.workers,
            progress,
        ),
    )

"""Depth of two domains, no two images of which show the same: what CycleGAN is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..pairs import Pairs, open_frames, split
from .crops import HandCrops
from .domains import CleanHands, RecordedHands, StandInHands

AT_ONCE = 16
"""Hands of a batch."""


class Depths(Protocol):
    """Depth images (1, H, W), metres beyond the domain's origin, 0 in holes; any number is one."""

    def __getitem__(self, number: int, /) -> Tensor:
        """Return an image."""


class Unpaired(NamedTuple):
    """An image of each domain; a batch has one more dimension in front.

    Attributes:
        synthetic: (1, H, W).
        real: (1, H, W), of something else.
    """

    synthetic: Tensor
    real: Tensor


class UnpairedDepths(Dataset[Unpaired]):
    """Images of both domains.

    Args:
        synthetic: One domain.
        real: The other.
        count: How many there are of each.
    """

    def __init__(self, synthetic: Depths, real: Depths, count: int) -> None:
        self.synthetic, self.real, self.count = synthetic, real, count

    def __len__(self) -> int:
        """Return how many there are."""
        return self.count

    def __getitem__(self, number: int) -> Unpaired:
        """Return images number `number`."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        return Unpaired(self.synthetic[number], self.real[number])

    def __iter__(self) -> Iterator[Unpaired]:
        """Return all in turn."""
        return (self[number] for number in range(self.count))


class Hands:
    """Crops of hands, one at a time.

    Args:
        crops: In batches, which are made faster than as many crops alone.
    """

    def __init__(self, crops: Dataset[HandCrops]) -> None:
        self.crops = crops
        self._last: tuple[int, Tensor] | None = None

    def __getitem__(self, number: int, /) -> Tensor:
        """Return a crop."""
        batch, place = divmod(number, AT_ONCE)
        if self._last is None or self._last[0] != batch:
            self._last = batch, self.crops[batch].depth
        return self._last[1][place]


class FrameDepths:
    """Depth of frames, without their colour.

    Args:
        pairs: The frames.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __getitem__(self, number: int, /) -> Tensor:
        """Return an image."""
        return self.pairs[number].depth_m


def hand_domains(
    real: Path | None, size_px: int, seed: int, keep: int, *, held_out: bool = False
) -> tuple[Depths, Depths]:
    """Return rendered hands, and measured ones.

    Args:
        real: A recording; without, those of the sensor that is held out, without their labels.
        size_px: Of a crop.
        seed: Seed of all that is drawn.
        keep: Hands that are rendered once, in whole batches of 16; 0 renders always new ones.
        held_out: Hands that training never sees, as they are. Recordings have too few to hold any
            back: there they are the same, and only what is rendered is new.

    Raises:
        ValueError: If there is no recording, or no hand in it.
    """
    # Two hands of one number are not the same hand.
    clean, measured = (2 * seed + 4096 * held_out + kind for kind in (0, 1))
    changed, batches = not held_out, -(-keep // AT_ONCE)
    rendered = CleanHands(14, AT_ONCE, clean, size_px=size_px, keep=batches, augment=changed)
    if real is not None:
        return Hands(rendered), Hands(RecordedHands(real, AT_ONCE, seed, size_px=size_px))
    return Hands(rendered), Hands(
        StandInHands(14, AT_ONCE, measured, size_px=size_px, keep=batches, augment=changed)
    )


def frame_domains(
    shards: Sequence[Path],
    real: Sequence[Path],
    size: tuple[int, int],
    seed: int,
    *,
    held_out: bool = False,
    research: bool = False,
) -> tuple[Depths, Depths]:
    """Return frames as they are, and frames as they are measured.

    Args:
        shards: Rendered frames, `training.examples`.
        real: Recordings; without, what simulated sensors measure of the other half of the scenes.
        size: Rows and columns, px.
        seed: Of which frame comes when.
        held_out: Scenes that training never sees.
        research: The user's word that the weights will not be shipped.

    Raises:
        DatasetError: If a dataset is not recognised, or may not be used.
        ValueError: If there are too few frames.
    """
    domains: list[Depths] = []
    for kind, paths in enumerate((shards, real or shards)):
        frames = open_frames(paths, measured=kind == 1, research=research)
        used = split(frames.scenes, 0.1)['validation' if held_out else 'train']
        if not real:
            # Scenes of one domain are none of the other's.
            used = used[kind::2] if len(used) > 1 else used
        domains.append(
            FrameDepths(Pairs(frames, used, size, seed=2 * seed + kind, changed=True, count=2**62))
        )
    return domains[0], domains[1]


def first(depths: Depths, count: int) -> Tensor:
    """Return the first images of a domain, (count, 1, H, W)."""
    return torch.stack([depths[number] for number in range(count)])

"""Settings of the table of refiners."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro


@dataclass(kw_only=True)
class Settings:
    """Evaluate refiners by what is learned from refined hands."""

    run: tyro.conf.Positional[Path]
    """Folder for crops, cells, table.json, curve.png and side_by_side.png."""
    refiner: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=PATH of a checkpoint of train_simgan, or of an ONNX file from any method."""
    real: Path | None = None
    """Labelled dataset, as NYU's `train`, instead of the simulated sensor."""
    test: Path | None = None
    """Labelled dataset to test on, as NYU's `test`; without, the last fifth of --real."""
    research: bool = False
    """Confirm that no weights will be shipped; research-only data needs it."""
    small: bool = False
    """Minutes on a CPU: 256 and 768 hands in 64 px, 512 to test on, 600 steps of a network
    with a stack of 32 features and heatmaps of 32 px, a SimGAN of 600 steps with 3 blocks
    of 16 maps of 3x3. Other flags that are given keep their values."""
    hands: int = 20_000
    """Hands of the smallest training set, 1x."""
    times: tuple[int, ...] = (1, 3)
    """Sizes of the training sets, as multiples of --hands."""
    tested: int = 2000
    """'Real' hands that are tested on."""
    seeds: int = 1
    """Trainings of each cell, which differ in first weights and order; hands are the same."""
    size: int = 224
    """Rows and columns of crops, px."""
    stacks: int = 2
    """Hourglasses in the network."""
    features: int = 256
    """Channels of the hourglass."""
    heatmap: int = 64
    """Rows and columns of heatmaps."""
    steps: int = 30_000
    """Steps of the optimiser in each cell, whatever it learns from."""
    batch: int = 16
    """Hands of a step."""
    learning_rate: float = 1e-3
    """Highest learning rate of Adam."""
    simgan_steps: int = 4000
    """Steps of the SimGAN that is trained if no refiner is given."""
    mixed: bool = False
    """Cells compute in bfloat16 where that is precise enough: faster on GPUs, and on CPUs with
    AMX."""
    workers: int = 0
    """Processes that render hands."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Device that trains."""

    MAY_DIFFER: ClassVar[frozenset[str]] = frozenset({
        'run', 'refiner', 'research', 'hands', 'times', 'seeds', 'workers', 'device',
    })  # fmt: skip
    """Settings with which other cells of the same table are made; hands are named by cells."""


SMALL: dict[str, Any] = {
    'hands': 256, 'tested': 512, 'size': 64, 'stacks': 1, 'features': 32,
    'heatmap': 32, 'steps': 600, 'batch': 16, 'learning_rate': 4e-3, 'mixed': True,
    'simgan_steps': 600,
}  # fmt: skip
"""What --small sets where a flag is not given."""


def made_small(settings: Settings) -> Settings:
    """Return settings of which those in `SMALL` are small that are at their defaults."""
    given = asdict(settings)
    left = [f.name for f in fields(Settings) if f.name in SMALL and given[f.name] == f.default]
    return replace(settings, **{name: SMALL[name] for name in left})

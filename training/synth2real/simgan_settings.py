"""Settings of a SimGAN run and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import tyro

from ..running import RunSettings


@dataclass(kw_only=True)
class Settings(RunSettings):
    """What is the same for hands and for gaze."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    blocks: int
    """Residual blocks of the refiner."""
    kernel: int
    """Rows and columns of the refiner's filters, odd."""
    maps: int = 64
    """Channels of the refiner's features."""
    direct: bool = False
    """The refiner predicts the image, as in the paper, instead of its change."""
    refiner_alone: int
    """Steps at first in which the refiner learns to return its input."""
    discriminator_alone: int = 200
    """Steps after these in which the discriminator alone learns."""
    refiner_steps: int
    """Updates of the refiner in each later step, the paper's K_g."""
    discriminator_steps: int = 1
    """Updates of the discriminator in each later step, the paper's K_d."""
    learning_rate: float = 5e-4
    """Learning rate of Adam, for both networks."""
    drop_after: float = 0.6
    """Share of the steps after which the learning rate is a tenth; 1 never drops it."""
    psi: str = 'identity'
    """What self-regularisation keeps: identity, derivatives, mean (of the image), or the
    checkpoint of training.synth2real.train_hourglass whose heatmaps are kept."""
    self_weight: float
    """Weight of self-regularisation, for each millimetre, level of 255, or unit of heatmaps."""
    history: int = 512
    """Refined images kept for the discriminator, the paper's B; 0 keeps none."""
    adversarial: Literal['local', 'global'] = 'local'
    """Whether the discriminator classifies patches or whole images."""
    patience: int = 0
    """Validations without a better refiner after which the run ends; 0 does not."""
    checked: int = 32
    """Images of either kind that are validated on."""
    mixed: bool = False
    """Compute in bfloat16 where that is precise enough: faster on GPUs, and on CPUs with AMX.
    Depth itself stays in single precision, unless --direct."""

    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER - {'validate_every'} | {
        'patience', 'research'
    }  # fmt: skip


@dataclass(kw_only=True)
class HandSettings(Settings):
    """Refine rendered depth of hands."""

    domain: tyro.conf.Suppress[Literal['hands']] = 'hands'
    real: Path | None = None
    """Real hands, labelled or not: a recording or dataset; without, a simulated sensor that no
    other training here draws."""
    research: bool = False
    """Confirm that the weights will not be shipped; research-only data needs it."""
    size: int = 224
    """Rows and columns of crops, px."""
    blocks: int = 10
    """Residual blocks of the refiner."""
    kernel: int = 7
    """Rows and columns of the refiner's filters, odd."""
    holes: bool = False
    """The refiner may drop pixels, as sensors do."""
    hole_mm: float = 0.1
    """What self-regularisation counts for a dropped pixel: with --area-weight 0, rather 30."""
    area_weight: float = 3.0
    """With --holes, of how far the share of pixels that are dropped is from what real hands lack,
    whose poses have to be drawn as those of rendered ones are; 0 where they are not."""
    grain: bool = True
    """The refiner sees noise, from which it can make a sensor's."""
    refiner_alone: int = 500
    """Steps at first in which the refiner learns to return its input."""
    refiner_steps: int = 2
    """Updates of the refiner in each later step, the paper's K_g."""
    self_weight: float = 0.01
    """Weight of self-regularisation, for each millimetre, or unit of heatmaps."""
    pose: Path | None = None
    """Checkpoint of training.synth2real.train_hourglass, which measures how far joints move."""
    drift_px: float = 1.0
    """Mean distance that joints may move for weights to be kept, px of the crop."""
    kept_batches: int = 512
    """Batches that are rendered once and kept; then they come again."""


@dataclass(kw_only=True)
class GazeSettings(Settings):
    """Refine rendered grey images of eyes."""

    domain: tyro.conf.Suppress[Literal['gaze']] = 'gaze'
    synthetic: Path
    """Folder of rendered images."""
    real: Path
    """Folder of photographs."""
    height: int = 35
    """Rows of images, px."""
    width: int = 55
    """Columns of images, px."""
    blocks: int = 4
    """Residual blocks of the refiner."""
    kernel: int = 3
    """Rows and columns of the refiner's filters, odd."""
    refiner_alone: int = 1000
    """Steps at first in which the refiner learns to return its input."""
    refiner_steps: int = 50
    """Updates of the refiner in each later step, the paper's K_g."""
    self_weight: float = 0.005
    """Weight of self-regularisation, for each of 255 levels."""


class Updates(NamedTuple):
    """How often either network is updated in a step."""

    refiner: int
    discriminator: int


def updates(step: int, settings: Settings) -> Updates:
    """Return what happens in a step, from 1."""
    if step <= settings.refiner_alone:
        return Updates(1, 0)
    if step <= settings.refiner_alone + settings.discriminator_alone:
        return Updates(0, 1)
    return Updates(settings.refiner_steps, settings.discriminator_steps)


def rate(step: int, settings: Settings) -> float:
    """Return the learning rate of a step, from 1."""
    dropped = step > settings.drop_after * settings.steps
    return settings.learning_rate * (0.1 if dropped else 1.0)

"""Train gaze estimation on rendered or recorded eyes: the second experiment of SimGAN.

    python -m training.gaze.train runs/gaze
    python -m training.gaze.train runs/unity --research \
        --data UnityEyes/imgs --test MPIIGaze/Data/Normalized

The first learns from eyes of `training.render.eyes` as cheap cameras take them and is validated
on such; the second is the paper's. Shrivastava et al., "Learning from Simulated and Unsupervised
Images through Adversarial Training", CVPR 2017, trains with a constant rate of 0.001 and 512
pictures a step; the optimiser it does not name is Adam here. Ctrl-C saves a checkpoint; the same
command goes on from it. Every run ends with model.onnx in its folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
import tyro

from .. import onnx_export
from ..datasets import DatasetError, require_shippable
from ..datasets.gaze import GazeDataset, open_gaze
from ..refiners import EYES, Refiner, load_refiner
from ..render.eyes import photographed, render_eyes, sample_eyes, sheet
from ..render.scenes import rng_of
from ..running import Run, RunSettings, commit
from .network import COLUMNS_PX, ROWS_PX, GazeNetwork, UnitGaze, degrees_between, euclidean_loss

WITHIN_DEG = 7.0
"""Errors below this count as right in the paper's table."""
_SAME_DEG = 0.01
_STREAM = 22
"""Number of the random stream of batches; scenes and hands have others."""


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train gaze estimation."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    data: Path | None = None
    """Labelled pictures to learn from, as UnityEyes; rendered eyes without."""
    test: Path | None = None
    """Labelled pictures to validate on, as MPIIGaze; rendered eyes without."""
    research: bool = False
    """Confirm that the weights will not be shipped; research-only data needs it."""
    clean: bool = False
    """Learn from rendered eyes without a camera's flaws; they are validated on with them."""
    refiner: Path | None = None
    """Refiner that all training images go through: a checkpoint of
    training.synth2real.train_simgan gaze, or its ONNX file."""
    steps: int = 10_000
    """Steps of the optimiser."""
    batch: int = 512
    """Eyes of a step, on all devices together."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    checked: int = 2048
    """Eyes that are validated on, at most."""

    # Each device has batches of its own, so that their number decides what is learned.
    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER - {'devices', 'nodes'} | {
        'test',
        'research',
        'steps',
        'checked',
    }


class EyeBatch(NamedTuple):
    """A batch of labelled eyes.

    Attributes:
        grey: (B, 1, 35, 55), 0 to 1.
        gaze: (B, 3) unit vectors: x right, y down, z forward of the camera.
    """

    grey: Tensor
    gaze: Tensor


class RenderedEyes(Dataset[EyeBatch]):
    """Batches of rendered eyes, each a function of a seed and its number, without end.

    Args:
        batch: Eyes of a batch.
        seed: Seed of all that is drawn.
        clean: Whether to leave out a camera's flaws.
    """

    def __init__(self, batch: int, seed: int, *, clean: bool = False) -> None:
        self.batch, self.seed, self.clean = batch, seed, clean

    def __len__(self) -> int:
        """Return a number that no run reaches."""
        return 2**31

    @torch.no_grad()
    def __getitem__(self, number: int) -> EyeBatch:
        """Render a batch."""
        generator = torch.Generator().manual_seed(
            rng_of(self.seed, number, _STREAM).getrandbits(32)
        )
        eyes = sample_eyes(generator, self.batch)
        grey = render_eyes(eyes)
        return EyeBatch(grey if self.clean else photographed(grey, generator), eyes.gaze)


class RecordedEyes(Dataset[EyeBatch]):
    """Batches of a dataset, each a function of a seed and its number; epochs follow one another.

    Args:
        eyes: The pictures.
        batch: Eyes of a batch.
        seed: Of their order.
    """

    def __init__(self, eyes: GazeDataset, batch: int, seed: int) -> None:
        self.eyes, self.batch = eyes, batch
        self._order = lru_cache(2)(partial(_permutation, seed, len(eyes)))

    def __len__(self) -> int:
        """Return the number of batches that show each eye once."""
        return -(-len(self.eyes) // self.batch)

    def __getitem__(self, number: int) -> EyeBatch:
        """Read a batch."""
        count = len(self.eyes)
        shown = range(number * self.batch, (number + 1) * self.batch)
        return gathered(self.eyes, (int(self._order(n // count)[n % count]) for n in shown))


class RefinedEyes(Dataset[EyeBatch]):
    """Batches of eyes, refined; their gaze stays.

    Args:
        eyes: Batches.
        refiner: See `training.refiners.load_refiner`.
    """

    def __init__(self, eyes: Dataset[EyeBatch], refiner: Refiner) -> None:
        self.eyes, self.refiner = eyes, refiner

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.eyes)  # type: ignore[arg-type]

    def __getitem__(self, number: int) -> EyeBatch:
        """Refine a batch."""
        grey, gaze = self.eyes[number]
        return EyeBatch(self.refiner(grey).clamp(0, 1), gaze)


def gathered(eyes: GazeDataset, indices: Iterable[int]) -> EyeBatch:
    """Read eyes into a batch."""
    read = [eyes[index] for index in indices]
    grey = torch.from_numpy(np.stack([eye.grey for eye in read]))[:, None]
    return EyeBatch(grey, torch.from_numpy(np.stack([eye.gaze for eye in read])).float())


def sources(settings: Settings, local: int) -> tuple[Dataset[EyeBatch], EyeBatch]:
    """Return what is learned from, and what to validate on.

    Args:
        settings: Settings of the run.
        local: Eyes of a batch on this device.

    Raises:
        SystemExit: If a dataset or the refiner cannot be used.
    """
    learned: Dataset[EyeBatch]
    try:
        if settings.data is None:
            learned = RenderedEyes(local, settings.seed, clean=settings.clean)
        else:
            opened = open_gaze(settings.data)
            # What is only validated on leaves no trace in weights.
            require_shippable([opened], research=settings.research)
            learned = RecordedEyes(opened, local, settings.seed)
        if settings.refiner is not None:
            learned = RefinedEyes(learned, load_refiner(settings.refiner, EYES))
        if settings.test is None:
            return learned, RenderedEyes(settings.checked, settings.seed + 1)[0]
        test = open_gaze(settings.test)
        # Spread over all people and days, which follow one another.
        spread = np.linspace(0, len(test) - 1, min(settings.checked, len(test)))
        return learned, gathered(test, (int(index) for index in spread.round()))
    except (DatasetError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


@torch.no_grad()
def validate(network: nn.Module, checked: EyeBatch, device: torch.device) -> dict[str, float]:
    """Return mean and median errors, degrees, the share within 7 degrees, and the loss."""
    network.eval()
    output = torch.cat(
        [network(part.to(device)).float().cpu() for part in checked.grey.split(256)]
    )
    network.train()
    off_deg = degrees_between(output, checked.gaze)
    return {
        'mean_deg': float(off_deg.mean()),
        'median_deg': float(off_deg.median()),
        'within_7deg': float((off_deg <= WITHIN_DEG).float().mean()),
        'loss': float(euclidean_loss(output, checked.gaze)),
    }


def train(settings: Settings) -> Path:
    """Train, export, and return the path of the model."""
    fabric = settings.fabric()
    if settings.batch % fabric.world_size:
        raise SystemExit(f'--batch {settings.batch} does not divide by {fabric.world_size}.')
    learned, checked = sources(settings, settings.batch // fabric.world_size)
    raw_network = GazeNetwork()
    raw_optimizer = torch.optim.Adam(raw_network.parameters(), lr=settings.learning_rate)
    run = Run(fabric, settings.run, settings, network=raw_network, optimizer=raw_optimizer)
    network, optimizer = fabric.setup(raw_network, raw_optimizer)

    def report(step: int) -> None:
        if not fabric.is_global_zero:
            return
        figures = validate(raw_network, checked, fabric.device)
        run.write(step, 'validation', figures)
        shown = EyeBatch(*(value[:48] for value in checked))
        with torch.no_grad():
            output = raw_network(shown.grey.to(fabric.device)).cpu()
        run.picture(step, 'validation', sheet(shown.grey, shown.gaze, output))
        fabric.print(
            f'step {step}: gaze {figures["mean_deg"]:.2f} degrees off, median '
            f'{figures["median_deg"]:.2f}, {100 * figures["within_7deg"]:.1f} % within 7',
            flush=True,
        )

    if run.start == 0:
        report(0)
    for step, batch in run.steps(run.loader(learned, batched=True)):
        eyes = EyeBatch(*batch)
        loss = euclidean_loss(network(eyes.grey), eyes.gaze)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        run.log(step, {'loss': loss}, 'loss')
        if run.validates(step):
            report(step)
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        export(raw_network.cpu(), model, checked.grey[:16])
    return model


def export(network: GazeNetwork, path: Path, grey: Tensor) -> None:
    """Write an ONNX file from grey, (B, 1, 35, 55) of 0 to 1, to gaze, (B, 3) unit vectors.

    Args:
        network: On the CPU.
        path: Where to.
        grey: Pictures to compare on.

    Raises:
        SystemExit: If ONNX Runtime and PyTorch differ by more than a hundredth of a degree.
    """
    deployed = UnitGaze(network).eval()
    free = {'grey': {0: torch.export.Dim.DYNAMIC}}
    onnx_export.to_onnx(
        deployed, path, (torch.rand(2, 1, ROWS_PX, COLUMNS_PX),), ['grey'], ['gaze'], free
    )
    session = onnx_export.open_onnx(path)
    output = torch.from_numpy(session.run(['gaze'], {'grey': grey.numpy()})[0])
    with torch.no_grad():
        off_deg = float(degrees_between(output, deployed(grey)).max())
    if not off_deg <= _SAME_DEG:
        path.unlink()
        raise SystemExit(f'Not exported: ONNX Runtime is {off_deg:.2g} degrees off PyTorch.')
    onnx_export.describe(path, {'format': 1, 'name': 'gaze', 'commit': commit()})
    print(f'{path}: ONNX Runtime within {off_deg:.1g} degrees of PyTorch.')


def _permutation(seed: int, count: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

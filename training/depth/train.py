"""Train the depth network on rendered scenes; see `training.examples` for how these are made.

    python -m training.examples data/rooms --frames 4000
    python -m training.depth.train data/rooms runs/small --steps 8000

Ctrl-C saves a checkpoint; the same command goes on from it, with the very samples that would have
followed. On several GPUs or machines: torchrun --nproc-per-node 8 -m training.depth.train ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader
import tyro

from ..examples import Shards
from ..refiners import FRAMES, load_refiner
from ..running import LearnerSettings, learner, learning_rate
from .candidates import to_cells, to_rows
from .network import DepthChooser, estimate
from .pictures import sheet
from .prediction import PixelPrediction, Prediction
from .recordings import RealFrames, score
from .samples import Augmentation, Sample, Samples


@dataclass(kw_only=True)
class Settings(LearnerSettings):
    """Train the depth network."""

    data: tyro.conf.Positional[Path]
    """Folder of shards, written by `python -m training.examples`."""
    run: tyro.conf.Positional[Path]
    """Folder for checkpoints and TensorBoard; a run found there is continued."""
    size: Literal['nano', 'small', 'base'] = 'small'
    """Size of the network."""
    steps: int = 8000
    """Steps of the optimiser."""
    height: int = 224
    """Rows of a sample, a multiple of 32, px."""
    width: int = 320
    """Columns of a sample, a multiple of 32, px."""
    learning_rate: float = 1.5e-3
    """Highest learning rate; it rises over the first 3 % of the steps and falls as a cosine."""
    refiner: Path | None = None
    """Refiner of whole frames, not of hands, that measures half of the exact samples: an ONNX
    file of training.synth2real.train_cyclegan, see docs/synth2real.md."""
    held_out: int = 50
    """Frames at the end of the shards that are not trained on but validated on."""
    pixels: int = 4000
    """Pixels of holes and of wrong measurements that count in the loss, for each sample."""
    real: tuple[Path, ...] = ()
    """Folders of real recordings that are validated on, never trained on."""
    validate_every: int = 1000
    """Steps between validations."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    MAY_DIFFER: ClassVar[frozenset[str]] = LearnerSettings.MAY_DIFFER | {'real'}


# ---------------------------------------------------------------------------------------- losses


Network = Callable[[Tensor, Tensor, Tensor], tuple[PixelPrediction, Prediction]]
"""See `DepthChooser.forward`."""
WRONG_SHARE = 0.04
"""A measurement is wrong if it misses by more than this share of the depth ..."""
WRONG_M = 0.02
"""... and this much, metres."""


def cost(depth_m: Tensor, truth_m: Tensor) -> Tensor:
    """Error relative to depth, somewhat robust; 1 is a metre at a metre."""
    error = (depth_m - truth_m).abs() / (0.25 + 0.75 * truth_m)
    return error.clamp_max(1) + 0.1 * (error - 1).clamp_min(0)


def losses(network: Network, sample: Sample, pixels: int) -> dict[str, Tensor]:
    """Return the parts of the loss, each a mean over the images of the batch.

    *best* is the cross-entropy to the best candidate; *choice* the expected cost of a candidate
    drawn by its probability; *depth* is the cost of the candidate chosen, corrected;
    *spread* the likelihood of its error under a Laplace distribution; *observed* the cost of
    corrected measurements; *wrong* the cross-entropy of finding wrong measurements.

    Args:
        network: It predicts only the cells that the loss uses.
        sample: A batch.
        pixels: How many holes and wrong measurements of each image count.
    """
    measured_m, truth_m, draw = (
        to_rows(to_cells(value)) for value in (sample.depth_m, sample.truth_m, sample.draw)
    )
    batch = sample.depth_m.shape[0]
    known, measured = truth_m > 0, measured_m > 0
    error_m = (measured_m - truth_m).abs()
    wrong = measured & (error_m > WRONG_SHARE * truth_m) & (error_m > WRONG_M)
    right = measured & known & ~wrong

    def drawn(where: Tensor) -> tuple[Tensor, Tensor]:
        """Cells and pixels of about `pixels` pixels of each image."""
        count = where.reshape(batch, -1).sum(1)
        share = (pixels / count.clamp_min(1)).repeat_interleave(len(where) // batch)[:, None]
        cell, pixel = (where & (draw < share)).nonzero(as_tuple=True)
        return cell, pixel

    def shares(cell: Tensor) -> Tensor:
        """Weights of pixels of these cells that make image means."""
        image = cell // (len(known) // batch)
        return 1 / torch.bincount(image, minlength=batch).clamp_min(1)[image] / batch

    cell, pixel = drawn(known & (~measured | wrong))
    cells, row = cell.unique(return_inverse=True)
    per_pixel, prediction = network(sample.depth_m, sample.color, cells)
    # Where no measurement is in sight there is nothing to choose.
    there = prediction.there.any(1)[row]
    cell, pixel, row = cell[there], pixel[there], row[there]
    weight = shares(cell)
    part = prediction.at(row, pixel)
    want_m = truth_m[cell, pixel]
    logits, candidate_m = part.logits()[:, 0], 1 / part.inverse()[:, 0]
    available = part.available()[:, 0]
    costs = torch.where(available, cost(candidate_m, want_m[:, None]), 2.0)
    probability = logits.softmax(1)
    least = costs.detach().amin(1, keepdim=True)
    target = torch.softmax((least - costs.detach()) / 0.02, 1)
    best = -(target * logits.log_softmax(1)).sum(1)
    taken_m = 1 / part.chosen_inverse(part.choice())[:, 0]
    result_m = taken_m * torch.exp(per_pixel.correction[cell, pixel])
    share = ((result_m.detach() - want_m).abs() / result_m.detach()).clamp(1e-4, 2)
    log_spread = per_pixel.log_spread[cell, pixel]
    spread = share * torch.exp(-log_spread) + log_spread

    kept = drawn(right)
    kept_weight = shares(kept[0])
    kept_m = measured_m[kept] * torch.exp(per_pixel.correction[kept])
    kept_share = ((kept_m.detach() - truth_m[kept]).abs() / kept_m.detach()).clamp(1e-4, 2)
    kept_spread = per_pixel.log_spread[kept]
    checked = measured & known
    wrong_loss = torch.nn.functional.binary_cross_entropy_with_logits(
        per_pixel.wrong, wrong.float(), reduction='none'
    )
    wrong_loss = (wrong_loss * checked).reshape(batch, -1).sum(1)
    wrong_loss = wrong_loss / checked.reshape(batch, -1).sum(1).clamp_min(1)
    return {
        'choice': ((probability * costs).sum(1) * weight).sum(),
        'best': (best * weight).sum(),
        'depth': (cost(result_m, want_m) * weight).sum(),
        'spread': (spread * weight).sum(),
        'observed': (cost(kept_m, truth_m[kept]) * kept_weight).sum(),
        'observed_spread': (
            (kept_share * torch.exp(-kept_spread) + kept_spread) * kept_weight
        ).sum(),
        'wrong': wrong_loss.mean(),
        'least': (least[:, 0] * weight).sum().detach(),
    }


WEIGHTS = {
    'choice': 2.0,
    'best': 0.3,
    'depth': 2.0,
    'spread': 0.05,
    'observed': 4.0,
    'observed_spread': 0.05,
    'wrong': 1.0,
}
"""Weight of each loss in their sum; *least*, the cost of the best candidate, is only logged."""


# -------------------------------------------------------------------------------------- training


@torch.no_grad()
def validate(network: DepthChooser, batches: Iterable[Sample], pixels: int) -> dict[str, float]:
    """Return mean losses, and errors at holes closer than 4 m: mm, and share within 5 %."""
    network.eval()
    sums: dict[str, float] = {}
    error_m, within, count, number = 0.0, 0.0, 0, 0
    for sample in batches:
        for name, value in losses(network, sample, pixels).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        found_m = estimate(network, sample.depth_m, sample.color).depth_m
        hole = (sample.depth_m <= 0) & (sample.truth_m > 0) & (sample.truth_m < 4)
        missed_m = (found_m - sample.truth_m).abs()[hole & found_m.isfinite()]
        truth_m = sample.truth_m[hole & found_m.isfinite()]
        error_m += float(missed_m.sum())
        within += float((missed_m < 0.05 * truth_m).sum())
        count += len(missed_m)
        number += 1
    network.train()
    result = {name: value / max(number, 1) for name, value in sums.items()}
    return result | {
        'hole_mae_mm': 1e3 * error_m / max(count, 1),
        'within': within / max(count, 1),
    }


def train(settings: Settings) -> Path:
    """Train, and return the path of the last checkpoint."""
    # Not Fabric's mixed precision: it would round depth itself to bfloat16.
    fabric = settings.fabric()
    try:
        shards = Shards(settings.data)
        refiner = load_refiner(settings.refiner, FRAMES) if settings.refiner else None
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    raw_network = DepthChooser(settings.size, mixed=settings.mixed)
    run, network, optimizer, average = learner(
        fabric, settings.run, settings, raw_network, weight_decay=0.01, decay=0.998
    )

    used = range(max(1, len(shards) - settings.held_out))
    held_out = range(used.stop % len(shards), len(shards))
    size = (settings.height, settings.width)
    samples = Samples(
        shards,
        settings.seed,
        size,
        settings.augmentation,
        used,
        settings.steps * settings.batch,
        refiner=refiner,
    )
    checked = DataLoader(
        Samples(shards, settings.seed + 1, size, settings.augmentation, held_out, 48), 8
    )
    real = [RealFrames(folder) for folder in settings.real]

    def report(step: int) -> None:
        if not fabric.is_global_zero:
            return
        averaged = cast('DepthChooser', average.module)
        batches = [Sample(*(value.to(fabric.device) for value in sample)) for sample in checked]
        figures = validate(averaged, batches, settings.pixels)
        run.write(step, 'validation', figures)
        line = f'step {step}: synthetic holes {figures["hole_mae_mm"]:.1f} mm'
        averaged.eval()
        for frames in real:
            scores = score(averaged, frames, fabric.device)
            run.write(step, f'real/{frames.name}', scores)
            line += f', {frames.name} {scores["hole_mae_mm"]:.1f} mm {scores["within"]:.3f}'
        with torch.no_grad():
            found = estimate(averaged, batches[0].depth_m, batches[0].color)
        averaged.train()
        run.picture(
            step, 'validation', sheet(Sample(*(value.cpu() for value in batches[0])), found)
        )
        fabric.print(line, flush=True)

    for step, batch in run.steps(run.loader(samples)):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step - 1, settings.steps, settings.learning_rate)
        sample = Sample(*batch)
        parts = losses(network, sample, settings.pixels)
        loss = sum(weight * parts[name] for name, weight in WEIGHTS.items())
        fabric.backward(loss)
        fabric.clip_gradients(network, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(raw_network)
        run.log(step, parts, 'depth')
        if run.validates(step):
            report(step)
    return run.path


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

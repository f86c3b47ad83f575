"""Train depth from colour alone on rendered scenes; see `training.examples` for making these.

    make views
    python -m training.mono.train data/views runs/monocular

Ctrl-C saves a checkpoint; the same command goes on from it, with the very samples that would have
followed. On several GPUs or machines: torchrun --nproc-per-node 8 -m training.mono.train ...
"""

from __future__ import annotations

from collections.abc import Iterable
import copy
from dataclasses import dataclass, field
from pathlib import Path
import time
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader
import tyro

from depth_refiner_ros.pictures import depth_scale

from ..examples import Shards
from ..folding import read_back
from ..networks.efficientnet_lite import imagenet_file, load_imagenet
from ..running import LearnerSettings, learner, learning_rate
from .network import Guess, MonocularDepth
from .recordings import RealViews, relative_errors, score_views
from .samples import Appearance, View, Views


@dataclass(kw_only=True)
class Settings(LearnerSettings):
    """Train depth from colour alone."""

    data: tyro.conf.Positional[Path]
    """Folder of shards, written by `python -m training.examples`."""
    run: tyro.conf.Positional[Path]
    """Folder for checkpoints and TensorBoard; a run found there is continued."""
    encoder: Literal['imagenet', 'scratch'] = 'imagenet'
    """Where the encoder's weights start."""
    initial: Path | None = None
    """Checkpoint of another run, or an exported .onnx file, to take all weights from."""
    frozen_blocks: int = 3
    """Blocks of the encoder that stay as they are, with --encoder imagenet: 3 leave what it sees
    at strides of 2 and 4 pixels, and take a sixth off the time of a step."""
    steps: int = 12_000
    """Steps of the optimiser."""
    learning_rate: float = 1.5e-3
    """Highest learning rate of AdamW; the encoder's is lower by `encoder_share`."""
    encoder_share: float = 0.4
    """Learning rate of an encoder that has learned before, as a share of the decoder's."""
    batch: int = 16
    """Samples of a step, on all devices together."""
    height: int = 96
    """Rows of a sample, a multiple of 32, px: a fifth of the pictures it will be given."""
    width: int = 128
    """Columns of a sample, a multiple of 32, px."""
    held_out: int = 200
    """Frames at the end of the shards that are not trained on but validated on."""
    real: tuple[Path, ...] = ()
    """Folders of real recordings that are validated on, never trained on."""
    appearance: Appearance = field(default_factory=Appearance)

    MAY_DIFFER: ClassVar[frozenset[str]] = LearnerSettings.MAY_DIFFER | {'real'}


WEIGHTS = {'metric': 1.0, 'relative': 1.0, 'edges': 0.5, 'spread': 0.1}
"""Weight of each loss in their sum."""


def losses(guess: Guess, truth_m: Tensor) -> dict[str, Tensor]:
    """Return the parts of the loss.

    *metric* is the error of the logarithm of depth; *relative* the same but for the scale of each
    picture (Eigen et al., NIPS 2014); *edges* the error of its gradient in four scales (Li and
    Snavely, MegaDepth, CVPR 2018); *spread* the likelihood of the error under a Laplace
    distribution.

    Args:
        guess: What the network predicts.
        truth_m: (B, 1, H, W), 0 where unknown.
    """
    known = truth_m > 0
    log_truth = torch.log(truth_m.clamp_min(1e-2))
    error = (guess.log_depth - log_truth) * known
    count = known.sum().clamp_min(1)
    share = error.detach().abs().clamp_max(2)
    spread = (share * torch.exp(-guess.log_spread) + guess.log_spread) * known
    relative = guess.log_relative - log_truth
    middle = relative.detach().masked_fill(~known, torch.nan).flatten(1).nanmedian(1).values
    relative = (relative - middle.nan_to_num(0)[:, None, None, None]) * known
    return {
        'metric': error.abs().clamp_max(2).sum() / count,
        'relative': relative.abs().clamp_max(2).sum() / count,
        'edges': gradient_error(guess.log_relative - log_truth, known),
        'spread': spread.sum() / count,
    }


def gradient_error(error: Tensor, known: Tensor, scales: int = 4) -> Tensor:
    """Return how much an error changes between neighbours, summed over scales of 1, 2, 4 ... px.

    Args:
        error: (B, 1, H, W).
        known: Where it counts.
        scales: How many.
    """
    total = error.new_zeros(())
    for _ in range(scales):
        for axis in (2, 3):
            both = known.narrow(axis, 1, known.shape[axis] - 1)
            both = both & known.narrow(axis, 0, known.shape[axis] - 1)
            step = error.diff(dim=axis).abs().clamp_max(1) * both
            total = total + step.sum() / both.sum().clamp_min(1)
        error, known = error[..., ::2, ::2], known[..., ::2, ::2]
    return total


@torch.no_grad()
def validate(network: torch.nn.Module, batches: Iterable[View]) -> dict[str, float]:
    """Return mean losses, and errors as `relative_errors` defines them."""
    network.eval()
    sums: dict[str, float] = {}
    frames = 0
    for view in batches:
        guess = network(view.color, view.intrinsics)
        parts = {k: float(v) for k, v in losses(guess, view.truth_m).items()}
        found_m, truth_m = (value.cpu().numpy() for value in (guess.log_depth.exp(), view.truth_m))
        for i in range(len(found_m)):
            errors = relative_errors(found_m[i, 0], np.where(truth_m > 0, truth_m, np.nan)[i, 0])
            for name, value in (parts | errors).items():
                sums[name] = sums.get(name, 0.0) + value
        frames += len(found_m)
    network.train()
    return {name: value / max(frames, 1) for name, value in sums.items()}


def sheet(view: View, guess: Guess, count: int = 6) -> npt.NDArray[np.uint8]:
    """Return a row of pictures for each sample: colour, truth, estimate, error (white is 25 %)."""
    rows = []
    for i in range(min(count, len(view.color))):
        truth_m = view.truth_m[i, 0].cpu().numpy()
        known = truth_m[truth_m > 0]
        near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
        scale = depth_scale(float(near), float(far))
        found_m = guess.log_depth[i, 0].exp().cpu().numpy()
        with np.errstate(divide='ignore', invalid='ignore'):
            error = np.where(truth_m > 0, np.abs(found_m / truth_m - 1) / 0.25, 0).clip(0, 1)
        color = (255 * view.color[i].permute(1, 2, 0).cpu().numpy()).astype(np.uint8)
        truth = scale.paint(np.where(truth_m > 0, truth_m, np.float32(np.nan)))
        grey = np.repeat((255 * error).astype(np.uint8)[..., None], 3, 2)
        rows.append(np.hstack([color, truth, scale.paint(found_m), grey]))
    return np.vstack(rows)


def initial_network(settings: Settings) -> MonocularDepth:
    """Return the network as a run starts with it.

    Raises:
        SystemExit: If the encoder's weights are not installed, or the file is of another network.
    """
    network = MonocularDepth()
    if settings.initial is not None and settings.initial.suffix == '.onnx':
        read_back(network, settings.initial)
    elif settings.encoder == 'imagenet' and settings.initial is None:
        load_imagenet(network.encoder, imagenet_file())
    if settings.encoder == 'imagenet':
        network.encoder.frozen = settings.frozen_blocks
        network.train()
    if settings.mixed:
        shape = (settings.batch, 3, settings.height, settings.width)
        network.mixed = faster_in_bfloat16(network, shape)
    return network


def faster_in_bfloat16(network: MonocularDepth, shape: tuple[int, int, int, int]) -> bool:
    """Return whether a step takes less time in bfloat16 than in single precision here.

    GPUs and CPUs with AMX gain by it; others convert back and forth.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    timed = copy.deepcopy(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    color = torch.rand(shape, device=device)
    intrinsics = torch.tensor([[130.0, 130.0, 64.0, 48.0]], device=device).expand(shape[0], 4)
    least_s: dict[bool, float] = {}
    for timed.mixed in (False, True, False, True):
        for _ in range(2):
            start = time.perf_counter()
            timed(color, intrinsics).log_depth.mean().backward()
            if device == 'cuda':
                torch.cuda.synchronize()
            spent_s = time.perf_counter() - start
            least_s[timed.mixed] = min(spent_s, least_s.get(timed.mixed, spent_s))
    print(f'A step takes {least_s[False]:.2f} s, in bfloat16 {least_s[True]:.2f} s.', flush=True)
    return least_s[True] < least_s[False]


def train(settings: Settings) -> Path:
    """Train, and return the path of the last checkpoint."""
    fabric = settings.fabric()
    try:
        shards = Shards(settings.data)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    raw_network = initial_network(settings)
    slow = [] if settings.encoder == 'scratch' else raw_network.encoder.parameters()
    run, network, optimizer, average = learner(
        fabric,
        settings.run,
        settings,
        raw_network,
        weight_decay=0.02,
        decay=0.995,
        use_buffers=True,
        slow=slow,
    )

    used = range(max(1, len(shards) - settings.held_out))
    held_out = range(used.stop % len(shards), len(shards))
    size = (settings.height, settings.width)
    samples = Views(
        shards, settings.seed, size, settings.appearance, used, settings.steps * settings.batch
    )
    checked = DataLoader(Views(shards, 0, size, None, held_out, len(held_out)), 10)
    real = [RealViews(folder) for folder in settings.real]

    def report(step: int) -> None:
        if not fabric.is_global_zero:
            return
        average.eval()
        batches = [View(*(value.to(fabric.device) for value in view)) for view in checked]
        figures = validate(average, batches)
        run.write(step, 'validation', figures)
        line = f'step {step}: delta1 {figures["delta1"]:.3f} AbsRel {figures["abs_rel"]:.3f}'
        average.eval()
        for views in real:
            scores = score_views(average.module, views, fabric.device)
            run.write(step, f'real/{views.name}', scores)
            line += f', {views.name} {scores["abs_rel"]:.3f} {scores["aligned_abs_rel"]:.3f}'
        with torch.no_grad():
            guess = average(batches[0].color, batches[0].intrinsics)
        average.train()
        run.picture(step, 'validation', sheet(batches[0], guess))
        fabric.print(line, flush=True)

    for step, batch in run.steps(run.loader(samples)):
        rate = learning_rate(step - 1, settings.steps, settings.learning_rate)
        for group, share in zip(optimizer.param_groups, (1, settings.encoder_share), strict=False):
            group['lr'] = rate * share
        view = View(*batch)
        parts = losses(network(view.color, view.intrinsics), view.truth_m)
        loss = sum(weight * parts[name] for name, weight in WEIGHTS.items())
        fabric.backward(loss)
        fabric.clip_gradients(network, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(raw_network)
        run.log(step, parts, 'metric')
        if run.validates(step):
            report(step)
    return run.path


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

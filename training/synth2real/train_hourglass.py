"""Train a stacked hourglass on hands, recorded or rendered: the recipe of SimGAN's hand poses.

    python -m training.synth2real.train_hourglass runs/hands
    python -m training.synth2real.train_hourglass runs/nyu --data nyu/train --test nyu/test \
        --research

The first learns from rendered hands behind simulated sensors, the second is the paper's upper
bound, learned from real labels: share of the 14 joints within 5 px in 224x224. Ctrl-C saves a
checkpoint; the same command goes on from it, with the very batches that would have followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
import tyro

from depth_refiner_ros.metrics.hands import joint_errors, joints_within, mean_joint_error
from depth_refiner_ros.pictures import depth_scale

from ..datasets import DatasetError, open_hands, require_shippable
from ..datasets.hands import CROP_PX
from ..networks.hourglass import StackedHourglass, heatmap_loss, joints_of
from ..running import Run, RunSettings, moving_average
from .crops import HandCrops, LabelledHands, SyntheticHands, unnormalized_m

WITHIN_PX = 5.0
"""PCK of SimGAN's table."""


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a stacked hourglass."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints and TensorBoard; a run found there is continued."""
    data: Path | None = None
    """Labelled dataset to learn from, as NYU's `train`; rendered hands without."""
    test: Path | None = None
    """Labelled dataset to validate on, as NYU's `test`; rendered hands without."""
    research: bool = False
    """Confirm that the weights will not be shipped; research-only data needs it."""
    joints: Literal[14, 16, 21] = 14
    """NYU's, ICVL's or MediaPipe's; with --data, as many as it labels."""
    steps: int = 100_000
    """Steps of the optimiser."""
    batch: int = 16
    """Hands of a step, on all devices together."""
    stacks: int = 2
    """Hourglasses in the network."""
    features: int = 256
    """Channels of the hourglass."""
    learning_rate: float = 2.5e-4
    """Learning rate of RMSprop, as in the paper on hourglasses."""
    decay: float = 0.0
    """Decay of the moving average of the weights, each step; 0 validates the weights
    themselves."""
    checked: int = 8
    """Batches of rendered hands that are validated on."""
    validate_every: int = 2000
    """Steps between validations."""
    precision: Literal['32-true', 'bf16-mixed'] = '32-true'
    """Precision; bf16-mixed is faster on GPUs."""

    # Each device has batches of its own, so that their number decides what is learned.
    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER - {'devices', 'nodes'} | {
        'test',
        'research',
        'steps',
        'checked',
    }


@torch.no_grad()
def validate(
    network: torch.nn.Module, batches: Iterable[HandCrops], device: torch.device
) -> dict[str, float]:
    """Return the share of joints within 5 px of 224, the mean error in px, and the loss."""
    network.eval()
    errors, losses = [], []
    for crops in batches:
        heatmaps = network(crops.depth.to(device))
        losses.append(float(heatmap_loss(heatmaps, crops.joints_px.to(device), CROP_PX)))
        found = joints_of(heatmaps[:, -1].float(), CROP_PX).cpu().numpy()
        errors.append(joint_errors(found, crops.joints_px.numpy()))
    network.train()
    every = np.concatenate(errors)
    return {
        'pck_5px': float(joints_within(every, [WITHIN_PX])[0]),
        'error_px': mean_joint_error(every),
        'loss': float(np.mean(losses)),
    }


def sources(settings: Settings, local: int) -> tuple[Dataset[HandCrops], list[HandCrops]]:
    """Return what is learned from, and batches to validate on.

    Args:
        settings: Settings of the run.
        local: Hands of a batch on this device.

    Raises:
        SystemExit: If a dataset cannot be used.
    """
    try:
        opened = [open_hands(path) for path in (settings.data, settings.test) if path]
        # What is only validated on leaves no trace in weights.
        require_shippable(opened[:1] if settings.data else [], research=settings.research)
    except DatasetError as error:
        raise SystemExit(str(error)) from None
    for hands in opened:
        if len(hands.scheme.names) != settings.joints:
            raise SystemExit(
                f'{hands.path} labels {len(hands.scheme.names)} joints: give --joints.'
            )
    learned: Dataset[HandCrops]
    if settings.data:
        learned = LabelledHands(opened[0], local, settings.seed)
    else:
        learned = SyntheticHands(settings.joints, local, settings.seed)
    if settings.test:
        checked = LabelledHands(opened[-1], 16, 0, augment=False)
        return learned, [checked[n] for n in range(len(checked))]
    rendered = SyntheticHands(settings.joints, 16, settings.seed + 1, augment=False)
    return learned, [rendered[n] for n in range(settings.checked)]


def train(settings: Settings) -> Path:
    """Train, and return the path of the last checkpoint."""
    fabric = settings.fabric(settings.precision)
    if settings.batch % fabric.world_size:
        raise SystemExit(f'--batch {settings.batch} does not divide by {fabric.world_size}.')
    learned, checked = sources(settings, settings.batch // fabric.world_size)
    raw_network = StackedHourglass(
        settings.joints, stacks=settings.stacks, features=settings.features
    )
    raw_optimizer = torch.optim.RMSprop(raw_network.parameters(), lr=settings.learning_rate)
    average = moving_average(raw_network, settings.decay, use_buffers=True)
    run = Run(
        fabric,
        settings.run,
        settings,
        network=raw_network,
        optimizer=raw_optimizer,
        average=average,
    )
    network, optimizer = fabric.setup(raw_network, raw_optimizer)
    average = average.to(fabric.device)

    def report(step: int) -> None:
        if not fabric.is_global_zero:
            return
        figures = validate(average, checked, fabric.device)
        run.write(step, 'validation', figures)
        with torch.no_grad():
            heatmaps = average.eval()(checked[0].depth.to(fabric.device))[:, -1].float().cpu()
        average.train()
        run.picture(step, 'validation', sheet(checked[0], heatmaps))
        fabric.print(
            f'step {step}: {100 * figures["pck_5px"]:.1f} % of joints within 5 px, '
            f'mean {figures["error_px"]:.2f} px, loss {figures["loss"]:.3f}',
            flush=True,
        )

    if run.start == 0:
        report(0)
    for step, batch in run.steps(run.loader(learned, batched=True)):
        crops = HandCrops(*batch)
        loss = heatmap_loss(network(crops.depth), crops.joints_px, CROP_PX)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(raw_network)
        run.log(step, {'loss': loss}, 'loss')
        if run.validates(step):
            report(step)
    return run.path


def sheet(crops: HandCrops, heatmaps: Tensor, count: int = 6) -> npt.NDArray[np.uint8]:
    """Return pictures of crops above their heatmaps; found joints are white, true ones black."""
    found = joints_of(heatmaps, CROP_PX)
    columns = []
    for depth, wanted, places, maps in zip(
        unnormalized_m(crops.depth[:count, 0]), crops.joints_px, found, heatmaps, strict=False
    ):
        known = depth[depth.isfinite()]
        near, far = (known.quantile(torch.tensor([0.02, 0.98]))).tolist() if len(known) else (0, 1)
        picture = np.ascontiguousarray(
            depth_scale(near, max(far, near + 0.01)).paint(depth.numpy())
        )
        for joints, color in ((wanted, (0, 0, 0)), (places, (255, 255, 255))):
            for u, v in joints.round().int().tolist():
                cv2.circle(picture, (u, v), 3, color, -1, cv2.LINE_AA)
        level = (255 * maps.amax(0).clamp(0, 1)).byte().numpy()
        grey = cv2.resize(level, (CROP_PX, CROP_PX))
        columns.append(np.vstack([picture, np.repeat(grey[..., None], 3, 2)]))
    return np.hstack(columns)


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

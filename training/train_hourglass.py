"""Train a stacked hourglass on hands, recorded or rendered: the recipe of SimGAN's hand poses.

    python -m training.train_hourglass runs/hands
    python -m training.train_hourglass runs/nyu --data nyu/train --test nyu/test --research

The first learns from rendered hands behind simulated sensors, the second is the paper's upper
bound, learned from real labels: share of the 14 joints within 5 px in 224x224. Ctrl-C saves a
checkpoint; the same command goes on from it, with the very batches that would have followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
import time
from typing import Any, Literal

import cv2
from lightning_fabric import Fabric
import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter
import tyro

from depth_refiner_ros.metrics.hands import joint_errors, joints_within, mean_joint_error
from depth_refiner_ros.pictures import depth_scale

from .datasets import DatasetError, open_hands, require_shippable
from .hand_crops import CROP_PX, HandCrops, LabelledHands, SyntheticHands, unnormalized_m
from .hourglass import StackedHourglass, heatmaps_of, joints_of
from .running import Stop, commit, plain
from .train_depth import CHECKPOINT

WITHIN_PX = 5.0
"""PCK of SimGAN's table."""


@dataclass
class Settings:
    """Train a stacked hourglass."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints and TensorBoard; a run found there is continued."""
    data: Path | None = None
    """Labelled dataset to learn from, as NYU's `train`; rendered hands without."""
    test: Path | None = None
    """Labelled dataset to validate on, as NYU's `test`; rendered hands without."""
    research: bool = False
    """Your word that the weights will not be shipped, which research-only data needs."""
    joints: Literal[14, 16, 21] = 14
    """NYU's, ICVL's or MediaPipe's; with --data, as many as it labels."""
    steps: int = 100_000
    """Steps of the optimiser."""
    batch: int = 16
    """Hands of a step, on all devices together."""
    stacks: int = 2
    """Hourglasses."""
    features: int = 256
    """Channels."""
    learning_rate: float = 2.5e-4
    """Of RMSprop, as in the paper on hourglasses."""
    decay: float = 0.0
    """Of the average of the weights that is validated, each step; 0 validates them as they are."""
    seed: int = 0
    """Of weights and batches."""
    checked: int = 8
    """Batches of rendered hands that are validated on."""
    validate_every: int = 2000
    """Steps between validations."""
    save_every_s: float = 300.0
    """Seconds between checkpoints."""
    minutes: float = 0.0
    """Stop after so long, as if by Ctrl-C; 0 does not."""
    workers: int = 0
    """Processes that load batches; 0 loads them in this one."""
    devices: int = 1
    """GPUs, or processes on the CPU, on this machine."""
    accelerator: str = 'auto'
    """cuda, cpu or auto."""
    precision: Literal['32-true', 'bf16-mixed'] = '32-true'
    """bf16-mixed is faster on GPUs."""


def loss_of(heatmaps: Tensor, joints_px: Tensor) -> Tensor:
    """Return the squared error of the heatmaps of all stacks, summed over each, a mean a joint.

    Args:
        heatmaps: (B, S, J, 64, 64).
        joints_px: (B, J, 2), pixels of the crop.
    """
    wanted = heatmaps_of(joints_px, CROP_PX)[:, None].expand_as(heatmaps)
    return functional.mse_loss(heatmaps, wanted, reduction='none').sum((3, 4)).mean()


@torch.no_grad()
def validate(
    network: torch.nn.Module, batches: Iterable[HandCrops], device: torch.device
) -> dict[str, float]:
    """Return the share of joints within 5 px of 224, the mean error in px, and the loss."""
    network.eval()
    errors, losses = [], []
    for crops in batches:
        heatmaps = network(crops.depth.to(device))
        losses.append(float(loss_of(heatmaps, crops.joints_px.to(device))))
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
        settings: Which.
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
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy='ddp' if settings.devices > 1 else 'auto',
        precision=settings.precision,
    )
    fabric.launch()
    torch.manual_seed(settings.seed)
    raw_network = StackedHourglass(
        settings.joints, stacks=settings.stacks, features=settings.features
    )
    raw_optimizer = torch.optim.RMSprop(raw_network.parameters(), lr=settings.learning_rate)
    smooth: Any = get_ema_multi_avg_fn
    average = AveragedModel(raw_network, multi_avg_fn=smooth(settings.decay), use_buffers=True)
    path = settings.run / CHECKPOINT
    start, watched = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location='cpu', weights_only=True)
        _check_same(state['settings'], settings, path)
        raw_network.load_state_dict(state['network'])
        raw_optimizer.load_state_dict(state['optimizer'])
        average.load_state_dict(state['average'])
        start, watched = state['step'], state['seconds']
        fabric.print(f'{path}: going on at step {start}.')
    network, optimizer = fabric.setup(raw_network, raw_optimizer)
    average = average.to(fabric.device)

    if settings.batch % fabric.world_size:
        raise SystemExit(f'--batch {settings.batch} does not divide by {fabric.world_size}.')
    learned, checked = sources(settings, settings.batch // fabric.world_size)
    # Step s sees one batch of each process, numbered after those of the steps before.
    mine = range(fabric.global_rank, settings.steps * fabric.world_size, fabric.world_size)[start:]
    loader = fabric.setup_dataloaders(
        DataLoader(Subset(learned, mine), None, num_workers=settings.workers),
        use_distributed_sampler=False,
    )
    writer = SummaryWriter(str(settings.run), purge_step=start) if fabric.is_global_zero else None
    stop = Stop()
    began = saved = time.monotonic()

    def save(step: int) -> None:
        fabric.save(
            path,
            {
                'network': raw_network.state_dict(),
                'optimizer': raw_optimizer.state_dict(),
                'average': average.state_dict(),
                'step': step,
                'seconds': watched + time.monotonic() - began,
                'settings': plain(asdict(settings)),
                'commit': commit(),
            },
        )

    def look(step: int) -> None:
        if writer is None:
            return
        figures = validate(average, checked, fabric.device)
        for name, value in figures.items():
            writer.add_scalar(f'validation/{name}', value, step)
        with torch.no_grad():
            heatmaps = average.eval()(checked[0].depth.to(fabric.device))[:, -1].float().cpu()
        average.train()
        writer.add_image('validation', sheet(checked[0], heatmaps), step, dataformats='HWC')
        writer.flush()
        fabric.print(
            f'step {step}: {100 * figures["pck_5px"]:.1f} % of joints within 5 px, '
            f'mean {figures["error_px"]:.2f} px, loss {figures["loss"]:.3f}',
            flush=True,
        )

    progress = Progress(
        TextColumn('Training'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn('{task.fields[loss]}'), disable=not fabric.is_global_zero,
    )  # fmt: skip
    if start == 0:
        look(0)
    step = start
    with progress:
        task = progress.add_task('', total=settings.steps, completed=start, loss='')
        for step, batch in enumerate(loader, start + 1):
            crops = HandCrops(*batch)
            loss = loss_of(network(crops.depth), crops.joints_px)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(raw_network)
            if step % 20 == 0 or step == start + 1:
                figure = float(fabric.all_reduce(loss.detach()))
                if writer is not None:
                    writer.add_scalar('training/loss', figure, step)
                progress.update(task, loss=f'loss {figure:.3f}')
            progress.update(task, completed=step)
            late = settings.minutes and time.monotonic() - began > 60 * settings.minutes
            if stop.wanted or late:
                break
            if step % settings.validate_every == 0:
                look(step)
            if time.monotonic() - saved > settings.save_every_s:
                save(step)
                saved = time.monotonic()
    save(step)
    look(step)
    fabric.print(f'{path}: step {step} of {settings.steps}.')
    return path


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


_MAY_DIFFER = (
    'run', 'data', 'test', 'research', 'steps', 'minutes', 'workers', 'accelerator', 'checked',
    'validate_every', 'save_every_s',
)  # fmt: skip


def _check_same(before: dict[str, Any], settings: Settings, path: Path) -> None:
    now = plain(asdict(settings))
    changed = [k for k in now if k not in _MAY_DIFFER and now[k] != before.get(k)]
    if changed:
        told = ', '.join(f'{k} was {before.get(k)} and is {now[k]}' for k in changed)
        raise SystemExit(f'{path} is of a run with other settings: {told}. Give another folder.')


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

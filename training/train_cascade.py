"""Train the cascade of coarse depth, its gradients and fine depth from pairs of colour and depth.

    python -m training.train_cascade runs/cascade data/rooms
    python -m training.train_cascade runs/original data/rooms --method original

The data is shards or datasets, see `training.pairs`. Each of the three networks has a third of the
steps, one after the other. Ctrl-C saves a checkpoint; the same command goes on from it. Every run
ends with model.onnx in its folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
import time
from typing import Literal

from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
import tyro

from .cascade_networks import Cascade, gradients, gradients_known
from .color_to_depth import DepthFromColor, export, score, sheet
from .datasets import DatasetError
from .pairs import DepthCode, Pair, Pairs, open_frames, split, spread
from .running import Stop, check_same, commit, plain, sample_numbers

CHECKPOINT = 'checkpoint.pt'
PHASES = ('coarse', 'gradient', 'fine')
VALIDATED = 50
"""Frames that are validated on, at most."""


@dataclass
class Settings:
    """Train the cascade."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    data: tyro.conf.Positional[tuple[Path, ...]]
    """Shards or datasets."""
    method: Literal['repaired', 'original'] = 'repaired'
    """original learns all pixels, holes as depth 0, of depth in 256 steps up to `far_m`, and takes
    the last weights. repaired learns known pixels of the logarithm of metric depth, of pictures
    that vary, and takes the weights that are best on held-out scenes."""
    measured: bool = False
    """Learn what simulated sensors measure of rendered scenes, holes and all."""
    research: bool = False
    """Allow datasets whose weights may not be shipped."""
    held_out: float = 0.05
    """Share of the scenes that is validated on; as many are tested on."""
    frames: int = 0
    """How many of the training frames are used; 0 uses all."""
    steps: int = 6000
    """Steps of the optimiser, of the three networks together."""
    batch: int = 8
    """Samples of a step, on all devices together."""
    height: int = 96
    """Rows of a picture, even, px."""
    width: int = 128
    """Columns of a picture, even, px."""
    near_m: float = 0.2
    """Nearest depth, repaired only."""
    far_m: float = 10.0
    """Farthest depth."""
    learning_rate: float = 1e-3
    """Of Adam."""
    seed: int = 0
    """Of weights and samples."""
    validate_every: int = 500
    """Steps between validations."""
    save_every_s: float = 300.0
    """Seconds between checkpoints."""
    minutes: float = 0.0
    """Stop after so long, as if by Ctrl-C; 0 does not."""
    workers: int = 0
    """Processes that load samples; 0 loads them in this one."""
    devices: int = 1
    """GPUs, or processes on the CPU, on this machine."""
    nodes: int = 1
    """Machines, under torchrun."""
    accelerator: str = 'auto'
    """cuda, cpu or auto."""
    mixed: bool = True
    """Compute in bfloat16 where that is precise enough."""


def code_of(settings: Settings) -> DepthCode:
    """Return how the networks of a method write depth."""
    if settings.method == 'original':
        return DepthCode(0.0, settings.far_m, logarithmic=False)
    return DepthCode(settings.near_m, settings.far_m, logarithmic=True)


def mean_square(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the mean squared error where a target is known.

    Args:
        prediction: (B, C, H, W).
        target: (B, C, H, W).
        known: (B, 1, H, W) bool.
    """
    squares = (prediction - target).square().mean(1, keepdim=True)
    return (squares * known).sum() / known.sum().clamp_min(1)


def targets(depth_m: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return depth as the networks shall write it, and where they learn it, (B, 1, H, W) bool.

    Args:
        depth_m: (B, 1, H, W), 0 where unknown.
        settings: Of the run.
    """
    code = code_of(settings).encode(depth_m)
    if settings.method == 'original':
        return (255 * code.clamp(0, 1)).round() / 255, torch.ones_like(depth_m, dtype=torch.bool)
    return code, depth_m > 0


def train(settings: Settings) -> Path:
    """Train, export, and return the path of the model."""
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy='ddp' if settings.devices * settings.nodes > 1 else 'auto',
        precision='bf16-mixed' if settings.mixed else '32-true',
    )
    fabric.launch()
    try:
        frames = open_frames(settings.data, measured=settings.measured, research=settings.research)
        parts = split(frames.scenes, settings.held_out)
    except (DatasetError, ValueError) as error:
        raise SystemExit(str(error)) from None
    used = parts['train'][: settings.frames or None]
    size = (settings.height, settings.width)
    repaired = settings.method == 'repaired'

    torch.manual_seed(settings.seed)
    cascade = Cascade()
    raw = [getattr(cascade, phase) for phase in PHASES]
    raw_optimizers = [torch.optim.Adam(n.parameters(), lr=settings.learning_rate) for n in raw]
    best, best_absrel = cascade.state_dict(), float('inf')
    start, watched = 0, 0.0
    path = settings.run / CHECKPOINT
    if path.exists():
        state = torch.load(path, map_location='cpu', weights_only=True)
        check_same(state['settings'], plain(asdict(settings)), path, _MAY_DIFFER)
        cascade.load_state_dict(state['network'])
        for optimizer, saved_state in zip(raw_optimizers, state['optimizers'], strict=True):
            optimizer.load_state_dict(saved_state)
        best, best_absrel = state['best'], state['best_absrel']
        start, watched = state['step'], state['seconds']
        fabric.print(f'{path}: going on at step {start}.')
    pairs = zip(raw, raw_optimizers, strict=True)
    networks, optimizers = zip(*(fabric.setup(*pair) for pair in pairs), strict=True)
    coarse, gradient, fine = networks

    samples = Pairs(
        frames, used, size, seed=settings.seed, changed=repaired,
        count=settings.steps * settings.batch,
    )  # fmt: skip
    mine = sample_numbers(
        range(start, settings.steps),
        settings.batch,
        process=fabric.global_rank,
        processes=fabric.world_size,
    )
    loader = fabric.setup_dataloaders(
        DataLoader(
            Subset(samples, mine),
            settings.batch // fabric.world_size,
            num_workers=settings.workers,
        ),
        use_distributed_sampler=False,
    )
    validation = Pairs(frames, spread(parts['validation'], VALIDATED), size)
    shown = [validation[i] for i in range(min(4, len(validation)))]
    whole = DepthFromColor(cascade, code_of(settings))
    alone = DepthFromColor(cascade.coarse, code_of(settings))
    writer = SummaryWriter(str(settings.run), purge_step=start) if fabric.is_global_zero else None
    stop = Stop()
    began = saved = time.monotonic()

    def save(step: int) -> None:
        fabric.save(
            path,
            {
                'network': cascade.state_dict(),
                'optimizers': [optimizer.state_dict() for optimizer in raw_optimizers],
                'best': best,
                'best_absrel': best_absrel,
                'step': step,
                'seconds': watched + time.monotonic() - began,
                'settings': plain(asdict(settings)),
                'commit': commit(),
            },
        )

    def look(step: int) -> None:
        """Validate what is trained so far, and keep the fine network's best."""
        nonlocal best, best_absrel
        cascade.eval()
        # Until it is the fine network's turn there is the coarse one's depth only.
        finishing = 3 * step > 2 * settings.steps
        shown_by = whole if finishing else alone
        figures = score(shown_by.estimate, validation)
        # Not where a run happened to be stopped: it shall end as if it had not been.
        due = step % settings.validate_every == 0 or step == settings.steps
        if finishing and repaired and due and figures['absrel'] < best_absrel:
            best = {name: value.detach().clone() for name, value in cascade.state_dict().items()}
            best_absrel = figures['absrel']
        if writer is not None:
            for name, value in figures.items():
                writer.add_scalar(f'validation/{name}', value, step)
            picture = sheet(shown, shown_by.estimate)
            writer.add_image('validation', picture, step, dataformats='HWC')
            writer.flush()
        told = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: held-out scenes {told}', flush=True)

    progress = Progress(
        TextColumn('Training'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn('{task.fields[loss]}'), disable=not fabric.is_global_zero,
    )  # fmt: skip
    step = start
    with progress:
        task = progress.add_task('', total=settings.steps, completed=start, loss='')
        for step, batch in enumerate(loader, start + 1):
            color, depth_m = Pair(*batch)
            depth, known = targets(depth_m, settings)
            phase = min(3 * (step - 1) // settings.steps, 2)
            # Only the network whose turn it is moves, running means of the others included.
            for number, network in enumerate(networks):
                network.train(number == phase)
            if phase == 0:
                loss = mean_square(coarse(color), depth, known)
            elif phase == 1:
                slopes_known = gradients_known(known)
                loss = mean_square(gradient(color), gradients(depth), slopes_known)
            else:
                with torch.no_grad():
                    given, slopes = coarse(color), gradient(color)
                loss = mean_square(fine(torch.cat([color, given], 1), slopes), depth, known)
            fabric.backward(loss)
            optimizers[phase].step()
            optimizers[phase].zero_grad()
            if step % 20 == 0 or step == start + 1:
                mean = float(fabric.all_reduce(loss.detach()))
                if writer is not None:
                    writer.add_scalar(f'training/{PHASES[phase]}', mean, step)
                progress.update(task, loss=f'{PHASES[phase]} {mean:.5f}')
            progress.update(task, completed=step)
            late = settings.minutes and time.monotonic() - began > 60 * settings.minutes
            if stop.wanted or late:
                break
            if step % settings.validate_every == 0:
                look(step)
            if time.monotonic() - saved > settings.save_every_s:
                save(step)
                saved = time.monotonic()
    look(step)
    save(step)
    fabric.print(f'{path}: step {step} of {settings.steps}.')
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        finished = Cascade()
        finished.load_state_dict(best if best_absrel < float('inf') else cascade.state_dict())
        code = code_of(settings)
        # Of a run that was stopped early, what there is.
        deployed = DepthFromColor(
            finished if 3 * step > 2 * settings.steps else finished.coarse, code
        )
        export(deployed, model, size, {'name': f'cascade_{settings.method}', 'commit': commit()})
    return model


_MAY_DIFFER = (
    'run', 'data', 'minutes', 'workers', 'devices', 'nodes', 'accelerator', 'validate_every',
    'save_every_s',
)  # fmt: skip


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

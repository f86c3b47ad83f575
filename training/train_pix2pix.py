"""Train pix2pix from colour to depth: a U-Net against a judge of patches, and close to the truth.

    python -m training.train_pix2pix runs/pix2pix data/rooms
    python -m training.train_pix2pix runs/l1 data/rooms --loss l1

P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros, "Image-to-image translation with conditional adversarial
networks", CVPR 2017. Depth is translated as its logarithm; where it is unknown neither loss looks.
The data is shards or datasets, see `training.pairs`. Ctrl-C saves a checkpoint; the same command
goes on from it. Every run ends with model.onnx in its folder.
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
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
import tyro

from .color_to_depth import DepthFromColor, export, score, sheet
from .datasets import DatasetError
from .pairs import DepthCode, Pair, Pairs, open_frames, split, spread
from .pix2pix_networks import PatchDiscriminator, UNetGenerator
from .running import Stop, check_same, commit, plain, sample_numbers

CHECKPOINT = 'checkpoint.pt'
VALIDATED = 50
"""Frames that are validated on, at most."""


@dataclass
class Settings:
    """Train pix2pix."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    data: tyro.conf.Positional[tuple[Path, ...]]
    """Shards or datasets."""
    loss: Literal['both', 'l1', 'cgan'] = 'both'
    """What the generator is taught by: the truth, the discriminator, or both."""
    l1_weight: float = 100.0
    """Of the truth, if both."""
    measured: bool = False
    """Learn what simulated sensors measure of rendered scenes, holes and all."""
    research: bool = False
    """Allow datasets whose weights may not be shipped."""
    held_out: float = 0.05
    """Share of the scenes that is validated on; as many are tested on."""
    frames: int = 0
    """How many of the training frames are used; 0 uses all."""
    steps: int = 20000
    """Steps of both optimisers."""
    batch: int = 8
    """Samples of a step, on all devices together."""
    height: int = 96
    """Rows of a picture, a multiple of 2 ** levels, px."""
    width: int = 128
    """Columns of a picture, a multiple of 2 ** levels, px."""
    levels: int = 5
    """How often the generator halves a picture."""
    channels: int = 64
    """Of the finest features of both networks."""
    dropout: float = 0.5
    """Of the generator's coarse features."""
    patch_layers: int = 3
    """Of the discriminator; 3 see 70x70 px, 2 see 34x34, 1 sees 16x16."""
    near_m: float = 0.2
    """Nearest depth."""
    far_m: float = 10.0
    """Farthest depth."""
    learning_rate: float = 2e-4
    """Of Adam."""
    seed: int = 0
    """Of weights, samples and dropout."""
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


def adversarial(logits: Tensor, *, real: bool) -> Tensor:
    """Return the cross-entropy of a discriminator's logits to one answer."""
    return functional.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, float(real))
    )


def mean_absolute(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the mean absolute error where a target is known, all (B, 1, H, W)."""
    return ((prediction - target).abs() * known).sum() / known.sum().clamp_min(1)


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
    if settings.height % 2**settings.levels or settings.width % 2**settings.levels:
        raise SystemExit(
            f'{settings.width}x{settings.height} cannot be halved {settings.levels} times.'
        )
    try:
        frames = open_frames(settings.data, measured=settings.measured, research=settings.research)
        parts = split(frames.scenes, settings.held_out)
    except (DatasetError, ValueError) as error:
        raise SystemExit(str(error)) from None
    used = parts['train'][: settings.frames or None]
    size = (settings.height, settings.width)
    code = DepthCode(settings.near_m, settings.far_m, logarithmic=True)

    torch.manual_seed(settings.seed)
    raw_generator = UNetGenerator(
        3, 1, width=settings.channels, levels=settings.levels, dropout=settings.dropout
    )
    raw_discriminator = PatchDiscriminator(
        4, width=settings.channels, layers=settings.patch_layers
    )
    raw_optimizers = [
        torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.5, 0.999))
        for network in (raw_generator, raw_discriminator)
    ]
    start, watched = 0, 0.0
    path = settings.run / CHECKPOINT
    if path.exists():
        state = torch.load(path, map_location='cpu', weights_only=True)
        check_same(state['settings'], plain(asdict(settings)), path, _MAY_DIFFER)
        raw_generator.load_state_dict(state['generator'])
        raw_discriminator.load_state_dict(state['discriminator'])
        for optimizer, saved_state in zip(raw_optimizers, state['optimizers'], strict=True):
            optimizer.load_state_dict(saved_state)
        start, watched = state['step'], state['seconds']
        fabric.print(f'{path}: going on at step {start}.')
    generator, generator_optimizer = fabric.setup(raw_generator, raw_optimizers[0])
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, raw_optimizers[1])

    samples = Pairs(
        frames, used, size, seed=settings.seed, changed=True,
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
    deployed = DepthFromColor(raw_generator, code, signed=True)
    writer = SummaryWriter(str(settings.run), purge_step=start) if fabric.is_global_zero else None
    stop = Stop()
    began = saved = time.monotonic()

    def save(step: int) -> None:
        fabric.save(
            path,
            {
                'generator': raw_generator.state_dict(),
                'discriminator': raw_discriminator.state_dict(),
                'optimizers': [optimizer.state_dict() for optimizer in raw_optimizers],
                'step': step,
                'seconds': watched + time.monotonic() - began,
                'settings': plain(asdict(settings)),
                'commit': commit(),
            },
        )

    def look(step: int) -> None:
        raw_generator.eval()
        figures = score(deployed.estimate, validation)
        if writer is not None:
            for name, value in figures.items():
                writer.add_scalar(f'validation/{name}', value, step)
            picture = sheet(shown, deployed.estimate)
            writer.add_image('validation', picture, step, dataformats='HWC')
            writer.flush()
        raw_generator.train()
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
            known = depth_m > 0
            condition, real = 2 * color - 1, 2 * code.encode(depth_m).clamp(0, 1) - 1
            # Dropout of a step is the same whether the run was stopped before it or not.
            torch.manual_seed(
                (settings.seed << 40) + step * fabric.world_size + fabric.global_rank
            )
            # Holes look alike in both, so that they tell the discriminator nothing.
            fake = torch.where(known, generator(condition), real)
            parts_of_loss: dict[str, Tensor] = {}

            # Discriminator: which of two translations of the same picture is real?
            if settings.loss != 'l1':
                on_real = discriminator(torch.cat([condition, real], 1))
                on_fake = discriminator(torch.cat([condition, fake.detach()], 1))
                judged = (adversarial(on_real, real=True) + adversarial(on_fake, real=False)) / 2
                discriminator_optimizer.zero_grad()
                fabric.backward(judged)
                discriminator_optimizer.step()
                parts_of_loss['discriminator'] = judged

            # Generator: be taken for real, and be right.
            loss = torch.zeros((), device=fabric.device)
            if settings.loss != 'l1':
                on_fake = discriminator(torch.cat([condition, fake], 1))
                parts_of_loss['cgan'] = adversarial(on_fake, real=True)
                loss = loss + parts_of_loss['cgan']
            parts_of_loss['l1'] = mean_absolute(fake, real, known)
            if settings.loss != 'cgan':
                loss = loss + settings.l1_weight * parts_of_loss['l1']
            generator_optimizer.zero_grad()
            fabric.backward(loss)
            generator_optimizer.step()

            if step % 20 == 0 or step == start + 1:
                figures = fabric.all_reduce({k: v.detach() for k, v in parts_of_loss.items()})
                if writer is not None:
                    for name, value in figures.items():
                        writer.add_scalar(f'training/{name}', float(value), step)
                progress.update(task, loss=f'L1 {float(figures["l1"]):.4f}')
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
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        metadata = {'name': f'pix2pix_{settings.loss}', 'commit': commit()}
        export(deployed.cpu(), model, size, metadata)
    return model


_MAY_DIFFER = (
    'run', 'data', 'minutes', 'workers', 'devices', 'nodes', 'accelerator', 'validate_every',
    'save_every_s',
)  # fmt: skip


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

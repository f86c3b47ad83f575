"""Train pix2pix from colour to depth: a U-Net, an L1 loss and a PatchGAN discriminator.

    python -m training.color_to_depth.train_pix2pix runs/pix2pix data/rooms
    python -m training.color_to_depth.train_pix2pix runs/l1 data/rooms --loss l1

P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros, "Image-to-image translation with conditional adversarial
networks", CVPR 2017. Depth is translated as its logarithm; neither loss counts pixels where it is
unknown. The data is shards or datasets, see `training.pairs`. Ctrl-C saves a checkpoint; the same
command goes on from it. Every run ends with model.onnx in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
import tyro

from ..datasets import DatasetError
from ..networks.pix2pix import PatchDiscriminator, UNetGenerator, adversarial
from ..pairs import DepthCode, Pair, Pairs, open_frames, split, spread
from ..running import Run, RunSettings, commit
from .export import DepthFromColor, export, score, sheet

VALIDATED = 50
"""Frames that are validated on, at most."""


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train pix2pix."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    data: tyro.conf.Positional[tuple[Path, ...]]
    """Shards or datasets."""
    loss: Literal['both', 'l1', 'cgan'] = 'both'
    """Loss of the generator: L1, cGAN, or both."""
    l1_weight: float = 100.0
    """Weight of the L1 loss where both are used."""
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
    height: int = 96
    """Rows of a picture, a multiple of 2 ** levels, px."""
    width: int = 128
    """Columns of a picture, a multiple of 2 ** levels, px."""
    levels: int = 5
    """How often the generator halves the image."""
    channels: int = 64
    """Channels of the finest features of both networks."""
    dropout: float = 0.5
    """Dropout of the coarse features of the generator."""
    patch_layers: int = 3
    """Layers of the discriminator: 3 see 70x70 px, 2 see 34x34, 1 sees 16x16."""
    near_m: float = 0.2
    """Nearest depth that is predicted."""
    far_m: float = 10.0
    """Farthest depth that is predicted."""
    learning_rate: float = 2e-4
    """Learning rate of Adam."""
    mixed: bool = True
    """Compute in bfloat16 where that is precise enough."""


def mean_absolute(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the mean absolute error where a target is known, all (B, 1, H, W)."""
    return ((prediction - target).abs() * known).sum() / known.sum().clamp_min(1)


def train(settings: Settings) -> Path:
    """Train, export, and return the path of the model."""
    fabric = settings.fabric('bf16-mixed' if settings.mixed else '32-true')
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

    raw_generator = UNetGenerator(
        3, 1, width=settings.channels, levels=settings.levels, dropout=settings.dropout
    )
    raw_discriminator = PatchDiscriminator(
        4, width=settings.channels, layers=settings.patch_layers
    )
    adam = partial(torch.optim.Adam, lr=settings.learning_rate, betas=(0.5, 0.999))
    generator_adam = adam(raw_generator.parameters())
    discriminator_adam = adam(raw_discriminator.parameters())
    run = Run(
        fabric,
        settings.run,
        settings,
        generator=raw_generator,
        discriminator=raw_discriminator,
        generator_optimizer=generator_adam,
        discriminator_optimizer=discriminator_adam,
    )
    generator, generator_optimizer = fabric.setup(raw_generator, generator_adam)
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, discriminator_adam)

    samples = Pairs(
        frames, used, size, seed=settings.seed, changed=True,
        count=settings.steps * settings.batch,
    )  # fmt: skip
    validation = Pairs(frames, spread(parts['validation'], VALIDATED), size)
    shown = [validation[i] for i in range(min(4, len(validation)))]
    deployed = DepthFromColor(raw_generator, code, signed=True)

    def report(step: int) -> None:
        raw_generator.eval()
        figures = score(deployed.estimate, validation)
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', sheet(shown, deployed.estimate))
        raw_generator.train()
        line = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: held-out scenes {line}', flush=True)

    for step, batch in run.steps(run.loader(samples)):
        color, depth_m = Pair(*batch)
        known = depth_m > 0
        condition, real = 2 * color - 1, 2 * code.encode(depth_m).clamp(0, 1) - 1
        # Holes look alike in both, so that they tell the discriminator nothing.
        fake = torch.where(known, generator(condition), real)
        parts_of_loss: dict[str, Tensor] = {}

        # Discriminator: which of two translations of the same picture is real?
        if settings.loss != 'l1':
            on_real = discriminator(torch.cat([condition, real], 1))
            on_fake = discriminator(torch.cat([condition, fake.detach()], 1))
            discriminator_loss = (
                adversarial(on_real, real=True) + adversarial(on_fake, real=False)
            ) / 2
            discriminator_optimizer.zero_grad()
            fabric.backward(discriminator_loss)
            discriminator_optimizer.step()
            parts_of_loss['discriminator'] = discriminator_loss

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

        run.log(step, parts_of_loss, 'l1')
        if run.validates(step):
            report(step)
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        metadata = {'name': f'pix2pix_{settings.loss}', 'commit': commit()}
        export(deployed.cpu(), model, size, metadata)
    return model


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

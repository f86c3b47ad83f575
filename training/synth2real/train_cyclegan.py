r"""Train CycleGAN between rendered and measured depth, holes and all, without a single pair.

    python -m training.synth2real.train_cyclegan runs/cyclegan --real data/hands_kinect_v2
    python -m training.synth2real.train_cyclegan runs/rooms --shards data/rooms \
        --height 96 --width 128
    python -m training.synth2real.train_cyclegan runs/quick --size 64 --channels 8 --blocks 2 \
        --patch-layers 1 --batch 4 --keep 64 --checked 32 --steps 300

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using
cycle-consistent adversarial networks", ICCV 2017. The domains are crops of hands, rendered and
recorded (or of a simulated sensor that is held out), or with `--shards` whole frames, as they are
and as they are measured. Besides the paper's losses, on values, there is one on where there are
values, so that holes are translated as holes.

The losses of a GAN do not measure its images. At every validation the translations of held-out
images are compared with both domains, see `training.synth2real.hand_metrics`. Ctrl-C saves a
checkpoint; the same command goes on from it. Every run ends with synth2real.onnx, for
`training.refiners`, and real2synth.onnx, for `training.synth2real.score_denoiser`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
import tyro

from depth_refiner_ros.pictures import depth_scale, error_scale

from ..datasets import DatasetError
from ..networks.cyclegan import (
    FRAME_CODE,
    HAND_CODE,
    Code,
    DepthTranslator,
    Discriminators,
    Translator,
    Translators,
)
from ..networks.hourglass import load_hourglass
from ..refiners import FRAMES, HANDS, export_refiner
from ..running import Run, RunSettings, commit
from .cyclegan_losses import discriminator_accuracy, least_squares, validity_loss, value_loss
from .hand_metrics import change_mm, drift_px, hole_share, kernel_distance, patch_features
from .image_pool import ImagePool
from .unpaired import Depths, Unpaired, UnpairedDepths, first, frame_domains, hand_domains

UInt8Array = npt.NDArray[np.uint8]


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train CycleGAN."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and models; a run found there is continued."""
    real: tuple[Path, ...] = ()
    """Recorded hands, one folder; or with --shards, recordings. Simulated sensors without."""
    shards: tuple[Path, ...] = ()
    """Rendered frames, which are translated in place of hands."""
    research: bool = False
    """Allow datasets whose weights may not be shipped."""
    size: int = 128
    """Rows and columns of crops of hands, a multiple of 4, px."""
    height: int = 96
    """Rows of frames, a multiple of 4, px."""
    width: int = 128
    """Columns of frames, a multiple of 4, px."""
    keep: int = 512
    """Hands of each domain that are rendered once, and come again changed; 0 renders new ones."""
    steps: int = 50_000
    """Steps of both optimisers; learning slows down evenly over the second half."""
    batch: int = 4
    """Images of each domain in a step; 1 in the paper."""
    channels: int = 64
    """Channels of the finest features of all networks."""
    blocks: int = 6
    """Residual blocks of the generators."""
    patch_layers: int = 3
    """Layers of the discriminators: 3 see 70x70 px, 2 see 34x34, 1 sees 16x16."""
    direct: bool = False
    """Generators predict depth, as in the paper, not its change."""
    cycle_weight: float = 10.0
    """Weight of cycle consistency, the paper's lambda; its unit is 15 cm, or a factor of 7.4 in
    frames."""
    identity_weight: float = 0.5
    """Weight of the identity loss, as a share of the cycle weight."""
    validity_weight: float = 0.1
    """Weight of the loss on what is a hole and what is not, as a share of the cycle weight."""
    pool: int = 50
    """Earlier translations that discriminators are shown."""
    learning_rate: float = 2e-4
    """Learning rate of Adam."""
    pose: Path | None = None
    """Checkpoint of `training.synth2real.train_hourglass`, to see how far joints move."""
    checked: int = 64
    """Held-out images of each domain that are validated on."""

    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER | {
        'real', 'shards', 'research', 'pose', 'checked',
    }  # fmt: skip


def falling(step: int, steps: int, greatest: float) -> float:
    """Return the paper's learning rate: the same over the first half, then down to 0."""
    return greatest * min(1.0, 2 * (1 - step / steps))


def domains(settings: Settings, *, held_out: bool) -> tuple[Depths, Depths]:
    """Return what is translated into what.

    Raises:
        SystemExit: If there is none of it.
    """
    try:
        if settings.shards:
            return frame_domains(
                settings.shards, settings.real, (settings.height, settings.width), settings.seed,
                held_out=held_out, research=settings.research,
            )  # fmt: skip
        if len(settings.real) > 1:
            raise ValueError('Recorded hands are of one folder: give --shards for frames.')
        keep = settings.checked if held_out else settings.keep
        recorded = settings.real[0] if settings.real else None
        return hand_domains(recorded, settings.size, settings.seed, keep, held_out=held_out)
    except (DatasetError, ValueError) as error:
        raise SystemExit(str(error)) from None


@torch.no_grad()
def translated(translator: Translator, depth: Tensor) -> Tensor:
    """Return depth as a translator makes it, on the CPU."""
    device = next(translator.parameters()).device
    whole = DepthTranslator(translator)
    return torch.cat([whole(part.to(device)).without_holes().cpu() for part in depth.split(8)])


@torch.no_grad()
def validate(
    translators: Translators,
    discriminators: Discriminators,
    code: Code,
    synthetic: Tensor,
    real: Tensor,
    pose: nn.Module | None = None,
) -> dict[str, float]:
    """Return what translating does to images that were not trained on.

    Args:
        translators: Both.
        discriminators: Both.
        code: Of depth.
        synthetic: (B, 1, H, W).
        real: (B, 1, H, W).
        pose: An hourglass, in evaluation mode.

    Returns:
        change_edges_mm, change_flats_mm of making synthetic depth real; cycle_mm, what is not
        found again of it, and cycle_lost, values that are none again; the share of holes in
        synthetic, made real, real; kernel_before, kernel_after: distance of the synthetic and of
        the made real to the real; judged: share of patches that a discriminator recognises;
        drift_px of joints, if there is a network that finds them.
    """
    made = translated(translators.synth2real, synthetic)
    again = translated(translators.real2synth, made)
    both = (synthetic != 0) & (again != 0)
    change = change_mm(synthetic, made)
    device = next(discriminators.parameters()).device
    on_real, on_made = (
        discriminators.real(code.seen(code.encode(depth.to(device))[0])) for depth in (real, made)
    )
    features = patch_features(real)
    figures = {
        'change_edges_mm': change['edges'],
        'change_flats_mm': change['flats'],
        'cycle_mm': 1e3 * float((again - synthetic).abs()[both].mean()),
        'cycle_lost': float(((synthetic != 0) & (again == 0)).sum() / (synthetic != 0).sum()),
        'holes_synthetic': hole_share(synthetic),
        'holes_made': hole_share(made),
        'holes_real': hole_share(real),
        'kernel_before': kernel_distance(patch_features(synthetic), features),
        'kernel_after': kernel_distance(patch_features(made), features),
        'discriminator_accuracy': float(discriminator_accuracy(on_real, on_made)),
    }
    if pose is not None:
        figures['drift_px'] = drift_px(pose, synthetic, made)
    return figures


def train(settings: Settings) -> Path:
    """Train, export, and return the path of synth2real.onnx."""
    fabric = settings.fabric()
    code = FRAME_CODE if settings.shards else HAND_CODE
    size = (settings.height, settings.width) if settings.shards else (settings.size,) * 2
    if size[0] % 4 or size[1] % 4:
        raise SystemExit(f'{size[1]}x{size[0]} px are not a multiple of 4.')
    synthetic_depths, real_depths = domains(settings, held_out=False)
    checked_synthetic, checked_real = (
        first(depths, settings.checked) for depths in domains(settings, held_out=True)
    )
    pose = load_hourglass(settings.pose) if settings.pose else None

    make = partial(
        Translator, code,
        width=settings.channels, blocks=settings.blocks, direct=settings.direct,
    )  # fmt: skip
    raw_translators = Translators(make)
    raw_discriminators = Discriminators(width=settings.channels, layers=settings.patch_layers)
    adam = partial(torch.optim.Adam, lr=settings.learning_rate, betas=(0.5, 0.999))
    translators_adam, discriminators_adam = (
        adam(raw_translators.parameters()),
        adam(raw_discriminators.parameters()),
    )
    pools = ImagePool(settings.pool), ImagePool(settings.pool)
    run = Run(
        fabric,
        settings.run,
        settings,
        translators=raw_translators,
        judges=raw_discriminators,
        translators_optimizer=translators_adam,
        judges_optimizer=discriminators_adam,
        synthetic_pool=pools[0],
        real_pool=pools[1],
    )
    translators, translators_optimizer = fabric.setup(raw_translators, translators_adam)
    discriminators, discriminators_optimizer = fabric.setup(
        raw_discriminators, discriminators_adam
    )
    samples = UnpairedDepths(synthetic_depths, real_depths, settings.steps * settings.batch)

    def report(step: int) -> None:
        raw_translators.eval()
        figures = validate(
            raw_translators, raw_discriminators, code, checked_synthetic, checked_real, pose
        )
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', sheet(raw_translators, checked_synthetic, checked_real))
        raw_translators.train()
        line = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: {line}', flush=True)

    if run.start == 0:
        report(0)
    for step, batch in run.steps(run.loader(samples)):
        (synthetic, _), (real, _) = (code.encode(depth) for depth in Unpaired(*batch))
        rate = falling(step - 1, settings.steps, settings.learning_rate)
        for optimizer in (translators_optimizer, discriminators_optimizer):
            optimizer.param_groups[0]['lr'] = rate

        # Generators: be taken for the other domain, come back, and leave alone what is there.
        cycle = translators(synthetic, real)
        made_synthetic, made_real = code.seen(cycle.synthetic_of), code.seen(cycle.real_of)
        on_synthetic, on_real = discriminators(made_synthetic, made_real)
        returned = (cycle.synthetic_again, synthetic), (cycle.real_again, real)
        same = (cycle.same_synthetic, synthetic), (cycle.same_real, real)
        losses = {
            'adversarial': least_squares(on_synthetic, real=True)
            + least_squares(on_real, real=True),
            'cycle': sum((value_loss(*pair) for pair in returned), torch.zeros(())),
            'identity': sum((value_loss(*pair) for pair in same), torch.zeros(())),
            'cycle_validity': sum((validity_loss(*pair) for pair in returned), torch.zeros(())),
            'identity_validity': sum((validity_loss(*pair) for pair in same), torch.zeros(())),
        }
        coming_back = losses['cycle'] + settings.validity_weight * losses['cycle_validity']
        leaving = losses['identity'] + settings.validity_weight * losses['identity_validity']
        loss = losses['adversarial'] + settings.cycle_weight * (
            coming_back + settings.identity_weight * leaving
        )
        translators_optimizer.zero_grad()
        fabric.backward(loss)
        translators_optimizer.step()

        # Discriminators: which of both is real? They learn half as fast, as in the paper.
        old = pools[0].exchanged(made_synthetic), pools[1].exchanged(made_real)
        on_fakes = discriminators(*old)
        on_reals = discriminators(code.seen(synthetic), code.seen(real))
        discriminator_loss = torch.stack(
            [
                least_squares(output, real=kind) / 2
                for kind, both in ((True, on_reals), (False, on_fakes))
                for output in both
            ]
        ).sum()
        discriminators_optimizer.zero_grad()
        fabric.backward(discriminator_loss)
        discriminators_optimizer.step()

        right = [discriminator_accuracy(*pair) for pair in zip(on_reals, on_fakes, strict=True)]
        losses |= {
            'discriminators': discriminator_loss,
            'discriminator_accuracy': torch.stack(right).mean(),
        }
        run.log(step, losses, 'cycle')
        if run.validates(step):
            report(step)
    made = settings.run / 'synth2real.onnx'
    if fabric.is_global_zero:
        raw_translators.cpu().eval()
        for name, images in (('synth2real', checked_synthetic), ('real2synth', checked_real)):
            export_refiner(
                DepthTranslator(getattr(raw_translators, name)),
                settings.run / f'{name}.onnx',
                images[:4],
                {'name': f'cyclegan_{name}', 'sizes': [list(size)], 'commit': commit()},
                FRAMES if settings.shards else HANDS,
            )
    return made


def sheet(translators: Translators, synthetic: Tensor, real: Tensor, count: int = 4) -> UInt8Array:
    """Return rows of pictures: synthetic, made real, the change, back; real, made synthetic, back.

    Changes are blue where nearer and red where farther, 20 mm at most; holes are dark.
    """
    synthetic, real = synthetic[:count], real[:count]
    to_real, to_synthetic = translators.synth2real, translators.real2synth
    made_real, made_synthetic = translated(to_real, synthetic), translated(to_synthetic, real)
    rows = []
    for images in zip(
        synthetic, made_real, translated(to_synthetic, made_real),
        real, made_synthetic, translated(to_real, made_synthetic), strict=True,
    ):  # fmt: skip
        panels = []
        for given, *others in (images[:3], images[3:]):
            known = given[given != 0]
            near, far = (known.quantile(torch.tensor([0.02, 0.98]))).tolist() if len(known) else (
                0.0, 1.0
            )  # fmt: skip
            scale = depth_scale(near, max(far, near + 0.01))
            painted = [
                scale.paint(image[0].where(image[0] != 0, math.nan).numpy())
                for image in (given, *others)
            ]
            change = 1e3 * (others[0] - given)[0]
            change = change.where(((given != 0) & (others[0] != 0))[0], torch.nan)
            panels += [*painted[:2], error_scale(20).paint(change.numpy()), painted[2]]
        rows.append(np.hstack(panels))
    return np.vstack(rows)


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

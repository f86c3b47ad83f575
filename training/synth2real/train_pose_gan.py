r"""Train a generator of depth of hands from their joints, then teach it the style of a camera.

    python -m training.synth2real.train_pose_gan runs/pose_gan --real data/hands_kinect_v2
    python -m training.synth2real.train_pose_gan runs/nyu --data nyu/train --research \
        --vgg vgg19.pth
    python -m training.synth2real.train_pose_gan runs/quick --size 64 --channels 16 --keep 64 \
        --checked 32 --steps 300 --style-from 200 --feature-steps 30 --styles 16

W. He, Z. Xie, Y. Li, X. Wang, W. Cai, "Synthesizing depth hand images with GANs and style transfer
for hand pose estimation", Sensors 19(13):2919, 2019. The generator is taught by a discriminator,
by the joints that the discriminator's other head finds, and by the image that belongs to the
joints; from `--style-from` on also by content, style and total variation, in features of VGG-19,
whose weights are a file of yours. Without one, features are trained here, on depth, first; the
log states which. The weights of the losses are ours: each loss is about as large as
the others then.

The metric is the error of the joints in generated images against the input joints, mm, found by a
network that learns from the given images only and teaches the generator nothing. Ctrl-C saves a
checkpoint; the same command goes on from it. Every run ends with model.onnx: joints_m and
distance_m in, depth out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
import tyro

from depth_refiner_ros.pictures import depth_scale

from ..datasets import DatasetError, open_hands, require_shippable
from ..networks.cyclegan import HAND_CODE, Coded
from ..networks.pix2pix import adversarial
from ..onnx_export import describe, open_onnx, to_onnx
from ..running import Run, RunSettings, commit
from .cyclegan_losses import validity_loss, value_loss
from .domains import RecordedHands, StandInHands
from .hand_metrics import hole_share, kernel_distance, patch_features
from .pose_gan import JOINTS, DeployedPoseGenerator, PoseDiscriminator, PoseGenerator, coded_around
from .posed_hands import HALF_M, LabelledPoses, Posed, RenderedPoses, batch_of, error_mm
from .style import (
    Vgg19,
    content_loss,
    grey_of,
    load_vgg19,
    style_loss,
    total_variation,
    train_depth_features,
)

UInt8Array = npt.NDArray[np.uint8]

_SAME_MM = 0.1
_FLIPPED = 1e-4
_HELD_OUT = 1 << 20
"""Added to the seed of hands that are validated on."""


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a generator of hands of their joints."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    data: Path | None = None
    """Labelled hands to learn from, of 14 joints as NYU's; rendered ones without."""
    real: Path | None = None
    """Recording whose style is learned; hands of the held-out simulated sensor without."""
    research: bool = False
    """Confirm that the weights will not be shipped; research-only data needs it."""
    vgg: Path | None = None
    """Weights of VGG-19 as torchvision names them; features are trained here without."""
    size: int = 128
    """Rows and columns, 4 times a power of 2, px."""
    keep: int = 4096
    """Rendered hands, which come again; 0 renders new ones."""
    steps: int = 50_000
    """Steps of the optimisers."""
    style_from: int = 40_000
    """Step after which content, style and total variation are learned, too."""
    batch: int = 16
    """Hands of a step."""
    channels: int = 64
    """Channels of the finest features of all networks."""
    pictures: bool = True
    """Draw joints into the generator's features; without, they are 42 numbers to it."""
    learning_rate: float = 2e-4
    """Learning rate of Adam."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial loss of the generator."""
    joints_weight: float = 10.0
    """Weight of the squared error of the joints that the discriminator finds, in units of 150
    mm."""
    l2_weight: float = 100.0
    """Weight of the squared difference from the image that has these joints, in units of 150
    mm."""
    validity_weight: float = 20.0
    """Weight of the loss on where there is a hand."""
    content_weight: float = 1.0
    """Weight of the content loss: features of the image that has these joints."""
    style_weight: float = 10.0
    """Weight of the style loss: Gram matrices of features."""
    variation_weight: float = 0.1
    """Weight of the total variation, in units of 150 mm."""
    styles: int = 64
    """Crops whose mean Gram matrices are the style."""
    feature_steps: int = 1000
    """Steps in which the features are trained where --vgg is not given."""
    feature_width: int = 8
    """Channels of their first layer; VGG-19 has 64."""
    checked: int = 64
    """Held-out poses that are validated on."""

    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER | {'research', 'checked'}


def sources(settings: Settings) -> tuple[Dataset[Posed], Posed]:
    """Return what is learned from, and held-out poses in a batch.

    Of a labelled dataset nothing is held out: its own test set is for that. There, rendered poses
    are validated on.

    Raises:
        SystemExit: If a dataset cannot be used.
    """
    count = settings.steps * settings.batch
    held = RenderedPoses(
        settings.seed + _HELD_OUT, settings.checked, size_px=settings.size, keep=settings.checked
    )
    learned: Dataset[Posed]
    if settings.data is None:
        learned = RenderedPoses(settings.seed, count, size_px=settings.size, keep=settings.keep)
    else:
        try:
            hands = open_hands(settings.data)
            require_shippable([hands], research=settings.research)
        except DatasetError as error:
            raise SystemExit(str(error)) from None
        if len(hands.scheme.names) != JOINTS:
            raise SystemExit(
                f'{hands.path} labels {len(hands.scheme.names)} joints, not {JOINTS}.'
            )
        learned = LabelledPoses(hands, settings.seed, count, size_px=settings.size)
    return learned, batch_of(held.__getitem__, settings.checked)


def style_crops(settings: Settings) -> Tensor:
    """Return crops (N, 1, H, W) whose style is learned; their joints are not used.

    Raises:
        SystemExit: If there is no recording, or no hand in it.
    """
    size, count = settings.size, settings.styles
    if settings.real is None:
        return StandInHands(JOINTS, count, settings.seed, size_px=size)[0].depth
    try:
        return RecordedHands(settings.real, count, settings.seed, size_px=size)[0].depth
    except ValueError as error:
        raise SystemExit(str(error)) from None


def features_of(settings: Settings, learned: Dataset[Posed]) -> tuple[Vgg19, str]:
    """Return the network of features, and a sentence about which one it is.

    What was trained here is trained the same way when a run goes on, unless it is in its
    checkpoint: see `train`.
    """
    if settings.vgg is not None:
        return load_vgg19(settings.vgg), f'Features: VGG-19, weights of {settings.vgg}.'
    line = (
        f'Features: no --vgg, so the layers of VGG-19 with {settings.feature_width} channels in '
        'place of 64, trained here to find joints in depth'
    )
    if (settings.run / 'checkpoint.pt').exists():
        return Vgg19(settings.feature_width).eval().requires_grad_(False), f'{line}, earlier.'

    def batches() -> Iterator[Posed]:
        for step in range(settings.feature_steps):
            numbers = range(step * settings.batch, (step + 1) * settings.batch)
            picked = [learned[number % (settings.steps * settings.batch)] for number in numbers]
            yield Posed(*(torch.stack(field) for field in zip(*picked, strict=True)))

    network, loss = train_depth_features(batches(), width=settings.feature_width)
    return network, f'{line} in {settings.feature_steps} steps, to a loss of {loss:.4f}.'


def squared(made: Coded, wanted: Coded) -> Tensor:
    """Return the mean squared difference of values where there shall be one."""
    difference = (made.value - wanted.value).square() * wanted.kept
    return difference.sum() / wanted.kept.sum().clamp_min(1)


@torch.no_grad()
def validate(
    generator: PoseGenerator, estimator: PoseDiscriminator, poses: Posed, style: Tensor
) -> tuple[dict[str, float], Tensor]:
    """Return how generated hands are, and the hands (B, 1, H, W) in metres.

    Args:
        generator: In evaluation mode.
        estimator: Finds joints; has learned from no generated image.
        poses: Held out.
        style: Crops of the style.

    Returns:
        joints_mm, mean error of the joints found in generated images, and joints_given_mm in the
        images that belong to the poses: what the estimator itself lacks; depth_mm, mean absolute
        error where both are hand, and outline, of the pixels that are hand in either the share
        that is in only one; holes, their share; kernel: distance of patches to those of the
        style, and kernel_given of the given images.
    """
    device = next(generator.parameters()).device
    wanted = coded_around(poses.depth, poses.distance_m)
    deployed = DeployedPoseGenerator(generator)
    depth = deployed(HALF_M * poses.joints.to(device), poses.distance_m.to(device)).cpu()
    made = coded_around(depth, poses.distance_m)
    errors = [
        float(error_mm(estimator(HAND_CODE.seen(shown).to(device)).joints.cpu(), poses.joints))
        for shown in (made, wanted)
    ]
    hand, should = depth != 0, poses.depth != 0
    figures = {
        'joints_mm': errors[0],
        'joints_given_mm': errors[1],
        'depth_mm': 1e3 * float((depth - poses.depth).abs()[hand & should].mean()),
        'outline': float((hand != should).sum() / (hand | should).sum()),
        'holes': hole_share(depth),
        'kernel': kernel_distance(patch_features(depth), patch_features(style)),
        'kernel_given': kernel_distance(patch_features(poses.depth), patch_features(style)),
    }
    return figures, depth


def train(settings: Settings) -> Path:
    """Train, export, and return the path of the model."""
    fabric = settings.fabric()
    learned, checked = sources(settings)
    style = style_crops(settings)
    make = partial(PoseDiscriminator, width=settings.channels, size_px=settings.size)
    try:
        raw_generator = PoseGenerator(
            width=settings.channels, size_px=settings.size, pictures=settings.pictures
        )
    except ValueError as error:
        raise SystemExit(str(error)) from None
    raw_discriminator, raw_estimator = make(), make()
    adam = partial(torch.optim.Adam, lr=settings.learning_rate, betas=(0.5, 0.999))
    adams = [
        adam(network.parameters()) for network in (raw_generator, raw_discriminator, raw_estimator)
    ]
    features, line = features_of(settings, learned)
    run = Run(
        fabric,
        settings.run,
        settings,
        generator=raw_generator,
        discriminator=raw_discriminator,
        estimator=raw_estimator,
        generator_optimizer=adams[0],
        discriminator_optimizer=adams[1],
        estimator_optimizer=adams[2],
        **({} if settings.vgg else {'features': features}),
    )
    fabric.print(line)
    generator, generator_optimizer = fabric.setup(raw_generator, adams[0])
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, adams[1])
    estimator, estimator_optimizer = fabric.setup(raw_estimator, adams[2])
    features = features.to(fabric.device)
    with torch.no_grad():
        # Recorded hands have no middle but the mean of their pixels.
        styled = features(grey_of(HAND_CODE.encode(style)[0]).to(fabric.device))

    def report(step: int) -> None:
        for network in (raw_generator, raw_estimator):
            network.eval()
        figures, depth = validate(raw_generator, raw_estimator, checked, style)
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', sheet(checked, depth, style))
        for network in (raw_generator, raw_estimator):
            network.train()
        shown = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: {shown}', flush=True)

    if run.start == 0:
        report(0)
    for step, batch in run.steps(run.loader(learned)):
        poses = Posed(*batch)
        real = coded_around(poses.depth, poses.distance_m)
        made = generator(poses.joints)
        seen_real, seen_made = HAND_CODE.seen(real), HAND_CODE.seen(made)

        # Discriminator: which is real, and where are the joints of the real one?
        on_real, on_made = discriminator(seen_real), discriminator(seen_made.detach())
        discriminator_loss = adversarial(on_real.logit, real=True) + adversarial(
            on_made.logit, real=False
        )
        found = functional.mse_loss(on_real.joints, poses.joints)
        discriminator_optimizer.zero_grad()
        fabric.backward(discriminator_loss / 2 + settings.joints_weight * found)
        discriminator_optimizer.step()

        # Generator: be taken for real, show these joints, and be the image that belongs to them.
        on_made = discriminator(seen_made)
        losses = {
            'adversarial': adversarial(on_made.logit, real=True),
            'joints': functional.mse_loss(on_made.joints, poses.joints),
            'l2': squared(made, real),
            'validity': validity_loss(made, real),
        }
        if step > settings.style_from:
            shown = features(grey_of(made))
            losses |= {
                'content': content_loss(shown, features(grey_of(real))),
                'style': style_loss(shown, styled),
                'variation': total_variation(made),
            }
        loss = sum(
            (getattr(settings, f'{name}_weight') * value for name, value in losses.items()),
            torch.zeros((), device=fabric.device),
        )
        generator_optimizer.zero_grad()
        fabric.backward(loss)
        generator_optimizer.step()

        # The metric's own network: where are the joints of the given images?
        off = functional.mse_loss(estimator(seen_real).joints, poses.joints)
        estimator_optimizer.zero_grad()
        fabric.backward(off)
        estimator_optimizer.step()

        right = (on_real.logit > 0).float().mean() / 2 + (on_made.logit < 0).float().mean() / 2
        losses |= {
            'discriminator': discriminator_loss,
            'found': found,
            'estimator': off,
            'discriminator_accuracy': right,
        }
        losses['value_mm'] = 1e3 * HAND_CODE.unit * value_loss(made, real)
        run.log(step, losses, 'value_mm')
        if run.validates(step):
            report(step)
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        raw_generator.cpu().eval()
        export(raw_generator, model, checked, {'name': 'pose_gan', 'commit': commit()})
    return model


def export(
    generator: PoseGenerator, path: Path, poses: Posed, metadata: dict[str, object]
) -> None:
    """Write a generator from joints_m (B, 14, 3), distance_m (B,) to depth (B, 1, H, W).

    Args:
        generator: On the CPU.
        path: Where to.
        poses: To compare with PyTorch on.
        metadata: Stored in the file.

    Raises:
        SystemExit: If ONNX Runtime finds depth that differs by more than 0.1 mm, or another
            outline.
    """
    deployed = DeployedPoseGenerator(generator).eval()
    given = (HALF_M * poses.joints, poses.distance_m)
    names = ('joints_m', 'distance_m')
    # Of one batch, both have as many.
    free = {name: {0: torch.export.Dim.DYNAMIC} for name in names}
    to_onnx(deployed, path, tuple(values[:2] for values in given), names, ('depth',), free)
    units = {'joints_m': 'm', 'distance_m': 'm', 'depth': 'm - 2 m, 0 beside the hand'}
    describe(path, {'format': 1, 'units': units, **metadata})
    session = open_onnx(path)
    feeds = {name: values.numpy() for name, values in zip(names, given, strict=True)}
    (got,) = session.run(['depth'], feeds)
    with torch.no_grad():
        wanted = deployed(*given).numpy()
    flipped = float(((got != 0) != (wanted != 0)).mean())
    both = (got != 0) & (wanted != 0)
    off_mm = 1e3 * float(np.abs(got - wanted)[both].max(initial=0))
    if not (off_mm <= _SAME_MM and flipped <= _FLIPPED):
        path.unlink()
        raise SystemExit(
            f'Not exported: ONNX Runtime differs from PyTorch by {off_mm:.2g} mm, and in '
            f'{100 * flipped:.2g} % of the outline.'
        )
    print(f'{path}: ONNX Runtime within {off_mm:.2g} mm of PyTorch.')


def sheet(poses: Posed, made: Tensor, style: Tensor, count: int = 8) -> UInt8Array:
    """Return pictures: what belongs to joints, what is generated of them, and the style."""
    scale = depth_scale(-HALF_M, HALF_M)
    rows = []
    for images, middle in (
        (poses.depth, poses.distance_m - 2), (made, poses.distance_m - 2), (style, None)
    ):  # fmt: skip
        row = []
        for number in range(min(count, len(images))):
            image = images[number, 0]
            known = image[image != 0]
            zero = middle[number] if middle is not None else known.mean()
            depth = (image - zero).where(image != 0, math.nan)
            row.append(scale.paint(depth.numpy()))
        rows.append(np.hstack(row))
    width = min(row.shape[1] for row in rows)
    return np.vstack([row[:, :width] for row in rows])


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

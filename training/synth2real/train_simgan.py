r"""Train SimGAN: a refiner makes rendered images look measured, and leaves what they show.

    python -m training.synth2real.train_simgan hands runs/simgan --real data/hands_kinect_v2
    python -m training.synth2real.train_simgan hands runs/quick --size 96 --kernel 3 --blocks 3 \
        --maps 16 --batch 8 --steps 120 --refiner-alone 10 --discriminator-alone 10
    python -m training.synth2real.train_simgan gaze runs/gaze --synthetic unity_eyes \
        --real mpii_gaze

A. Shrivastava, T. Pfister, O. Tuzel, J. Susskind, W. Wang, R. Webb, "Learning from Simulated and
Unsupervised Images through Adversarial Training", CVPR 2017: Algorithm 1. First the refiner is
trained alone, to return its input, then the discriminator alone, then K_g steps of one and K_d of
the other make a step of the run. `--history 0` and `--adversarial global` are the paper's
ablations.

Neither loss says whether a refiner is any good. At every validation the refined hands are compared
with the rendered and with the real ones (see `training.synth2real.hand_metrics`), and the weights
that are kept, exported and loaded are those whose patches look most like real ones
(kernel distance) among those that move joints by one pixel at most, for which `--pose` gives a
trained hourglass. Both are known without a real label; the task itself, which needs some, is in
`training.synth2real.evaluate`. Ctrl-C saves a checkpoint; the same command goes on from it. Every
run ends with model.onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
import tyro

from depth_refiner_ros.pictures import depth_scale, error_scale

from ..datasets import DatasetError, open_hands, require_shippable
from ..datasets.hands import HAND_LAYOUTS
from ..networks.hourglass import load_hourglass
from ..networks.simgan import (
    GAZE_LAYERS,
    HAND_LAYERS,
    REAL,
    REFINED,
    SMALL_CROP_PX,
    Discriminator,
    Layer,
    Refined,
    patches,
    seen_depth,
    seen_grey,
)
from ..refiners import EYES, HANDS, export_refiner, simgan_refiner
from ..running import Run, RunSettings, commit
from .crops import CROP_PX, HandCrops, LabelledHands, unnormalized_m
from .domains import CleanHands, RecordedHands, StandInHands
from .grey_images import GreyImages
from .hand_metrics import change_mm, drift_px, hole_share, kernel_distance, patch_features
from .history_buffer import HistoryBuffer
from .simgan_losses import (
    PSI,
    Psi,
    accuracy,
    adversarial,
    features_of,
    lost_share,
    self_regularisation,
)

UInt8Array = npt.NDArray[np.uint8]
MOST_DROPPED = 0.25
"""Of the pixels of hands; weights that drop more are not kept, however real the rest looks."""

AREA_OFF = 0.04
"""Of the pixels of hands, how far what is dropped may be from what real hands lack, where that is
known; kernel distances are as content with a few holes anywhere."""


@dataclass(kw_only=True)
class Settings(RunSettings):
    """What is the same for hands and for gaze."""

    run: tyro.conf.Positional[Path]
    """Folder for checkpoints, TensorBoard and the model; a run found there is continued."""
    blocks: int
    """Of the refiner."""
    kernel: int
    """Rows and columns of the refiner's filters, odd."""
    maps: int = 64
    """Channels of the refiner's features."""
    direct: bool = False
    """The refiner says the image, as in the paper, instead of its change."""
    refiner_alone: int
    """Steps at first in which the refiner learns to return its input."""
    discriminator_alone: int = 200
    """Steps after these in which the discriminator learns to tell."""
    refiner_steps: int
    """Of each step after these: the paper's K_g."""
    discriminator_steps: int = 1
    """Of each step after these: the paper's K_d."""
    learning_rate: float = 5e-4
    """Of both, with Adam."""
    drop_after: float = 0.6
    """Share of the steps after which the learning rate is a tenth; 1 never drops it."""
    psi: str = 'identity'
    """What self-regularisation keeps: identity, derivatives, mean (of the image), or the
    checkpoint of training.synth2real.train_hourglass whose heatmaps are kept."""
    self_weight: float
    """Of self-regularisation, for each unit: a millimetre, a level of 255, a unit of heatmaps."""
    history: int = 512
    """Refined images kept for the discriminator, the paper's B; 0 keeps none."""
    adversarial: Literal['local', 'global'] = 'local'
    """Whether patches or whole images are judged."""
    patience: int = 0
    """Validations without a better refiner after which the run ends; 0 does not."""
    checked: int = 32
    """Images of either kind that are validated on."""
    mixed: bool = False
    """Compute in bfloat16 where that is precise enough: faster on GPUs, and on CPUs with AMX.
    Depth itself stays in single precision, unless --direct."""

    MAY_DIFFER: ClassVar[frozenset[str]] = RunSettings.MAY_DIFFER - {'validate_every'} | {
        'patience', 'research'
    }  # fmt: skip


@dataclass(kw_only=True)
class HandSettings(Settings):
    """Refine rendered depth of hands."""

    domain: tyro.conf.Suppress[Literal['hands']] = 'hands'
    real: Path | None = None
    """Real hands, labelled or not: a recording or dataset; without, a simulated sensor that no
    other training here draws."""
    research: bool = False
    """Your word that the weights will not be shipped, which research-only data needs."""
    size: int = 224
    """Rows and columns of crops, px."""
    blocks: int = 10
    """Of the refiner."""
    kernel: int = 7
    """Rows and columns of the refiner's filters, odd."""
    holes: bool = False
    """The refiner may drop pixels, as sensors do."""
    hole_mm: float = 0.1
    """What self-regularisation counts for a dropped pixel: with --area-weight 0, rather 30."""
    area_weight: float = 3.0
    """With --holes, of how far the share of pixels that are dropped is from what real hands lack,
    whose poses have to be drawn as those of rendered ones are; 0 where they are not."""
    grain: bool = True
    """The refiner sees noise, from which it can make a sensor's."""
    refiner_alone: int = 500
    """Steps at first in which the refiner learns to return its input."""
    refiner_steps: int = 2
    """Of each step after these: the paper's K_g."""
    self_weight: float = 0.01
    """Of self-regularisation, for each unit: a millimetre, or a unit of heatmaps."""
    pose: Path | None = None
    """Checkpoint of training.synth2real.train_hourglass, which measures how far joints move."""
    drift_px: float = 1.0
    """By how much they may, for a refiner to be kept, px of the crop."""
    kept_batches: int = 512
    """Batches that are rendered once and kept; then they come again."""


@dataclass(kw_only=True)
class GazeSettings(Settings):
    """Refine rendered grey images of eyes."""

    domain: tyro.conf.Suppress[Literal['gaze']] = 'gaze'
    synthetic: Path
    """Folder of rendered images."""
    real: Path
    """Folder of photographs."""
    height: int = 35
    """Rows of images, px."""
    width: int = 55
    """Columns of images, px."""
    blocks: int = 4
    """Of the refiner."""
    kernel: int = 3
    """Rows and columns of the refiner's filters, odd."""
    refiner_alone: int = 1000
    """Steps at first in which the refiner learns to return its input."""
    refiner_steps: int = 50
    """Of each step after these: the paper's K_g."""
    self_weight: float = 0.005
    """Of self-regularisation, for each of 255 levels."""


# ------------------------------------------------------------------------------------- schedule


class Updates(NamedTuple):
    """How often either network is updated in a step."""

    refiner: int
    discriminator: int


def updates(step: int, settings: Settings) -> Updates:
    """Return what happens in a step, from 1."""
    if step <= settings.refiner_alone:
        return Updates(1, 0)
    if step <= settings.refiner_alone + settings.discriminator_alone:
        return Updates(0, 1)
    return Updates(settings.refiner_steps, settings.discriminator_steps)


def rate(step: int, settings: Settings) -> float:
    """Return the learning rate of a step, from 1."""
    dropped = step > settings.drop_after * settings.steps
    return settings.learning_rate * (0.1 if dropped else 1.0)


class Rounds(Dataset[tuple[Tensor, Tensor]]):
    """What the steps of a run see: a batch of rendered images for every update, and real ones.

    Args:
        synthetic: Batches (B, 1, H, W) by number.
        real: Batches (B, 1, H, W) by number.
        settings: Of the schedule.
    """

    def __init__(
        self, synthetic: Dataset[Tensor], real: Dataset[Tensor], settings: Settings
    ) -> None:
        self.synthetic, self.real, self.settings = synthetic, real, settings

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.settings.steps

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return (U, B, 1, H, W) and (V, B, 1, H, W) of step `number` + 1."""
        wanted = updates(number + 1, self.settings)
        judged = self.settings.discriminator_steps
        each = self.settings.refiner_steps + judged
        return (
            _stacked(self.synthetic[number * each + i] for i in range(sum(wanted))),
            _stacked(self.real[number * judged + i] for i in range(wanted.discriminator)),
        )


def _stacked(batches: Iterable[Tensor]) -> Tensor:
    found = list(batches)
    return torch.stack(found) if found else torch.empty(0)


class DepthOf(Dataset[Tensor]):
    """The depth of batches of hands, without what else is known.

    Args:
        hands: The batches.
    """

    def __init__(self, hands: Dataset[HandCrops]) -> None:
        self.hands = hands

    def __getitem__(self, number: int) -> Tensor:
        """Return (B, 1, H, W), see `HandCrops`."""
        return self.hands[number].depth


# -------------------------------------------------------------------------------------- domains


class Domain(NamedTuple):
    """What of a run depends on what is refined.

    Attributes:
        synthetic: Batches of what is refined.
        real: Batches of what it shall look like.
        checked: Rendered images, (N, 1, H, W), for validation.
        wanted: Real images, (N, 1, H, W), for validation.
        size: Rows and columns.
        seen: Makes of images what networks see.
        channels: Of that.
        layers: Of the discriminator.
        unit: Of images, in millimetres or levels of grey.
        hole: What a dropped pixel costs, the same.
        lacking: Share of their pixels that real images lack.
        area_weight: Of what a refiner drops more or less than that.
        figures: Of rendered, refined and real images.
        score: Of figures; least is best, infinite is no good.
        sheet: Of rendered, refined and real images.
    """

    synthetic: Dataset[Tensor]
    real: Dataset[Tensor]
    checked: Tensor
    wanted: Tensor
    size: tuple[int, int]
    seen: Callable[[Refined], Tensor]
    channels: int
    layers: tuple[Layer, ...]
    unit: float
    hole: float
    lacking: float
    area_weight: float
    figures: Callable[[Tensor, Tensor, Tensor], dict[str, float]]
    score: Callable[[dict[str, float]], float]
    sheet: Callable[[Tensor, Tensor, Tensor], UInt8Array]


def real_hands(settings: HandSettings, seed: int) -> Dataset[HandCrops]:
    """Return batches of what rendered hands shall look like.

    Raises:
        SystemExit: If the data cannot be used.
    """
    if settings.real is None:
        return StandInHands(
            14, settings.batch, seed, size_px=settings.size, keep=settings.kept_batches
        )
    try:
        if not any(layout.recognises(settings.real) for layout in HAND_LAYOUTS):
            return RecordedHands(settings.real, settings.batch, seed, size_px=settings.size)
        opened = open_hands(settings.real)
        require_shippable([opened], research=settings.research)
    except (DatasetError, ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    if settings.size != CROP_PX:
        raise SystemExit(f'Crops of {settings.real} have {CROP_PX} px: leave --size.')
    return LabelledHands(opened, settings.batch, seed)


def hands(settings: HandSettings) -> Domain:
    """Return what refining hands takes."""
    pose = load_hourglass(settings.pose) if settings.pose else None
    if pose is None:
        print('Without --pose it is not measured how far joints move; nothing bounds it.')

    def rendered(seed: int, keep: int) -> Dataset[HandCrops]:
        return CleanHands(14, settings.batch, seed, size_px=settings.size, keep=keep)

    def some(found: Dataset[HandCrops], first: int) -> Tensor:
        count = -(-settings.checked // settings.batch)
        depth = torch.cat([found[first + n].depth for n in range(count)])
        return depth[: settings.checked]

    # Validation is of other hands than training.
    real = real_hands(settings, settings.seed + 1)
    checked = some(rendered(settings.seed + 2, 0), 0)
    wanted = some(real_hands(settings, settings.seed + 3), 0)

    synthetic = DepthOf(rendered(settings.seed, settings.kept_batches))
    lacking, bounded = 0.0, settings.holes and settings.area_weight > 0
    if bounded:
        lacking = lacking_share(synthetic, DepthOf(real), min(64, settings.kept_batches))
        print(f'Real hands lack {100 * lacking:.1f} % of the pixels that rendered ones have.')

    def figures(before: Tensor, after: Tensor, real: Tensor) -> dict[str, float]:
        changed = change_mm(before, after)
        real_features = patch_features(real)
        found = {
            'change_edges_mm': float(changed['edges']),
            'change_flats_mm': float(changed['flats']),
            'dropped': float(((before != 0) & (after == 0)).sum() / (before != 0).sum()),
            'dropped_real': 1 - float((real != 0).sum() / (before != 0).sum()),
            'holes': float(hole_share(after)),
            'holes_real': float(hole_share(real)),
            'kid': float(kernel_distance(patch_features(after), real_features)),
            'kid_rendered': float(kernel_distance(patch_features(before), real_features)),
        }
        if pose is not None:
            found['drift_px'] = float(drift_px(pose, before, after))
        return found

    def score(found: dict[str, float]) -> float:
        still = found.get('drift_px', 0.0) <= settings.drift_px
        likely = not bounded or abs(found['dropped'] - lacking) <= AREA_OFF
        kept = still and likely and found['dropped'] <= MOST_DROPPED
        return found['kid'] if kept else math.inf

    return Domain(
        synthetic=synthetic,
        real=DepthOf(real),
        checked=checked,
        wanted=wanted,
        size=(settings.size, settings.size),
        seen=seen_depth,
        channels=3,
        layers=HAND_LAYERS if settings.size >= SMALL_CROP_PX else GAZE_LAYERS,
        unit=1e3,
        hole=settings.hole_mm,
        lacking=lacking,
        area_weight=settings.area_weight if bounded else 0.0,
        figures=figures,
        score=score,
        sheet=hand_sheet,
    )


def lacking_share(synthetic: Dataset[Tensor], real: Dataset[Tensor], batches: int) -> float:
    """Return by which share real hands have less pixels than synthetic ones, 0 if they do not."""
    first, second = (
        sum(float((depths[n] != 0).sum()) for n in range(batches)) for depths in (synthetic, real)
    )
    return max(0.0, 1 - second / first)


def gaze(settings: GazeSettings) -> Domain:
    """Return what refining eyes takes."""
    size = (settings.height, settings.width)
    try:
        synthetic = GreyImages(settings.synthetic, settings.batch, settings.seed, size)
        real = GreyImages(settings.real, settings.batch, settings.seed + 1, size)
        checked = GreyImages(settings.synthetic, settings.checked, settings.seed + 2, size)[0]
        wanted = GreyImages(settings.real, settings.checked, settings.seed + 3, size)[0]
    except OSError as error:
        raise SystemExit(str(error)) from None

    def figures(before: Tensor, after: Tensor, real: Tensor) -> dict[str, float]:
        real_features = patch_features(real)
        return {
            'change_levels': 255 * float((after - before).abs().mean()),
            'kid': float(kernel_distance(patch_features(after), real_features)),
            'kid_rendered': float(kernel_distance(patch_features(before), real_features)),
        }

    return Domain(
        synthetic=synthetic,
        real=real,
        checked=checked,
        wanted=wanted,
        size=size,
        seen=seen_grey,
        channels=1,
        layers=GAZE_LAYERS,
        unit=255.0,
        hole=0.0,
        lacking=0.0,
        area_weight=0.0,
        figures=figures,
        score=lambda found: found['kid'],
        sheet=gaze_sheet,
    )


def psi_of(name: str) -> Psi:
    """Return what self-regularisation keeps."""
    if name in PSI:
        return PSI[name]
    if not Path(name).exists():
        raise SystemExit(f'--psi {name} is neither a file nor one of {", ".join(PSI)}.')
    return features_of(load_hourglass(Path(name)))


# -------------------------------------------------------------------------------------- looking


class Best:
    """The best weights so far, by a score of which least is best."""

    def __init__(self) -> None:
        self.score, self.step = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, score: float, step: int, network: nn.Module) -> bool:
        """Keep the weights if they are better, and return whether they are."""
        better = score < self.score
        if better:
            self.score, self.step = score, step
            self.weights = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        return better

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {'score': self.score, 'step': self.step, 'weights': self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was kept."""
        self.score, self.step = state_dict['score'], state_dict['step']
        self.weights = state_dict['weights']


def hand_sheet(before: Tensor, after: Tensor, real: Tensor, count: int = 4) -> UInt8Array:
    """Return rows of pictures: rendered, refined, change (blue nearer, 20 mm), real.

    Depth is coloured; under it is the relief, lit from the left, which shows single millimetres.
    """
    rows = []
    for crops in zip(before[:count, 0], after[:count, 0], real[:count, 0], strict=False):
        depths_m = [unnormalized_m(crop).numpy() for crop in crops]
        upper, lower = [], []
        for depth_m in depths_m:
            known = depth_m[np.isfinite(depth_m)]
            near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
            upper.append(
                depth_scale(float(near), max(float(far), float(near) + 0.01)).paint(depth_m)
            )
            lower.append(_relief(depth_m))
        change_mm = (1e3 * (depths_m[1] - depths_m[0])).astype(np.float32)
        upper.insert(2, error_scale(20.0).paint(change_mm))
        lost = np.isfinite(depths_m[0]) & np.isnan(depths_m[1])
        lower.insert(2, np.repeat((255 * lost).astype(np.uint8)[..., None], 3, 2))
        rows += [np.hstack(upper), np.hstack(lower)]
    return np.vstack(rows)


def _relief(depth_m: npt.NDArray[np.float32]) -> UInt8Array:
    slope = np.diff(depth_m, axis=1, append=np.nan) / 1.34e-3
    light = 0.5 - 0.5 * slope / np.sqrt(1 + slope * slope)
    grey = np.where(np.isfinite(light), 40 + 215 * light, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def gaze_sheet(before: Tensor, after: Tensor, real: Tensor, count: int = 8) -> UInt8Array:
    """Return rows of pictures: rendered, refined, change (grey is none), real."""
    change = 0.5 + 2 * (after - before)
    columns = [torch.cat(list(images[:count, 0])) for images in (before, after, change, real)]
    grey = (255 * torch.cat(columns, 1).clamp(0, 1)).round().byte().numpy()
    return np.repeat(grey[..., None], 3, 2)


# ------------------------------------------------------------------------------------- training


def known(image: Tensor) -> Refined:
    """Return images of which is kept what is not 0."""
    return Refined(image, (image != 0).to(image.dtype))


def train(settings: HandSettings | GazeSettings) -> Path:
    """Train, export, and return the path of the model."""
    if settings.devices * settings.nodes > 1:
        raise SystemExit('SimGAN trains on one device: its history is that of one refiner.')
    # Not Fabric's mixed precision: it would round depth itself to bfloat16, by up to 4 mm.
    fabric = settings.fabric()
    computing = partial(torch.autocast, fabric.device.type, torch.bfloat16, enabled=settings.mixed)
    psi = psi_of(settings.psi)
    domain = hands(settings) if isinstance(settings, HandSettings) else gaze(settings)

    raw_refiner = simgan_refiner(asdict(settings))
    raw_discriminator = Discriminator(
        domain.channels, domain.layers, domain.size, settings.adversarial
    )
    refiner_adam, discriminator_adam = (
        torch.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.5, 0.999))
        for network in (raw_refiner, raw_discriminator)
    )
    history, best = HistoryBuffer(settings.history), Best()
    run = Run(
        fabric,
        settings.run,
        settings,
        refiner=raw_refiner,
        discriminator=raw_discriminator,
        refiner_optimizer=refiner_adam,
        discriminator_optimizer=discriminator_adam,
        history=history,
        best=best,
    )
    for network in (raw_refiner, raw_discriminator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    refiner, refiner_optimizer = fabric.setup(raw_refiner, refiner_adam)
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, discriminator_adam)
    grid = (1, 1) if settings.adversarial == 'global' else patches(domain.layers, domain.size)
    fabric.print(f'{len(domain.checked)} images of {domain.size} are judged in {grid} patches.')

    @torch.no_grad()
    def look(step: int) -> None:
        device = fabric.device
        parts = domain.checked.to(device).split(settings.batch)
        with computing():
            after = torch.cat([refiner(part).without_holes().float() for part in parts])
            on_refined = discriminator(domain.seen(known(after)))
            on_real = discriminator(domain.seen(known(domain.wanted.to(device))))
        figures = domain.figures(domain.checked, after.cpu(), domain.wanted)
        figures['refined_found'] = float(accuracy(on_refined, REFINED))
        figures['real_found'] = float(accuracy(on_real, REAL))
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', domain.sheet(domain.checked, after.cpu(), domain.wanted))
        told = ', '.join(f'{name} {value:.3g}' for name, value in figures.items())
        # A run that was interrupted keeps what one that was not would have kept.
        regular = step % settings.validate_every == 0 or step == settings.steps
        if regular and step > settings.refiner_alone + settings.discriminator_alone:
            told += '; best so far' * best.offer(domain.score(figures), step, raw_refiner)
        fabric.print(f'step {step}: {told}', flush=True)

    rounds = Rounds(domain.synthetic, domain.real, settings)
    loader = fabric.setup_dataloaders(
        DataLoader(
            Subset(rounds, range(run.start, settings.steps)),
            batch_size=None,
            num_workers=settings.workers,
        ),
        use_distributed_sampler=False,
    )
    step = run.start
    if step == 0:
        look(0)
    for step, (synthetic, real) in run.steps(loader):
        wanted = updates(step, settings)
        for optimizer in (refiner_optimizer, discriminator_optimizer):
            for group in optimizer.param_groups:
                group['lr'] = rate(step, settings)
        losses: dict[str, Tensor] = {}

        # Refiner: be taken for real, and stay close; at first, only that.
        for image in synthetic[: wanted.refiner]:
            with computing():
                refined = refiner(image)
            stays = self_regularisation(psi, refined, image, unit=domain.unit, hole=domain.hole)
            loss = settings.self_weight * stays
            if domain.area_weight:
                off = (lost_share(refined, image) - domain.lacking).abs()
                loss = loss + domain.area_weight * off
            if wanted.discriminator:
                with computing():
                    fooled = adversarial(discriminator(domain.seen(refined)).float(), REAL)
                loss = loss + fooled
                losses['refiner'] = fooled
            refiner_optimizer.zero_grad()
            fabric.backward(loss)
            refiner_optimizer.step()
            losses['self_regularisation'] = stays

        # Discriminator: tell real images from refined ones, of now and of earlier.
        for image, measured in zip(synthetic[wanted.refiner :], real, strict=True):
            with torch.no_grad(), computing():
                now = refiner(image).without_holes()
            with computing():
                on_refined = discriminator(domain.seen(known(history.mixed(now)))).float()
                on_real = discriminator(domain.seen(known(measured))).float()
            judged = adversarial(on_refined, REFINED) + adversarial(on_real, REAL)
            discriminator_optimizer.zero_grad()
            fabric.backward(judged)
            discriminator_optimizer.step()
            losses['discriminator'] = judged
            right = accuracy(on_refined, REFINED) + accuracy(on_real, REAL)
            losses['accuracy'] = right / 2

        run.tell(step, losses, next(iter(losses)))
        if run.validates(step):
            look(step)
            late = step - max(best.step, settings.refiner_alone + settings.discriminator_alone)
            if 0 < settings.patience * settings.validate_every <= late:
                fabric.print(f'No better refiner since step {best.step}.')
                break
    run.save(step)

    network = simgan_refiner(asdict(settings))
    network.load_state_dict(
        best.weights or {k: v.cpu() for k, v in raw_refiner.state_dict().items()}
    )
    fabric.print(
        f'Of step {best.step}.' if best.weights else 'None was validated: of the last step.'
    )
    model = settings.run / 'model.onnx'
    metadata = {
        'name': f'simgan_{settings.domain}',
        'sizes': [list(domain.size)],
        'step': best.step or step,
        'commit': commit(),
    }
    unit = HANDS if settings.domain == 'hands' else EYES
    export_refiner(network, model, domain.checked[:4], metadata, unit)
    return model


if __name__ == '__main__':
    train(
        tyro.cli(
            Annotated[HandSettings, tyro.conf.subcommand('hands')]
            | Annotated[GazeSettings, tyro.conf.subcommand('gaze')],
            description=__doc__,
        )
    )

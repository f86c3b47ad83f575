"""Train the detector of hands or the network of their joints, on rendered hands.

    python -m training.hands.examples data/hands --rooms data/rooms
    python -m training.hands.train data/hands runs/hand_joints --network joints
    python -m training.hands.train data/hands runs/hand_detector --network detector

Ctrl-C saves a checkpoint; the same command goes on from it, with the very samples that would have
followed. On several GPUs or machines: torchrun --nproc-per-node 8 -m training.hands.train ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
import tyro

from ..refiners import load_refiner
from ..render.hand_skeleton import BONES
from ..running import LearnerSettings, learner, learning_rate
from .network import Detections, Joints, make_network
from .samples import Frame, Frames, Window, Windows
from .shards import HandShards

UInt8Array = npt.NDArray[np.uint8]


@dataclass(kw_only=True)
class Settings(LearnerSettings):
    """Train what finds hands and their joints."""

    data: tyro.conf.Positional[Path]
    """Folder of shards, written by `python -m training.hands.examples`."""
    run: tyro.conf.Positional[Path]
    """Folder for checkpoints and TensorBoard; a run found there is continued."""
    network: Literal['joints', 'detector'] = 'joints'
    """Network to train."""
    width: int = 0
    """Channels of its finest layer; 0 takes the network's own."""
    steps: int = 6000
    """Steps of the optimiser."""
    batch: int = 64
    """Samples of a step, on all devices together."""
    learning_rate: float = 1.5e-3
    """Highest learning rate; it rises over the first 3 % of the steps and falls as a cosine."""
    refiner: Path | None = None
    """Refiner that measures half of the rendered hands, in place of models of sensors: a
    checkpoint of training.synth2real.train_simgan or an ONNX file, see docs/synth2real.md; for
    joints."""
    held_out: int = 500
    """Examples at the end of the shards that are not trained on but validated on."""


# ---------------------------------------------------------------------------------------- losses


HIDDEN_WEIGHT = 0.5
"""What a joint counts that is not seen."""


def joint_losses(joints: Joints, sample: Window) -> dict[str, Tensor]:
    """Return the parts of the loss; places count in windows that hold a hand.

    *place* is the distance of joints in half windows; *spread* the likelihood of these distances
    under a Laplace distribution; *hand* and *right* are cross-entropies.
    """
    there = sample.hand[:, None]
    weight = there * (HIDDEN_WEIGHT + (1 - HIDDEN_WEIGHT) * sample.visible)
    error = (joints.place - sample.place).abs()
    total = weight.sum().clamp_min(1)
    distance = (joints.place - sample.place).detach().norm(dim=2)
    spread = distance * torch.exp(-joints.log_spread) + joints.log_spread
    sides = functional.binary_cross_entropy_with_logits(
        joints.right, sample.right, reduction='none'
    )
    return {
        'place': (error.sum(2) * weight).sum() / total,
        'spread': (spread * weight).sum() / total,
        'hand': functional.binary_cross_entropy_with_logits(joints.hand, sample.hand),
        'right': (sides * sample.hand).sum() / sample.hand.sum().clamp_min(1),
    }


def detector_losses(found: Detections, sample: Frame) -> dict[str, Tensor]:
    """Return the parts of the loss.

    *hand* is the focal loss of CenterNet (Zhou et al., "Objects as Points", 2019, eq. 1, alpha 2,
    beta 4), by hand; *offset* and *behind* are errors near centres, in cells and decimetres.
    """
    probability = torch.sigmoid(found.hand).clamp(1e-5, 1 - 1e-5)
    centre = sample.hand > 0.95
    hit = (1 - probability).square() * torch.log(probability)
    miss = (1 - sample.hand).pow(4) * probability.square() * torch.log(1 - probability)
    number = centre.sum().clamp_min(1)
    near = sample.hand > 0.6
    cells = near.sum().clamp_min(1)
    return {
        'hand': -torch.where(centre, hit, miss).sum() / number,
        'offset': ((found.offset - sample.offset).abs() * near).sum() / cells,
        'behind': 10 * ((found.behind_m - sample.behind_m).abs() * near).sum() / cells,
    }


JOINT_WEIGHTS = {'place': 1.0, 'spread': 0.02, 'hand': 0.1, 'right': 0.05}
DETECTOR_WEIGHTS = {'hand': 1.0, 'offset': 0.2, 'behind': 0.2}


# ------------------------------------------------------------------------------------ validation


@torch.no_grad()
def validate_joints(network: nn.Module, batches: DataLoader[Window]) -> dict[str, float]:
    """Return losses, the mean distance of joints in mm, and how often hand and side are right."""
    sums: dict[str, float] = {}
    number = 0
    for batch in batches:
        sample = Window(*batch)
        joints = network(sample.window)
        error_mm = 1e3 * (joints.place - sample.place).norm(dim=2) * sample.half_m[:, None]
        there = sample.hand > 0
        found = {k: float(v) for k, v in joint_losses(joints, sample).items()}
        found['error_mm'] = float(error_mm[there].mean())
        seen = sample.visible[there] > 0
        found['visible_error_mm'] = float(error_mm[there][seen].mean())
        found['hand_right'] = float(((joints.hand > 0) == there).float().mean())
        sides = (joints.right > 0) == (sample.right > 0)
        found['side_right'] = float(sides[there].float().mean())
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value
        number += 1
    return {name: value / max(number, 1) for name, value in sums.items()}


@torch.no_grad()
def validate_detector(network: nn.Module, batches: DataLoader[Frame]) -> dict[str, float]:
    """Return losses, the share of hands found, and of frames without one where one is found."""
    sums: dict[str, float] = {}
    hands = hits = empty = false = number = 0
    for batch in batches:
        sample = Frame(*batch)
        found = network(sample.depth_m)
        for name, value in detector_losses(found, sample).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        probability = torch.sigmoid(found.hand)
        centre = sample.hand > 0.95
        near = functional.max_pool2d(probability, 3, 1, 1) > 0.4
        hands += int(centre.sum())
        hits += int((centre & near).sum())
        none = sample.hand.amax((1, 2, 3)) == 0
        empty += int(none.sum())
        false += int((probability.amax((1, 2, 3))[none] > 0.4).sum())
        number += 1
    mean = {name: value / max(number, 1) for name, value in sums.items()}
    return mean | {'found': hits / max(hands, 1), 'false': false / max(empty, 1)}


def joint_sheet(sample: Window, joints: Joints, count: int = 16) -> UInt8Array:
    """Return windows with the predicted skeletons (white) and the true ones (green)."""
    tiles = []
    for i in range(min(count, len(sample.window))):
        level = (255 * (1 - sample.window[i, 0].cpu().numpy()) / 2).astype(np.uint8)
        tile = cv2.resize(
            np.repeat(level[..., None], 3, 2), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
        )
        for place, color in ((sample.place, (90, 200, 90)), (joints.place, (255, 255, 255))):
            points = ((place[i, :, :2].float().cpu().numpy() + 1) * tile.shape[0] / 2).astype(int)
            if sample.hand[i] > 0:
                for start, end in BONES:
                    cv2.line(tile, points[start].tolist(), points[end].tolist(), color, 1)
        tiles.append(tile)
    rows = [np.hstack(tiles[n : n + 8]) for n in range(0, len(tiles) // 8 * 8, 8)]
    return np.asarray(np.vstack(rows or [np.hstack(tiles)]), np.uint8)


def detector_sheet(sample: Frame, found: Detections, count: int = 8) -> UInt8Array:
    """Return images beside the predicted and the true heatmaps of hands."""
    rows = []
    for i in range(min(count, len(sample.depth_m))):
        depth_m = sample.depth_m[i, 0].cpu().numpy()
        level = np.where(depth_m > 0, 255 - np.clip(depth_m / 3, 0, 1) * 230, 0).astype(np.uint8)
        maps = [torch.sigmoid(found.hand[i, 0]), sample.hand[i, 0]]
        grey = [
            cv2.resize((255 * m.float().cpu().numpy()).astype(np.uint8), level.shape[::-1])
            for m in maps
        ]
        rows.append(np.repeat(np.hstack([level, *grey])[..., None], 3, 2))
    return np.asarray(np.vstack(rows), np.uint8)


# -------------------------------------------------------------------------------------- training


def train(settings: Settings) -> Path:
    """Train, and return the path of the last checkpoint."""
    fabric = settings.fabric()
    joints = settings.network == 'joints'
    if settings.refiner and not joints:
        raise SystemExit('--refiner is of crops of hands; the detector sees whole frames.')
    try:
        frames = HandShards(settings.data, 'frames')
        shards = HandShards(settings.data, 'windows') if joints else frames
        refiner = load_refiner(settings.refiner) if settings.refiner else None
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    raw_network = make_network(settings.network, settings.width, mixed=settings.mixed)
    run, network, optimizer, average = learner(
        fabric,
        settings.run,
        settings,
        raw_network,
        weight_decay=0.02,
        decay=0.995,
        use_buffers=True,
    )

    count = settings.steps * settings.batch
    used = range(max(1, len(shards) - settings.held_out))
    held_out = range(used.stop % len(shards), len(shards))
    samples: Any
    checked: Any
    if joints:
        samples = Windows(shards, frames, settings.seed, used, count, refiner=refiner)
        checked = Windows(shards, frames, settings.seed + 1, held_out, len(held_out))
    else:
        samples = Frames(shards, settings.seed, used, count)
        checked = Frames(shards, settings.seed + 1, held_out, len(held_out))
    watching = fabric.setup_dataloaders(DataLoader(checked, 64), use_distributed_sampler=False)

    def report(step: int) -> None:
        if not fabric.is_global_zero:
            return
        average.eval()
        figures = (validate_joints if joints else validate_detector)(average, watching)
        run.write(step, 'validation', figures)
        shown = next(iter(watching))
        with torch.no_grad():
            found = average(shown[0])
        picture = (
            joint_sheet(Window(*shown), found) if joints else detector_sheet(Frame(*shown), found)
        )
        average.train()
        run.picture(step, 'validation', picture)
        line = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: {line}', flush=True)

    weights = JOINT_WEIGHTS if joints else DETECTOR_WEIGHTS
    for step, batch in run.steps(run.loader(samples)):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step - 1, settings.steps, settings.learning_rate)
        output = network(batch[0])
        parts = (
            joint_losses(output, Window(*batch))
            if joints
            else detector_losses(output, Frame(*batch))
        )
        loss = sum(weight * parts[name] for name, weight in weights.items())
        fabric.backward(loss)
        fabric.clip_gradients(network, optimizer, max_norm=5.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(raw_network)
        run.log(step, parts, next(iter(weights)))
        if run.validates(step):
            report(step)
    return run.path


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

"""Train the cascade of coarse depth, its gradients and fine depth from pairs of colour and depth.

    python -m training.color_to_depth.train_cascade runs/cascade data/rooms
    python -m training.color_to_depth.train_cascade runs/original data/rooms --method original

The data is shards or datasets, see `training.pairs`. Each of the three networks has a third of the
steps, one after the other. Ctrl-C saves a checkpoint; the same command goes on from it. Every run
ends with model.onnx in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
import tyro

from ..datasets import DatasetError
from ..pairs import DepthCode, Pair, Pairs, open_frames, split, spread
from ..running import Run, RunSettings, commit
from .cascade import Cascade, gradients, gradients_known
from .export import DepthFromColor, export, score, sheet

PHASES = ('coarse', 'gradient', 'fine')
VALIDATED = 50
"""Frames that are validated on, at most."""


@dataclass(kw_only=True)
class Settings(RunSettings):
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
    height: int = 96
    """Rows of an image, an even number, px."""
    width: int = 128
    """Columns of a picture, even, px."""
    near_m: float = 0.2
    """Nearest depth that the repaired method predicts."""
    far_m: float = 10.0
    """Farthest depth that the repaired method predicts."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
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
        settings: Settings of the run.
    """
    code = code_of(settings).encode(depth_m)
    if settings.method == 'original':
        return (255 * code.clamp(0, 1)).round() / 255, torch.ones_like(depth_m, dtype=torch.bool)
    return code, depth_m > 0


class Best:
    """The weights that were best on held-out scenes, none at first.

    Attributes:
        weights: Weights of the whole cascade, by name.
        absrel: Their AbsRel on held-out scenes.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.absrel = float('inf')

    def keep(self, cascade: Cascade, absrel: float) -> None:
        """Take the weights of now."""
        self.weights = {name: value.clone() for name, value in cascade.state_dict().items()}
        self.absrel = absrel

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {'weights': self.weights, 'absrel': self.absrel}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a checkpoint kept."""
        self.weights, self.absrel = state_dict['weights'], state_dict['absrel']


def train(settings: Settings) -> Path:
    """Train, export, and return the path of the model."""
    fabric = settings.fabric('bf16-mixed' if settings.mixed else '32-true')
    try:
        frames = open_frames(settings.data, measured=settings.measured, research=settings.research)
        parts = split(frames.scenes, settings.held_out)
    except (DatasetError, ValueError) as error:
        raise SystemExit(str(error)) from None
    used = parts['train'][: settings.frames or None]
    size = (settings.height, settings.width)
    repaired = settings.method == 'repaired'

    cascade = Cascade()
    raw = [getattr(cascade, phase) for phase in PHASES]
    raw_optimizers = [torch.optim.Adam(n.parameters(), lr=settings.learning_rate) for n in raw]
    best = Best()
    run = Run(
        fabric,
        settings.run,
        settings,
        network=cascade,
        **{f'{p}_optimizer': o for p, o in zip(PHASES, raw_optimizers, strict=True)},
        best=best,
    )
    pairs = zip(raw, raw_optimizers, strict=True)
    networks, optimizers = zip(*(fabric.setup(*pair) for pair in pairs), strict=True)
    coarse, gradient, fine = networks

    samples = Pairs(
        frames, used, size, seed=settings.seed, changed=repaired,
        count=settings.steps * settings.batch,
    )  # fmt: skip
    validation = Pairs(frames, spread(parts['validation'], VALIDATED), size)
    shown = [validation[i] for i in range(min(4, len(validation)))]
    whole = DepthFromColor(cascade, code_of(settings))
    alone = DepthFromColor(cascade.coarse, code_of(settings))

    def report(step: int) -> None:
        """Validate what is trained so far, and keep the fine network's best."""
        cascade.eval()
        # Until it is the fine network's turn there is the coarse one's depth only.
        finishing = 3 * step > 2 * settings.steps
        shown_by = whole if finishing else alone
        figures = score(shown_by.estimate, validation)
        # Not where a run happened to be stopped: it shall end as if it had not been.
        due = step % settings.validate_every == 0 or step == settings.steps
        if finishing and repaired and due and figures['absrel'] < best.absrel:
            best.keep(cascade, figures['absrel'])
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', sheet(shown, shown_by.estimate))
        line = ', '.join(f'{name} {value:.3f}' for name, value in figures.items())
        fabric.print(f'step {step}: held-out scenes {line}', flush=True)

    step = run.start
    for step, batch in run.steps(run.loader(samples)):
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
        run.log(step, {PHASES[phase]: loss}, PHASES[phase])
        if run.validates(step):
            report(step)
    model = settings.run / 'model.onnx'
    if fabric.is_global_zero:
        finished = Cascade()
        finished.load_state_dict(best.weights or cascade.state_dict())
        code = code_of(settings)
        # Of a run that was stopped early, what there is.
        deployed = DepthFromColor(
            finished if 3 * step > 2 * settings.steps else finished.coarse, code
        )
        export(deployed, model, size, {'name': f'cascade_{settings.method}', 'commit': commit()})
    return model


if __name__ == '__main__':
    train(tyro.cli(Settings, description=__doc__))

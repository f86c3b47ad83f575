"""Export a checkpoint to ONNX, compare it with PyTorch, and write its model card.

    python -m training.depth.export runs/small/checkpoint.pt depth_small.onnx

Beside the model come NAME.npz, frames with what ONNX Runtime makes of them on a CPU, against which
every other back end is checked before it serves; and NAME.md, the model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import sys
from typing import Any

import numpy as np
import torch
import tyro

from .. import onnx_export
from ..examples import make_examples
from ..onnx_export import Frame
from ..running import averaged_weights
from .network import Deployed, DepthChooser
from .recordings import RealFrames, score

INPUTS = ('depth_m', 'color')
OUTPUTS = ('estimate_m', 'stddev_m', 'wrong')


@dataclass
class Settings:
    """Export a checkpoint of `training.depth.train`."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint written by the training."""
    model: tyro.conf.Positional[Path]
    """The ONNX file to write."""
    real: tuple[Path, ...] = ()
    """Folders of real recordings whose figures go into the model card."""
    compare: tuple[Path, ...] = ()
    """Folders of real recordings on whose frames ONNX is compared with PyTorch, besides rendered
    ones."""
    gate_mm: float = 1.0
    """Greatest 99.9th percentile of the difference between ONNX and PyTorch."""
    command: str = ''
    """Command that made the checkpoint, with its duration and hardware, for the model card."""


def load(checkpoint: Path) -> tuple[DepthChooser, dict[str, Any]]:
    """Return the averaged network of a checkpoint, and what else is in it."""
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    network = DepthChooser(state['settings']['size'])
    network.load_state_dict(averaged_weights(state))
    return network.eval(), state


def to_onnx(network: DepthChooser, path: Path) -> None:
    """Write a network that takes images of any size."""
    depth_m = torch.rand(470, 630) * 3 + 0.5
    color = (255 * torch.rand(470, 630, 3)).byte()
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    onnx_export.to_onnx(
        Deployed(network), path, (depth_m, color), INPUTS, OUTPUTS, dict.fromkeys(INPUTS, free)
    )


def rendered_frames(count: int = 3, height: int = 120, width: int = 160) -> list[Frame]:
    """Return frames no network was trained on, small enough to be kept beside a model."""
    examples = make_examples(2**31, range(count), measurements=1, height=height, width=width)
    return [
        {
            'depth_m': examples.raw_m[i, 0].numpy(),
            'color': np.ascontiguousarray(examples.color[i].permute(1, 2, 0).numpy()),
        }
        for i in range(count)
    ]


def real_frames(folder: Path, count: int = 5) -> list[Frame]:
    """Return frames of a recording as a model is given them."""
    frames = RealFrames(folder, count)
    return [
        {
            'depth_m': np.where(depth_m > 0, depth_m, np.float32(np.nan)),
            'color': (255 * color.permute(1, 2, 0)).byte().numpy(),
        }
        for depth_m, color in zip(frames.depth_m, frames.color, strict=True)
    ]


def main(settings: Settings) -> None:
    """Export, compare, and describe."""
    network, state = load(settings.checkpoint)
    to_onnx(network, settings.model)
    kept = rendered_frames()
    frames = rendered_frames(3, 480, 640)
    for folder in settings.compare:
        frames += real_frames(folder)
    worst, most = (
        1e3 * off_m
        for off_m in onnx_export.check_against_torch(
            Deployed(network), settings.model, frames, INPUTS, OUTPUTS[:1]
        )
    )
    print(f'ONNX against PyTorch, {len(frames)} frames: 99.9 % within {most:.4f} mm, '
          f'all within {worst:.3f} mm.')  # fmt: skip
    if not most <= settings.gate_mm:
        sys.exit(f'Not exported: 99.9 % shall be within {settings.gate_mm} mm.')
    metrics: dict[str, dict[str, float]] = {}
    for folder in settings.real:
        real = RealFrames(folder)
        metrics[real.name] = {k: round(v, 4) for k, v in score(network, real).items()}
    metadata = {
        'format': 1,
        'name': settings.model.stem,
        'stage': 'inpaint_depth',
        'description': 'Chooses the surface that a hole or a wrong measurement belongs to.',
        'sizes': [[240, 320], [480, 640]],
        'units': {'depth_m': 'm', 'color': 'RGB, 0 to 255', 'estimate_m': 'm', 'stddev_m': 'm',
                  'wrong': 'probability'},
        'commit': state['commit'],
        'licence': 'Apache-2.0',
        'data': 'Rendered by training.render, measured by training.sensors; no recordings.',
        'metrics': metrics,
        'difference_mm': {'p999': most, 'max': worst},
    }  # fmt: skip
    onnx_export.finish(settings.model, metadata, kept, OUTPUTS, card(settings, state, metadata))


def card(settings: Settings, state: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Return a model card, Markdown."""
    options = state['settings']
    lines = [
        f'# {metadata["name"]}',
        '',
        f'{metadata["description"]} Depth in metres and colour in, depth, standard deviation '
        'and the probability that a measurement is wrong out; any size.',
        '',
        f'- Data: {metadata["data"]} Licence of the weights: {metadata["licence"]}.',
        f'- Commit {state["commit"]}, seed {options["seed"]}, size `{options["size"]}`, '
        f'{state["step"]} of {options["steps"]} steps of {options["batch"]} samples of '
        f'{options["width"]}x{options["height"]}, {state["seconds"] / 60:.0f} minutes.',
    ]
    if settings.command:
        lines.append(f'- Made by: `{settings.command}`')
    off = metadata['difference_mm']
    lines += [
        f'- ONNX Runtime against PyTorch: 99.9 % of the pixels within {off["p999"]:.4f} mm, all '
        f'within {off["max"]:.1f} mm (a tie between two surfaces can fall either way).',
        '',
    ]
    if metadata['metrics']:
        lines += [
            'Real recordings, never trained on:',
            '',
            '| recording | holes MAE mm | within 5 % | errors within 1, 2 sigma | observed MAE mm '
            '| measured MAE mm | replaced |',
            '|---|---|---|---|---|---|---|',
        ]
        lines += [
            f'| {name} | {m["hole_mae_mm"]:.1f} | {m["within"]:.3f} | {m["share_1"]:.2f}, '
            f'{m["share_2"]:.2f} | {m["observed_mae_mm"]:.1f} | {m["raw_mae_mm"]:.1f} '
            f'| {100 * m["doubted"]:.1f} % |'
            for name, m in metadata['metrics'].items()
        ]
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

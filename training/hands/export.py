r"""Export checkpoints of `training.hands.train` to ONNX, with parity frames and model cards.

    python -m training.hands.export runs/hand_joints/checkpoint.pt \
        depth_refiner_ros/models/hand_joints.onnx

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

from ..onnx_export import check_against_torch, finish, halve_weights, to_onnx
from ..running import averaged_weights
from .network import DeployedDetector, DeployedJoints, make_network
from .samples import Frames, Windows
from .shards import FRAME_PX, HandShards

DATA = 'Rendered hands (training.render.hands) before rendered rooms; no recordings.'


@dataclass
class Settings:
    """Export a checkpoint of `training.hands.train`."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint written by the training."""
    model: tyro.conf.Positional[Path]
    """The ONNX file to write."""
    data: Path
    """Shards whose held-out examples are stored beside the model and scored."""
    gate: float = 2e-3
    """Greatest 99.9th percentile of the difference between ONNX and PyTorch."""
    command: str = ''
    """Command that made the checkpoint, with its duration and hardware, for the model card."""


def main(settings: Settings) -> None:
    """Export, compare, and describe."""
    state = torch.load(settings.checkpoint, map_location='cpu', weights_only=True)
    options = state['settings']
    network = make_network(options['network'], options['width'])
    network.load_state_dict(averaged_weights(state))
    # What is exported is what is stored: weights that half precision can hold.
    halved = {k: v.half().float() if v.dim() > 1 else v for k, v in network.state_dict().items()}
    network.load_state_dict(halved)
    network.eval()
    joints = options['network'] == 'joints'
    deployed: torch.nn.Module
    inputs: tuple[str, ...]
    if joints:
        deployed = DeployedJoints(network)  # type: ignore[arg-type]
        inputs, outputs = ('window',), ('place', 'spread', 'kind')
        example: tuple[torch.Tensor, ...] = (torch.rand(2, 96, 96),)
        free = {'window': {0: torch.export.Dim.DYNAMIC}}
        frames = _windows(settings.data)
        metadata: dict[str, Any] = {
            'stage': 'track_hands',
            'description': 'Says where the 21 joints of the hand in a window are.',
            'sizes': [],
            'units': {'window': '-1 to 1 across 290 mm', 'place': 'half windows of 145 mm',
                      'spread': 'half windows', 'kind': 'probabilities of hand, right hand'},
            # A millimetre.
            'tolerances': {'place': 1 / 145, 'spread': 0.02, 'kind': 0.02},
        }  # fmt: skip
    else:
        deployed = DeployedDetector(network)  # type: ignore[arg-type]
        inputs, outputs = ('depth_m',), ('hand', 'offset', 'behind_m')
        example = (torch.rand(128, 160) + 0.5,)
        free = {'depth_m': dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)}
        frames = _frames(settings.data)
        metadata = {
            'stage': 'track_hands',
            'description': 'Says where hands are in a small depth image.',
            'sizes': [list(FRAME_PX)],
            'units': {'depth_m': 'm', 'hand': 'probability', 'offset': 'cells of 4 px',
                      'behind_m': 'm'},
            'tolerances': {'hand': 0.05, 'offset': 0.25, 'behind_m': 0.01},
        }  # fmt: skip
    to_onnx(deployed, settings.model, example, inputs, outputs, free)
    halve_weights(settings.model)
    worst, most = check_against_torch(deployed, settings.model, frames, inputs, outputs)
    print(
        f'ONNX against PyTorch, {len(frames)} frames: 99.9 % within {most:.2g}, all {worst:.2g}.'
    )
    if not most <= settings.gate:
        sys.exit(f'Not exported: 99.9 % shall be within {settings.gate}.')
    metadata |= {
        'format': 1,
        'name': settings.model.stem,
        'commit': state['commit'],
        'licence': 'Apache-2.0',
        'data': DATA,
        'difference': {'p999': most, 'max': worst},
    }
    text = [
        f'# {settings.model.stem}',
        '',
        f'{metadata["description"]} Part of the stage `track_hands`.',
        '',
        f'- Data: {DATA} Licence of the weights: Apache-2.0.',
        f'- Commit {state["commit"]}, seed {options["seed"]}, {state["step"]} of '
        f'{options["steps"]} steps of {options["batch"]} samples, '
        f'{state["seconds"] / 60:.0f} minutes.',
        *([f'- Made by: `{settings.command}`'] if settings.command else []),
        f'- ONNX Runtime against PyTorch: 99.9 % within {most:.2g}, all within {worst:.2g}, in '
        'the units of the outputs.',
        '- Figures: docs/hands.md.',
        '',
    ]
    finish(settings.model, metadata, frames[:4], outputs, '\n'.join(text))


def _windows(folder: Path) -> list[dict[str, npt.NDArray[Any]]]:
    shards = HandShards(folder, 'windows')
    samples = Windows(shards, None, 7, range(len(shards) - 8, len(shards)), 8)
    stacked = np.stack([samples[i].window[0].numpy() for i in range(8)])
    # One hand and two: what a back end compiles for one batch may fail for another.
    return [{'window': stacked[:1]}, {'window': stacked[1:3]}, {'window': stacked[3:]}]


def _frames(folder: Path) -> list[dict[str, npt.NDArray[Any]]]:
    shards = HandShards(folder, 'frames')
    samples = Frames(shards, 7, range(len(shards) - 8, len(shards)), 4)
    found = []
    for i in range(4):
        depth_m = samples[i].depth_m[0].numpy()
        found.append({'depth_m': np.where(depth_m > 0, depth_m, np.float32(np.nan))})
    return found


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

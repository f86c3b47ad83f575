"""Real recordings, for validation: what simulation is worth shows only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from depth_refiner_ros.evaluation.protocols import cases, open_source
from depth_refiner_ros.geometry import registered

from .network import STRIDE_PX, DepthChooser, estimate
from .samples import reduced


class RealFrames:
    """Frames of a recording with their truth, in memory, in half their size.

    That is how `inpaint_depth` shows them to a model; see `evaluation.protocols` for the truth.

    Args:
        folder: In the project's layout, or a bag.
        count: Spread over the recording, at most.
        seed: Of punched holes.
    """

    def __init__(self, folder: Path, count: int = 30, seed: int = 0) -> None:
        source = open_source(folder)
        self.name = source.name
        scored = [
            (case.values, np.where(case.scored & np.isfinite(case.truth_m), case.truth_m, 0))
            for case in cases(source, seed=seed)
            if case.truth_m is not None and case.scored is not None and case.values
        ]
        every = max(1, -(-len(scored) // count))
        self.depth_m: list[Tensor] = []
        self.color: list[Tensor] = []
        self.truth_m: list[Tensor] = []
        for values, truth_m in scored[::every]:
            depth, color = values['depth'], values.get('color')
            cameras = values.get('color_camera'), values.get('camera')
            rgb = np.zeros((*depth.depth_m.shape, 3), np.uint8)
            if color is not None and registered(color, depth, *cameras):
                rgb = color.rgb
            light, true_m, measured_m = reduced(
                torch.from_numpy(rgb.transpose(2, 0, 1).copy()),
                torch.from_numpy(np.where(truth_m > 0, truth_m, np.nan).astype(np.float32))[None],
                torch.from_numpy(depth.depth_m.copy())[None],
            )
            self.depth_m.append(measured_m[0].nan_to_num(0))
            self.truth_m.append(true_m[0].nan_to_num(0))
            self.color.append(light.float() / 255)


@torch.no_grad()
def score(
    network: DepthChooser, frames: RealFrames, device: torch.device | str = 'cpu'
) -> dict[str, float]:
    """Return how a network does on real frames.

    Returns:
        hole_mae_mm and within (share with less than 5 % error) where nothing was measured,
        share_1 and share_2 of those errors within one and two standard deviations,
        observed_mae_mm where something was and raw_mae_mm of the measurements themselves, and
        doubted, the share of measurements that the network finds wrong.
    """
    errors_m, truths_m, stddevs_m, observed_m, raw_m = [], [], [], [], []
    wrong_count, count = 0, 0
    for depth_m, color, truth_m in zip(frames.depth_m, frames.color, frames.truth_m, strict=True):
        height, width = depth_m.shape
        pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
        given_m = functional.pad(depth_m[None, None], pad).to(device)
        found = estimate(network, given_m, functional.pad(color[None], pad).to(device))
        found_m, stddev_m, wrong = (value[0, 0, :height, :width].cpu() for value in found)
        known, measured = truth_m > 0, depth_m > 0
        hole, seen = known & ~measured & found_m.isfinite(), known & measured
        errors_m.append((found_m - truth_m).abs()[hole])
        truths_m.append(truth_m[hole])
        stddevs_m.append(stddev_m[hole])
        observed_m.append((found_m - truth_m).abs()[seen])
        raw_m.append((depth_m - truth_m).abs()[seen])
        wrong_count += int((wrong > 0.5).sum())
        count += int(measured.sum())
    error_m, deviation_m = torch.cat(errors_m), torch.cat(stddevs_m)
    return {
        'hole_mae_mm': 1e3 * float(error_m.mean()),
        'within': float((error_m < 0.05 * torch.cat(truths_m)).float().mean()),
        'share_1': float((error_m < deviation_m).float().mean()),
        'share_2': float((error_m < 2 * deviation_m).float().mean()),
        'observed_mae_mm': 1e3 * float(torch.cat(observed_m).mean()),
        'raw_mae_mm': 1e3 * float(torch.cat(raw_m).mean()),
        'doubted': wrong_count / max(count, 1),
    }

"""Colour images of real recordings with their measured depth, for validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from depth_refiner_ros.evaluation.protocols import open_source
from depth_refiner_ros.filters.alignment import fit_alignment
from depth_refiner_ros.geometry import registered
from depth_refiner_ros.stages.register_depth import RegisterDepth

from .network import Deployed

NEAREST_M, FARTHEST_M = 0.3, 10.0
"""Depth that depth cameras measure well enough to score an estimate from colour with."""


class RealViews:
    """Pictures of a recording, and what a depth camera saw of the same, in memory.

    Args:
        folder: In the project's layout, or a bag.
        count: Spread over the recording, at most.
    """

    def __init__(self, folder: Path, count: int = 12) -> None:
        source = open_source(folder)
        self.name = source.name
        self.rgb: list[npt.NDArray[np.uint8]] = []
        self.intrinsics: list[npt.NDArray[np.float32]] = []
        self.depth_m: list[npt.NDArray[np.float32]] = []
        every = max(1, -(-len(source) // count))
        for number, frame in enumerate(source):
            values: dict[str, Any] = frame.values
            if number % every or 'color' not in values:
                continue
            camera, depth = values['camera'], values['depth']
            if not registered(values['color'], depth, values.get('color_camera'), camera):
                camera = values['color_camera']
                pose = source.transforms.lookup(
                    camera.header.frame_id, values['camera'].header.frame_id
                )
                if pose is None:
                    continue
                depth = RegisterDepth()(depth, values['camera'], camera, pose)['depth']
            depth_m = depth.depth_m
            scored = (depth_m > NEAREST_M) & (depth_m < FARTHEST_M)
            self.rgb.append(values['color'].rgb)
            self.intrinsics.append(
                np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
            )
            self.depth_m.append(np.where(scored, depth_m, np.float32(np.nan)))


def relative_errors(
    estimate_m: npt.NDArray[np.float32], truth_m: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Return how an estimate does.

    Returns:
        abs_rel: Mean of |estimate - truth| / truth.
        delta1: Share of pixels within a factor of 1.25.
        aligned_abs_rel, aligned_delta1: The same after `fit_alignment`.
    """
    result = {}
    alignment = fit_alignment(estimate_m, truth_m)
    aligned_m = estimate_m if alignment is None else alignment(estimate_m)
    known = np.isfinite(truth_m)
    for name, found_m in {'': estimate_m, 'aligned_': aligned_m}.items():
        # An estimate of infinity is wrong by a lot, not left out.
        ratio = np.nan_to_num(found_m[known], nan=50.0) / truth_m[known]
        result[f'{name}abs_rel'] = float(np.abs(ratio - 1).mean())
        result[f'{name}delta1'] = float((np.maximum(ratio, 1 / ratio) < 1.25).mean())
    return result


@torch.no_grad()
def score_views(
    network: nn.Module, views: RealViews, device: torch.device | str = 'cpu'
) -> dict[str, float]:
    """Return the means of `relative_errors` over the pictures of a recording."""
    deployed = Deployed(network)
    found = []
    for rgb, intrinsics, depth_m in zip(views.rgb, views.intrinsics, views.depth_m, strict=True):
        estimate_m = deployed(
            torch.from_numpy(rgb.copy()).to(device), torch.from_numpy(intrinsics).to(device)
        )[0]
        found.append(relative_errors(estimate_m.float().cpu().numpy(), depth_m))
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}

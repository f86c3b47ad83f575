"""Real recordings, for validation: what simulation is worth shows only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_refiner_ros.evaluation.protocols import cases, open_source
from depth_refiner_ros.filters.alignment import fit_alignment
from depth_refiner_ros.geometry import registered
from depth_refiner_ros.stages.register_depth import RegisterDepth

from ..mono.network import Deployed
from .network import STRIDE_PX, DepthChooser, estimate
from .samples import reduced

NEAREST_M, FARTHEST_M = 0.3, 10.0
"""Depth that depth cameras say reliably enough to score an estimate from colour with."""


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
        doubted, the share of measurements that are judged wrong.
    """
    errors_m, truths_m, stddevs_m, observed_m, raw_m = [], [], [], [], []
    doubted, count = 0, 0
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
        doubted += int((wrong > 0.5).sum())
        count += int(measured.sum())
    error_m, deviation_m = torch.cat(errors_m), torch.cat(stddevs_m)
    return {
        'hole_mae_mm': 1e3 * float(error_m.mean()),
        'within': float((error_m < 0.05 * torch.cat(truths_m)).float().mean()),
        'share_1': float((error_m < deviation_m).float().mean()),
        'share_2': float((error_m < 2 * deviation_m).float().mean()),
        'observed_mae_mm': 1e3 * float(torch.cat(observed_m).mean()),
        'raw_mae_mm': 1e3 * float(torch.cat(raw_m).mean()),
        'doubted': doubted / max(count, 1),
    }


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
        # What is said to be infinitely far is wrong by a lot, not left out.
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

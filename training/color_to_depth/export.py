"""Networks from colour to depth as one runs them: exported, scored and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from depth_refiner_ros.metrics.boundaries import si_boundary_f1
from depth_refiner_ros.metrics.depth import DepthErrors, depth_errors
from depth_refiner_ros.pictures import depth_scale

from ..onnx_export import describe, open_onnx, to_onnx
from ..pairs import DepthCode, Pair

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Estimate = Callable[[UInt8Array], Float32Array]
"""From (H, W, 3) to (H, W), metres."""

# Rounding grows through many layers.
_SAME = 1e-3


class DepthFromColor(nn.Module):
    """A network with what goes before and after it, as it is exported.

    Args:
        network: From (B, 3, H, W) to (B, 1, H, W).
        code: How it writes depth.
        signed: Whether it reads and writes -1 to 1 in place of 0 to 1.
    """

    def __init__(self, network: nn.Module, code: DepthCode, *, signed: bool = False) -> None:
        super().__init__()
        self.network = network
        self.code = code
        self.signed = signed

    def forward(self, color: Tensor) -> Tensor:
        """Return (H, W) metres of (H, W, 3) uint8."""
        image = color.permute(2, 0, 1)[None].float() / 255
        if self.signed:
            coded = (self.network(2 * image - 1) + 1) / 2
        else:
            coded = self.network(image)
        return self.code.decode(coded)[0, 0]

    @torch.no_grad()
    def estimate(self, rgb: UInt8Array) -> Float32Array:
        """Return (H, W) metres of (H, W, 3), on whichever device the network is."""
        device = next(self.parameters()).device
        depth_m = self(torch.from_numpy(rgb).to(device))
        return np.asarray(depth_m.float().cpu().numpy(), np.float32)


def export(
    model: DepthFromColor, path: Path, size: tuple[int, int], metadata: dict[str, Any]
) -> None:
    """Write an ONNX file from color, (H, W, 3) uint8, to depth_m, (H, W), of one size.

    Args:
        model: On the CPU.
        path: Where to.
        size: Rows and columns.
        metadata: Stored in the file.

    Raises:
        SystemExit: If ONNX Runtime finds depth that differs by more than a thousandth.
    """
    model.eval()
    color = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    to_onnx(model, path, (color,), ['color'], ['depth_m'], {})
    describe(path, {'format': 1, 'sizes': [list(size)], **metadata})
    want_m, got_m = model.estimate(color.numpy()), estimator(path)(color.numpy())
    off = float(np.abs(got_m / want_m - 1).max())
    if not off <= _SAME:
        path.unlink()
        raise SystemExit(f'Not exported: ONNX Runtime differs from PyTorch by {100 * off:.2g} %.')
    print(f'{path}: ONNX Runtime within {1e6 * off:.0f} millionths of PyTorch.')


def estimator(path: Path) -> Estimate:
    """Open an exported model."""
    session = open_onnx(path)

    def estimate(rgb: UInt8Array) -> Float32Array:
        return np.asarray(session.run(['depth_m'], {'color': rgb})[0], np.float32)

    return estimate


def score(estimate: Estimate, pairs: Iterable[Pair]) -> dict[str, float]:
    """Return how far depth is from that of pairs.

    Returns:
        mae_m, rmse_m, absrel and delta1 (share within a factor of 1.25) over all pixels that are
        known, and boundary_f1, the mean over the frames that have edges; NaN if none has.
    """
    errors = DepthErrors()
    boundaries = []
    for pair in pairs:
        rgb = (255 * pair.color).round().byte().permute(1, 2, 0).contiguous().numpy()
        want_m, got_m = pair.depth_m[0].numpy(), estimate(rgb)
        errors += depth_errors(got_m, want_m)
        boundaries.append(si_boundary_f1(got_m, want_m).f1)
    found = errors.metrics()
    edged = [f1 for f1 in boundaries if not math.isnan(f1)]
    return {
        'mae_m': found['mae_mm'] / 1e3,
        'rmse_m': found['rmse_mm'] / 1e3,
        'absrel': found['absrel'],
        'delta1': found['delta_1_25'],
        'boundary_f1': float(np.mean(edged)) if edged else math.nan,
    }


def sheet(pairs: Iterable[Pair], *estimates: Estimate) -> UInt8Array:
    """Return a row of pictures for each pair: colour, its depth, and each estimate of it."""
    rows = []
    for pair in pairs:
        want_m = pair.depth_m[0].numpy()
        known_m = want_m[want_m > 0]
        near_m, far_m = np.quantile(known_m, (0.02, 0.98)) if known_m.size else (0.0, 1.0)
        scale = depth_scale(float(near_m), max(float(far_m), float(near_m) + 1e-3))
        rgb = (255 * pair.color).round().byte().permute(1, 2, 0).contiguous().numpy()
        depths_m = [np.where(want_m > 0, want_m, np.float32(np.nan))]
        depths_m += [estimate(rgb) for estimate in estimates]
        rows.append(np.hstack([rgb, *(scale.paint(depth_m) for depth_m in depths_m)]))
    return np.vstack(rows)

"""Pictures of what a network does, for TensorBoard and for looking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_refiner_ros.pictures import depth_scale

from .network import Estimate
from .samples import Sample

UInt8Array = npt.NDArray[np.uint8]


def sheet(sample: Sample, estimate: Estimate, count: int = 4) -> UInt8Array:
    """Return a row of pictures for each sample of a batch.

    Colour, measured, estimate, truth, error (white is 5 % of the depth), standard deviation (the
    same scale), probability that a measurement is wrong.
    """
    rows = []
    for i in range(min(count, len(sample.depth_m))):
        truth_m = sample.truth_m[i, 0]
        known = truth_m[truth_m > 0].numpy()
        near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
        scale = depth_scale(float(near), float(far))
        found_m = estimate.depth_m[i, 0].float().cpu()
        depths_m = (m.where(m > 0, torch.nan) for m in (sample.depth_m[i, 0], found_m, truth_m))
        error = ((found_m - truth_m).abs() / (0.05 * truth_m)).where(truth_m > 0, 0 * truth_m)
        spread = estimate.stddev_m[i, 0].float().cpu() / (0.05 * found_m)
        greys = (error, spread, estimate.wrong[i, 0].float().cpu())
        color = sample.color[i].permute(1, 2, 0).numpy()
        rows.append(
            np.hstack(
                [
                    (255 * color).astype(np.uint8),
                    *(scale.paint(depth_m.numpy()) for depth_m in depths_m),
                    *(_grey(grey) for grey in greys),
                ]
            )
        )
    return np.vstack(rows)


def _grey(share: Tensor) -> UInt8Array:
    level = (255 * share.nan_to_num(1).clamp(0, 1)).byte().numpy()
    return np.repeat(level[..., None], 3, 2)

"""Pictures of what a network does, for TensorBoard and for looking."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from .augment import Sample
from .networks import Estimate

UInt8Array = npt.NDArray[np.uint8]


def colored(depth_m: Tensor, near_m: float, far_m: float) -> UInt8Array:
    """Return depth as RGB (H, W, 3), near red and far blue, black where there is none."""
    value = depth_m.float().cpu().numpy()
    there = np.isfinite(value) & (value > 0)
    share = (np.where(there, value, near_m) - near_m) / max(far_m - near_m, 1e-3)
    level = (255 * (1 - np.clip(share, 0, 1))).astype(np.uint8)
    image = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1].copy()
    image[~there] = 0
    return np.asarray(image, np.uint8)


def sheet(sample: Sample, estimate: Estimate, count: int = 4) -> UInt8Array:
    """Return a row of pictures for each sample of a batch.

    Colour, measured, estimate, truth, error (white is 5 % of the depth), standard deviation (the
    same scale), doubt in measurements.
    """
    rows = []
    for i in range(min(count, len(sample.depth_m))):
        truth_m = sample.truth_m[i, 0]
        known = truth_m[truth_m > 0].numpy()
        near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
        found_m = estimate.depth_m[i, 0].float().cpu()
        error = ((found_m - truth_m).abs() / (0.05 * truth_m)).where(truth_m > 0, 0 * truth_m)
        doubt = estimate.stddev_m[i, 0].float().cpu() / (0.05 * found_m)
        greys = (error, doubt, estimate.wrong[i, 0].float().cpu())
        color = sample.color[i].permute(1, 2, 0).numpy()
        rows.append(
            np.hstack(
                [
                    (255 * color).astype(np.uint8),
                    *(colored(d, near, far) for d in (sample.depth_m[i, 0], found_m, truth_m)),
                    *(_grey(grey) for grey in greys),
                ]
            )
        )
    return np.vstack(rows)


def _grey(share: Tensor) -> UInt8Array:
    level = (255 * share.nan_to_num(1).clamp(0, 1)).byte().numpy()
    return np.repeat(level[..., None], 3, 2)

"""Photometric augmentation: colours changed as cameras change them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Photometric:
    """How often and how much colours are changed."""

    colorless_share: float = 0.4
    """Share of samples without colour."""
    grey_share: float = 0.1
    """Share of the others without hue."""
    shifted_share: float = 0.4
    """Share of samples whose colour is registered a little wrongly."""
    shift_px: float = 3.0
    """Largest error of that registration, px."""


def recolored(color: Tensor, photometric: Photometric, rng: np.random.Generator) -> Tensor:
    """Change colours as cameras do: exposure, contrast, tint, noise, blur, registration; or none.

    Args:
        color: (3, H, W), 0 to 1.
        photometric: How much.
        rng: Draws it.
    """
    if rng.random() < photometric.colorless_share:
        return torch.zeros_like(color)
    if rng.random() < photometric.grey_share:
        color = color.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < photometric.shifted_share:
        x, y = rng.uniform(-photometric.shift_px, photometric.shift_px, 2).round().astype(int)
        color = color.roll((int(y), int(x)), (1, 2))
    if rng.random() < 0.3:
        color = functional.avg_pool2d(color[None], 3, 1, 1, count_include_pad=False)[0]
    gamma, gain = rng.uniform(0.7, 1.4), rng.uniform(0.6, 1.3)
    tint = torch.from_numpy(rng.uniform(0.85, 1.15, (3, 1, 1)).astype(np.float32))
    noise = rng.uniform(0.0, 0.04) * rng.standard_normal(color.shape, np.float32)
    color = color.clamp_min(1e-4).pow(gamma) * gain * tint + torch.from_numpy(noise)
    return color.clamp(1 / 255, 1)

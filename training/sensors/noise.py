"""Random numbers for sensor models: ranges, smooth fields and windows over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Span = tuple[float, float]
"""A range that a parameter of a camera is drawn from, uniformly; equal ends for what is known."""


def draw_spans(parameters: Any, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw what a dataclass annotates as `Span`; other fields are the same for all cameras.

    Returns:
        Field name to (B, 1, 1, 1), on the generator's device.
    """
    drawn = {}
    for field in fields(parameters):
        if field.type in (Span, 'Span'):
            low, high = getattr(parameters, field.name)
            share = torch.rand((batch, 1, 1, 1), generator=generator, device=generator.device)
            drawn[field.name] = low + (high - low) * share
    return drawn


def noise_field(
    shape: tuple[int, ...], correlation_px: Tensor | float, generator: torch.Generator
) -> Tensor:
    """Return Gaussian noise of unit variance, smooth over some pixels.

    White noise is filtered with a Gaussian of standard deviation `correlation_px`, so two pixels
    at a distance r correlate with exp(-r^2 / (4 correlation_px^2)).

    Args:
        shape: (B, 1, H, W).
        correlation_px: One for all, or (B, 1, 1, 1).
        generator: Source of the noise; its device is the result's.

    Returns:
        (B, 1, H, W).
    """
    batch, _, height, width = shape
    device = generator.device
    spread = torch.as_tensor(correlation_px, dtype=torch.float32, device=device)
    reach = max(1, math.ceil(2.5 * float(spread.max())))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32, device=device)
    kernel = torch.exp(-0.5 * (at / spread.reshape(-1, 1).clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.norm(dim=1, keepdim=True)).expand(batch, -1)
    # One group per image: each camera has its own smoothness, and it is the fast path.
    size = (1, batch, height + 2 * reach, width + 2 * reach)
    white = torch.randn(size, generator=generator, device=device)
    smooth = functional.conv2d(white, kernel[:, None, None, :], groups=batch)
    smooth = functional.conv2d(smooth, kernel[:, None, :, None], groups=batch)
    return smooth.reshape(batch, 1, height, width)


def drifting_field(shape: tuple[int, ...], cell_px: int, generator: torch.Generator) -> Tensor:
    """Return cheap Gaussian noise of about unit variance that changes over `cell_px` pixels."""
    batch, _, height, width = shape
    coarse = (batch, 1, height // cell_px + 2, width // cell_px + 2)
    white = torch.randn(coarse, generator=generator, device=generator.device)
    # Interpolation averages: over a cell 4/9 of the variance is left.
    return functional.interpolate(1.5 * white, (height, width), mode='bilinear')


def patches(field: Tensor, share: Tensor) -> Tensor:
    """Return where Gaussian noise of unit variance is in the lowest share of its values.

    Args:
        field: (B, 1, H, W).
        share: (B, 1, 1, 1), 0 to 1.

    Returns:
        (B, 1, H, W) bool.
    """
    return field < math.sqrt(2) * torch.erfinv(2 * share - 1)


def window_sum(image: Tensor, size_px: int) -> Tensor:
    """Sum over a square around each pixel; outside the image is 0."""
    return _over_windows(image, size_px, torch.add, 0.0)


def window_max(image: Tensor, size_px: int) -> Tensor:
    """Return the greatest value of a square around each pixel."""
    return _over_windows(image, size_px, torch.maximum, -torch.inf)


def window_min(image: Tensor, size_px: int) -> Tensor:
    """Return the least value of a square around each pixel."""
    return _over_windows(image, size_px, torch.minimum, torch.inf)


def _over_windows(
    image: Tensor, size_px: int, combine: Callable[[Tensor, Tensor], Tensor], outside: float
) -> Tensor:
    """Combine windows of 1, 2, 4 ... pixels into one: far cheaper on a CPU than pooling."""
    before = size_px // 2
    after = size_px - 1 - before
    for axis, pad in ((3, (before, after)), (2, (0, 0, before, after))):
        padded = functional.pad(image, pad, value=outside)
        length = image.shape[axis]
        result, done, power, run = None, 0, 1, padded
        while True:
            if size_px & power:
                part = run.narrow(axis, done, length)
                result = part if result is None else combine(result, part)
                done += power
            power *= 2
            if power > size_px:
                break
            half = run.shape[axis] - power // 2
            run = combine(run.narrow(axis, 0, half), run.narrow(axis, power // 2, half))
        assert result is not None
        image = result
    return image

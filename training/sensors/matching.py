"""What every triangulating sensor does: lose what its other eye cannot see, match windows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .noise import window_max, window_min, window_sum

_TOLERANCE_PX = 1.5
_STEP_PX = 1.0


def occluded(disparity_px: Tensor) -> Tensor:
    """Return what an eye or a projector beside the camera cannot see.

    A pixel of column u lies in the other eye's column u - disparity; of several there, it sees the
    nearest. Beside a near surface that leaves a strip as wide as the difference of the
    disparities. What the camera itself does not see cannot hide anything here.

    Args:
        disparity_px: (B, 1, H, W), positive for an eye to the right of the camera, negative for
            one to the left, 0 where there is nothing.

    Returns:
        (B, 1, H, W) bool.
    """
    width = disparity_px.shape[-1]
    column = torch.arange(width, dtype=torch.float32, device=disparity_px.device) - disparity_px
    # Room for one more image on either side of the other eye's.
    first = (column + width).floor_().clamp_(0, 3 * width - 2).long()
    second = first + 1
    nearness = disparity_px.abs()
    nearest = nearness.new_zeros((*nearness.shape[:3], 3 * width))
    for cell in (first, second):  # slanted surfaces leave no gaps
        nearest.scatter_reduce_(3, cell, nearness, 'amax')
    hidden = torch.minimum(nearest.gather(3, first), nearest.gather(3, second))
    return hidden > nearness + _TOLERANCE_PX


class Match(NamedTuple):
    """What a correlation window finds at each pixel.

    Attributes:
        near_px: (B, 1, H, W) disparity of the nearer surface in the window.
        far_px: The same of the farther one; equal to `near_px` where there is one surface only.
        near_share: Share of the window's pixels that carry the nearer surface and pattern.
        far_share: The same of the farther one, 0 where there is one surface only.
    """

    near_px: Tensor
    far_px: Tensor
    near_share: Tensor
    far_share: Tensor

    def advantage(self, gain: Tensor) -> Tensor:
        """(B, 1, H, W) logarithm of how much stronger the nearer surface correlates."""
        return ((self.near_share + 1e-3) / (self.far_share + 1e-3)).log_() + gain.log()


def match_windows(disparity_px: Tensor, weight: Tensor, size_px: int) -> Match:
    """Split the surfaces in the square window around every pixel into a near and a far one.

    A window over two surfaces correlates with both, each as strongly as it fills the window:
    that is why edges are found up to half a window away from where they are. Of a surface that
    fills the window the mean is found; of one of two surfaces, the pixel's own disparity where
    the pixel lies on it, that of the window's nearest or farthest point otherwise.

    Args:
        disparity_px: (B, 1, H, W).
        weight: (B, 1, H, W), pattern that can be matched, 0 to 1.
        size_px: Side of the window.
    """
    seen = weight > 0
    highest = window_max(disparity_px.masked_fill(~seen, -torch.inf), size_px)
    lowest = window_min(disparity_px.masked_fill(~seen, torch.inf), size_px)
    between = highest - lowest
    two = window_max(_steps(disparity_px), size_px) > 0

    total = window_sum(weight, size_px)
    mean_px = window_sum(weight * disparity_px, size_px) / total.clamp_min(1e-6)
    total /= size_px * size_px
    # Two depths and their mean give how much there is of each.
    near_share = total * ((mean_px - lowest) / between.clamp_min(1e-6)).clamp_(0, 1)
    on_near = disparity_px > (highest + lowest) / 2
    near_px = torch.where(seen & on_near, disparity_px, highest)
    far_px = torch.where(seen & ~on_near, disparity_px, lowest)
    return Match(
        torch.where(two, near_px, mean_px),
        torch.where(two, far_px, mean_px),
        torch.where(two, near_share, total),
        torch.where(two, total - near_share, 0.0).clamp_min_(0.0),
    )


def _steps(disparity_px: Tensor) -> Tensor:
    """1 where a surface ends: its neighbour in a row or column is far in front or behind.

    A surface that changes by more from pixel to pixel is seen at a grazing angle, or not at all.
    """
    result = torch.zeros_like(disparity_px)
    result[..., :-1] = (disparity_px.diff(dim=3).abs() > _STEP_PX).float()
    result[..., :-1, :] += (disparity_px.diff(dim=2).abs() > _STEP_PX).float()
    return result

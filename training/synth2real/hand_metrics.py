"""What refining does to depth of hands, in figures that mean something while losses do not.

All take crops in the units of `training.synth2real.crops.HandCrops`: (B, 1, H, W) metres nearer
than 2 m as negative numbers, 0 where nothing is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..datasets.hands import CROP_PX
from ..networks.hourglass import joints_of

STEP_M = 0.015
"""Between neighbours, what is an edge and not a slope."""
EDGE_PX = 2
"""How far from a step or the outline pixels are counted to the edges."""
PATCH_PX = 16
_COUNTED_MM = 1.0
_PATCHES = 3000


def edges(depth: Tensor) -> Tensor:
    """Return the pixels of hands within 2 px of a step of 15 mm or of the outline, (B, 1, H, W).

    Holes have outlines, too; the border of the crop has none.
    """
    hand = depth != 0
    low = -functional.max_pool2d(-torch.where(hand, depth, torch.inf), 3, 1, 1)
    high = functional.max_pool2d(torch.where(hand, depth, -torch.inf), 3, 1, 1)
    beside = functional.max_pool2d((~hand).float(), 3, 1, 1) > 0
    # A step is seen from both of its sides: of 2 px, the first is on it.
    at = (hand & (beside | (high - low > STEP_M))).float()
    reach = 2 * (EDGE_PX - 1) + 1
    return (functional.max_pool2d(at, reach, 1, EDGE_PX - 1) > 0) & hand


def change_mm(before: Tensor, after: Tensor) -> dict[str, float]:
    """Return the mean absolute change where both are hand, mm: at `edges` of before, and in flats.

    NaN where there are no such pixels.
    """
    both = (before != 0) & (after != 0)
    at_edges = edges(before)
    change = 1e3 * (after - before).abs()
    return {
        'edges': float(change[both & at_edges].mean()),
        'flats': float(change[both & ~at_edges].mean()),
    }


def hole_share(depth: Tensor) -> float:
    """Return the share of the hands' pixels that are holes; NaN without hands.

    What belongs to a hand is what a closing of its pixels with a square of 9 px fills, so that
    wide holes and what an outline lost are not counted.
    """
    hand = functional.pad((depth != 0).float(), (4, 4, 4, 4))
    grown = functional.max_pool2d(hand, 9, 1)
    closed = -functional.max_pool2d(functional.pad(-grown, (4, 4, 4, 4), value=-1.0), 9, 1) > 0
    area = int(closed.sum())
    return float((closed & (depth == 0)).sum()) / area if area else math.nan


def patch_features(depth: Tensor) -> Tensor:
    """Return features of patches, (N, 512), that do not depend on the hand.

    Crops are cut into patches of 16x16 px, of which those are taken that are a quarter hand.
    Depth in millimetres less the patch's mean, 0 in holes, and the mask of what is hand are each
    transformed by the orthonormal DCT-II. The features are log(1 + |coefficient|): of single
    millimetres of fine grain as much is seen as of the decimetres between fingers, which every
    rendered hand has. Nothing is learned, so figures of different runs compare.

    Args:
        depth: Cut to a whole number of patches, from the upper left corner.
    """
    rows, columns = depth.shape[-2] // PATCH_PX, depth.shape[-1] // PATCH_PX
    cut = depth[:, :, : rows * PATCH_PX, : columns * PATCH_PX]
    cut = cut.reshape(-1, rows, PATCH_PX, columns, PATCH_PX).transpose(2, 3)
    flat = cut.reshape(-1, PATCH_PX, PATCH_PX)
    flat = flat[(flat != 0).float().mean((1, 2)) >= 0.25]
    hand = (flat != 0).to(flat.dtype)
    mean = flat.sum((1, 2), keepdim=True) / hand.sum((1, 2), keepdim=True).clamp_min(1)
    relief = (flat - mean) * hand * (1e3 / _COUNTED_MM)
    basis = _dct(PATCH_PX).to(flat)
    both = torch.stack([relief, 10 * hand], 1)
    return (basis @ both @ basis.T).abs().log1p().flatten(1)


def _dct(size: int) -> Tensor:
    at = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (at + 0.5) * at[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Return how differently two sets of features (N, D), (M, D) are distributed; about 0 if not.

    The unbiased squared maximum mean discrepancy with the kernel (x y / D + 1) ** 3: the kernel
    inception distance of Binkowski et al., "Demystifying MMD GANs", ICLR 2018, without Inception.
    Being unbiased, it can be below 0. Of more than 3000 features, that many are taken evenly; NaN
    if there are less than two on a side.
    """
    if min(len(first), len(second)) < 2:
        return math.nan
    x, y = (_evenly(features).double() for features in (first, second))
    (n, d), m = x.shape, len(y)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / d + 1) ** 3

    within_x, within_y = kernel(x, x), kernel(y, y)
    of_x = (within_x.sum() - within_x.trace()) / (n * (n - 1))
    of_y = (within_y.sum() - within_y.trace()) / (m * (m - 1))
    return float(of_x + of_y - 2 * kernel(x, y).mean())


def _evenly(features: Tensor) -> Tensor:
    if len(features) <= _PATCHES:
        return features
    return features[torch.linspace(0, len(features) - 1, _PATCHES).long()]


@torch.no_grad()
def drift_px(network: nn.Module, before: Tensor, after: Tensor) -> float:
    """Return how far joints are found from where they were found before, px of a 224x224 crop.

    Args:
        network: A trained `training.networks.hourglass.StackedHourglass`, in evaluation mode.
        before: Crops of any size.
        after: The same hands.
    """
    places = [joints_of(network(depth)[:, -1].float(), CROP_PX) for depth in (before, after)]
    return float((places[0] - places[1]).norm(dim=2).mean())

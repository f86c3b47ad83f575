"""Depth of tapered capsules, in batches: exact, and only where they can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TILE_PX = 8
"""Rays are cast for squares of this size that a capsule's bounds touch."""


def crop_intrinsics(intrinsics: Tensor, region: Tensor, height: int, width: int) -> Tensor:
    """Return the intrinsics of windows of images that are resized.

    Args:
        intrinsics: (B, 3, 3) pixels; centres of pixels are at whole numbers.
        region: (B, 4) left, top, right, bottom, pixels; edges of pixels are at halves.
        height: Rows after resizing.
        width: Columns after resizing.
    """
    left, top, right, bottom = region.unbind(1)
    step = torch.stack([width / (right - left), height / (bottom - top)], 1)  # (B, 2)
    result = intrinsics.clone()
    result[:, 0] *= step[:, :1]
    result[:, 1] *= step[:, 1:]
    result[:, :2, 2] = (intrinsics[:, :2, 2] - region[:, :2]) * step - 0.5
    return result


def rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Return where each pixel's ray meets the plane one metre ahead, (B, H, W, 2)."""
    k = intrinsics[:, :, :, None, None]
    columns = torch.arange(width, dtype=torch.float32, device=k.device)
    rows = torch.arange(height, dtype=torch.float32, device=k.device)[:, None]
    x = (columns - k[:, 0, 2]) / k[:, 0, 0]
    y = (rows - k[:, 1, 2]) / k[:, 1, 1]
    return torch.stack([x.expand(-1, height, width), y.expand(-1, height, width)], -1)


def meet(x: Tensor, y: Tensor, ends_m: Tensor, radii_m: Tensor) -> Tensor:
    """Return the depth at which rays (x, y, 1) enter tapered capsules; inf where they miss.

    A capsule is the convex hull of two balls. Quilez, "Rounded cone - intersection", 2018, for
    directions of any length; a ray that starts inside is not looked for.

    Args:
        x: (K, P).
        y: (K, P).
        ends_m: (K, 2, 3) centres of the balls.
        radii_m: (K, 2).

    Returns:
        (K, P) metres.
    """
    a, b = ends_m[:, 0], ends_m[:, 1]
    ra, rb = radii_m[:, :1], radii_m[:, 1:]
    axis = b - a
    ax, ay, az = (axis[:, n : n + 1] for n in range(3))
    # From a start near the capsule, or float32 would lose its millimetres.
    start = 0.5 * (a[:, 2:] + b[:, 2:])
    ox, oy, oz = start * x - a[:, :1], start * y - a[:, 1:2], start - a[:, 2:]
    slope = ra - rb
    m0 = ax * ax + ay * ay + az * az
    m1 = ax * ox + ay * oy + az * oz
    m2 = ax * x + ay * y + az
    m3 = x * ox + y * oy + oz
    m5 = ox * ox + oy * oy + oz * oz
    m8 = x * x + y * y + 1
    d2 = m0 - slope * slope

    k2 = d2 * m8 - m2 * m2
    k1 = d2 * m3 - m2 * (m1 - slope * ra)
    k0 = d2 * m5 - m1 * (m1 - 2 * slope * ra) - m0 * ra * ra
    nothing = torch.tensor(torch.inf, device=x.device)

    def entry(a2: Tensor, a1: Tensor, a0: Tensor) -> Tensor:
        """Where a2 t^2 + 2 a1 t + a0 falls below 0."""
        discriminant = a1 * a1 - a0 * a2
        # Roots of negative numbers are slow.
        t = (-a1 - discriminant.clamp_min(0).sqrt()) / a2
        return torch.where(discriminant > 0, t, nothing)

    t = entry(k2, k1, k0)
    along = m1 - ra * slope + t * m2
    side = torch.where((along > 0) & (along < d2) & (d2 > 0), t, nothing)
    first = entry(m8, m3, m5 - ra * ra)
    second = entry(m8, m3 - m2, m5 - 2 * m1 + m0 - rb * rb)
    # The hull is convex, so its first point is the least of those on its parts.
    nearest = side.fmin(first).fmin(second) + start
    return torch.where(nearest > 0, nearest, nothing)


def render_capsules(
    ends_m: Tensor, radii_m: Tensor, intrinsics: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return the depth of capsules, and which of them is seen.

    Args:
        ends_m: (B, C, 2, 3) in the camera's frame, in front of it.
        radii_m: (B, C, 2); a capsule of radii 0 is not there.
        intrinsics: (B, 3, 3) pixels.
        height: Rows.
        width: Columns.

    Returns:
        (B, H, W) metres, inf where nothing is; (B, H, W) int64, -1 where nothing is.
    """
    batch, device = len(ends_m), ends_m.device
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    image, capsule, row, column = _touched(ends_m, radii_m, intrinsics, rows, columns)
    tile = (image * rows + row) * columns + column
    ray = rays(intrinsics, rows * TILE_PX, columns * TILE_PX)
    tiles = ray.reshape(batch, rows, TILE_PX, columns, TILE_PX, 2).permute(0, 1, 3, 5, 2, 4)
    tiles = tiles.reshape(-1, 2, TILE_PX * TILE_PX)
    # Positive floats are ordered as their bits are, so depth and number fit one integer.
    nothing = torch.full_like(tiles[:, 0], torch.inf)
    nearest = nothing.view(torch.int32).long() << 16 | 0xFFFF
    # On a CPU, a few at a time: what fits its caches is several times faster.
    chunk = 1024 if device.type == 'cpu' else 1 << 18
    for at, of, which in zip(*(v.split(chunk) for v in (tile, image, capsule)), strict=True):
        x, y = tiles[at].unbind(1)
        depth_m = meet(x, y, ends_m[of, which], radii_m[of, which])
        key = depth_m.view(torch.int32).long() << 16 | which[:, None]
        nearest.scatter_reduce_(0, at[:, None].expand_as(key), key, 'amin')
    nearest = nearest.reshape(batch, rows, columns, TILE_PX, TILE_PX).transpose(2, 3)
    nearest = nearest.reshape(batch, rows * TILE_PX, columns * TILE_PX)[:, :height, :width]
    result_m = (nearest >> 16).int().contiguous().view(torch.float32)
    return result_m, torch.where(result_m.isfinite(), nearest & 0xFFFF, -1)


def _touched(
    ends_m: Tensor, radii_m: Tensor, intrinsics: Tensor, rows: int, columns: int
) -> tuple[Tensor, ...]:
    """Return image, capsule, row and column of tiles that capsules may be seen in."""
    low, high = _bounds(ends_m, radii_m, intrinsics)  # (B, C, 2, 2)
    device = ends_m.device
    row, column = (TILE_PX * torch.arange(n, device=device) for n in (rows, columns))

    def within(edge: Tensor, axis: int) -> Tensor:
        first, last = low[..., axis].amin(2), high[..., axis].amax(2)
        return (first[..., None] < edge + TILE_PX) & (last[..., None] > edge - 1)

    there = (radii_m > 0).any(2)[..., None, None]
    where = within(row, 1)[..., None] & within(column, 0)[..., None, :] & there
    found = where.nonzero(as_tuple=True)
    # Bounds of slanting capsules are mostly empty: how far is the tile from the axis?
    low, high = low[found[:2]], high[found[:2]]
    start, end = (0.5 * (low + high)).unbind(1)  # (K, 2)
    # Balls are seen as ellipses, longer than the boxes around them by a sixth at most, at 45
    # degrees off the axis.
    reach = 1.2 * (high - low).amax((1, 2)) / 2 + 0.71 * TILE_PX + 1
    middle = TILE_PX * torch.stack([found[3], found[2]], 1) + 0.5 * (TILE_PX - 1)
    axis = end - start
    along = ((middle - start) * axis).sum(1) / axis.square().sum(1).clamp_min(1e-6)
    foot = start + along.clamp(0, 1)[:, None] * axis
    near = (middle - foot).norm(dim=1) < reach
    return tuple(value[near] for value in found)


def _bounds(ends_m: Tensor, radii_m: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and greatest column and row of both balls of capsules, (B, C, 2, 2)."""
    z = ends_m[..., 2:]  # (B, C, 2, 1)
    angle = torch.atan2(ends_m[..., :2], z)
    distance = torch.hypot(ends_m[..., :2], z)
    half = torch.asin((radii_m[..., None] / distance.clamp_min(1e-6)).clamp_max(1))
    limit = 0.49 * math.pi
    k = intrinsics[:, None, None]
    focal = torch.stack([k[..., 0, 0], k[..., 1, 1]], -1)
    low, high = (
        torch.tan((angle + side * half).clamp(-limit, limit)) * focal + k[..., :2, 2]
        for side in (-1, 1)
    )
    return low, high

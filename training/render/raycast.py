"""Batched ray casting of analytic solids: rays in tiles, solids culled per tile.

Rays travel in tiles that share one origin, so that culling and everything that depends on the
origin is paid once for a whole tile. Cells of 4x4 tiles are culled first, then their tiles. The
k-th candidates of all tiles of the batch are intersected by one call per kind of solid; no Python
loop runs over scenes, solids or pixels. All is plain tensor code and runs where its tensors are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
import torch.nn.functional as nnf

from .solids import Kind, World

TILE_PX = 16
CACHED_RAYS = 1 << 15
_CELL_TILES = 4
_SUPERQUADRIC_STEPS = 9
_WAVE_STEPS = 16


@dataclass
class Rays:
    """Rays origin + t * direction, in tiles.

    Attributes:
        scene: (V,) int64, which scene of the world each view looks at.
        origin_m: (V, 3), where all rays of a view start.
        direction: (V, R, C, 3, S): a grid of R x C tiles of S rays. With directions whose part
            along the optical axis is 1, t is the depth.
        low: (V, R, C, 3), the smallest direction of each tile.
        high: (V, R, C, 3), the largest.
        start: (V, R, C, S), t from which on a ray counts; inf for rays that do not.
        stop: t up to which a ray counts, inf or a number.
    """

    scene: Tensor
    origin_m: Tensor
    direction: Tensor
    low: Tensor
    high: Tensor
    start: Tensor
    stop: float = float('inf')


class Hits(NamedTuple):
    """Where rays end.

    Attributes:
        t: (V, R, C, S), inf where nothing is.
        solid: (V, R, C, S) int64, row of the world; -1 where nothing is.
    """

    t: Tensor
    solid: Tensor


# --------------------------------------------------------------------------- rays meet a solid
#
# P pairs of a tile and a solid: origin (P, 3, 1) and direction (P, 3, S) in the solid's own frame,
# start (P, 1 or S); parameters (P, n, 1). Each answers t, (P, S), inf where a ray misses.

_Parameters = tuple[Tensor, ...]
_INFINITY = float('inf')


def _slabs(origin: Tensor, direction: Tensor, half_m: Tensor) -> tuple[Tensor, Tensor]:
    # A ray within a slab's plane never crosses it: almost infinity serves, 0 * inf would not.
    inverse = torch.reciprocal(torch.where(direction.abs() < 1e-12, 1e-12, direction))
    middle, reach = -origin * inverse, inverse.abs() * half_m
    return (middle - reach).amax(-2), (middle + reach).amin(-2)


def _to_nearest(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Move origins to the point nearest to the solid, where float32 resolves thin things."""
    t = -(origin * direction).sum(-2, keepdim=True) / direction.square().sum(-2, keepdim=True)
    return origin + t * direction, t[..., 0, :]


def _within(
    near: Tensor, far: Tensor, origin: Tensor, direction: Tensor, quadric: Tensor
) -> tuple[Tensor, Tensor]:
    """Narrow intervals to the inside of a quadric; what is left is one interval, or far < near."""
    x, y, z = origin.unbind(-2)
    dx, dy, dz = direction.unbind(-2)
    ka, kb, kc, kd, ke = quadric.unbind(-2)
    a = ka * dx * dx + kb * dy * dy + kc * dz * dz
    b = ka * x * dx + kb * y * dy + (kc * z + 0.5 * kd) * dz
    c = ka * x * x + kb * y * y + (kc * z + kd) * z + ke
    a = torch.where(a.abs() < 1e-20, 1e-20, a)
    square = b * b - a * c
    w = -(b + torch.copysign(square.clamp_min(0).sqrt(), b))
    w = torch.where(w == 0, 1e-20, w)
    one, other = w / a, c / w  # the form of the roots that does not cancel
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    # A steep ray in a cone (a < 0) is inside before and after the roots: the box holds one nappe.
    cone, real = a < 0, square > 0
    before = near < low
    far_in_cone = torch.where(before & real, torch.minimum(far, low), far)
    near_in_cone = torch.where(before | ~real, near, torch.maximum(near, high))
    near_in = torch.where(real, torch.maximum(near, low), _INFINITY)
    far_in = torch.minimum(far, high)
    return torch.where(cone, near_in_cone, near_in), torch.where(cone, far_in_cone, far_in)


def hit_box(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a box; p: half_m."""
    near, far = _slabs(origin, direction, p[0])
    return torch.where((near <= far) & (near > start), near, _INFINITY)


def hit_quadric(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a box cut by a quadric; p: half_m, quadric."""
    origin, moved = _to_nearest(origin, direction)
    near, far = _slabs(origin, direction, p[0])
    near, far = _within(near, far, origin, direction, p[1])
    hit = near + moved
    return torch.where((near <= far) & (hit > start), hit, _INFINITY)


def hit_hollow(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a solid less its hole; p: half_m, quadric, hole_center_m, hole_half_m, hole_quadric."""
    origin, moved = _to_nearest(origin, direction)
    near, far = _slabs(origin, direction, p[0])
    near, far = _within(near, far, origin, direction, p[1])
    origin = origin - p[2]
    enter, leave = _slabs(origin, direction, p[3])
    enter, leave = _within(enter, leave, origin, direction, p[4])
    # Whoever arrives through the opening meets the hole's far side, if that is within the solid.
    open_ = (enter <= near) & (leave > near)
    hit = torch.where(open_, leave, near)
    ok = (near <= far) & (~open_ | (leave < far)) & (hit + moved > start)
    return torch.where(ok, hit + moved, _INFINITY)


def hit_polytope(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a box cut by six planes; p: half_m, form."""
    near, far = _slabs(origin, direction, p[0])
    for i in range(0, 24, 4):
        nx, ny, nz, offset = p[1][..., i : i + 4, :].unbind(-2)
        along = nx * direction[..., 0, :] + ny * direction[..., 1, :] + nz * direction[..., 2, :]
        room = offset - (nx * origin[..., 0, :] + ny * origin[..., 1, :] + nz * origin[..., 2, :])
        t = room / torch.where(along.abs() < 1e-12, 1e-12, along)
        near = torch.where(along < 0, torch.maximum(near, t), near)
        far = torch.where(along < 0, far, torch.minimum(far, t))
    return torch.where((near <= far) & (near > start), near, _INFINITY)


def superquadric_norm(points: Tensor, k: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Return the superquadric's norm, 1 on its surface, and its gradient.

    Args:
        points: (..., 3, S), in units of the half sizes.
        k: (..., 1), 2 / e1.
        m: (..., 1), 2 / e2.
    """
    size = points.abs().clamp_min(1e-6)
    x, y, z = size.unbind(-2)
    # Powers of numbers of at most 1, or exponents of 20 would overflow.
    big = torch.maximum(x, y)
    s = big * ((x / big) ** m + (y / big) ** m) ** (1 / m)
    big = torch.maximum(s, z)
    f = big * ((s / big) ** k + (z / big) ** k) ** (1 / k)
    by_s = (s / f) ** (k - 1)
    gradient = torch.stack(
        (by_s * (x / s) ** (m - 1), by_s * (y / s) ** (m - 1), (z / f) ** (k - 1)), -2
    )
    return f, torch.copysign(gradient, points)


def hit_superquadric(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a superquadric; p: half_m, form.

    Its norm is convex along a ray, so that Newton's method from outside never passes the surface.
    """
    origin, moved = _to_nearest(origin, direction)
    near, far = _slabs(origin, direction, p[0])
    scale = 1 / p[0]
    origin, direction = origin * scale, direction * scale
    k, m = p[1][..., 0, :], p[1][..., 1, :]
    t = torch.where(near <= far, near, 0.0)
    missed = near > far
    for _ in range(_SUPERQUADRIC_STEPS):
        f, gradient = superquadric_norm(origin + t[..., None, :] * direction, k, m)
        slope = (gradient * direction).sum(-2)
        ahead = slope < -1e-9
        missed = missed | (~ahead & (f > 1 + 1e-5))
        t = t + torch.where(ahead, (1 - f) / torch.where(ahead, slope, -1.0), 0.0)
    f, _ = superquadric_norm(origin + t[..., None, :] * direction, k, m)
    hit = t + moved
    ok = ~missed & (t <= far) & ((f - 1).abs() < 1e-3) & (hit > start)
    return torch.where(ok, hit, _INFINITY)


def wave_height(x: Tensor, y: Tensor, form: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the height of waves, and its slopes along x and y, at (..., S)."""
    height, by_x, by_y = form[..., 16, :] + 0 * x, 0 * x, 0 * x
    for i in range(0, 16, 4):
        amplitude, kx, ky, phase = form[..., i : i + 4, :].unbind(-2)
        angle = kx * x + ky * y + phase
        height = height + amplitude * torch.sin(angle)
        by = amplitude * torch.cos(angle)
        by_x, by_y = by_x + kx * by, by_y + ky * by
    return height, by_x, by_y


def hit_waves(origin: Tensor, direction: Tensor, start: Tensor, p: _Parameters) -> Tensor:
    """Meet a box filled up to a height of waves; p: half_m, form."""
    near, far = _slabs(origin, direction, p[0])
    x, y, z = origin.unbind(-2)
    dx, dy, dz = direction.unbind(-2)
    # The distance above the surface shrinks at most this fast along the ray.
    rate = p[1][..., 17, :] * (dx * dx + dy * dy).sqrt() + (-dz).clamp_min(0) + 1e-9
    t = torch.where(near <= far, near, 0.0)
    for _ in range(_WAVE_STEPS):
        height, _, _ = wave_height(x + t * dx, y + t * dy, p[1])
        t = t + (z + t * dz - height).clamp_min(0) / rate
    for _ in range(3):  # Newton, on what is by now nearly the tangent plane
        height, by_x, by_y = wave_height(x + t * dx, y + t * dy, p[1])
        above = z + t * dz - height
        slope = dz - by_x * dx - by_y * dy
        step = above / torch.where(slope < -1e-3 * rate, -slope, 4 * rate)
        t = t + torch.where(t > near, step, step.clamp_min(0))
    t = torch.maximum(t, near)
    height, _, _ = wave_height(x + t * dx, y + t * dy, p[1])
    ok = (near <= far) & (t <= far) & (z + t * dz - height < 2e-3) & (t > start)
    return torch.where(ok, t, _INFINITY)


_Hit = Callable[[Tensor, Tensor, Tensor, _Parameters], Tensor]

INTERSECTIONS: dict[Kind, tuple[_Hit, tuple[str, ...]]] = {
    Kind.BOX: (hit_box, ('half_m',)),
    Kind.QUADRIC: (hit_quadric, ('half_m', 'quadric')),
    Kind.HOLLOW: (
        hit_hollow,
        ('half_m', 'quadric', 'hole_center_m', 'hole_half_m', 'hole_quadric'),
    ),
    Kind.POLYTOPE: (hit_polytope, ('half_m', 'form')),
    Kind.SUPERQUADRIC: (hit_superquadric, ('half_m', 'form')),
    Kind.WAVES: (hit_waves, ('half_m', 'form')),
}


# ------------------------------------------------------------------------------------- culling


def _may_hit(
    turn: Tensor,
    center_m: Tensor,
    half_m: Tensor,
    rows: Tensor,
    origin_m: Tensor,
    low: Tensor,
    high: Tensor,
    stop: float,
) -> Tensor:
    """Return whether bundles of rays may meet solids, (..., K); never wrong about no.

    A bundle is a cone around its middle ray. The solid's box, grown by the width of the cone at
    the far side of the box, is met by the middle ray if any ray of the bundle meets the box.

    Args:
        turn: (N, 3, 3), of the world.
        center_m: (N, 3).
        half_m: (N, 3).
        rows: (..., K) int64.
        origin_m: (..., 3).
        low: (..., 3), smallest direction of each bundle.
        high: (..., 3), largest.
        stop: t up to which rays count.
    """
    middle, spread = (low + high) / 2, (high - low).square().sum(-1).sqrt()[..., None] / 2
    axes, half = turn[rows], half_m[rows]
    away = origin_m[..., None, :] - center_m[rows]
    origin = (axes * away[..., None, :]).sum(-1)
    direction = (axes * middle[..., None, None, :]).sum(-1)
    reach = origin.square().sum(-1).sqrt() + half.square().sum(-1).sqrt()
    slowest = (middle.square().sum(-1).sqrt()[..., None] - spread).clamp_min(1e-6)
    grown = half + (spread * (reach / slowest).clamp_max(stop) + 1e-5)[..., None]
    inverse = torch.reciprocal(torch.where(direction.abs() < 1e-12, 1e-12, direction))
    entry, width = -origin * inverse, inverse.abs() * grown
    near, far = (entry - width).amax(-1), (entry + width).amin(-1)
    return (near <= far) & (far > 0) & (near < stop)


def _candidates(
    world: World, rays: Rays, chosen: Tensor, may_hit: Callable[..., Tensor]
) -> list[list[tuple[Tensor, Tensor]]]:
    """Return for each kind the first, second, ... candidates: (tile, row of the world)."""
    views, rows, columns = rays.low.shape[:3]
    side = _CELL_TILES
    cells = (-(-rows // side), -(-columns // side))
    pad = (0, 0, 0, cells[1] * side - columns, 0, cells[0] * side - rows)

    def to_cells(tiles: Tensor, fill: float) -> Tensor:  # (V, R, C, n) -> (V * cells, 16, n)
        grid = nnf.pad(tiles, pad, value=fill)
        grid = grid.reshape(views, cells[0], side, cells[1], side, -1)
        return grid.transpose(2, 3).reshape(views * cells[0] * cells[1], side * side, -1)

    # What pads a cell is an empty bundle, low above high.
    low, high = to_cells(rays.low, _INFINITY), to_cells(rays.high, -_INFINITY)
    active = torch.isfinite(rays.start).any(-1, keepdim=True).float()
    used = (low[..., 0] <= high[..., 0]) & (to_cells(active, 0.0)[..., 0] > 0)
    view = torch.arange(views, device=low.device).repeat_interleave(cells[0] * cells[1])
    tile_of = torch.arange(views * rows * columns, device=low.device)
    tile_of = to_cells(tile_of.reshape(views, rows, columns, 1), -1)[..., 0]

    slots = world.slots[rays.scene]  # (V, M)
    present = (slots >= 0) & chosen[slots.clamp_min(0)]
    solids = slots.clamp_min(0)[view]
    met = may_hit(
        world.turn, world.center_m, world.half_m, solids, rays.origin_m[view],
        low.amin(1), high.amax(1), rays.stop,
    )  # fmt: skip
    met = met & present[view] & used.any(1)[:, None]
    cell, slot = met.nonzero(as_tuple=True)
    solid = solids[cell, slot]
    below = may_hit(
        world.turn, world.center_m, world.half_m, solid[:, None, None],
        rays.origin_m[view][cell][:, None],
        low[cell].clamp(-1e6, 1e6), high[cell].clamp(-1e6, 1e6), rays.stop,
    )  # fmt: skip
    below = below[..., 0] & used[cell]  # (pairs, 16)

    kind = world.kind[solid]
    steps: list[list[tuple[Tensor, Tensor]]] = []
    for which in INTERSECTIONS:
        pair = (kind == which).nonzero()[:, 0]
        mask, where = below[pair], cell[pair]
        # Pairs come sorted by cell: within one, the running count is a tile's k-th candidate.
        count = mask.cumsum(0, dtype=torch.int32)
        first = torch.searchsorted(where, where)
        rank = count - (count - mask.int())[first] - 1
        number, child = mask.nonzero(as_tuple=True)
        rank = rank[number, child]
        order = rank.argsort(stable=True)
        number, child = number[order], child[order]
        tile, row = tile_of[where[number], child], solid[pair[number]]
        sizes = torch.bincount(rank).tolist()
        steps.append(list(zip(tile.split(sizes), row.split(sizes), strict=True)) if sizes else [])
    return steps


# ------------------------------------------------------------------------------------- casting


def _step(
    hit: _Hit,
    t: Tensor,
    owner: Tensor,
    tile: Tensor,
    row: Tensor,
    origin_m: Tensor,
    direction: Tensor,
    start: Tensor,
    turn: Tensor,
    center_m: Tensor,
    parameters: _Parameters,
) -> None:
    """Intersect each tile with its k-th candidate and keep what is nearer, in place."""
    axes = turn[row]
    local = (axes * (origin_m[tile] - center_m[row])[:, None]).sum(-1)[..., None]  # (P, 3, 1)
    d = direction[tile]
    along = (
        axes[..., 0:1] * d[:, 0:1] + axes[..., 1:2] * d[:, 1:2] + axes[..., 2:3] * d[:, 2:3]
    )  # (P, 3, S)
    hit_t = hit(local, along, start[tile], tuple(p[row][..., None] for p in parameters))
    best = t[tile]
    nearer = hit_t < best
    t[tile] = torch.where(nearer, hit_t, best)
    owner[tile] = torch.where(nearer, row[:, None].to(owner.dtype), owner[tile])


class Kernels(NamedTuple):
    """The two computations that a compiler may fuse.

    Attributes:
        may_hit: Culling.
        step: Intersection of k-th candidates.
    """

    may_hit: Callable[..., Tensor] = _may_hit
    step: Callable[..., None] = _step


def cast(world: World, rays: Rays, chosen: Tensor, kernels: Kernels | None = None) -> Hits:
    """Find the first solid on each ray.

    Args:
        world: The solids.
        rays: Any rays.
        chosen: (N,) bool, the solids that count.
        kernels: Perhaps compiled.

    Returns:
        The nearest hits with start < t < stop.
    """
    views, rows, columns, _, size = rays.direction.shape
    origin = rays.origin_m[:, None].expand(-1, rows * columns, -1).reshape(-1, 3)
    direction, start = rays.direction.flatten(0, 2), rays.start.flatten(0, 2)
    t = torch.full((len(origin), size), rays.stop, device=direction.device)
    owner = torch.full(t.shape, -1, dtype=torch.int32, device=t.device)
    # Without fusion, a CPU wants pieces that stay in its cache.
    chunk = max(1, CACHED_RAYS // size) if kernels is None and not t.is_cuda else 1 << 30
    may_hit, step = kernels or Kernels()
    candidates = _candidates(world, rays, chosen, may_hit)
    for (hit, names), steps in zip(INTERSECTIONS.values(), candidates, strict=True):
        parameters = tuple(getattr(world, name) for name in names)
        for tiles, solids in steps:
            for tile, row in zip(tiles.split(chunk), solids.split(chunk), strict=True):
                step(
                    hit, t, owner, tile, row, origin, direction, start,
                    world.turn, world.center_m, parameters,
                )  # fmt: skip
    shape = (views, rows, columns, size)
    missed = owner < 0
    return Hits(torch.where(missed, _INFINITY, t).reshape(shape), owner.long().reshape(shape))


def bounds(direction: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest direction of tiles, (..., 3, S) -> (..., 3) twice."""
    if valid is None:
        return direction.amin(-1), direction.amax(-1)
    low = torch.where(valid[..., None, :], direction, _INFINITY).amin(-1)
    return low, torch.where(valid[..., None, :], direction, -_INFINITY).amax(-1)


def from_tiles(tiles: Tensor, height: int, width: int) -> Tensor:
    """Join tiles, (V, R, C', C, 256), into images, (V, C, H, W)."""
    v, rows, columns, c, size = tiles.shape
    side = int(size**0.5)
    image = tiles.reshape(v, rows, columns, c, side, side).permute(0, 3, 1, 4, 2, 5)
    image = image.reshape(v, c, rows * side, columns * side)
    return image[..., :height, :width].contiguous()


def whole_tiles(size: Sequence[int]) -> tuple[int, int]:
    """Return a height and a width rounded up to whole tiles."""
    height, width = (-(-n // TILE_PX) * TILE_PX for n in size)
    return height, width

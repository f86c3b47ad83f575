"""Triangles of analytic solids, so that they stand in one scene with models made of triangles."""

from __future__ import annotations

from collections.abc import Callable
import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, HalfspaceIntersection

from .solids import Kind, Quadric, Solid

Array = npt.NDArray[np.float64]

_AROUND = 28
"""Corners of a circle."""
_RINGS = 14
"""Circles of a ball."""
_CELLS = 40
"""Cells along a side of rumpled cloth."""


class Triangles(NamedTuple):
    """Triangles with a normal and a place on the texture at every corner.

    Attributes:
        corners_m: (T, 3, 3): triangle, corner, axis.
        normals: (T, 3, 3), unit, outward.
        uv: (T, 3, 2), metres for solids, repetitions of the picture for models.
    """

    corners_m: Array
    normals: Array
    uv: Array


def tessellated(solid: Solid) -> Triangles:
    """Return the triangles of a solid in the world; what is round has flat facets.

    Raises:
        ValueError: If the solid is a model, which has triangles already.
    """
    if solid.kind not in _SHAPES:
        raise ValueError(f'a {solid.kind.name} is not an analytic solid')
    corners = _SHAPES[solid.kind](solid)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(flat, axis=1)
    whole = area > 1e-12
    corners, flat = corners[whole], flat[whole] / area[whole, None]
    normals = smooth_normals(corners, flat) if solid.kind != Kind.BOX else _repeated(flat)
    uv = _places(solid, corners, flat)
    turn = np.array(solid.turn)
    return Triangles(corners @ turn + np.array(solid.center_m), normals @ turn, uv)


def smooth_normals(corners: Array, flat: Array, crease: float = 0.77) -> Array:
    """Return normals of corners: the mean of the faces that meet there without a crease.

    Args:
        corners: (T, 3, 3).
        flat: (T, 3), unit normals of the triangles.
        crease: Cosine between a face and the mean from which there is no crease.
    """
    points = np.ascontiguousarray(corners.reshape(-1, 3).round(5) + 0.0)
    _, which = np.unique(points.view([('', points.dtype)] * 3).ravel(), return_inverse=True)
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    weighted = np.repeat(flat * area[:, None], 3, 0)
    mean = np.stack([np.bincount(which.ravel(), weighted[:, i]) for i in range(3)], 1)
    mean = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-20)
    found = mean[which.ravel()].reshape(-1, 3, 3)
    smooth = (found * flat[:, None]).sum(2, keepdims=True) > crease
    return np.asarray(np.where(smooth, found, flat[:, None]))


def _repeated(flat: Array) -> Array:
    return np.repeat(flat[:, None], 3, 1)


def _places(solid: Solid, corners: Array, flat: Array) -> Array:
    """Return texture coordinates as the analytic renderer lays them, in metres."""
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    size = np.abs(flat)
    level = (size[:, 2] >= size[:, 0]) & (size[:, 2] >= size[:, 1])
    sideways = ~level & (size[:, 0] >= size[:, 1])
    if solid.kind in (Kind.QUADRIC, Kind.HOLLOW) and solid.quadric[0] > 1e-6:
        around = np.arctan2(y, x)
        # The seam lies between two corners: bring the others to the side of the first.
        around = around - 2 * np.pi * np.round((around - around[:, :1]) / (2 * np.pi))
        side = np.stack([around * solid.half_m[0], z], 2)
    else:
        side = np.stack([np.where(sideways[:, None], y, x), z], 2)
    return np.where(level[:, None, None], np.stack([x, y], 2), side)


# ---------------------------------------------------------------------------------------- shapes
#
# Each answers corners (T, 3, 3) in the solid's own frame, counter-clockwise seen from outside.


def _box(solid: Solid) -> Array:
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return np.asarray((signs * np.array(solid.half_m))[np.array(faces)])


def _rings(half_m: tuple[float, float, float], quadric: Quadric) -> Array:
    """Return circles of a box cut by a quadric, (rings, around, 3), from the bottom up."""
    a, b, c, d, e = quadric
    hx, hy, hz = half_m
    if c > 1e-6:  # an ellipsoid: circles are denser near its poles, and end there
        middle, reach = -d / (2 * c), np.sqrt(max(d * d / (4 * c * c) - e / c, 0.0))
        heights = middle + reach * np.sin(np.linspace(-np.pi / 2, np.pi / 2, _RINGS))
        heights = np.unique(np.clip(heights, -hz, hz))
    elif c < -1e-6:
        heights = np.linspace(-hz, hz, 3)
    else:
        heights = np.array([-hz, hz])
    left = np.maximum(-(c * heights * heights + d * heights + e), 0)
    angle = np.linspace(-np.pi, np.pi, _AROUND, endpoint=False) + np.pi / _AROUND
    x = np.sqrt(left / max(a, 1e-12))[:, None] * np.cos(angle)
    y = np.sqrt(left / max(b, 1e-12))[:, None] * np.sin(angle)
    if a < 1e-6:  # nothing is cut: the box itself, whose corners are kept
        shrink = np.minimum(hx / np.abs(x).clip(1e-12), hy / np.abs(y).clip(1e-12))
        x, y = x * shrink, y * shrink
        corner = np.array([[-hx, -hy], [hx, -hy], [hx, hy], [-hx, hy]])
        x, y = (np.repeat(corner[None, :, i], len(heights), 0) for i in range(2))
    z = np.repeat(heights[:, None], x.shape[1], 1)
    return np.stack([np.clip(x, -hx, hx), np.clip(y, -hy, hy), z], 2)


def _between(lower: Array, upper: Array) -> Array:
    """Return the strip of triangles between two loops, facing away from their inside."""
    p, q = lower, np.roll(lower, -1, 0)
    r, s = upper, np.roll(upper, -1, 0)
    return np.concatenate([np.stack([p, q, s], 1), np.stack([p, s, r], 1)])


def _fan(loop: Array) -> Array:
    """Return the cap of a loop, facing up."""
    middle = np.broadcast_to(loop.mean(0), loop.shape)
    return np.stack([middle, loop, np.roll(loop, -1, 0)], 1)


def _skin(rings: Array) -> Array:
    return np.concatenate([_between(a, b) for a, b in itertools.pairwise(rings)])


def _quadric(solid: Solid) -> Array:
    rings = _rings(solid.half_m, solid.quadric)
    return np.concatenate([_skin(rings), _fan(rings[-1]), _fan(rings[0])[:, ::-1]])


def _hollow(solid: Solid) -> Array:
    center, half = np.array(solid.hole_center_m), solid.hole_half_m
    through = [half[i] - abs(center[i]) >= solid.half_m[i] for i in range(3)]
    if solid.quadric[0] < 1e-6 and through[1]:
        return _wall(solid)
    outer = _rings(solid.half_m, solid.quadric)
    inner = _rings(half, solid.hole_quadric) + center
    top, bottom = solid.half_m[2], -solid.half_m[2]
    inner = _cut(inner, bottom, top)
    if inner.shape[1] != outer.shape[1]:  # a round hole in a box, or the reverse
        return _quadric(solid)
    parts = [_skin(outer), _skin(inner)[:, ::-1]]
    parts.append(_between(outer[-1], inner[-1]))
    if through[2] or inner[0, 0, 2] <= bottom + 1e-9:
        parts.append(_between(inner[0], outer[0]))
    else:
        parts += [_fan(outer[0])[:, ::-1], _fan(inner[0])]
    return np.concatenate(parts)


def _cut(rings: Array, bottom: float, top: float) -> Array:
    """Return rings cut off below and above two heights."""

    def at(height: float) -> Array:
        heights = rings[:, 0, 2]
        k = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        share = (height - heights[k - 1]) / max(heights[k] - heights[k - 1], 1e-12)
        return np.asarray(rings[k - 1] + share * (rings[k] - rings[k - 1]))

    kept = rings[(rings[:, 0, 2] > bottom + 1e-9) & (rings[:, 0, 2] < top - 1e-9)]
    low = rings[:1] if rings[0, 0, 2] > bottom else at(bottom)[None]
    high = rings[-1:] if rings[-1, 0, 2] < top else at(top)[None]
    inside = kept[(kept[:, 0, 2] > low[0, 0, 2]) & (kept[:, 0, 2] < high[0, 0, 2])]
    return np.concatenate([low, inside, high])


def _wall(solid: Solid) -> Array:
    """Return a box with a rectangular opening along y: a wall with a door or a window."""
    hx, hy, hz = solid.half_m
    cx, _, cz = solid.hole_center_m
    ax, _, az = solid.hole_half_m
    left, right = max(cx - ax, -hx), min(cx + ax, hx)
    low, high = max(cz - az, -hz), min(cz + az, hz)
    spans = (
        (-hx, left, -hz, hz), (right, hx, -hz, hz),
        (left, right, -hz, low), (left, right, high, hz),
    )  # fmt: skip
    parts = []
    for x0, x1, z0, z1 in spans:
        if x1 - x0 > 1e-6 and z1 - z0 > 1e-6:
            half = ((x1 - x0) / 2, hy, (z1 - z0) / 2)
            parts.append(
                _box(solid._replace(half_m=half)) + np.array([(x0 + x1) / 2, 0, (z0 + z1) / 2])
            )
    return np.concatenate(parts)


def _polytope(solid: Solid) -> Array:
    planes = np.array(solid.form[:24]).reshape(6, 4)
    box = np.concatenate([np.eye(3), -np.eye(3)])
    limits = np.concatenate([solid.half_m, solid.half_m])
    cuts = np.concatenate(
        [np.column_stack([planes[:, :3], -planes[:, 3]]), np.column_stack([box, -limits])]
    )
    points = HalfspaceIntersection(np.unique(cuts, axis=0), np.zeros(3)).intersections
    points = np.unique(points[np.isfinite(points).all(1)].round(7), axis=0)
    hull = ConvexHull(points, qhull_options='QJ')
    corners = points[hull.simplices]
    away = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (away * hull.equations[:, :3]).sum(1) < 0
    corners[inward] = corners[inward][:, ::-1]
    return np.asarray(corners)


def _superquadric(solid: Solid) -> Array:
    k, m = solid.form[:2]

    def power(x: Array, exponent: float) -> Array:
        return np.asarray(np.sign(x) * np.abs(x) ** exponent)

    # Even steps along the outline would leave the corners of boxy ones out.
    steps = np.linspace(-1, 1, _RINGS + 1)
    eta = np.pi / 2 * np.sign(steps) * np.abs(steps)
    omega = np.linspace(-np.pi, np.pi, _AROUND, endpoint=False) + np.pi / _AROUND
    wide, high = power(np.cos(eta), 2 / k), power(np.sin(eta), 2 / k)
    x = wide[:, None] * power(np.cos(omega), 2 / m)
    y = wide[:, None] * power(np.sin(omega), 2 / m)
    z = np.repeat(high[:, None], _AROUND, 1)
    rings = np.stack([x, y, z], 2) * np.array(solid.half_m)
    return _skin(rings)


def _waves(solid: Solid) -> Array:
    hx, hy, hz = solid.half_m
    form = solid.form
    x, y = np.meshgrid(np.linspace(-hx, hx, _CELLS), np.linspace(-hy, hy, _CELLS), indexing='ij')
    z = np.full_like(x, form[16])
    for i in range(0, 16, 4):
        z = z + form[i] * np.sin(form[i + 1] * x + form[i + 2] * y + form[i + 3])
    top = np.stack([x, y, np.clip(z, -hz, hz)], 2)
    a, b, c, d = top[:-1, :-1], top[1:, :-1], top[1:, 1:], top[:-1, 1:]
    parts = [np.stack(t, 2).reshape(-1, 3, 3) for t in ((a, b, c), (a, c, d))]
    rim = np.concatenate([top[:-1, 0], top[-1, :-1], top[:0:-1, -1], top[0, :0:-1]])
    floor = rim * [1, 1, 0] - [0, 0, hz]
    return np.concatenate([*parts, _between(floor, rim), _fan(floor)[:, ::-1]])


_SHAPES: dict[Kind, Callable[[Solid], Any]] = {
    Kind.BOX: _box,
    Kind.QUADRIC: _quadric,
    Kind.HOLLOW: _hollow,
    Kind.POLYTOPE: _polytope,
    Kind.SUPERQUADRIC: _superquadric,
    Kind.WAVES: _waves,
}

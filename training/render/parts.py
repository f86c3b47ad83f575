"""Parts that several things share: rods, tubes, lathed and hollow solids."""

from __future__ import annotations

import itertools
import math

from .solids import (
    UPRIGHT,
    Kind,
    Material,
    Rotation,
    Solid,
    Vector,
    cone_quadric,
    cylinder,
    ellipsoid,
    frustum,
)

LYING: Rotation = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
"""Own z along world -x."""


def turned(turn: Rotation, other: Rotation) -> Rotation:
    """Return the matrix product turn @ other."""
    return tuple(  # type: ignore[return-value]
        tuple(sum(row[k] * other[k][j] for k in range(3)) for j in range(3)) for row in turn
    )


def rod(a: Vector, b: Vector, radius_m: float, stuff: Material) -> Solid:
    """Return a cylinder from one point to another."""
    along = [q - p for p, q in zip(a, b, strict=True)]
    length = math.sqrt(sum(d * d for d in along))
    z = (along[0] / length, along[1] / length, along[2] / length)
    flat = math.hypot(z[0], z[1])
    x = (z[1] / flat, -z[0] / flat, 0.0) if flat > 1e-6 else (1.0, 0.0, 0.0)
    y = (z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0])
    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)
    return cylinder(middle, radius_m, length / 2, stuff, (x, y, z))


def tube(points: list[Vector], radius_m: float, stuff: Material) -> list[Solid]:
    """Return a round wire through points: rods, and balls at the bends."""
    parts = [rod(a, b, radius_m, stuff) for a, b in itertools.pairwise(points)]
    ball = (radius_m, radius_m, radius_m)
    return parts + [ellipsoid(point, ball, stuff) for point in points[1:-1]]


def lathed(profile: list[tuple[float, float]], stuff: Material) -> list[Solid]:
    """Return a solid of revolution: frusta through (radius, z) pairs from the bottom up."""
    return [
        frustum((0, 0, (z0 + z1) / 2), r0, r1, (z1 - z0) / 2, stuff)
        for (r0, z0), (r1, z1) in itertools.pairwise(profile)
        if z1 - z0 > 1e-4
    ]


def hollow_box(center_m: Vector, half_m: Vector, wall_m: float, stuff: Material) -> Solid:
    """Return a box that is open at the top."""
    hole = (half_m[0] - wall_m, half_m[1] - wall_m, half_m[2])
    return Solid(
        Kind.HOLLOW, center_m, half_m, stuff,
        hole_center_m=(0, 0, wall_m + 1e-3), hole_half_m=hole,
    )  # fmt: skip


def hollow_cone(
    bottom_m: float, top_m: float, half_height_m: float, wall_m: float, floor_m: float,
    stuff: Material, z_m: float = 0.0,
) -> Solid:  # fmt: skip
    """Return a frustum that is open at the top, standing at a height; no floor is a ring."""
    widest = max(bottom_m, top_m)
    slope = (top_m - bottom_m) / (2 * half_height_m)
    shift = (floor_m + 0.01) / 2 if floor_m else 0.0
    tall = half_height_m + 0.01 - shift + (0 if floor_m else 0.01)
    center = floor_m / 2 + 0.005 if floor_m else 0.0
    low = bottom_m - wall_m + slope * (half_height_m + center - tall)
    high = bottom_m - wall_m + slope * (half_height_m + center + tall)
    return Solid(
        Kind.HOLLOW, (0, 0, z_m + half_height_m), (widest, widest, half_height_m), stuff,
        UPRIGHT, cone_quadric(bottom_m, top_m, half_height_m),
        (0, 0, center), (widest, widest, tall), cone_quadric(low, high, tall),
    )  # fmt: skip

"""Things: furniture, clutter and people, each a handful of solids that stand on their own.

An object stands at its origin, z up, its front towards -y.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .parts import turned
from .solids import (
    Rotation,
    Solid,
)


class Thing(NamedTuple):
    """An object around its origin.

    Attributes:
        solids: Its parts.
        half_m: Half of its extent along x and y.
        height_m: Height of its top above its origin.
        flat: Whether something can stand on it.
    """

    solids: list[Solid]
    half_m: tuple[float, float]
    height_m: float
    flat: bool = False


def placed(thing: Thing, x: float, y: float, z: float, yaw_rad: float) -> list[Solid]:
    """Return the parts of a thing that stands at a place, turned about the vertical."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    unturn: Rotation = ((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0))
    return [
        part._replace(
            center_m=(
                x + c * part.center_m[0] - s * part.center_m[1],
                y + s * part.center_m[0] + c * part.center_m[1],
                z + part.center_m[2],
            ),
            turn=turned(part.turn, unturn),
        )
        for part in thing.solids
    ]


def footprint(thing: Thing, yaw_rad: float) -> tuple[float, float]:
    """Return half the extent along x and y of a turned thing."""
    c, s = abs(math.cos(yaw_rad)), abs(math.sin(yaw_rad))
    return c * thing.half_m[0] + s * thing.half_m[1], s * thing.half_m[0] + c * thing.half_m[1]

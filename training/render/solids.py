"""What a world is made of: solids with one material each, lit by lamps, gathered into tensors.

World frames are z up, metres. A solid's own frame has its box centred at the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Vector = tuple[float, float, float]
Rotation = tuple[Vector, Vector, Vector]
"""Rows of a rotation matrix."""
Quadric = tuple[float, float, float, float, float]
"""(A, B, C, D, E): inside is where A x^2 + B y^2 + C z^2 + D z + E <= 0."""

UPRIGHT: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
EVERYWHERE: Quadric = (1e-10, 1e-10, 1e-10, 0.0, -1.0)
"""A ball of a hundred kilometres: leaves a box as it is."""
FORM_SIZE = 24


class Kind(IntEnum):
    """How a ray meets a solid. All lie within the box of their half sizes."""

    BOX = 0
    QUADRIC = 1
    """The box cut by a quadric: ellipsoids, cylinders, cones, frusta, domes."""
    HOLLOW = 2
    """A QUADRIC less another one, its hole: mugs, bowls, bins, lampshades, walls with a door."""
    POLYTOPE = 3
    """The box cut by six planes: extruded polygons, wedges, pyramids, roofs."""
    SUPERQUADRIC = 4
    """Rounded boxes, cushions, pebbles, sacks."""
    WAVES = 5
    """The box filled up to a height made of four waves: rumpled cloth, curtains, blankets."""
    MODEL = 6
    """Triangles of `assets`, which `mesh_renderer` renders and the analytic renderer cannot."""


class Material(NamedTuple):
    """What a surface looks like.

    Attributes:
        palette: Three linear colours, 0 to 1; the texture walks from the first to the third.
        layer: Which texture of the bank, an integer.
        period_m: Length of one repetition of the texture along u and along v.
        offset: Shift of the texture, in repetitions.
        specular: Share of the light reflected as highlight, 0 to 1.
        shininess: Blinn-Phong exponent.
        ir_reflectance: Share of near infrared light (0.8 to 0.95 um) scattered back, 0 to 1.
        emission: Light given off, in units of a white surface's.
        glass: Share of light that passes straight through; 0 is opaque.
        mirror: Share of light that is mirrored.
        picture: Surface of `assets` that stands in for the texture, times the middle of the
            palette, where `MeshRenderer` renders.
    """

    palette: tuple[Vector, Vector, Vector] = ((0.6, 0.6, 0.6),) * 3
    layer: int = 0
    period_m: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    specular: float = 0.03
    shininess: float = 20.0
    ir_reflectance: float = 0.6
    emission: float = 0.0
    glass: float = 0.0
    mirror: float = 0.0
    picture: str = ''

    def row(self) -> list[float]:
        """Return the numbers in the order of `MATERIAL_COLUMNS`."""
        return [
            *self.palette[0], *self.palette[1], *self.palette[2],
            self.layer, *self.period_m, *self.offset,
            self.specular, self.shininess, self.ir_reflectance,
            self.emission, self.glass, self.mirror,
        ]  # fmt: skip


MATERIAL_COLUMNS: dict[str, int] = {
    'palette': 0, 'layer': 9, 'period': 10, 'offset': 12, 'specular': 14,
    'shininess': 15, 'ir_reflectance': 16, 'emission': 17, 'glass': 18, 'mirror': 19,
}  # fmt: skip


class Solid(NamedTuple):
    """A shape somewhere in the world.

    Attributes:
        kind: How rays meet it.
        center_m: Centre of its box.
        half_m: Half the edges of its box.
        material: What it looks like.
        turn: Rows are the axes of its own frame in the world (own = turn @ (world - center)).
        quadric: Of QUADRIC and HOLLOW, in metres of its own frame.
        hole_center_m: Of HOLLOW: centre of the hole's box in the solid's own frame.
        hole_half_m: Of HOLLOW: half the edges of the hole's box.
        hole_quadric: Of HOLLOW: around the hole's centre.
        form: POLYTOPE: six planes (nx, ny, nz, offset), n @ p <= offset. SUPERQUADRIC: exponents
            (2 / e1, 2 / e2), Barr 1981. WAVES: four times (amplitude_m, kx, ky, phase), then the
            mean height and the steepest slope.
        instance: Solids of one instance are one object.
        model: Of MODEL: its name; the middle of its material's palette multiplies its colours.
    """

    kind: Kind
    center_m: Vector
    half_m: Vector
    material: Material
    turn: Rotation = UPRIGHT
    quadric: Quadric = EVERYWHERE
    hole_center_m: Vector = (0.0, 0.0, 0.0)
    hole_half_m: Vector = (0.0, 0.0, 0.0)
    hole_quadric: Quadric = EVERYWHERE
    form: tuple[float, ...] = ()
    instance: int = 0
    model: str = ''

    def row(self) -> list[float]:
        """Return the geometry as 9 + 3 + 3 + 5 + 3 + 3 + 5 + 24 numbers."""
        return [
            *self.turn[0], *self.turn[1], *self.turn[2], *self.center_m, *self.half_m,
            *self.quadric, *self.hole_center_m, *self.hole_half_m, *self.hole_quadric,
            *self.form, *(0.0,) * (FORM_SIZE - len(self.form)),
        ]  # fmt: skip


class Lamp(NamedTuple):
    """A point light.

    Attributes:
        position_m: Where.
        rgb: Colour times brightness: irradiance at one metre, 1 makes white paper white.
        radius_m: How large it is, for soft shadows where these are cast.
    """

    position_m: Vector
    rgb: Vector
    radius_m: float = 0.1


LAMPS = 3
"""Lamps of a scene; the first one casts shadows."""


@dataclass
class Scene:
    """One scene: what is where, and how it is lit.

    Attributes:
        solids: Everything.
        lamps: `LAMPS` of them; black ones do nothing.
        ambient: Light from above and below: two linear colours.
        sky: Linear colour behind everything.
        focus_m: Points worth looking at, with the free radius around each.
        size_m: Extent of the room, x and y around the origin, z from the floor.
        name: Name of the layout.
    """

    solids: list[Solid] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    ambient: tuple[Vector, Vector] = ((0.3, 0.3, 0.3), (0.15, 0.15, 0.15))
    sky: Vector = (0.8, 0.9, 1.0)
    focus_m: list[tuple[Vector, float]] = field(default_factory=list)
    size_m: Vector = (4.0, 4.0, 2.6)
    name: str = ''


@dataclass
class World:
    """A batch of scenes as tensors, on one device.

    Attributes:
        kind: (N,) int64, values of `Kind`.
        turn: (N, 3, 3), own = turn @ (world - center).
        center_m: (N, 3).
        half_m: (N, 3).
        quadric: (N, 5).
        hole_center_m: (N, 3).
        hole_half_m: (N, 3).
        hole_quadric: (N, 5).
        form: (N, 24).
        material: (N, 20), see `MATERIAL_COLUMNS`.
        instance: (N,) int64, numbered from 0 within a scene.
        slots: (B, M) int64, the rows of each scene's solids, -1 where a scene has fewer.
        lamp_position_m: (B, 3, 3).
        lamp_rgb: (B, 3, 3).
        ambient: (B, 2, 3), from above and from below.
        sky: (B, 3).
    """

    kind: Tensor
    turn: Tensor
    center_m: Tensor
    half_m: Tensor
    quadric: Tensor
    hole_center_m: Tensor
    hole_half_m: Tensor
    hole_quadric: Tensor
    form: Tensor
    material: Tensor
    instance: Tensor
    slots: Tensor
    lamp_position_m: Tensor
    lamp_rgb: Tensor
    ambient: Tensor
    sky: Tensor

    @staticmethod
    def from_scenes(scenes: Sequence[Scene], device: torch.device | str = 'cpu') -> World:
        """Gather scenes into tensors.

        Raises:
            ValueError: If a scene is empty, has models, or has not `LAMPS` lamps.
        """
        for scene in scenes:
            if not scene.solids or len(scene.lamps) != LAMPS:
                raise ValueError(
                    f'a scene needs solids and {LAMPS} lamps, '
                    f'got {len(scene.solids)} and {len(scene.lamps)}'
                )
            if any(solid.kind is Kind.MODEL for solid in scene.solids):
                raise ValueError('a scene with models is rendered by MeshRenderer')
        solids = [solid for scene in scenes for solid in scene.solids]
        rows = torch.from_numpy(np.array([s.row() for s in solids], np.float32)).to(device)
        material = np.array([s.material.row() for s in solids], np.float32)
        whole = np.array([(s.kind, s.instance) for s in solids], np.int64)
        slots = np.full((len(scenes), max(len(scene.solids) for scene in scenes)), -1, np.int64)
        start = 0
        for number, scene in enumerate(scenes):
            slots[number, : len(scene.solids)] = start + np.arange(len(scene.solids))
            start += len(scene.solids)
        parts = rows.split((9, 3, 3, 5, 3, 3, 5, FORM_SIZE), 1)
        lamps = np.array(
            [[lamp.position_m + lamp.rgb for lamp in scene.lamps] for scene in scenes], np.float32
        )

        def tensor(array: object, dtype: type = np.float32) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype)).to(device)

        turn, center_m, half_m, quadric, hole_center_m, hole_half_m, hole_quadric, form = (
            part.contiguous() for part in parts
        )
        return World(
            tensor(whole[:, 0], np.int64),
            turn.reshape(-1, 3, 3),
            center_m,
            half_m,
            quadric,
            hole_center_m,
            hole_half_m,
            hole_quadric,
            form,
            tensor(material),
            tensor(whole[:, 1], np.int64),
            tensor(slots, np.int64),
            tensor(lamps[..., :3]),
            tensor(lamps[..., 3:]),
            tensor([scene.ambient for scene in scenes]),
            tensor([scene.sky for scene in scenes]),
        )

    def to(self, device: torch.device | str) -> World:
        """Return the same world on another device."""
        return World(*(getattr(self, f.name).to(device) for f in fields(self)))

    def column(self, name: str) -> Tensor:
        """Return one material property of every solid, (N,)."""
        return self.material[:, MATERIAL_COLUMNS[name]]


# ------------------------------------------------------------------------- shapes by their sizes


def box(center_m: Vector, half_m: Vector, material: Material, turn: Rotation = UPRIGHT) -> Solid:
    """Return a box."""
    return Solid(Kind.BOX, center_m, half_m, material, turn)


def ellipsoid(
    center_m: Vector, half_m: Vector, material: Material, turn: Rotation = UPRIGHT
) -> Solid:
    """Return an ellipsoid; a ball if its half sizes are equal."""
    a, b, c = half_m
    quadric = (1 / a**2, 1 / b**2, 1 / c**2, 0.0, -1.0)
    return Solid(Kind.QUADRIC, center_m, half_m, material, turn, quadric)


def cylinder(
    center_m: Vector,
    radius_m: float,
    half_height_m: float,
    material: Material,
    turn: Rotation = UPRIGHT,
) -> Solid:
    """Return a cylinder along its own z."""
    half_m = (radius_m, radius_m, half_height_m)
    return Solid(Kind.QUADRIC, center_m, half_m, material, turn, cylinder_quadric(radius_m))


def frustum(
    center_m: Vector,
    bottom_m: float,
    top_m: float,
    half_height_m: float,
    material: Material,
    turn: Rotation = UPRIGHT,
) -> Solid:
    """Return a truncated cone along its own z, of two radii."""
    widest = max(bottom_m, top_m)
    return Solid(
        Kind.QUADRIC,
        center_m,
        (widest, widest, half_height_m),
        material,
        turn,
        cone_quadric(bottom_m, top_m, half_height_m),
    )


def superquadric(
    center_m: Vector,
    half_m: Vector,
    vertical: float,
    horizontal: float,
    material: Material,
    turn: Rotation = UPRIGHT,
) -> Solid:
    """Return a superquadric of exponents e1 (vertical) and e2 (horizontal): 0.2 boxy, 1 round.

    Source: Barr, Superquadrics and Angle-Preserving Transformations, 1981.

    Raises:
        ValueError: If an exponent is not in 0.1 to 2, where the shape is convex.
    """
    if not (0.1 <= vertical <= 2 and 0.1 <= horizontal <= 2):
        raise ValueError(f'exponents must be in 0.1 to 2, got {vertical} and {horizontal}')
    form = (2 / vertical, 2 / horizontal)
    return Solid(Kind.SUPERQUADRIC, center_m, half_m, material, turn, form=form)


def prism(
    center_m: Vector,
    outline_m: Sequence[tuple[float, float]],
    half_height_m: float,
    material: Material,
    turn: Rotation = UPRIGHT,
    lean: float = 0.0,
) -> Solid:
    """Return an extruded convex polygon.

    Args:
        center_m: Where its own origin is.
        outline_m: Three to six corners, counter-clockwise, around the origin.
        half_height_m: Half its height.
        material: What it looks like.
        turn: Its axes.
        lean: How far every side leans inwards per metre of height above the bottom.

    Raises:
        ValueError: If there are not three to six corners, or they are not around the origin.
    """
    if not 3 <= len(outline_m) <= 6:
        raise ValueError(f'a prism has 3 to 6 corners, got {len(outline_m)}')
    planes: list[tuple[float, float, float, float]] = []
    for (x0, y0), (x1, y1) in zip(outline_m, (*outline_m[1:], outline_m[0]), strict=True):
        length = math.hypot(x1 - x0, y1 - y0)
        nx, ny = (y1 - y0) / length, (x0 - x1) / length
        offset = nx * x0 + ny * y0 - lean * half_height_m
        if offset + lean * half_height_m <= 0:
            raise ValueError('the corners must go counter-clockwise around the origin')
        planes.append((nx, ny, lean, offset))
    planes += planes[-1:] * (6 - len(planes))
    half_m = (
        max(abs(x) for x, _ in outline_m),
        max(abs(y) for _, y in outline_m),
        half_height_m,
    )
    form = tuple(number for plane in planes for number in plane)
    return Solid(Kind.POLYTOPE, center_m, half_m, material, turn, form=form)


def waves(
    center_m: Vector,
    half_m: Vector,
    ripples: Sequence[tuple[float, float, float, float]],
    material: Material,
    turn: Rotation = UPRIGHT,
) -> Solid:
    """Return a box whose top is rumpled by four waves (amplitude_m, kx, ky, phase).

    The waves together keep within the box.

    Raises:
        ValueError: If there are not four waves, or they are higher than the box.
    """
    height_m = sum(abs(ripple[0]) for ripple in ripples)
    if len(ripples) != 4 or height_m > half_m[2]:
        raise ValueError(f'four waves within {half_m[2]} m are needed, got {len(ripples)}')
    slope = sum(abs(a) * math.hypot(kx, ky) for a, kx, ky, _ in ripples)
    form = (*(n for ripple in ripples for n in ripple), half_m[2] - height_m, slope)
    return Solid(Kind.WAVES, center_m, half_m, material, turn, form=form)


def cylinder_quadric(radius_m: float) -> Quadric:
    """Return the quadric of an infinite cylinder along z."""
    return (1 / radius_m**2, 1 / radius_m**2, 0.0, 0.0, -1.0)


def cone_quadric(bottom_m: float, top_m: float, half_height_m: float) -> Quadric:
    """Return the quadric of a cone through two radii at z = -half and z = +half."""
    slope = (top_m - bottom_m) / (2 * half_height_m)
    middle = (top_m + bottom_m) / 2
    scale = 1 / middle**2
    return (scale, scale, -scale * slope**2, -2 * scale * middle * slope, -1.0)


def bowl_quadric(radius_m: float, depth_m: float, half_height_m: float) -> Quadric:
    """Return the quadric of the lower half of an ellipsoid whose equator is at z = +half."""
    a, c, top = 1 / radius_m**2, 1 / depth_m**2, half_height_m
    return (a, a, c, -2 * c * top, c * top**2 - 1)

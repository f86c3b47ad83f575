"""Things: furniture, clutter and people, each a handful of solids that stand on their own.

An object stands at its origin, z up, its front towards -y.
"""

from __future__ import annotations

from collections.abc import Callable
import colorsys
import itertools
import math
import random
from typing import NamedTuple

from .solids import (
    UPRIGHT,
    Kind,
    Material,
    Rotation,
    Solid,
    Vector,
    bowl_quadric,
    box,
    cone_quadric,
    cylinder,
    ellipsoid,
    frustum,
    prism,
    superquadric,
    waves,
)
from .textures import LAYERS

LYING: Rotation = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
"""Own z along world -x."""


class Thing(NamedTuple):
    """An object around its origin.

    Attributes:
        solids: Its parts.
        half_m: Half of its extent along x and y.
        height_m: Of its top above its origin.
        flat: Whether something can stand on it.
    """

    solids: list[Solid]
    half_m: tuple[float, float]
    height_m: float
    flat: bool = False


def turned(turn: Rotation, other: Rotation) -> Rotation:
    """Return the matrix product turn @ other."""
    return tuple(  # type: ignore[return-value]
        tuple(sum(row[k] * other[k][j] for k in range(3)) for j in range(3)) for row in turn
    )


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


# ------------------------------------------------------------------------------------- materials


def color(rng: random.Random, saturation: float = 1.0, dark: float = 0.04) -> Vector:
    """Draw a linear colour."""
    value = rng.uniform(dark, 0.85) if rng.random() < 0.8 else rng.uniform(0.01, 0.1)
    return colorsys.hsv_to_rgb(rng.random(), saturation * rng.random() ** 0.7, value)


def shades(rng: random.Random, base: Vector, contrast: float) -> tuple[Vector, Vector, Vector]:
    """Return darker, equal and lighter shades of a colour."""
    low, high = 1 - contrast * rng.random(), 1 + 0.6 * contrast * rng.random()
    return (
        tuple(c * low for c in base),
        base,
        tuple(min(c * high + 0.02, 0.92) for c in base),
    )  # type: ignore[return-value]


def material(
    rng: random.Random,
    patterns: str,
    palette: tuple[Vector, Vector, Vector],
    period_m: float,
    *,
    gloss: tuple[float, float] = (0.02, 0.1),
    shine: tuple[float, float] = (5, 40),
    infrared: tuple[float, float] = (0.4, 0.85),
) -> Material:
    """Draw a material: one of the patterns, separated by spaces, of about a size."""
    period = period_m * rng.uniform(0.7, 1.4)
    return Material(
        palette,
        rng.choice(LAYERS[rng.choice(patterns.split())]),
        (period, period * rng.choice((1.0, 1.0, rng.uniform(0.6, 1.6)))),
        (rng.random(), rng.random()),
        rng.uniform(*gloss),
        math.exp(rng.uniform(math.log(shine[0]), math.log(shine[1]))),
        rng.uniform(*infrared),
    )


def wood(rng: random.Random) -> Material:
    """Draw wood: bare, painted or laminated."""
    tone = rng.uniform(0.06, 0.6)
    base = (tone, tone * rng.uniform(0.5, 0.75), tone * rng.uniform(0.2, 0.5))
    if rng.random() < 0.2:
        base = (tone, tone, tone)
    return material(
        rng, 'wood wood wood planks plain', shades(rng, base, 0.7), 0.6,
        gloss=(0.02, 0.12), shine=(8, 80), infrared=(0.45, 0.9),
    )  # fmt: skip


def paint(rng: random.Random) -> Material:
    """Draw the paint or paper of a wall."""
    tone = rng.uniform(0.3, 0.85)
    hue, saturation = rng.random(), rng.random() ** 2 * 0.5
    base = colorsys.hsv_to_rgb(hue, saturation, tone)
    patterns = 'plain plain plain clouds' if rng.random() < 0.8 else 'stripes dots tiles marble'
    return material(
        rng, patterns, shades(rng, base, 0.25), 1.2, gloss=(0.0, 0.05), infrared=(0.55, 0.9)
    )


def flooring(rng: random.Random) -> Material:
    """Draw a floor."""
    if rng.random() < 0.5:
        return wood(rng)._replace(
            layer=rng.choice(LAYERS['planks']), period_m=(1.2, rng.uniform(0.5, 0.9))
        )
    base = color(rng, 0.4, 0.08)
    return material(
        rng, 'tiles speckle weave marble plain checker clouds', shades(rng, base, 0.6), 1.0,
        gloss=(0.01, 0.15), shine=(5, 150),
    )  # fmt: skip


def fabric(rng: random.Random) -> Material:
    """Draw cloth."""
    a = color(rng)
    palette = shades(rng, a, 0.6) if rng.random() < 0.6 else (a, color(rng), color(rng))
    return material(
        rng, 'weave weave plaid stripes plain dots clouds checker', palette,
        rng.uniform(0.1, 0.5), gloss=(0.0, 0.03), shine=(2, 8), infrared=(0.3, 0.9),
    )  # fmt: skip


def plastic(rng: random.Random) -> Material:
    """Draw plastic or lacquer."""
    return material(
        rng, 'plain plain gradient speckle', shades(rng, color(rng), 0.3), 0.3,
        gloss=(0.03, 0.3), shine=(15, 200), infrared=(0.15, 0.85),
    )  # fmt: skip


def metal(rng: random.Random) -> Material:
    """Draw metal, from brushed to chromed."""
    tone = rng.uniform(0.1, 0.6)
    base = (tone, tone * rng.uniform(0.9, 1), tone * rng.uniform(0.75, 1.05))
    return material(
        rng, 'plain wood clouds', shades(rng, base, 0.4), 0.2,
        gloss=(0.3, 0.8), shine=(30, 600), infrared=(0.08, 0.45),
    )  # fmt: skip


def dark(rng: random.Random) -> Material:
    """Draw black plastic, rubber, or the glass of a screen that is off."""
    tone = rng.uniform(0.008, 0.04)
    return material(
        rng, 'plain', shades(rng, (tone, tone, tone), 0.3), 0.3,
        gloss=(0.02, 0.3), shine=(10, 400), infrared=(0.01, 0.12),
    )  # fmt: skip


def ceramic(rng: random.Random) -> Material:
    """Draw glazed ceramics."""
    base = color(rng, 0.6, 0.4)
    palette = shades(rng, base, 0.3) if rng.random() < 0.6 else (base, color(rng), color(rng))
    return material(
        rng, 'plain plain stripes gradient dots', palette, 0.2,
        gloss=(0.05, 0.3), shine=(60, 400), infrared=(0.4, 0.85),
    )  # fmt: skip


def printed(rng: random.Random, size_m: float) -> Material:
    """Draw the print of a package of a size."""
    return material(
        rng, 'print print print text stripes gradient', (color(rng), color(rng), color(rng)),
        2 * size_m, gloss=(0.01, 0.2), shine=(8, 150), infrared=(0.35, 0.85),
    )  # fmt: skip


def paper(rng: random.Random) -> Material:
    """Draw printed or written paper."""
    white = rng.uniform(0.5, 0.9)
    ink = rng.uniform(0.02, 0.2)
    return material(
        rng, 'text text plain print', ((ink, ink, ink), (0.5 * white,) * 3, (white,) * 3), 0.25,
        gloss=(0.0, 0.05), infrared=(0.6, 0.9),
    )  # fmt: skip


def cardboard(rng: random.Random) -> Material:
    """Draw cardboard."""
    tone = rng.uniform(0.25, 0.5)
    return material(
        rng, 'plain plain print text clouds', shades(rng, (tone, 0.68 * tone, 0.4 * tone), 0.4),
        0.4, gloss=(0.0, 0.03), infrared=(0.5, 0.8),
    )  # fmt: skip


def leafy(rng: random.Random) -> Material:
    """Draw leaves."""
    tone = rng.uniform(0.1, 0.4)
    base = (tone * rng.uniform(0.3, 0.8), tone, tone * rng.uniform(0.1, 0.5))
    return material(
        rng, 'clouds plain stripes', shades(rng, base, 0.5), 0.1,
        gloss=(0.02, 0.1), infrared=(0.6, 0.95),
    )  # fmt: skip


def skin(rng: random.Random) -> Material:
    """Draw skin."""
    tone = rng.uniform(0.1, 0.75)
    return material(
        rng, 'plain clouds', shades(rng, (tone, 0.68 * tone, 0.52 * tone), 0.15), 0.2,
        gloss=(0.02, 0.05), infrared=(0.5, 0.75),
    )  # fmt: skip


def glassy(rng: random.Random) -> Material:
    """Draw clear or tinted glass."""
    tint = rng.uniform(0.5, 1.0)
    base = (tint * rng.uniform(0.85, 1), tint, tint * rng.uniform(0.85, 1))
    if rng.random() < 0.25:
        base = color(rng)
    return Material(
        (base,) * 3, 0, specular=rng.uniform(0.3, 0.8), shininess=rng.uniform(150, 800),
        ir_reflectance=rng.uniform(0.0, 0.06), glass=rng.uniform(0.75, 0.95),
    )  # fmt: skip


def lacquer_or(rng: random.Random) -> Material:
    """Draw what furniture is made of."""
    pick = rng.random()
    if pick < 0.55:
        return wood(rng)
    return plastic(rng) if pick < 0.85 else metal(rng)


def anything(rng: random.Random, size_m: float) -> Material:
    """Draw what a thing on a table may be made of."""
    makers: tuple[Callable[[random.Random], Material], ...] = (
        plastic, plastic, ceramic, wood, metal, dark, fabric, cardboard,
    )  # fmt: skip
    return printed(rng, size_m) if rng.random() < 0.4 else rng.choice(makers)(rng)


# ----------------------------------------------------------------------------------------- parts


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


# -------------------------------------------------------------------------------------- clutter


def carton(rng: random.Random) -> Thing:
    """A package."""
    a, b, c = (rng.uniform(0.015, 0.11) for _ in range(3))
    return Thing([box((0, 0, c), (a, b, c), printed(rng, max(a, b, c)))], (a, b), 2 * c, True)


def block(rng: random.Random) -> Thing:
    """A box of any stuff, or a rounded one."""
    a, b, c = (rng.uniform(0.01, 0.09) for _ in range(3))
    stuff = anything(rng, max(a, b, c))
    if rng.random() < 0.5:
        e = rng.uniform(0.12, 0.5)
        solid = superquadric((0, 0, c), (a, b, c), e, rng.uniform(0.12, 1.0), stuff)
        return Thing([solid], (a, b), 2 * c, e < 0.2)
    return Thing([box((0, 0, c), (a, b, c), stuff)], (a, b), 2 * c, True)


def can(rng: random.Random) -> Thing:
    """A can, standing or lying."""
    r, h = rng.uniform(0.02, 0.055), rng.uniform(0.02, 0.1)
    stuff, lid = printed(rng, h), metal(rng)
    if rng.random() < 0.25:
        side = cylinder((0, 0, r), r, h, stuff, LYING)
        return Thing([side], (h, r), 2 * r)
    rim = cylinder((0, 0, h), r * 0.96, h, lid)
    side = cylinder((0, 0, h), r, h - 0.002, stuff)
    return Thing([side, rim], (r, r), 2 * h, True)


def bottle(rng: random.Random) -> Thing:
    """A bottle: body, shoulder, neck and cap."""
    r, h = rng.uniform(0.022, 0.05), rng.uniform(0.12, 0.3)
    neck = r * rng.uniform(0.25, 0.5)
    stuff = glassy(rng) if rng.random() < 0.4 else plastic(rng)
    shoulder = h * rng.uniform(0.5, 0.8)
    waist = r * rng.uniform(0.8, 1.0)
    profile = [
        (0.93 * r, 0), (r, 0.02 * h), (r, 0.3 * shoulder), (waist, 0.6 * shoulder), (r, shoulder),
        (0.5 * (r + neck) + 0.12 * r, shoulder + 0.4 * (0.88 * h - shoulder)), (neck, 0.88 * h),
        (neck, 0.93 * h),
    ]  # fmt: skip
    solids = lathed(profile, stuff)
    solids.append(cylinder((0, 0, 0.965 * h), neck * 1.15, 0.035 * h, plastic(rng)))
    if rng.random() < 0.7:
        top = 0.3 * shoulder
        solids.append(
            cylinder((0, 0, 0.16 * shoulder + 0.01 * h), r + 7e-4, 0.4 * top, printed(rng, r))
        )
    return Thing(solids, (r, r), h)


def mug(rng: random.Random) -> Thing:
    """A mug with its handle, or a glass."""
    r, h, wall = rng.uniform(0.03, 0.05), rng.uniform(0.035, 0.06), rng.uniform(0.002, 0.005)
    clear = rng.random() < 0.3
    stuff = glassy(rng) if clear else ceramic(rng)
    bottom = r * rng.uniform(0.7, 1.0)
    solids = [hollow_cone(bottom, r, h, wall, 0.006, stuff)]
    reach = 0.0
    if not clear and rng.random() < 0.8:
        arc = [
            (r * 0.95 + 0.55 * h * math.sin(a), 0.0, h + 0.6 * h * math.cos(a))
            for a in (0.4, 0.9, 1.57, 2.25, 2.7)
        ]
        arc[0], arc[-1] = (0.9 * r, 0.0, arc[0][2]), (0.9 * bottom, 0.0, arc[-1][2])
        solids += tube(arc, 0.005, stuff)
        reach = 0.5 * h
    return Thing(solids, (r + reach, r), 2 * h)


def bowl(rng: random.Random) -> Thing:
    """A bowl, a third of the time with fruit."""
    r, wall = rng.uniform(0.06, 0.14), rng.uniform(0.003, 0.008)
    h = r * rng.uniform(0.35, 0.7) / 2
    stuff = rng.choice((ceramic, ceramic, plastic, wood, metal, glassy))(rng)
    deep = 2 * h * 1.06  # the ellipsoid's pole is cut off: a foot to stand on
    inside_half = h - wall / 2 + 1e-3
    solid = Solid(
        Kind.HOLLOW, (0, 0, h), (r, r, h), stuff, UPRIGHT, bowl_quadric(r, deep, h),
        (0, 0, wall / 2 + 1e-3), (r, r, inside_half),
        bowl_quadric(r - wall, deep - wall, inside_half - 1e-3),
    )  # fmt: skip
    solids = [solid]
    if rng.random() < 0.35:
        for i in range(3):
            q = r * rng.uniform(0.28, 0.38)
            angle = 2.1 * i + rng.random()
            x, y = 0.38 * r * math.cos(angle), 0.38 * r * math.sin(angle)
            solids.append(ellipsoid((x, y, 2 * h * 0.35 + q), (q, q, q), plastic(rng)))
    return Thing(solids, (r, r), 2 * h)


def plate(rng: random.Random) -> Thing:
    """A plate."""
    r, h = rng.uniform(0.08, 0.15), rng.uniform(0.007, 0.014)
    return Thing([hollow_cone(0.65 * r, r, h, 0.012, 0.005, ceramic(rng))], (r, r), 2 * h)


def ball(rng: random.Random) -> Thing:
    """A ball or a fruit."""
    r = rng.uniform(0.015, 0.11) if rng.random() < 0.3 else rng.uniform(0.02, 0.05)
    flat = rng.uniform(0.75, 1.1)
    stuff = rng.choice((plastic, ceramic, leafy, fabric))(rng)
    half = (r, r * rng.uniform(0.85, 1), r * flat)
    return Thing([ellipsoid((0, 0, half[2]), half, stuff)], half[:2], 2 * half[2])


def pebble(rng: random.Random) -> Thing:
    """A pebble, a soap, a purse: any superquadric."""
    half = (rng.uniform(0.02, 0.09), rng.uniform(0.02, 0.07), rng.uniform(0.01, 0.06))
    e1, e2 = rng.uniform(0.2, 1.5), rng.uniform(0.2, 1.6)
    solid = superquadric((0, 0, half[2]), half, e1, e2, anything(rng, half[0]))
    return Thing([solid], half[:2], 2 * half[2])


def bag(rng: random.Random) -> Thing:
    """A sack or a paper bag with what keeps it upright inside."""
    a, b, c = rng.uniform(0.06, 0.14), rng.uniform(0.04, 0.08), rng.uniform(0.07, 0.17)
    stuff = rng.choice((fabric, cardboard, plastic, dark))(rng)
    solids = [
        superquadric((0, 0, c), (a, b, c), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.9), stuff)
    ]
    if rng.random() < 0.6:
        for side in (-1, 1):
            y = side * 0.35 * b
            arc = [
                (0.55 * a * math.cos(t), y, 1.85 * c + 0.45 * c * math.sin(t))
                for t in (0, 0.6, 1.2, 1.94, 2.54, 3.14)
            ]
            solids += tube(arc, 0.004, stuff)
    return Thing(solids, (a, b), 2.3 * c)


def books(rng: random.Random) -> Thing:
    """A pile of books, or magazines."""
    solids, z = [], 0.0
    a, b = rng.uniform(0.08, 0.15), rng.uniform(0.06, 0.11)
    wide = math.hypot(a, b)
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        c, yaw = rng.uniform(0.003, 0.025), rng.gauss(0, 0.15)
        turn: Rotation = (
            (math.cos(yaw), math.sin(yaw), 0.0),
            (-math.sin(yaw), math.cos(yaw), 0.0),
            (0.0, 0.0, 1.0),
        )
        cover = printed(rng, a)
        if c > 0.008:
            t = 0.002
            solids.append(box((0, 0, z + t), (a, b, t), cover, turn))
            solids.append(box((0, 0, z + 2 * c - t), (a, b, t), cover, turn))
            solids.append(box((0, 0, z + c), (a - 0.004, b - 0.004, c - 2 * t), paper(rng), turn))
        else:
            solids.append(box((0, 0, z + c), (a, b, c), cover, turn))
        z += 2 * c
        a, b = a * rng.uniform(0.8, 1), b * rng.uniform(0.8, 1)
    return Thing(solids, (wide, wide * 0.8), z, True)


def wedge(rng: random.Random) -> Thing:
    """An extruded polygon, upright or leaning in: toys, cheese, roofs, vases."""
    n, r = rng.randint(3, 6), rng.uniform(0.02, 0.08)
    start, h = rng.random(), rng.uniform(0.01, 0.08)
    stretch = rng.uniform(0.5, 1)
    outline = [
        (
            r * math.cos(start + 2 * math.pi * i / n),
            stretch * r * math.sin(start + 2 * math.pi * i / n),
        )
        for i in range(n)
    ]
    lean = rng.choice((0.0, 0.0, rng.uniform(0.05, 0.35) * stretch * r * 0.5 / h))
    return Thing(
        [prism((0, 0, h), outline, h, anything(rng, r), lean=lean)], (r, r), 2 * h, lean == 0
    )


def tool(rng: random.Random) -> Thing:
    """A hammer, a screwdriver, a pen, a spoon: something long that lies."""
    pick = rng.random()
    length, r = rng.uniform(0.06, 0.14), rng.uniform(0.004, 0.014)
    grip, steel = rng.choice((plastic, wood, dark))(rng), metal(rng)
    if pick < 0.3:  # hammer
        head = rng.uniform(0.012, 0.02)
        solids = [
            rod((-length, 0, head), (length, 0, head), min(r, head), grip),
            box((length, 0, head), (head, rng.uniform(0.03, 0.055), head), steel),
        ]
        return Thing(solids, (length + head, 0.05), 2 * head)
    if pick < 0.6:  # screwdriver
        solids = [
            rod((-length, 0, r), (0, 0, r), r, grip),
            rod((-0.01, 0, r), (length, 0, r * 0.4), 0.35 * r, steel),
        ]
        return Thing(solids, (length, r), 2 * r)
    if pick < 0.8:  # pen
        return Thing(
            [rod((-length / 2, 0, 0.005), (length / 2, 0, 0.005), 0.005, grip)],
            (length / 2, 0.01),
            0.01,
        )
    solids = [  # spoon
        rod((-length, 0, 0.003), (length * 0.6, 0, 0.006), 0.003, steel),
        ellipsoid((length * 0.8, 0, 0.006), (0.03, 0.02, 0.006), steel),
    ]
    return Thing(solids, (length, 0.02), 0.012)


def cable(rng: random.Random) -> Thing:
    """A cable that lies about."""
    r = rng.uniform(0.0015, 0.004)
    heading, x, y = rng.uniform(-3, 3), 0.0, 0.0
    points: list[Vector] = []
    bend = rng.gauss(0, 0.3)
    for _ in range(rng.randint(6, 12)):
        points.append((x, y, r))
        bend = 0.6 * bend + rng.gauss(0, 0.3)
        heading += bend
        step = rng.uniform(0.02, 0.05)
        x, y = x + step * math.cos(heading), y + step * math.sin(heading)
    cx = sum(p[0] for p in points) / len(points)
    cy = sum(p[1] for p in points) / len(points)
    points = [(p[0] - cx, p[1] - cy, r) for p in points]
    half = max(abs(p[0]) for p in points), max(abs(p[1]) for p in points)
    return Thing(tube(points, r, rng.choice((dark, plastic))(rng)), half, 2 * r)


def cloth(rng: random.Random) -> Thing:
    """A rumpled cloth."""
    a, b, c = rng.uniform(0.08, 0.2), rng.uniform(0.06, 0.16), rng.uniform(0.006, 0.03)
    return Thing([_rumpled((0, 0, c), (a, b, c), fabric(rng), rng, 60)], (a, b), 2 * c)


def _rumpled(
    center_m: Vector, half_m: Vector, stuff: Material, rng: random.Random, rate: float
) -> Solid:
    share = [
        rng.uniform(0.5, 1),
        rng.uniform(0.3, 0.7),
        rng.uniform(0.15, 0.5),
        rng.uniform(0.1, 0.3),
    ]
    scale = rng.uniform(0.7, 0.98) * half_m[2] / sum(share)
    ripples = []
    for i, s in enumerate(share):
        k, angle = rate * rng.uniform(0.5, 1) * (0.5 + 0.5 * i), rng.uniform(0, math.pi)
        ripples.append((s * scale, k * math.cos(angle), k * math.sin(angle), 6.3 * rng.random()))
    return waves(center_m, half_m, ripples, stuff)


def lamp(rng: random.Random) -> Thing:
    """A desk lamp."""
    h, r = rng.uniform(0.25, 0.45), rng.uniform(0.06, 0.13)
    stuff = lacquer_or(rng)
    shade = fabric(rng)._replace(emission=rng.choice((0.0, 0.0, 1.5)))
    solids = [
        cylinder((0, 0, 0.01), 0.07, 0.01, stuff),
        rod((0, 0, 0.02), (0, 0, h), rng.uniform(0.004, 0.012), stuff),
        hollow_cone(r, r * rng.uniform(0.5, 0.95), 0.5 * r, 0.004, 0.0, shade, h - 0.5 * r),
    ]
    return Thing(solids, (r, r), h + r)


def monitor(rng: random.Random) -> Thing:
    """A screen on its foot; on or off."""
    a, b = rng.uniform(0.2, 0.34), rng.uniform(0.13, 0.2)
    case, z = dark(rng), rng.uniform(0.08, 0.14) + b
    face = dark(rng)._replace(specular=rng.uniform(0.1, 0.5), shininess=400, ir_reflectance=0.02)
    if rng.random() < 0.4:
        face = printed(rng, a)._replace(emission=0.8, ir_reflectance=0.03, specular=0.2)
    solids = [
        box((0, 0, z), (a, 0.02, b), case),
        box((0, -0.0205, z), (a - 0.012, 0.001, b - 0.012), face),
        box((0, 0.025, z / 2), (0.03, 0.012, z / 2), case),
        box((0, 0.02, 0.006), (0.13, 0.1, 0.006), case),
    ]
    return Thing(solids, (a, 0.12), z + b)


def laptop(rng: random.Random) -> Thing:
    """An open laptop."""
    a, b = rng.uniform(0.14, 0.19), rng.uniform(0.1, 0.13)
    case = rng.choice((metal, dark, plastic))(rng)
    lean = rng.uniform(0.1, 0.5)
    c, s = math.cos(lean), math.sin(lean)
    turn: Rotation = ((1, 0, 0), (0, c, -s), (0, s, c))
    top = (0.0, b + s * b, 0.016 + c * b)
    face = dark(rng)._replace(specular=0.3, shininess=300)
    if rng.random() < 0.5:
        face = printed(rng, a)._replace(emission=0.8, ir_reflectance=0.03)
    front = (0.0, top[1] - 0.0045 * c, top[2] + 0.0045 * s)
    solids = [
        box((0, 0, 0.008), (a, b, 0.008), case),
        box((0, -0.1 * b, 0.0165), (a * 0.9, 0.5 * b, 0.001), dark(rng)),
        box(top, (a, 0.004, b), case, turn),
        box(front, (a * 0.95, 0.0005, b * 0.93), face, turn),
    ]
    return Thing(solids, (a, b * 1.5), 2 * b)


def keyboard(rng: random.Random) -> Thing:
    """A keyboard, a phone, a remote, a tablet: something flat."""
    if rng.random() < 0.5:
        a, b, c = rng.uniform(0.03, 0.12), rng.uniform(0.02, 0.08), rng.uniform(0.003, 0.01)
        screen = dark(rng)._replace(specular=0.3, shininess=500)
        solids = [
            box((0, 0, c), (a, b, c), plastic(rng)),
            box((0, 0, 2 * c), (a * 0.94, b * 0.92, 5e-4), screen),
        ]
        return Thing(solids, (a, b), 2 * c)
    a, b = rng.uniform(0.14, 0.22), rng.uniform(0.055, 0.075)
    keys = dark(rng)._replace(
        layer=rng.choice(LAYERS['tiles']),
        period_m=(0.08, 0.08),
        palette=((0.01,) * 3, (0.03,) * 3, (0.08,) * 3),
    )
    solids = [
        box((0, 0, 0.008), (a, b, 0.008), dark(rng)),
        box((0, 0, 0.018), (a * 0.97, b * 0.9, 0.003), keys),
    ]
    return Thing(solids, (a, b), 0.021)


def plant(rng: random.Random) -> Thing:
    """A plant in its pot: thin stems, flat leaves."""
    r, h = rng.uniform(0.04, 0.12), rng.uniform(0.04, 0.1)
    pot, soil, leaf = rng.choice((ceramic, plastic, wood))(rng), dark(rng), leafy(rng)
    solids = [
        hollow_cone(0.75 * r, r, h, 0.005, 0.01, pot),
        cylinder((0, 0, 0.8 * h), 0.83 * r, 0.8 * h, soil),
    ]
    tall = rng.uniform(2, 5) * r
    for i in range(rng.randint(5, 11)):
        angle, out = 2.4 * i + rng.random(), rng.uniform(0.2, 1.1) * r
        x, y = out * math.cos(angle), out * math.sin(angle)
        z = 1.6 * h + tall * rng.uniform(0.4, 1)
        solids.append(
            rod((0.2 * x, 0.2 * y, 1.5 * h), (x, y, z), rng.uniform(0.0012, 0.003), leaf)
        )
        tilt = rng.gauss(0.5, 0.3)
        c, s = math.cos(tilt), math.sin(tilt)
        ca, sa = math.cos(angle), math.sin(angle)
        turn: Rotation = ((ca * c, sa * c, -s), (-sa, ca, 0.0), (ca * s, sa * s, c))
        size = rng.uniform(0.35, 0.8) * r
        solids.append(ellipsoid((x, y, z), (size, 0.45 * size, 0.002), leaf, turn))
    return Thing(solids, (1.3 * r, 1.3 * r), 2 * h + tall)


def rack(rng: random.Random) -> Thing:
    """A wire rack, a dish drainer, a basket of wire."""
    a, b, c, r = (
        rng.uniform(0.08, 0.2),
        rng.uniform(0.06, 0.14),
        rng.uniform(0.05, 0.16),
        rng.uniform(0.0012, 0.0025),
    )
    stuff = rng.choice((metal, dark, plastic))(rng)
    solids = []
    for z in (r, c):
        solids += [rod((-a, y, z), (a, y, z), r, stuff) for y in (-b, b)]
        solids += [rod((x, -b, z), (x, b, z), r, stuff) for x in (-a, a)]
    count = rng.randint(4, 8)
    for i in range(count + 1):
        x = -a + 2 * a * i / count
        solids += [rod((x, y, r), (x, y, c), r, stuff) for y in (-b, b)]
        solids.append(rod((x, -b, r), (x, b, r), r, stuff))
    return Thing(solids, (a, b), c)


def basket(rng: random.Random) -> Thing:
    """An open box or bin, sometimes with things in it."""
    a, b, c = rng.uniform(0.07, 0.16), rng.uniform(0.06, 0.13), rng.uniform(0.03, 0.09)
    stuff = rng.choice((plastic, cardboard, wood, metal))(rng)
    solids = [hollow_box((0, 0, c), (a, b, c), 0.005, stuff)]
    if rng.random() < 0.7:
        for x in (-0.5, 0.5):
            for y in (-0.5, 0.5):
                thing = rng.choice((block, ball, can, pebble))(rng)
                fit = min(0.42 * min(a, b) / max(*thing.half_m, 1e-6), 1.0)
                if fit == 1.0 and rng.random() < 0.8:
                    solids += placed(thing, x * a, y * b, 0.006, 0)
    return Thing(solids, (a, b), 2 * c)


def ring(rng: random.Random) -> Thing:
    """A roll of tape or of paper."""
    r, h = rng.uniform(0.03, 0.06), rng.uniform(0.01, 0.06)
    return Thing(
        [hollow_cone(r, r, h, r * rng.uniform(0.15, 0.6), 0.0, anything(rng, r))], (r, r), 2 * h
    )


def sheet(rng: random.Random) -> Thing:
    """A sheet of paper or a letter."""
    a, b = rng.uniform(0.07, 0.15), rng.uniform(0.05, 0.11)
    return Thing([box((0, 0, 0.0005), (a, b, 0.0005), paper(rng))], (a, b), 0.001)


CLUTTER: tuple[tuple[Callable[[random.Random], Thing], float], ...] = (
    (carton, 4), (block, 2), (can, 2), (bottle, 2), (mug, 2), (bowl, 1.5), (plate, 1),
    (ball, 1.5), (pebble, 1.5), (bag, 1), (books, 2), (wedge, 1), (tool, 2), (cable, 0.7),
    (cloth, 0.7), (lamp, 0.4), (monitor, 0.5), (laptop, 0.5), (keyboard, 1), (plant, 0.6),
    (rack, 0.4), (basket, 1), (ring, 0.7), (sheet, 1),
)  # fmt: skip


def clutter(rng: random.Random) -> Thing:
    """Draw something that may stand on a table."""
    makers = [maker for maker, _ in CLUTTER]
    return rng.choices(makers, [weight for _, weight in CLUTTER])[0](rng)


# ------------------------------------------------------------------------------------- furniture


def table(rng: random.Random, half_m: tuple[float, float], height_m: float) -> Thing:
    """A table with four legs, two boards, or one foot."""
    a, b = half_m
    t = rng.uniform(0.01, 0.025)
    stuff = lacquer_or(rng)
    leg = stuff if rng.random() < 0.5 else lacquer_or(rng)
    round_ = rng.random() < 0.15
    top = (
        cylinder((0, 0, height_m - t), min(a, b), t, stuff)
        if round_
        else box((0, 0, height_m - t), (a, b, t), stuff)
    )
    if round_:
        a = b = min(a, b)
    solids, h, pick = [top], (height_m - 2 * t) / 2, rng.random()
    if round_ or pick < 0.1:
        solids.append(cylinder((0, 0, h), 0.05, h, leg))
        solids.append(cylinder((0, 0, 0.015), 0.6 * min(a, b), 0.015, leg))
    elif pick < 0.75:
        r, inset = rng.uniform(0.012, 0.04), rng.uniform(0.03, 0.1)
        for x in (inset - a, a - inset):
            for y in (inset - b, b - inset):
                if pick < 0.45:
                    solids.append(box((x, y, h), (r, r, h), leg))
                else:
                    solids.append(frustum((x, y, h), 0.6 * r, r, h, leg))
    else:
        solids += [box((x, 0, h), (0.012, 0.9 * b, h), leg) for x in (0.06 - a, a - 0.06)]
        solids.append(box((0, 0.7 * b, h + 0.3 * h), (a - 0.07, 0.01, 0.4 * h), leg))
    return Thing(solids, (a, b), height_m, True)


def chair(rng: random.Random) -> Thing:
    """A chair, with slats, a board or a cushion."""
    a, z = rng.uniform(0.18, 0.23), rng.uniform(0.42, 0.48)
    stuff, r = lacquer_or(rng), rng.uniform(0.009, 0.02)
    seat = fabric(rng) if rng.random() < 0.4 else stuff
    tall = rng.uniform(0.32, 0.5)
    solids = [box((0, 0, z - 0.015), (a, a, 0.015), seat)]
    if rng.random() < 0.15:  # an office chair: a foot with a star
        solids += [cylinder((0, 0, z / 2), 0.03, z / 2 - 0.02, dark(rng))]
        for i in range(5):
            t = 2 * math.pi * i / 5
            solids.append(
                rod((0, 0, 0.09), (0.28 * math.cos(t), 0.28 * math.sin(t), 0.03), 0.02, dark(rng))
            )
        solids.append(superquadric((0, a, z + tall * 0.6), (a, 0.04, tall * 0.45), 0.3, 0.3, seat))
        solids.append(box((0, a + 0.03, z + 0.1), (0.03, 0.012, 0.15), stuff))
        return Thing(solids, (0.29, 0.29), z + tall)
    for x in (r - a, a - r):
        solids.append(rod((x * 1.06, -a * 1.06 + r, 0), (x, r - a, z - 0.03), r, stuff))
        solids.append(rod((x * 1.06, a * 1.06 - r, 0), (x, a - r, z - 0.03), r, stuff))
        solids.append(rod((x, a - r, z), (x, a + 0.04, z + tall), r, stuff))
    if rng.random() < 0.5:
        solids.append(box((0, a + 0.02, z + 0.75 * tall), (a - r, 0.012, 0.25 * tall), seat))
    else:
        solids.append(box((0, a + 0.032, z + tall - 0.04), (a - r, 0.012, 0.035), stuff))
        count = rng.randint(3, 6)
        for i in range(count):
            x = (i + 0.5) / count * 2 * (a - r) - (a - r)
            solids.append(rod((x, a - r, z), (x, a + 0.028, z + tall - 0.06), 0.6 * r, stuff))
    return Thing(solids, (a + 0.03, a + 0.05), z + tall)


def shelf(
    rng: random.Random, wide_m: float, tall_m: float
) -> tuple[Thing, list[tuple[Vector, tuple[float, float], float]]]:
    """Return an open shelf, and its boards: centre, half sizes, and the height above them."""
    a, b = wide_m / 2, rng.uniform(0.12, 0.2)
    stuff, t = lacquer_or(rng), 0.01
    h = tall_m / 2
    solids = [box((x, 0, h), (t, b, h), stuff) for x in (t - a, a - t)]
    if rng.random() < 0.6:
        solids.append(box((0, b - 0.004, h), (a - 2 * t, 0.004, h), stuff))
    count = max(2, round(tall_m / rng.uniform(0.28, 0.42)))
    boards = []
    for i in range(count + 1):
        z = 0.05 + (tall_m - 0.05 - 2 * t) * i / count
        solids.append(box((0, 0, z + t), (a - 2 * t, b - 0.008, t), stuff))
        if i < count:
            boards.append(
                ((0.0, 0.0, z + 2 * t), (a - 0.03, b - 0.02), (tall_m - 0.05) / count - 3 * t)
            )
    return Thing(solids, (a, b), tall_m, True), boards


def cabinet(rng: random.Random, half_m: Vector) -> Thing:
    """A chest of drawers, a cupboard, a fridge, a kitchen unit: fronts with gaps and handles."""
    a, b, c = half_m
    stuff, steel = lacquer_or(rng), metal(rng)
    front = stuff if rng.random() < 0.6 else lacquer_or(rng)
    solids = [box((0, 0.01, c), (a, b - 0.01, c), stuff)]
    columns, rows = max(1, round(2 * a / rng.uniform(0.4, 0.7))), rng.randint(1, 4)
    w, h, gap = a / columns, c / rows, 0.004
    for i in range(columns):
        for j in range(rows):
            x, z = -a + w * (2 * i + 1), h * (2 * j + 1)
            solids.append(box((x, 0.008 - b, z), (w - gap, 0.01, h - gap), front))
            bar = min(0.08, 0.5 * w)
            solids.append(box((x, -b - 0.012, z + 0.55 * h), (bar, 0.01, 0.006), steel))
    return Thing(solids, (a, b + 0.03), 2 * c, True)


def bed(rng: random.Random) -> Thing:
    """A bed with blanket and pillows; its head is at +y."""
    a, b = rng.uniform(0.45, 0.9), rng.uniform(0.95, 1.05)
    frame, z = lacquer_or(rng), rng.uniform(0.15, 0.3)
    solids = [
        box((0, 0, z / 2), (a, b, z / 2), frame),
        box((0, 0, z + 0.09), (a - 0.02, b - 0.02, 0.09), fabric(rng)),
        box((0, b + 0.02, z + 0.25), (a, 0.02, z + 0.25), frame),
        _rumpled((0, -0.25 * b, z + 0.17), (a + 0.01, 0.76 * b, 0.05), fabric(rng), rng, 8),
    ]
    linen = fabric(rng)
    for x in (-0.45, 0.45) if a > 0.6 else (0.0,):
        half = (min(0.32, 0.42 * a + 0.1), 0.2, rng.uniform(0.05, 0.09))
        solids.append(superquadric((x * a, 0.72 * b, z + 0.17 + half[2]), half, 0.9, 0.4, linen))
    return Thing(solids, (a + 0.01, b + 0.04), z + 0.3)


def sofa(rng: random.Random) -> Thing:
    """A sofa or an armchair."""
    a, b, z = rng.uniform(0.4, 1.0), rng.uniform(0.38, 0.46), rng.uniform(0.38, 0.45)
    stuff = fabric(rng) if rng.random() < 0.8 else plastic(rng)
    e = rng.uniform(0.15, 0.4)
    solids = [
        superquadric((0, b - 0.1, 0.4), (a, 0.1, 0.4), e, e, stuff),
        superquadric((0.09 - a, -0.05, 0.29), (0.09, b - 0.05, 0.29), e, e, stuff),
        superquadric((a - 0.09, -0.05, 0.29), (0.09, b - 0.05, 0.29), e, e, stuff),
        box((0, -0.06, 0.12), (a - 0.1, b - 0.1, 0.11), stuff),
    ]
    count = max(1, round(2 * a / 0.7))
    w = (a - 0.18) / count
    for i in range(count):
        x = -(a - 0.18) + w * (2 * i + 1)
        solids.append(superquadric((x, -0.08, z - 0.09), (w, b - 0.1, 0.1), 0.3, 0.25, stuff))
        if rng.random() < 0.5:
            tilt: Rotation = ((1, 0, 0), (0, 0.94, -0.34), (0, 0.34, 0.94))
            solids.append(
                superquadric(
                    (x, b - 0.28, z + 0.17), (0.2, 0.07, 0.18), 0.8, 0.4, fabric(rng), tilt
                )
            )
    return Thing(solids, (a, b), 0.8)


def person(rng: random.Random) -> Thing:
    """A standing person, of capsules."""
    scale = rng.uniform(0.85, 1.08)
    shirt, trousers, flesh, shoe = fabric(rng), fabric(rng), skin(rng), dark(rng)
    solids: list[Solid] = []

    def limb(points: list[Vector], radius: float, stuff: Material) -> None:
        scaled = [(x * scale, y * scale, z * scale) for x, y, z in points]
        r = radius * scale
        solids.extend(tube(scaled, r, stuff))
        solids.append(ellipsoid(scaled[-1], (r, r, r), stuff))

    for side in (-1, 1):
        step = rng.gauss(0, 0.1)
        limb(
            [(side * 0.09, 0, 0.88), (side * 0.11, step - 0.03, 0.48), (side * 0.11, step, 0.08)],
            0.075,
            trousers,
        )
        solids.append(
            ellipsoid(
                (side * 0.11 * scale, (step - 0.05) * scale, 0.045), (0.05, 0.13, 0.045), shoe
            )
        )
        swing, lift = rng.gauss(-0.1, 0.15), rng.random() ** 2
        elbow = (side * 0.28, 0.5 * swing, 1.12)
        hand = (side * (0.3 - 0.1 * lift), swing - 0.25 * lift, 0.88 + 0.35 * lift)
        limb([(side * 0.2, 0, 1.4), elbow, hand], 0.045, shirt if rng.random() < 0.6 else flesh)
        solids.append(ellipsoid(tuple(scale * p for p in hand), (0.045, 0.05, 0.06), flesh))  # type: ignore[arg-type]
    s = scale
    solids.append(superquadric((0, 0, 1.16 * s), (0.2 * s, 0.12 * s, 0.32 * s), 0.7, 0.8, shirt))
    solids.append(
        superquadric((0, 0, 0.9 * s), (0.17 * s, 0.12 * s, 0.13 * s), 0.8, 0.9, trousers)
    )
    solids.append(cylinder((0, 0, 1.5 * s), 0.055 * s, 0.08 * s, flesh))
    solids.append(ellipsoid((0, -0.01, 1.65 * s), (0.078 * s, 0.1 * s, 0.12 * s), flesh))
    solids.append(ellipsoid((0, 0.02 * s, 1.69 * s), (0.085 * s, 0.1 * s, 0.1 * s), dark(rng)))
    return Thing(solids, (0.33, 0.3), 1.8 * scale)


def floor_lamp(rng: random.Random) -> Thing:
    """A lamp on a thin pole."""
    h, r, stuff = rng.uniform(1.3, 1.7), rng.uniform(0.12, 0.22), metal(rng)
    shade = fabric(rng)._replace(emission=rng.choice((0.0, 1.5)))
    solids = [
        cylinder((0, 0, 0.012), 0.14, 0.012, stuff),
        rod((0, 0, 0.02), (0, 0, h), rng.uniform(0.006, 0.014), stuff),
        hollow_cone(r, r * rng.uniform(0.5, 1), 0.13, 0.004, 0.0, shade, h - 0.13),
    ]
    return Thing(solids, (r, r), h + 0.13)


def cylinder_bin(rng: random.Random) -> Thing:
    """A waste bin or an umbrella stand."""
    r, h = rng.uniform(0.1, 0.17), rng.uniform(0.12, 0.25)
    stuff = rng.choice((plastic, metal, dark))(rng)
    return Thing([hollow_cone(0.8 * r, r, h, 0.004, 0.01, stuff)], (r, r), 2 * h)


def curtain(rng: random.Random, half_m: tuple[float, float]) -> Thing:
    """A curtain: waves that hang, x along the wall; it hangs from its origin down to the floor."""
    a, c = half_m
    ripples = [
        (0.02, rng.uniform(25, 45), 0.0, 6.3 * rng.random()),
        (0.008, rng.uniform(50, 80), rng.gauss(0, 1), 6.3 * rng.random()),
        (0.004, rng.uniform(10, 20), rng.gauss(0, 2), 6.3 * rng.random()),
        (0.003, rng.uniform(90, 110), 0.0, 6.3 * rng.random()),
    ]
    # Own z, the waves' height, points into the room: -y.
    turn: Rotation = ((1, 0, 0), (0, 0, 1), (0, -1, 0))
    return Thing([waves((0, 0, c), (a, c, 0.045), ripples, fabric(rng), turn)], (a, 0.045), 2 * c)

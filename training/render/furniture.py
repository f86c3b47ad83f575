"""Furniture and people, each a handful of solids that stand on their own."""

from __future__ import annotations

import math
import random

from .clutter import _rumpled
from .materials import (
    dark,
    fabric,
    lacquer_or,
    metal,
    plastic,
    skin,
)
from .objects import Thing
from .parts import hollow_cone, rod, tube
from .solids import (
    Material,
    Rotation,
    Solid,
    Vector,
    box,
    cylinder,
    ellipsoid,
    frustum,
    superquadric,
    waves,
)


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

"""Clutter: things that lie on tables and floors."""

from __future__ import annotations

from collections.abc import Callable
import math
import random

from .materials import (
    anything,
    cardboard,
    ceramic,
    dark,
    fabric,
    glassy,
    lacquer_or,
    leafy,
    metal,
    paper,
    plastic,
    printed,
    wood,
)
from .objects import Thing, placed
from .parts import LYING, hollow_box, hollow_cone, lathed, rod, tube
from .solids import (
    UPRIGHT,
    Kind,
    Material,
    Rotation,
    Solid,
    Vector,
    bowl_quadric,
    box,
    cylinder,
    ellipsoid,
    prism,
    superquadric,
    waves,
)
from .textures import LAYERS


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

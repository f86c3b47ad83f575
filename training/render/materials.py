"""Materials of things in rendered scenes, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
import colorsys
import math
import random

from .solids import (
    Material,
    Vector,
)
from .textures import LAYERS


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

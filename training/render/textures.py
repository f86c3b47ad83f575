"""A bank of procedural textures: wood, print, weave, stripes, marble, tiles, in many variants.

A texture is a share, 0 to 1, that walks along the palette of a material, so that a few hundred
textures in endless colours, sizes and crops are enough. All repeat without a seam, and are kept
as mip levels in one flat tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SIDE = 256
LEVELS = 7
_VARIANTS = 10

_Array = npt.NDArray[np.float64]


def _noise(rng: np.random.Generator, steepness: float, stretch: float = 1.0) -> _Array:
    """Return seamless noise, 0 to 1, whose spectrum falls with a power of the frequency."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing='ij')
    radius = np.hypot(fy, fx * stretch)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * radius**-steepness
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (SIDE, SIDE))
    return np.asarray(np.clip(0.5 + noise / (5 * noise.std()), 0, 1))


def _grid() -> tuple[_Array, _Array]:
    v, u = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE, indexing='ij')
    return u, v


def _plain(rng: np.random.Generator) -> _Array:
    return 0.5 + (_noise(rng, rng.uniform(0.3, 2)) - 0.5) * rng.uniform(0, 0.25)


def _marble(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    bend = _noise(rng, 1.7) * rng.uniform(1, 6)
    i, j = rng.integers(0, 4, 2)
    veins = np.abs(np.sin(np.pi * (i * u + j * v) + 2 * np.pi * bend))
    return np.asarray(veins ** rng.uniform(0.4, 2))


def _clouds(rng: np.random.Generator) -> _Array:
    return _noise(rng, rng.uniform(0.8, 2.2), rng.choice([0.3, 1, 1, 3]))


def _wood(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    bend = _noise(rng, 2.2, 4)
    rings = np.sin(2 * np.pi * (rng.integers(4, 14) * v + rng.uniform(2, 6) * bend))
    grain = _noise(rng, 0.7, 12)
    return np.asarray(np.clip(0.45 + 0.2 * rings + 0.5 * (grain - 0.5) + 0.04 * np.sin(u), 0, 1))


def _planks(rng: np.random.Generator) -> _Array:
    count = int(rng.integers(3, 7))
    share = np.zeros((SIDE, SIDE))
    edges = np.linspace(0, SIDE, count + 1).astype(int)
    wood = _wood(rng)
    for top, bottom in itertools.pairwise(edges):
        shift, joint = rng.integers(0, SIDE, 2)
        tone = rng.uniform(-0.15, 0.15)
        share[top:bottom] = np.roll(wood, shift, 1)[top:bottom] * 0.6 + 0.3 + tone
        share[top : top + 1] = 0
        share[top:bottom, joint : joint + 1] = 0
    return np.clip(share, 0, 1)


def _weave(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    n = int(rng.integers(12, 40))
    over = (np.floor(u * n) + np.floor(v * n) * rng.choice([1, 2])) % 2
    threads = np.where(over > 0, np.abs(np.sin(np.pi * n * u)), np.abs(np.sin(np.pi * n * v)))
    return np.asarray(np.clip(threads * 0.7 + 0.3 * _noise(rng, 1.0), 0, 1))


def _stripes(rng: np.random.Generator) -> _Array:
    u, _ = _grid()
    share = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(1, 4))):
        n, phase, width = rng.integers(1, 12), rng.uniform(), rng.uniform(0.1, 0.6)
        share = np.where((u * n + phase) % 1 < width, rng.uniform(), share)
    return share.T if rng.uniform() < 0.5 else share


def _plaid(rng: np.random.Generator) -> _Array:
    a, b = _stripes(rng), _stripes(rng)
    return np.asarray(np.clip((a + b.T) / 2, 0, 1))


def _checker(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    n = 2 * int(rng.integers(1, 8))
    return np.asarray((np.floor(u * n) + np.floor(v * n)) % 2)


def _tiles(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    nu, nv = rng.integers(2, 6, 2)
    row = np.floor(v * nv)
    place = u * nu + (row % 2) * rng.choice([0, 0.5])
    tone = np.sin(12.9 * row + 78.2 * (np.floor(place) % nu)) * 43758.5
    gap = (np.abs(place % 1 - 0.5) > 0.48) | (np.abs(v * nv % 1 - 0.5) > 0.47)
    share = 0.5 + 0.4 * (tone % 1) + 0.1 * _noise(rng, 1)
    return np.asarray(np.where(gap, rng.choice([0.0, 0.2]), share))


def _dots(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    n, size = int(rng.integers(2, 12)), rng.uniform(0.15, 0.4)
    shift = (np.floor(v * n) % 2) * 0.5
    return np.asarray(np.hypot((u * n + shift) % 1 - 0.5, v * n % 1 - 0.5) < size, np.float64)


def _gradient(rng: np.random.Generator) -> _Array:
    u, v = _grid()
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (v if rng.uniform() < 0.7 else u))
    return np.asarray(np.clip(wave + 0.1 * (_noise(rng, 1.5) - 0.5), 0, 1))


def _text(rng: np.random.Generator) -> _Array:
    share = np.ones((SIDE, SIDE))
    line = int(rng.integers(7, 24))
    for top in range(4, SIDE - line, line):
        if rng.uniform() < 0.12:
            continue
        x, end = int(rng.integers(4, 30)), SIDE - int(rng.integers(4, 90))
        size = line * 6 // 10
        while x < end:
            for _ in range(int(rng.integers(2, 9))):  # letters of a word: a few strokes each
                for _ in range(3):
                    i, j = rng.integers(0, size, 2)
                    if rng.uniform() < 0.5:
                        share[top : top + size, x + j // 2 : x + j // 2 + max(1, size // 7)] = 0
                    else:
                        share[top + i : top + i + max(1, size // 7), x : x + size // 2] = 0
                x += size * 2 // 3 + 1
            x += size // 2
    return share


def _print(rng: np.random.Generator) -> _Array:
    """Return the front of a package: blocks, discs, a picture and lettering."""
    u, v = _grid()
    share = np.full((SIDE, SIDE), rng.uniform())
    if rng.uniform() < 0.5:
        share = share * 0.7 + 0.3 * _clouds(rng)
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, 1, 2)
        w, h = rng.uniform(0.05, 0.5, 2)
        if rng.uniform() < 0.5:
            inside = (np.abs(u - x) < w) & (np.abs(v - y) < h)
        else:
            inside = np.hypot((u - x) / w, (v - y) / w) < 1
        share = np.where(inside, rng.uniform(), share)
    lines = _text(rng)
    top = int(rng.integers(0, SIDE // 2))
    band = slice(top, top + int(rng.integers(20, SIDE // 2)))
    share[band] = np.where(lines[band] < 0.5, rng.choice([0.0, 1.0]), share[band])
    return share


def _speckle(rng: np.random.Generator) -> _Array:
    return np.asarray((_noise(rng, rng.uniform(0, 1)) > rng.uniform(0.45, 0.7)) * 1.0)


PATTERNS: dict[str, Callable[[np.random.Generator], _Array]] = {
    'plain': _plain, 'marble': _marble, 'clouds': _clouds, 'wood': _wood, 'planks': _planks,
    'weave': _weave, 'stripes': _stripes, 'plaid': _plaid, 'checker': _checker, 'tiles': _tiles,
    'dots': _dots, 'gradient': _gradient, 'text': _text, 'print': _print, 'speckle': _speckle,
}  # fmt: skip
LAYERS = {name: range(i * _VARIANTS, (i + 1) * _VARIANTS) for i, name in enumerate(PATTERNS)}
"""Which layers of the bank hold a pattern."""


@dataclass(frozen=True)
class TextureBank:
    """Textures and their mip levels.

    Attributes:
        texels: (layers * texels of a pyramid,) uint8, level after level, layer after layer.
        starts: (LEVELS,) int64, where each level starts within a layer.
    """

    texels: Tensor
    starts: Tensor

    @property
    def stride(self) -> int:
        """How many texels a layer has."""
        return sum((SIDE >> level) ** 2 for level in range(LEVELS))


@lru_cache(maxsize=4)
def texture_bank(seed: int = 0, device: str = 'cpu') -> TextureBank:
    """Return the bank of a seed; the first call makes it, in about two seconds."""
    layers = []
    for number, pattern in enumerate(PATTERNS.values()):
        layers += [
            pattern(np.random.default_rng((seed, number, variant))) for variant in range(_VARIANTS)
        ]
    level = torch.from_numpy(np.stack(layers)).float()[:, None]
    levels = []
    for _ in range(LEVELS):
        levels.append((level * 255).round().to(torch.uint8).flatten(1))
        level = torch.nn.functional.avg_pool2d(level, 2)
    starts = np.cumsum([0] + [(SIDE >> n) ** 2 for n in range(LEVELS - 1)])
    return TextureBank(torch.cat(levels, 1).flatten().to(device), torch.tensor(starts).to(device))


def sample(
    bank: TextureBank, layer: Tensor, u: Tensor, v: Tensor, texels_per_px: Tensor
) -> Tensor:
    """Return shares, 0 to 1, between texels of the nearest mip level.

    Args:
        bank: The textures.
        layer: int64.
        u: Repetitions along a row of the texture.
        v: Repetitions along a column.
        texels_per_px: Size of a pixel on the texture.
    """
    level = torch.log2(texels_per_px.clamp_min(1)).round().clamp_max(LEVELS - 1).long()
    side = torch.bitwise_right_shift(torch.full_like(level, SIDE), level)
    first = layer * bank.stride + bank.starts[level]
    x, y = u * side - 0.5, v * side - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    left, top = x0.long() & (side - 1), y0.long() & (side - 1)
    right, bottom = (left + 1) & (side - 1), (top + 1) & (side - 1)
    above, below = first + top * side, first + bottom * side
    texels = bank.texels
    upper = torch.lerp(texels[above + left].float(), texels[above + right].float(), fx)
    lower = torch.lerp(texels[below + left].float(), texels[below + right].float(), fx)
    return torch.lerp(upper, lower, fy) * (1 / 255)

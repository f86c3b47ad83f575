"""Models and pictures that `python -m training.render.make_assets` brought, as scenes use them.

Nothing of them is part of the project: they lie in a folder that git ignores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
import json
from pathlib import Path
import random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .objects import Thing
from .solids import Kind, Material, Solid

FOLDER = Path('data/assets')
INDEX = 'assets.json'
SIDE = 256
"""Rows and columns of stored pictures, px."""
MATERIAL_COLUMNS = ('red', 'green', 'blue', 'picture', 'specular', 'shininess', 'ir_reflectance',
                    'emission', 'glass', 'mirror')  # fmt: skip
"""Of a model's materials; colours are linear, `picture` is a number within the model or -1."""


@dataclass(frozen=True)
class Asset:
    """One thing that was brought.

    Attributes:
        name: Of its file.
        title: In the words of its author.
        role: What it serves as in a room: a key of `Assets.roles`, or 'surface'.
        size_m: Width, depth, height.
        top_m: Height at which things stand on it; 0 where none do.
        elevation_m: Height at which it hangs; 0 stands.
        author: Who made it.
        licence: Under which it was given.
        source: The package that carries it.
    """

    name: str
    title: str
    role: str
    size_m: tuple[float, float, float]
    top_m: float
    elevation_m: float
    author: str
    licence: str
    source: str


class Model(NamedTuple):
    """Triangles of a thing that stands at its origin, z up, its front towards -y.

    Attributes:
        corners_m: (T, 3, 3) float32: triangle, corner, axis.
        normals: (T, 3, 3) float32.
        uv: (T, 3, 2) float32, repetitions of the picture.
        material: (T,) int64, row of `materials`.
        materials: (K, 10) float32, see `MATERIAL_COLUMNS`.
        pictures: (P, 256, 256, 3) uint8, sRGB.
    """

    corners_m: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    uv: npt.NDArray[np.float32]
    material: npt.NDArray[np.int64]
    materials: npt.NDArray[np.float32]
    pictures: npt.NDArray[np.uint8]


class Assets:
    """What a folder holds.

    Args:
        folder: Written by `python -m training.render.make_assets`.

    Attributes:
        roles: Models by what they serve as.

    Raises:
        FileNotFoundError: If there is no index in it.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        path = folder / INDEX
        if not path.exists():
            raise FileNotFoundError(f'{path} is missing. `make assets` fetches the models.')
        entries = json.loads(path.read_text())
        found = [Asset(**entry | {'size_m': tuple(entry['size_m'])}) for entry in entries]
        self.all = tuple(found)
        self.roles: dict[str, list[Asset]] = {}
        for asset in found:
            self.roles.setdefault(asset.role, []).append(asset)
        self.model: Callable[[str], Model] = lru_cache(maxsize=500)(self._model)
        self.surface: Callable[[str], npt.NDArray[np.uint8]] = lru_cache(maxsize=200)(
            self._surface
        )

    def _model(self, name: str) -> Model:
        with np.load(self.folder / 'models' / f'{name}.npz') as arrays:
            return Model(*(arrays[field] for field in Model._fields))

    def _surface(self, name: str) -> npt.NDArray[np.uint8]:
        return np.asarray(np.load(self.folder / 'surfaces' / f'{name}.npy'))

    def draw(self, rng: random.Random, role: str, greatest_m: float = 9.0) -> Asset | None:
        """Draw a model that serves as something and is no larger than that; None if none is."""
        fitting = [a for a in self.roles.get(role, ()) if max(a.size_m) <= greatest_m]
        return rng.choice(fitting) if fitting else None


def model_thing(rng: random.Random, asset: Asset) -> Thing:
    """Return a model as a thing of a room, sometimes in other colours, in about its size."""
    tint = (1.0, 1.0, 1.0)
    if rng.random() < 0.4:
        tone = rng.uniform(0.5, 1.3)
        tint = (
            tone * rng.uniform(0.7, 1.2),
            tone * rng.uniform(0.7, 1.2),
            tone * rng.uniform(0.7, 1.2),
        )
    size = rng.uniform(0.94, 1.06)
    a, b, c = (0.5 * size * extent for extent in asset.size_m)
    solid = Solid(Kind.MODEL, (0.0, 0.0, c), (a, b, c), Material((tint,) * 3), model=asset.name)
    top_m = size * asset.top_m
    return Thing([solid], (a, b), top_m if top_m > 0 else 2 * c, top_m > 0)


def write_index(folder: Path, assets: Sequence[Asset]) -> None:
    """Write what a folder holds, in order of name."""
    entries = [asdict(asset) for asset in sorted(assets, key=lambda asset: asset.name)]
    (folder / INDEX).write_text(json.dumps(entries, indent=1))


def credits_of(assets: Sequence[Asset]) -> list[str]:
    """Return lines of Markdown that name licences, sources, authors and their works."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for asset in assets:
        authors = groups.setdefault((asset.licence, asset.source), {})
        authors.setdefault(asset.author, []).append(asset.title)
    lines = []
    for (licence, source), authors in sorted(groups.items()):
        named = '; '.join(
            f'{author} ({len(titles)})' for author, titles in sorted(authors.items())
        )
        lines.append(f'- {licence}, {source}: {named}.')
    return lines


def columns(**given: Any) -> list[float]:
    """Return a row of a model's materials."""
    plain = {
        'red': 0.6, 'green': 0.6, 'blue': 0.6, 'picture': -1, 'specular': 0.03, 'shininess': 20,
        'ir_reflectance': 0.6, 'emission': 0, 'glass': 0, 'mirror': 0,
    } | given  # fmt: skip
    return [float(plain[name]) for name in MATERIAL_COLUMNS]

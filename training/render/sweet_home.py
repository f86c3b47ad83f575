"""Furniture of Sweet Home 3D's libraries: catalogues and OBJ models, read as `Model`."""

from __future__ import annotations

from collections.abc import Iterator
import itertools
from pathlib import Path
import re
from typing import Any
import zipfile

import cv2
import numpy as np
import numpy.typing as npt

from .assets import SIDE, Asset, Model, columns
from .tessellate import smooth_normals

SOURCE = 'Sweet Home 3D furniture (Debian package sweethome3d-furniture)'
LICENCES = {
    'BlendSwap-CC-0': 'CC0 1.0', 'BlendSwap-CC-BY': 'CC BY 3.0', 'KatorLegaz': 'CC BY 3.0 US',
    'Reallusion': 'CC BY 3.0 US', 'Scopia': 'CC BY 3.0',
}  # fmt: skip
"""By library."""
_MOST_TRIANGLES = 200_000
_ENOUGH_TRIANGLES = 12_000
_OUTSIDE = {'Exterior', 'Vehicles', 'Staircases'}
_KEPT_OUTSIDE = (
    'bench|chair|plant box|flower box|bicycle|stroller|tricycle|skateboard|crate|barrel'
)

ROLES: tuple[tuple[str, str], ...] = (
    ('rug', r'carpet|rug$|\bmat$|bathmat|doormat|tatami'),
    ('none', r'window|pool table|billiard|swing|elevator|garage|door\b|curtain|shower|blind'
             r'|shutter|gate|fence|railing|column|chimney|fountain|tennis table|table tennis$'),
    ('lamp', r'lamp$|candle|lantern|light$'),
    ('plant', r'plant|ficus|flowers|cactus|bonsai|orchid|yucca|bamboo|tulips|lily|spathi|tree'),
    ('sofa', r'sofa|couch|futon|winchester'),
    ('bed', r'\bbed$|crib|mattress|mezzanine'),
    ('chair', r'chair|stool|seat$|puff|ottoman|bench$'),
    ('table', r'table$|desk|workbench|island|table with|table on|bedside'),
    ('storage', r'wardrobe|cupboard|cabinet|bookcase|shelves|fridge|refrigerator|drawers|dresser'
                r'|washing machine|dryer|oven$|cooker|stove|freezer|tv stand|piano$|locker|safe'
                r'|fireplace|trunck|chest$|vanity|lavatory|bath$|bathtub|heater|boiler|furnace'),
)  # fmt: skip
"""Role and the pattern of the titles that serve as it; the first that fits counts."""


def read(package: Path) -> Iterator[tuple[Asset, Model]]:
    """Yield the furniture of a folder of .sh3f libraries that fits into a room.

    Args:
        package: Folder below which the libraries lie.

    Raises:
        FileNotFoundError: If there is none.
    """
    libraries = sorted(package.rglob('*.sh3f'))
    if not libraries:
        raise FileNotFoundError(f'{package} holds no .sh3f library.')
    for library in libraries:
        with zipfile.ZipFile(library) as archive:
            for number, entry in catalogue(archive).items():
                asset = described(entry, library.stem, number)
                if asset is None:
                    continue
                model = load(archive, entry, asset.size_m)
                if model is not None:
                    yield asset, model


def catalogue(archive: zipfile.ZipFile) -> dict[int, dict[str, str]]:
    """Return what a library says of its pieces, by number."""
    text = archive.read('PluginFurnitureCatalog.properties').decode('latin1')
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r'^(\w+)#(\d+)=(.*?)\s*$', text, re.MULTILINE):
        entries.setdefault(int(number), {})[key] = value.encode().decode('unicode_escape')
    return entries


def described(entry: dict[str, str], library: str, number: int) -> Asset | None:
    """Return what a piece serves as; None if it belongs into no room."""
    title, category = entry['name'], entry['category']
    low = title.lower()
    if category in _OUTSIDE and not re.search(_KEPT_OUTSIDE, low):
        return None
    wide, deep, tall = (float(entry[key]) / 100 for key in ('width', 'depth', 'height'))
    if max(wide, deep) > 3.2 or tall > 2.5 or max(wide, deep, tall) < 0.015:
        return None
    elevation = float(entry.get('elevation', 0)) / 100
    role = next((role for role, pattern in ROLES if re.search(pattern, low)), '')
    if category == 'Doors and windows':
        role = 'door' if re.search('door', low) and 0.6 < wide < 1.3 and tall < 2.3 else 'none'
    elif category == 'Characters':
        role = 'person' if tall > 0.4 else 'small'
    elif elevation > 0.3 and role not in ('chair', 'sofa', 'bed', 'table'):
        role = 'hung'
    elif role == 'lamp':
        role = 'floor lamp' if tall > 1.0 else 'small'
    elif (role == 'plant' and tall < 0.45) or (
        role in ('storage', 'chair', 'table') and max(wide, deep, tall) < 0.4
    ):
        role = 'small'
    elif role == '':
        role = 'small' if max(wide, deep, tall) < 0.55 else 'standing'
    if role == 'none':
        return None
    drop = float(entry.get('dropOnTopElevation', 100 * tall)) / 100
    top = drop if role in ('table', 'storage', 'small', 'standing', 'bed') and drop > 0 else 0.0
    if role == 'small' and not re.search('box|book|case|radio|stereo|player|tray', low):
        top = 0.0
    name = Path(entry['model']).stem
    return Asset(
        f'{library}-{number}-{re.sub("[^A-Za-z0-9]+", "_", name)}'.lower(), title, role,
        (wide, deep, tall), min(top, tall), elevation, entry.get('creator', 'unknown'),
        LICENCES[library], SOURCE,
    )  # fmt: skip


def load(
    archive: zipfile.ZipFile, entry: dict[str, str], size_m: tuple[float, float, float]
) -> Model | None:
    """Return a piece in its catalogue's size; None if it has no triangles, or far too many."""
    path = entry['model'].lstrip('/')
    vertices, places, faces = parse_obj(archive.read(path).decode('latin1'))
    if not len(faces) or len(faces) > _MOST_TRIANGLES:
        return None
    if 'modelRotation' in entry:
        turn = np.array([float(x) for x in entry['modelRotation'].split()]).reshape(3, 3)
        vertices = vertices @ turn.T
    used = vertices[np.unique(faces[:, :3])]
    low, high = used.min(0), used.max(0)
    middle = (low + high) / 2 * [1, 0, 1] + low * [0, 1, 0]
    wide, deep, tall = size_m
    vertices = (vertices - middle) * np.array([wide, tall, deep]) / np.maximum(high - low, 1e-6)
    # Theirs is y up and front towards +z, as somebody sees it who stands before it.
    corners = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1)[faces[:, :3]]
    corners, whole = simplified(corners, _ENOUGH_TRIANGLES)
    if not len(corners):
        return None
    faces = faces[whole]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    uv = np.where(faces[:, 3:6, None] >= 0, places[faces[:, 3:6].clip(0)], 0.0)
    materials, pictures = parse_mtl(archive, path, names_of(archive.read(path).decode('latin1')))
    return Model(
        corners.astype(np.float32),
        smooth_normals(corners, flat).astype(np.float32),
        uv.astype(np.float32),
        faces[:, 6].astype(np.int64),
        np.array(materials, np.float32),
        np.array(pictures, np.uint8).reshape(-1, SIDE, SIDE, 3),
    )


def simplified(
    corners: npt.NDArray[np.float64], enough: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return triangles with an area, no more than enough: vertices of a cell of a grid are one.

    Source: Rossignac and Borrel, Multi-resolution 3D approximations, 1993.

    Args:
        corners: (T, 3, 3).
        enough: The grid is made coarser until there are no more.

    Returns:
        Corners, and the numbers of the triangles that are left.
    """
    size = float(np.ptp(corners.reshape(-1, 3), axis=0).max())
    found, cells = corners, 320.0
    while True:
        flat = np.cross(found[:, 1] - found[:, 0], found[:, 2] - found[:, 0])
        whole = np.flatnonzero(np.linalg.norm(flat, axis=1) > 1e-10)
        if len(whole) <= enough:
            return found[whole], whole
        found = (corners * (cells / size)).round() * (size / cells)
        cells *= 0.8


def names_of(text: str) -> list[str]:
    """Return the materials that an OBJ file uses, in order of first use; the first is none."""
    found = ['']
    for name in re.findall(r'^\s*usemtl\s+(.*?)\s*$', text, re.MULTILINE):
        if name not in found:
            found.append(name)
    return found


def parse_obj(
    text: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return vertices, texture places and triangles of a Wavefront OBJ file.

    Returns:
        (N, 3); (M, 2), at least one; (T, 7): three vertices, three places or -1, and the number
        of the material in `names_of`.
    """
    vertices: list[list[float]] = []
    places: list[list[float]] = []
    faces: list[tuple[int, ...]] = []
    names, material = names_of(text), 0
    for line in text.replace('\\\n', ' ').splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == 'v':
            vertices.append([float(x) for x in words[1:4]])
        elif words[0] == 'vt':
            places.append([float(x) for x in words[1:3]])
        elif words[0] == 'usemtl':
            material = names.index(line.split(None, 1)[1].strip())
        elif words[0] == 'f':
            corners = []
            for word in words[1:]:
                parts = word.split('/')
                v = int(parts[0])
                t = int(parts[1]) if len(parts) > 1 and parts[1] else 0
                # Negative numbers count back from the last.
                corners.append(
                    (
                        v - 1 if v > 0 else len(vertices) + v,
                        t - 1 if t > 0 else len(places) + t if t < 0 else -1,
                    )
                )
            for second, third in itertools.pairwise(corners[1:]):
                a, b, c = corners[0], second, third
                faces.append((a[0], b[0], c[0], a[1], b[1], c[1], material))
    return (
        np.array(vertices, np.float64).reshape(-1, 3),
        np.array(places or [[0.0, 0.0]], np.float64).reshape(-1, 2),
        np.array(faces, np.int64).reshape(-1, 7),
    )


def parse_mtl(
    archive: zipfile.ZipFile, model: str, names: list[str]
) -> tuple[list[list[float]], list[npt.NDArray[np.uint8]]]:
    """Return the rows of materials of a model, and its pictures."""
    properties: dict[str, dict[str, str]] = {}
    inside = set(archive.namelist())
    folder = model.rpartition('/')[0]
    for library in re.findall(
        r'^\s*mtllib\s+(.*?)\s*$', archive.read(model).decode('latin1'), re.MULTILINE
    ):
        path = f'{folder}/{library}'
        if path not in inside:
            continue
        current: dict[str, str] = {}
        for line in archive.read(path).decode('latin1').splitlines():
            words = line.strip().split(None, 1)
            if len(words) == 2:
                if words[0].lower() == 'newmtl':
                    current = properties.setdefault(words[1].strip(), {})
                else:
                    current[words[0].lower()] = words[1].strip()
    pictures: list[npt.NDArray[np.uint8]] = []
    numbers: dict[str, int] = {}
    rows = []
    for name in names:
        entry = properties.get(name, {})
        picture = -1
        file = entry.get('map_kd', '').replace('\\', '/')
        path = f'{folder}/{file}'
        if file and path in inside:
            if path not in numbers:
                image = decoded(archive.read(path))
                numbers[path] = -1 if image is None else len(pictures)
                if image is not None:
                    pictures.append(image)
            picture = numbers[path]
        rows.append(material(name, entry, picture))
    return rows, pictures


def decoded(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Return a picture in the stored size, RGB; None if it cannot be read."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    method = cv2.INTER_AREA if min(image.shape[:2]) > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=method)[..., ::-1], np.uint8)


def material(name: str, entry: dict[str, str], picture: int) -> list[float]:
    """Return a material's row, from what an MTL file says and from what its name tells."""

    def numbers(key: str, default: str) -> list[float]:
        return [float(x) for x in re.findall(r'-?[\d.]+(?:e-?\d+)?', entry.get(key, default))]

    color = [min(max(c, 0.0), 1.0) ** 2.2 for c in (numbers('kd', '.6 .6 .6') + [0.6] * 3)[:3]]
    if picture >= 0:
        # Programs that write these files leave Kd at any grey beside a picture.
        color = [0.9] * 3
    gloss = float(np.mean(numbers('ks', '0') or [0.0]))
    shine = (numbers('ns', '20') or [20.0])[0]
    clear = (numbers('d', '1') or [1.0])[0]
    low = f'{name} {entry.get("map_kd", "")}'.lower()
    tone = 0.3 * color[0] + 0.4 * color[1] + 0.3 * color[2]
    found: dict[str, Any] = {
        'red': color[0], 'green': color[1], 'blue': color[2], 'picture': picture,
        'specular': min(0.12 * gloss, 0.15) + 0.01, 'shininess': min(max(shine, 2.0), 300.0),
        'ir_reflectance': min(0.3 + 0.5 * tone**0.5, 0.85) if tone > 0.02 else 0.06,
    }  # fmt: skip
    if re.search(r'mirror|miroir', low):
        found |= {'mirror': 0.95, 'specular': 0.9, 'shininess': 900, 'ir_reflectance': 0.02}
        found |= {'red': 0.1, 'green': 0.1, 'blue': 0.1, 'picture': -1}
    elif clear < 0.9 or re.search(r'(^|[^a-z])(glass|verre|vitre|crystal)([^a-z]|$)', low):
        found |= {'glass': min(max(1 - clear, 0.75), 0.95), 'specular': 0.5, 'shininess': 400}
        found |= {'ir_reflectance': 0.03, 'picture': -1}
        found |= {key: max(found[key], 0.5) for key in ('red', 'green', 'blue')}
    elif re.search(r'chrom|metal|steel|alumin|inox|brass|gold|silver|iron', low):
        found |= {'specular': 0.4, 'shininess': 120, 'ir_reflectance': 0.3}
    elif re.search(r'screen|display|ecran', low):
        found |= {'specular': 0.15, 'shininess': 300, 'ir_reflectance': 0.05}
    return columns(**found)

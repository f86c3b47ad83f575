"""Hypersim: https://github.com/apple/ml-hypersim, rendered interiors.

Roberts et al., Hypersim: A Photorealistic Synthetic Dataset for Holistic Indoor Scene
Understanding, ICCV 2021.
"""

from __future__ import annotations

import csv
from pathlib import Path
import re

import numpy as np

from .files import only_positive, open_hdf5, read_color, read_hdf5, read_text
from .sample import Dataset, DatasetError, Depth, Licence, Matrix, Sample, Terms

_CAMERAS = 'metadata_camera_parameters.csv'
_SCENE = re.compile(r'^ai_\d{3}_\d{3}$')
# The usual lens: 60 degrees across (ml-hypersim issue 9's 886.81 px at 1024x768).
_HALF_WIDTH = np.tan(np.pi / 6)


class Hypersim(Dataset):
    """Hypersim or some scenes of it: exact depth, colour of the tone-mapped previews.

    `depth_meters` holds distances to the optical centre, not depth (ml-hypersim issue 9), NaN
    where a ray meets nothing. Some scenes have shifted or tilted lenses: put ml-hypersim's
    contrib/mikeroberts3000/metadata_camera_parameters.csv beside the scenes and each frame is
    turned into depth by its own `M_cam_from_uv`; without the file every lens is taken for the
    usual one. A tilted lens has no pinhole matrix, so its frames come without intrinsics.
    """

    kind = 'Hypersim'
    sign = '**/frame.*.depth_meters.hdf5'
    licence = Licence('CC BY-SA 3.0', Terms.SHARE_ALIKE)
    depth_origin = 'rendered'

    def __init__(self, path: Path) -> None:
        self._files = sorted(path.rglob('frame.*.depth_meters.hdf5'))
        self._lenses: dict[str, Matrix] | None = None
        beside = [folder / _CAMERAS for folder in (path, *path.resolve().parents[:2])]
        table = next((file for file in beside if file.is_file()), None)
        if table is not None:
            self._lenses = _read_lenses(table)
        super().__init__(
            path,
            (str(p.relative_to(path)).removesuffix('.depth_meters.hdf5') for p in self._files),
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether there are distances in a folder or below."""
        return path.is_dir() and next(path.rglob('frame.*.depth_meters.hdf5'), None) is not None

    def _read(self, index: int) -> Sample:
        path = self._files[index]
        with open_hdf5(path) as file:
            distance_m = read_hdf5(file, path, 'dataset')
        if distance_m.ndim != 2:
            raise DatasetError(f'{path} must hold (H, W) distances, got {distance_m.shape}')
        lens = self._lens(path, *distance_m.shape)
        stem = path.name.removesuffix('.depth_meters.hdf5')
        preview = path.parent.name.replace('_geometry_hdf5', '_final_preview')
        color = path.parents[1] / preview / f'{stem}.tonemap.jpg'
        return Sample(
            self.names[index],
            depth_from_distance(distance_m, lens),
            self.licence,
            read_color(color) if color.exists() else None,
            intrinsics=_intrinsics(lens, *distance_m.shape),
        )

    def _lens(self, path: Path, height: int, width: int) -> Matrix:
        if self._lenses is None:
            return np.diag([_HALF_WIDTH, _HALF_WIDTH * height / width, -1.0])
        scene = next((n for n in reversed(path.resolve().parts) if _SCENE.match(n)), '')
        try:
            return self._lenses[scene]
        except KeyError:
            raise DatasetError(
                f'{path}: {_CAMERAS} has no scene {scene!r}; keep the ai_VVV_NNN folders'
            ) from None


def depth_from_distance(distance_m: Matrix, lens: Matrix) -> Depth:
    """Turn distances along the rays into depth along the optical axis.

    Args:
        distance_m: (H, W) metres to the optical centre.
        lens: (3, 3) `M_cam_from_uv`: from image coordinates, -1 ... 1 with v upwards, to rays of
            a camera that looks along its negative z.

    Returns:
        (H, W) metres, NaN where there is no distance.
    """
    height, width = distance_m.shape
    u, v = np.meshgrid(
        (2 * np.arange(width) + 1) / width - 1, 1 - (2 * np.arange(height) + 1) / height
    )
    x, y, z = np.einsum('ij,jhw->ihw', lens, np.stack([u, v, np.ones_like(u)]))
    return only_positive(distance_m * -z / np.sqrt(x * x + y * y + z * z))


def _intrinsics(lens: Matrix, height: int, width: int) -> Matrix | None:
    pixel_from_uv = np.array(
        [[width / 2, 0, (width - 1) / 2], [0, -height / 2, (height - 1) / 2], [0, 0, 1]]
    )
    # Their camera has y up and looks along -z; ours has y down and looks along z.
    matrix: Matrix = pixel_from_uv @ np.linalg.inv(np.diag([1.0, -1.0, -1.0]) @ lens)
    matrix /= matrix[2, 2]
    pinhole = np.allclose(matrix[2], (0, 0, 1), atol=1e-9) and abs(matrix[1, 0]) < 1e-6
    return matrix if pinhole else None


def _read_lenses(path: Path) -> dict[str, Matrix]:
    lenses = {}
    try:
        for row in csv.DictReader(read_text(path).splitlines()):
            numbers = [float(row[f'M_cam_from_uv_{i}{j}']) for i in range(3) for j in range(3)]
            lenses[row['scene_name']] = np.array(numbers).reshape(3, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f'{path} does not give M_cam_from_uv_00 ... 22 of every scene ({error}); '
            'take it from ml-hypersim again'
        ) from None
    return lenses

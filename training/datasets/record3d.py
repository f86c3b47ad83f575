"""Exports of Record3D and other iPhone LiDAR apps: https://github.com/marek-simonik/record3d."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from depth_refiner_ros.counts import metres_from_counts

from .files import (
    fit_color,
    only_positive,
    read_bytes,
    read_color,
    read_counts,
    read_exr,
    read_text,
)
from .sample import Dataset, DatasetError, Depth, Licence, Matrix, Sample, Terms, camera_matrix

_SUFFIXES = ('.exr', '.png', '.npy')


class Record3d(Dataset):
    """An "EXR + JPG" export: metadata.json, rgb/, depth/; registered, colour the finer.

    Depth is metres in float32 EXR (record3d issues 53 and 67), or whatever a converter made of it:
    millimetres in 16-bit PNG or uint16 .npy, metres in float .npy; 0 and NaN are nothing. `K` is
    stored column by column and belongs to colour of w x h pixels (nerfstudio's
    record3d_utils.py); newer exports have fx fy cx cy of each frame, as autofocus moves them, in
    `perFrameIntrinsicCoeffs`. Camera and colour are scaled to the depth; depth never is.
    """

    kind = 'Record3D'
    sign = 'metadata.json, depth/, rgb/'
    licence = Licence('your own', Terms.OWN)

    def __init__(self, path: Path) -> None:
        described = _metadata(path)
        try:
            metadata = json.loads(read_text(described))
            self._camera = np.array(metadata['K'], np.float64).reshape(3, 3).T
            self._cameras = [
                camera_matrix(*c) for c in metadata.get('perFrameIntrinsicCoeffs') or ()
            ]
            self._size = (
                (int(metadata['w']), int(metadata['h']))
                if 'w' in metadata and 'h' in metadata
                else None
            )
        except DatasetError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f'{described} does not say K as nine numbers, or has broken cameras ({error}); '
                'export the recording again as "EXR + JPG"'
            ) from None
        files = [p for p in (path / 'depth').glob('*') if p.suffix in _SUFFIXES]
        # Frames are numbered without leading zeros.
        self._files = sorted(files, key=lambda p: (len(p.stem), p.stem))
        super().__init__(path, (p.stem for p in self._files))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has metadata and depth."""
        return _metadata(path).is_file() and (path / 'depth').is_dir()

    def _read(self, index: int) -> Sample:
        path = self._files[index]
        depth_m = _read_depth(path)
        height, width = depth_m.shape
        color = next(iter(sorted((self.path / 'rgb').glob(f'{path.stem}.*'))), None)
        rgb = None if color is None else read_color(color)
        size = self._size or (width, height)
        if rgb is not None:
            seen = rgb.shape[1], rgb.shape[0]
            # A pixel more or less comes of rounding, a portrait beside a landscape does not.
            if abs(seen[0] * height - seen[1] * width) > max(seen):
                raise DatasetError(
                    f'{color} is {seen[0]}x{seen[1]}, but {path} {width}x{height}: one of them '
                    'was turned or cut; export the recording again'
                )
            rgb, size = fit_color(rgb, depth_m), self._size or seen
        return Sample(
            path.stem,
            depth_m,
            self.licence,
            rgb,
            intrinsics=_scaled(self._camera_of(path.stem), width / size[0], height / size[1]),
        )

    def _camera_of(self, stem: str) -> Matrix:
        number = int(stem) if stem.isdecimal() else len(self._cameras)
        camera: Matrix = self._cameras[number] if number < len(self._cameras) else self._camera
        return camera


def _metadata(path: Path) -> Path:
    # An unzipped .r3d calls it metadata.
    named = path / 'metadata.json'
    return named if named.exists() else path / 'metadata'


def _read_depth(path: Path) -> Depth:
    if path.suffix == '.exr':
        return read_exr(path)
    if path.suffix == '.png':
        return metres_from_counts(read_counts(path))
    read_bytes(path)
    try:
        array: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(
            f'{path} is no array or is cut short ({error}); copy it again'
        ) from None
    if array.ndim != 2 or array.dtype.kind not in 'uf':
        raise DatasetError(
            f'{path} must be (H, W) of unsigned millimetres or floating metres, '
            f'got {array.shape} {array.dtype}'
        )
    return only_positive(array / 1000 if array.dtype.kind == 'u' else array)


def _scaled(camera: Matrix, x: float, y: float) -> Matrix:
    scaled: Matrix = camera.copy()
    scaled[0, 0], scaled[1, 1] = camera[0, 0] * x, camera[1, 1] * y
    # Pixel centres are at whole numbers, so c + 0.5 scales, not c.
    scaled[0, 2] = (camera[0, 2] + 0.5) * x - 0.5
    scaled[1, 2] = (camera[1, 2] + 0.5) * y - 0.5
    return scaled

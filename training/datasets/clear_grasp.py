"""ClearGrasp: https://sites.google.com/view/cleargrasp, transparent objects before a RealSense.

Sajjan et al., ClearGrasp: 3D Shape Estimation of Transparent Objects for Manipulation, ICRA 2020.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import fit_color, read_color, read_exr
from .sample import Dataset, Licence, Matrix, Sample, Terms, camera_matrix

# Not found stated by the makers where it could be checked.
_LICENCE = Licence('ClearGrasp, not verified', Terms.UNSTATED)
_RAW, _PAINTED = '-transparent-depth-img.exr', '-opaque-depth-img.exr'
_RENDERED = '-depth-rectified.exr'
_FIELD_OF_VIEW_DEG = (69.40, 42.56)


class ClearGraspReal(Dataset):
    """The real images: what a D415 or D435 measures of glass, and of its spray-painted twin.

    EXR files in metres along the optical axis (cleargrasp issue 24); the reference is measured
    with the painted object in the same place (issue 8). The cameras are not published with them.
    """

    kind = 'ClearGrasp real'
    sign = f'**/*{_RAW}'
    licence = _LICENCE

    def __init__(self, path: Path) -> None:
        self._files = sorted(path.rglob(f'*{_RAW}'))
        super().__init__(path, (str(p.relative_to(path)).removesuffix(_RAW) for p in self._files))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether there is depth of transparent things in a folder or below."""
        return path.is_dir() and next(path.rglob(f'*{_RAW}'), None) is not None

    def _read(self, index: int) -> Sample:
        path = self._files[index]
        stem = path.name.removesuffix(_RAW)
        painted = path.with_name(stem + _PAINTED)
        color = next(iter(sorted(path.parent.glob(f'{stem}-transparent-rgb-img.*'))), None)
        depth_m = read_exr(path)
        return Sample(
            self.names[index],
            depth_m,
            self.licence,
            None if color is None else fit_color(read_color(color), depth_m),
            read_exr(painted) if painted.exists() else None,
        )


class ClearGraspSynthetic(Dataset):
    """The rendered images: `depth-imgs-rectified`, which is depth and not distance (issue 8).

    Fields of view as in cleargrasp's README: 69.40 x 42.56 degrees, the axis in the middle.
    """

    kind = 'ClearGrasp synthetic'
    sign = f'**/depth-imgs-rectified/*{_RENDERED}'
    licence = _LICENCE
    depth_origin = 'rendered'

    def __init__(self, path: Path) -> None:
        self._files = sorted(path.rglob(f'depth-imgs-rectified/*{_RENDERED}'))
        super().__init__(
            path, (str(p.relative_to(path)).removesuffix(_RENDERED) for p in self._files)
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether there is rectified depth in a folder or below."""
        pattern = f'depth-imgs-rectified/*{_RENDERED}'
        return path.is_dir() and next(path.rglob(pattern), None) is not None

    def _read(self, index: int) -> Sample:
        path = self._files[index]
        stem = path.name.removesuffix(_RENDERED)
        color = next(iter(sorted((path.parents[1] / 'rgb-imgs').glob(f'{stem}-rgb.*'))), None)
        depth_m = read_exr(path)
        return Sample(
            self.names[index],
            depth_m,
            self.licence,
            None if color is None else fit_color(read_color(color), depth_m),
            intrinsics=_rendering_camera(*depth_m.shape),
        )


def _rendering_camera(height: int, width: int) -> Matrix:
    fx, fy = (
        size / 2 / np.tan(np.radians(angle_deg) / 2)
        for size, angle_deg in zip((width, height), _FIELD_OF_VIEW_DEG, strict=True)
    )
    return camera_matrix(fx, fy, (width - 1) / 2, (height - 1) / 2)

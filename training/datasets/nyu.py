"""NYU Depth V2: https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html, a Kinect v1 indoors.

Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .files import only_positive, open_hdf5, read_color, read_counts, read_hdf5
from .sample import Dataset, DatasetError, Depth, Licence, Sample, Terms, camera_matrix

# The toolbox's camera_params.m.
COLOR_CAMERA = camera_matrix(
    518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465
)
DEPTH_CAMERA = camera_matrix(
    582.62448167737955, 582.69103270988637, 313.04475870804731, 238.44389626620386
)
_MAX_DEPTH_M = 10.0

_LICENCE = Licence('NYU Depth V2, none stated', Terms.UNSTATED)
_LABELED = 'nyu_depth_v2_labeled.mat'


class NyuLabeled(Dataset):
    """The labeled part, a MATLAB v7.3 (HDF5) file: depth projected into the colour camera.

    `rawDepths` are metres with 0 for nothing; `depths`, the reference, are the same after the
    makers filled them by colourisation, which is no measurement either. MATLAB stores the first
    axis fastest, so (480, 640, N) arrives as (N, 640, 480) and `images` as (N, 3, 640, 480).
    """

    kind = 'NYUv2 labeled'
    sign = f'a .mat file such as {_LABELED}'
    licence = _LICENCE

    def __init__(self, path: Path) -> None:
        self._file = path / _LABELED if path.is_dir() else path
        with open_hdf5(self._file) as file:
            missing = [n for n in ('images', 'rawDepths', 'depths') if n not in file]
            if missing:
                raise DatasetError(
                    f'{self._file} has no {", ".join(missing)}, so it is not {_LABELED}'
                )
            (frames, columns, rows), images = file['rawDepths'].shape, file['images'].shape
        if images != (frames, 3, columns, rows):
            raise DatasetError(
                f'{self._file}: images are {images}, rawDepths {(frames, columns, rows)}, '
                "not MATLAB's reversed (N, 3, W, H) and (N, W, H); download the original"
            )
        super().__init__(path, (f'{i:04d}' for i in range(frames)))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a path is a .mat file, or a folder with the labeled one."""
        return (path.suffix == '.mat' and path.is_file()) or (path / _LABELED).is_file()

    def _read(self, index: int) -> Sample:
        with open_hdf5(self._file) as file:
            rgb, raw_m, filled_m = (
                read_hdf5(file, self._file, name, index)
                for name in ('images', 'rawDepths', 'depths')
            )
        return Sample(
            self.names[index],
            only_positive(raw_m.T),
            self.licence,
            np.ascontiguousarray(rgb.transpose(2, 1, 0)),
            only_positive(filled_m.T),
            COLOR_CAMERA,
        )


class _Pair(NamedTuple):
    depth: Path
    color: Path | None


_STAMP = re.compile(r'^[dr]-(\d+(?:\.\d+)?)-\d+\.p[gp]m$')


class NyuRaw(Dataset):
    """Scenes of the raw part: every depth frame with the colour nearest in time.

    Depth is not projected into the colour camera and both are distorted. The toolbox swaps the
    octets of a count and takes 351.3 / (1092.5 - count) metres, clipped to 0 ... 10
    (depth_rel2depth_abs.m); what it clips, 2047 among it, is nothing measured and NaN here. Pairs
    are those of get_synched_frames.m: one for each depth frame, a colour may serve twice.
    """

    kind = 'NYUv2 raw'
    sign = 'd-*.pgm and r-*.ppm'
    licence = _LICENCE

    def __init__(self, path: Path) -> None:
        scenes: dict[Path, list[tuple[float, Path]]] = defaultdict(list)
        for suffix in ('pgm', 'ppm'):
            for file in path.rglob(f'[dr]-*.{suffix}'):
                if match := _STAMP.match(file.name):
                    scenes[file.parent].append((float(match[1]), file))
        self._pairs = [pair for scene in sorted(scenes) for pair in _pairs(scenes[scene])]
        super().__init__(
            path, (str(p.depth.relative_to(path).with_suffix('')) for p in self._pairs)
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether there are depth frames in a folder or below."""
        return path.is_dir() and next(path.rglob('d-*.pgm'), None) is not None

    def _read(self, index: int) -> Sample:
        depth, color = self._pairs[index]
        return Sample(
            self.names[index],
            metres_from_kinect(read_counts(depth).byteswap()),
            self.licence,
            None if color is None else read_color(color),
            intrinsics=DEPTH_CAMERA,
            registered=False,
        )


def metres_from_kinect(disparity: npt.NDArray[np.uint16]) -> Depth:
    """Turn a Kinect's 11-bit disparity into metres, NaN outside of 0 ... 10 m.

    Source: the NYUv2 toolbox's depth_rel2depth_abs.m and camera_params.m.
    """
    with np.errstate(divide='ignore'):
        depth_m = 351.3 / (1092.5 - disparity.astype(np.float64))
    depth_m[(depth_m >= _MAX_DEPTH_M) | (disparity == 0)] = np.nan
    return only_positive(depth_m)


def _pairs(files: list[tuple[float, Path]]) -> list[_Pair]:
    depths = sorted(f for f in files if f[1].name.startswith('d'))
    colors = sorted(f for f in files if f[1].name.startswith('r'))
    stamps_s = [stamp_s for stamp_s, _ in colors]
    pairs = []
    for stamp_s, depth in depths:
        after = bisect_left(stamps_s, stamp_s)
        near = min(
            colors[max(0, after - 1) : after + 1],
            key=lambda color: (abs(color[0] - stamp_s), -color[0]),  # the later of two, as there
            default=(0.0, None),
        )
        pairs.append(_Pair(depth, near[1]))
    return pairs

"""SUN RGB-D: https://rgbd.cs.princeton.edu, Kinect v1 and v2, Xtion and RealSense.

Song et al., SUN RGB-D: A RGB-D Scene Understanding Benchmark Suite, CVPR 2015.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_refiner_ros.counts import metres_from_counts

from .files import read_color, read_counts, read_matrix
from .sample import Dataset, DatasetError, Depth, Licence, Sample, Terms

_MAX_DEPTH_M = 8.0


class SunRgbd(Dataset):
    """SUN RGB-D or a part of it: millimetres rotated up by three bits, registered to the colour.

    As the toolbox's read3dPoints.m: (count >> 3 | count << 13) / 1000 metres. It clips at 8 m,
    beyond which a count has one of its three lowest bits set; that is NaN here. The reference is
    `depth_bfx`, the makers' improvement of `depth` by neighbouring frames and hole filling.
    """

    kind = 'SUN RGB-D'
    sign = '**/intrinsics.txt beside depth/ and image/'
    licence = Licence('SUN RGB-D, none stated; parts are NYUv2, B3DO and SUN3D', Terms.UNSTATED)

    def __init__(self, path: Path) -> None:
        self._places = sorted(
            p.parent for p in path.rglob('intrinsics.txt') if (p.parent / 'depth').is_dir()
        )
        super().__init__(path, (str(p.relative_to(path)) for p in self._places))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder or one below has intrinsics.txt and depth/."""
        return path.is_dir() and any(
            (p.parent / 'depth').is_dir() for p in path.rglob('intrinsics.txt')
        )

    def _read(self, index: int) -> Sample:
        place = self._places[index]
        depth = _only_file(place / 'depth')
        if depth is None:
            raise DatasetError(f'{place / "depth"} is empty; unpack the dataset again')
        color, better = (_only_file(place / part) for part in ('image', 'depth_bfx'))
        return Sample(
            self.names[index],
            _read_depth(depth),
            self.licence,
            None if color is None else read_color(color),
            None if better is None else _read_depth(better),
            read_matrix(place / 'intrinsics.txt', 3),
        )


def _read_depth(path: Path) -> Depth:
    counts = read_counts(path)
    depth_m = metres_from_counts(np.asarray(counts >> 3 | counts << 13, np.uint16))
    depth_m[depth_m > _MAX_DEPTH_M] = np.nan
    return depth_m


def _only_file(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob('[!.]*'))), None)

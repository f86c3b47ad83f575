"""DIML/CVL RGB-D, indoor: https://dimlrgbd.github.io, a Kinect v2.

Cho et al., DIML/CVL RGB-D Dataset: 2M RGB-D Images of Natural Indoor and Outdoor Scenes,
arXiv:2110.11590, 2021.
"""

from __future__ import annotations

from pathlib import Path

from depth_refiner_ros.counts import metres_from_counts

from .files import read_color, read_counts
from .sample import Dataset, Licence, Sample, Terms


class Diml(Dataset):
    """DIML's indoor part: millimetres, registered to the colour, holes filled by its makers.

    The layout is that of the HR and LR samples, `color/*_c.png` beside
    `depth_filled/*_depth_filled.png`, as ZoeDepth's diml_indoor_test.py reads it; no camera is
    published with them.
    """

    kind = 'DIML indoor'
    sign = '**/color/*_c.png beside depth_filled/'
    licence = Licence('DIML/CVL, not verified', Terms.RESEARCH_ONLY)
    depth_origin = 'filled'

    def __init__(self, path: Path) -> None:
        self._colors = sorted(path.rglob('color/*_c.png'))
        super().__init__(
            path, (str(p.relative_to(path)).removesuffix('_c.png') for p in self._colors)
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder or one below has color/*_c.png."""
        return path.is_dir() and next(path.rglob('color/*_c.png'), None) is not None

    def _read(self, index: int) -> Sample:
        color = self._colors[index]
        name = color.name.removesuffix('_c.png') + '_depth_filled.png'
        counts = read_counts(color.parents[1] / 'depth_filled' / name)
        return Sample(
            self.names[index], metres_from_counts(counts), self.licence, read_color(color)
        )

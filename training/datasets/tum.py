"""TUM RGB-D: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats, Kinect v1 and Xtion.

Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, IROS 2012.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path

from depth_refiner_ros.counts import metres_from_counts

from .files import read_color, read_counts, read_text
from .sample import Dataset, DatasetError, Licence, Sample, Terms, camera_matrix

_COUNTS_PER_METRE = 5000
_SLOP_S = 0.02  # associate.py's default

# What its makers recommend for all sequences, as the depth is registered by these.
_CAMERA = camera_matrix(525.0, 525.0, 319.5, 239.5)
_SIZE = (480, 640)


class Tum(Dataset):
    """A sequence of TUM RGB-D: 5000 counts a metre, 0 for nothing, registered to the colour.

    Frames are the pairs of associate.py: nearest first, within 20 ms, each image once. A sequence
    without rgb.txt yields its depth alone.
    """

    kind = 'TUM RGB-D'
    sign = 'rgb.txt, depth.txt'
    licence = Licence('CC BY 4.0', Terms.ATTRIBUTION)

    def __init__(self, path: Path) -> None:
        depths = _read_list(path / 'depth.txt')
        listed = path / 'rgb.txt'
        self._pairs: list[tuple[str, str | None]]
        if listed.exists():
            colors = _read_list(listed)
            self._pairs = [
                (depths[d], colors[c]) for d, c in associate(list(depths), list(colors))
            ]
            if not self._pairs:
                raise DatasetError(
                    f'{listed} and depth.txt have no stamps within {_SLOP_S} s of each other; '
                    'take both lists from one sequence'
                )
        else:
            self._pairs = [(name, None) for name in depths.values()]
        super().__init__(path, (Path(depth).stem for depth, _ in self._pairs))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has depth.txt."""
        return (path / 'depth.txt').is_file()

    def _read(self, index: int) -> Sample:
        depth, color = self._pairs[index]
        depth_m = metres_from_counts(read_counts(self.path / depth), 1 / _COUNTS_PER_METRE)
        if depth_m.shape != _SIZE:
            raise DatasetError(
                f'{self.path / depth} is {depth_m.shape[1]}x{depth_m.shape[0]}, but TUM RGB-D is '
                "640x480; give resized images a camera.json in the project's layout"
            )
        rgb = None if color is None else read_color(self.path / color)
        return Sample(self.names[index], depth_m, self.licence, rgb, intrinsics=_CAMERA)


def associate(
    first_s: list[float], second_s: list[float], slop_s: float = _SLOP_S
) -> list[tuple[float, float]]:
    """Pair stamps, nearest first, each at most once, as TUM's associate.py does.

    Args:
        first_s: Seconds.
        second_s: Seconds.
        slop_s: Only what is nearer than this belongs together.

    Returns:
        The pairs in order of their stamps.
    """
    second_s = sorted(second_s)
    candidates = sorted(
        (abs(a - b), a, b)
        for a in first_s
        for b in second_s[bisect_left(second_s, a - slop_s) : bisect_right(second_s, a + slop_s)]
        if abs(a - b) < slop_s
    )
    pairs: dict[float, float] = {}
    taken: set[float] = set()
    for _, a, b in candidates:
        if a not in pairs and b not in taken:
            pairs[a] = b
            taken.add(b)
    return sorted(pairs.items())


def _read_list(path: Path) -> dict[float, str]:
    """Return file names by their stamps in seconds."""
    names: dict[float, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        try:
            stamp, name = line.split()[:2]
            names[float(stamp)] = name
        except ValueError:
            raise DatasetError(
                f'{path}, line {number}: expected a timestamp and a file name, '
                f'got {line.strip()!r}; unpack the sequence again'
            ) from None
    return names

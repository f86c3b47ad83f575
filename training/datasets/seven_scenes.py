"""7-Scenes, a Kinect v1: https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/.

Shotton et al., Scene Coordinate Regression Forests for Camera Relocalization, CVPR 2013.
"""

from __future__ import annotations

from pathlib import Path

from depth_refiner_ros.counts import metres_from_counts

from .files import read_color, read_counts, read_matrix
from .sample import Dataset, Licence, Sample, Terms, camera_matrix

_CAMERA = camera_matrix(585.0, 585.0, 320.0, 240.0)  # the dataset's page


class SevenScenes(Dataset):
    """Sequences of 7-Scenes: millimetres, 65535 for nothing, camera-to-world poses in metres.

    Colour comes from its own, uncalibrated camera: it is not registered to the depth.
    """

    kind = '7-Scenes'
    sign = 'frame-*.depth.png'
    licence = Licence('Microsoft Research, non-commercial', Terms.RESEARCH_ONLY)

    def __init__(self, path: Path) -> None:
        self._stems = sorted(
            p.with_name(p.name.removesuffix('.depth.png')) for p in path.rglob('frame-*.depth.png')
        )
        super().__init__(path, (str(stem.relative_to(path)) for stem in self._stems))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether there are depth frames in a folder or below."""
        return path.is_dir() and next(path.rglob('frame-*.depth.png'), None) is not None

    def _read(self, index: int) -> Sample:
        stem = self._stems[index]
        depth, color, pose = (
            stem.with_name(stem.name + end) for end in ('.depth.png', '.color.png', '.pose.txt')
        )
        return Sample(
            self.names[index],
            metres_from_counts(read_counts(depth), no_return=(0, 65535)),
            self.licence,
            read_color(color) if color.exists() else None,
            intrinsics=_CAMERA,
            world_from_camera=read_matrix(pose, 4) if pose.exists() else None,
            registered=False,
        )

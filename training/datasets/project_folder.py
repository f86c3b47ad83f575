"""The project's own layout of folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from depth_refiner_ros.data import RigidTransform
from depth_refiner_ros.folders import Folder

from .files import fit_color, read_text
from .sample import Dataset, DatasetError, Licence, Matrix, Sample, Terms, camera_matrix

# Licences of data; "MIT (code)" is one of the code beside it, which says nothing of the frames.
_TERMS = {
    'own': Terms.OWN,
    'cc0': Terms.ATTRIBUTION,
    'cc by 3.0': Terms.ATTRIBUTION,
    'cc by 4.0': Terms.ATTRIBUTION,
    'cc by-sa 3.0': Terms.SHARE_ALIKE,
    'cc by-sa 4.0': Terms.SHARE_ALIKE,
    'none stated': Terms.UNSTATED,
}


class ProjectFolder(Dataset):
    """A folder with camera.json; see `depth_refiner_ros.folders`.

    Recordings of all origins are kept in this layout, so what may be done with one is for its
    camera.json to say: `"licence": "own"`, or a licence by name. What is not known to allow
    shipping, and silence, forbid it.
    """

    kind = 'folder'
    sign = 'camera.json, depth/'
    licence = Licence('camera.json names no licence; if the data is yours, "own"', Terms.UNSTATED)

    def __init__(self, path: Path) -> None:
        try:
            self._folder = Folder(path)
        except (OSError, ValueError) as error:
            raise DatasetError(str(error)) from None
        licence = json.loads(read_text(path / 'camera.json')).get('licence')
        if licence is not None:
            terms = _TERMS.get(str(licence).lower(), Terms.RESEARCH_ONLY)
            self.licence = Licence(str(licence), terms)
        super().__init__(path, self._folder.names)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has camera.json."""
        return (path / 'camera.json').is_file()

    def _read(self, index: int) -> Sample:
        try:
            frame = self._folder.read(index)
        except (OSError, ValueError) as error:
            raise DatasetError(str(error)) from None
        camera, color, pose = frame.camera, frame.color, frame.world_from_camera
        depth_m = frame.depth.depth_m.copy()  # the frame's own is read-only, which torch dislikes
        # A colour in the depth's own frame sees along the same rays.
        registered = color is not None and color.header.frame_id == frame.depth.header.frame_id
        rgb = None if color is None else color.rgb.copy()
        return Sample(
            self.names[index],
            depth_m,
            self.licence,
            fit_color(rgb, depth_m) if rgb is not None and registered else rgb,
            None if frame.reference is None else frame.reference.depth_m.copy(),
            camera_matrix(camera.fx, camera.fy, camera.cx, camera.cy),
            None if pose is None else _matrix(pose),
            registered=registered,
        )


def _matrix(pose: RigidTransform) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.translation_m
    return matrix

"""Reads the RGB-D datasets that people have, as they come: metres, NaN where nothing was measured.

    for sample in open_dataset(Path('nyu_depth_v2_labeled.mat')):
        sample.depth_m, sample.rgb, sample.intrinsics

Frames are read when they are indexed, so a dataset goes into a DataLoader as it is. Most of them
may be used for research only: `require_shippable` refuses those before weights are trained.
"""

from __future__ import annotations

from pathlib import Path

from .clear_grasp import ClearGraspReal, ClearGraspSynthetic
from .diml import Diml
from .hands import HandDataset, HandSample, open_hands
from .hypersim import Hypersim
from .nyu import NyuLabeled, NyuRaw
from .project_folder import ProjectFolder
from .record3d import Record3d
from .sample import Dataset, DatasetError, Licence, Sample, Terms, require_shippable
from .seven_scenes import SevenScenes
from .sun_rgbd import SunRgbd
from .tum import Tum

__all__ = [
    'LAYOUTS',
    'Dataset',
    'DatasetError',
    'HandDataset',
    'HandSample',
    'Licence',
    'Sample',
    'Terms',
    'open_dataset',
    'open_hands',
    'require_shippable',
]

# What one file in the folder itself tells comes before what is searched for below it.
LAYOUTS: tuple[type[Dataset], ...] = (
    NyuLabeled,
    ProjectFolder,
    Tum,
    Record3d,
    NyuRaw,
    SevenScenes,
    SunRgbd,
    Diml,
    Hypersim,
    ClearGraspReal,
    ClearGraspSynthetic,
)


def open_dataset(path: Path) -> Dataset:
    """Open a dataset by what its files look like.

    Raises:
        DatasetError: If it is not recognised, or damaged.
    """
    if not path.exists():
        raise DatasetError(f'there is no {path}')
    if path.suffix == '.r3d':
        raise DatasetError(f'{path} is packed by Record3D; export the recording as "EXR + JPG"')
    for layout in LAYOUTS:
        if layout.recognises(path):
            return layout(path)  # type: ignore[call-arg]  # each finds its own names
    signs = '; '.join(f'{layout.kind}: {layout.sign}' for layout in LAYOUTS)
    raise DatasetError(f'{path} looks like none of the datasets known. Looked for {signs}.')

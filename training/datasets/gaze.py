"""Reads pictures of eyes that are labelled with gaze: 35x55 px, grey, as SimGAN's paper has them.

    for eye in open_gaze(Path('UnityEyes_Windows/imgs')):
        eye.grey, eye.gaze

All are shown as left eyes, inner corner on the left: right ones are mirrored, and their gaze. How
the paper crops UnityEyes and resizes MPIIGaze it does not say. Here both are scaled alike in rows
and columns, so that angles stay, and UnityEyes is cut as wide as MPIIGaze was.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
import importlib
import json
from pathlib import Path
from typing import Any, ClassVar, overload

import cv2
import numpy as np
import numpy.typing as npt

from .files import read_image, read_mat, read_text
from .sample import DatasetError, Licence, Matrix, Terms

Grey = npt.NDArray[np.float32]

ROWS_PX, COLUMNS_PX = 35, 55
CORNERS = 1.3
"""Widths between an eye's corners that a crop is wide: about MPIIGaze's 37.5 mm."""


@dataclass(frozen=True, slots=True, eq=False)
class EyeSample:
    """One labelled eye.

    Attributes:
        name: Name of the picture, unique in its dataset.
        grey: (35, 55), 0 to 1.
        gaze: (3,) unit vector: x right, y down, z forward of the camera.
    """

    name: str
    grey: Grey
    gaze: Matrix


class GazeDataset(Sequence[EyeSample]):
    """Eyes, read when they are indexed.

    Args:
        path: Where it lies.
        names: One for each eye.

    Attributes:
        kind: Which dataset it is.
        sign: What its files look like, for people.
        licence: What it may be used for.

    Raises:
        DatasetError: If it has no eyes.
    """

    kind: ClassVar[str]
    sign: ClassVar[str]
    licence: ClassVar[Licence]

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        self.names = list(names)
        if not self.names:
            raise DatasetError(f'{path} has no eyes of {self.kind}; looked for {self.sign}')

    @staticmethod
    @abstractmethod
    def recognises(path: Path) -> bool:
        """Return whether the files at a path look like this dataset's."""

    @abstractmethod
    def _read(self, index: int) -> EyeSample: ...

    def __len__(self) -> int:
        """Return the number of eyes."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> EyeSample: ...

    @overload
    def __getitem__(self, index: slice) -> list[EyeSample]: ...

    def __getitem__(self, index: int | slice) -> EyeSample | list[EyeSample]:
        """Read an eye.

        Raises:
            DatasetError: If its files cannot be read, or do not fit together.
            IndexError: If there is no such eye.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'{self.path} has {len(self)} eyes, so none at {index}')
        return self._read(index % len(self))

    def __iter__(self) -> Iterator[EyeSample]:
        """Read all eyes in turn."""
        return (self[i] for i in range(len(self)))


class UnityEyes(GazeDataset):
    """UnityEyes: Wood et al., ETRA 2016, the pictures its renderer writes: 1.jpg and 1.json.

    Landmarks are "(column, row from the bottom, depth)"; look_vec is in Unity's camera, y up.
    """

    kind = 'UnityEyes'
    sign = '1.jpg and 1.json with eye_details'
    licence = Licence('UnityEyes, for research; ask its makers', Terms.UNSTATED)

    def __init__(self, path: Path) -> None:
        labelled = {file.stem for file in path.glob('*.json')}
        super().__init__(
            path, sorted(f.stem for f in path.glob('*.jpg') if f.stem in labelled)
        )  # fmt: skip

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has a picture with its labels by UnityEyes."""
        first = next(path.glob('*.json'), None) if path.is_dir() else None
        return first is not None and 'eye_details' in read_text(first)

    def _read(self, index: int) -> EyeSample:
        name = self.names[index]
        file = self.path / f'{name}.json'
        image = read_image(self.path / f'{name}.jpg', cv2.IMREAD_GRAYSCALE)
        try:
            labels: Any = json.loads(read_text(file))
            lids = np.array([_numbers(point) for point in labels['interior_margin_2d']])
            corner = np.array([_numbers(point) for point in labels['caruncle_2d']]).mean(0)
            x, y, z = _numbers(labels['eye_details']['look_vec'])[:3]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DatasetError(
                f'{file} is not what UnityEyes writes ({error!r}); render it again'
            ) from None
        points = np.vstack([lids, corner])[:, :2]
        points[:, 1] = image.shape[0] - 1 - points[:, 1]
        low, high = points.min(0), points.max(0)
        # The inner corner is the eye's left end; the right end is of the lids.
        width_px = CORNERS * (lids[:, 0].max() - corner[0])
        grey = cut(image, (low + high) / 2, float(width_px))
        return EyeSample(name, grey, _unit(np.array([x, -y, z])))


class MpiiGaze(GazeDataset):
    """MPIIGaze: Zhang et al., CVPR 2015, its normalised pictures: p00/day01.mat in Normalized.

    data.left and data.right have gaze (N, 3), in the frame of the normalised camera, and image
    (N, 36, 60).

    Args:
        path: `Data/Normalized`, or one person's folder in it.
    """

    kind = 'MPIIGaze'
    sign = 'p00/day01.mat'
    licence = Licence('MPIIGaze, CC BY-NC-SA 4.0', Terms.RESEARCH_ONLY)

    def __init__(self, path: Path) -> None:
        self._eyes = [
            (file, side, number)
            for file in sorted(_days(path))
            for side in ('left', 'right')
            for number in range(_count(file))
        ]
        super().__init__(
            path,
            (
                f'{file.relative_to(path).with_suffix("")}/{side}/{number}'
                for file, side, number in self._eyes
            ),
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has days of people."""
        return path.is_dir() and bool(_days(path))

    def _read(self, index: int) -> EyeSample:
        file, side, number = self._eyes[index]
        images, gazes = _day(file, side)
        image, gaze = images[number], gazes[number].astype(np.float64)
        if side == 'right':
            image, gaze = image[:, ::-1], gaze * (-1, 1, 1)
        rows, columns = image.shape
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
        grey = cut(image, middle, COLUMNS_PX * rows / ROWS_PX)
        return EyeSample(self.names[index], grey, _unit(gaze))


GAZE_LAYOUTS: tuple[type[GazeDataset], ...] = (UnityEyes, MpiiGaze)


def open_gaze(path: Path) -> GazeDataset:
    """Open a dataset of eyes by what its files look like.

    Raises:
        DatasetError: If it is not recognised, or damaged.
    """
    if not path.exists():
        raise DatasetError(f'there is no {path}')
    for layout in GAZE_LAYOUTS:
        if layout.recognises(path):
            return layout(path)  # type: ignore[call-arg]  # each finds its own names
    signs = '; '.join(f'{layout.kind}: {layout.sign}' for layout in GAZE_LAYOUTS)
    raise DatasetError(f'{path} looks like no dataset of eyes. Looked for {signs}.')


def cut(image: npt.NDArray[np.uint8], middle: npt.NDArray[np.float64], width_px: float) -> Grey:
    """Return (35, 55) of an image, 0 to 1; what lies beyond it is as at its edge.

    Args:
        image: (H, W).
        middle: Column and row that the picture's middle shows.
        width_px: Columns it shows; rows in proportion.
    """
    step = width_px / COLUMNS_PX
    # Where many pixels become one they are averaged, or hair would turn into noise.
    smooth = cv2.GaussianBlur(image, (0, 0), 0.4 * step) if step > 1.25 else image
    first = middle - step * (np.array([COLUMNS_PX, ROWS_PX]) - 1) / 2
    placed = cv2.warpAffine(
        np.ascontiguousarray(smooth, np.float32),
        np.array([[step, 0, first[0]], [0, step, first[1]]]),
        (COLUMNS_PX, ROWS_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(placed / np.float32(255), np.float32)


def _unit(gaze: Matrix) -> Matrix:
    return np.asarray(gaze / np.linalg.norm(gaze), np.float64)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.strip('()').split(',')]


def _days(path: Path) -> list[Path]:
    return [*path.glob('p[0-9][0-9]/day[0-9]*.mat'), *path.glob('day[0-9]*.mat')]


def _count(file: Path) -> int:
    """Return the number of pictures of either eye, without reading them."""
    try:
        library: Any = importlib.import_module('scipy.io')
    except ImportError:
        raise DatasetError(
            "SciPy is needed to read this: pip install scipy, or pip install '.[train]'"
        ) from None
    try:
        found = {name: shape for name, shape, _ in library.whosmat(str(file))}
        return int(found['filenames'][0])
    except Exception as error:  # it raises ValueError, TypeError, NotImplementedError and others
        raise DatasetError(
            f'{file} is not what MPIIGaze has ({error!r}); download it again'
        ) from None


# All days of all people are a gigabyte; to read a day for each of its pictures would take minutes.
@cache
def _day(file: Path, side: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.floating]]:
    data = read_mat(file, 'data')
    try:
        eye = data[side][0, 0]
        images, gaze = eye['image'][0, 0], eye['gaze'][0, 0]
    except (ValueError, IndexError):
        raise DatasetError(f'{file} has no data.{side}; download it again') from None
    if images.ndim != 3 or len(images) != len(gaze) or gaze.shape[1:] != (3,):
        raise DatasetError(
            f'{file}: data.{side} has images {images.shape} and gaze {gaze.shape}, '
            'not (N, 36, 60) and (N, 3); download it again'
        )
    return images, gaze

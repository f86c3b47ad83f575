"""What every dataset yields, and what may be done with weights trained on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt

Depth = npt.NDArray[np.float32]
Color = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

DepthOrigin = Literal['sensor', 'filled', 'rendered']
"""Measured as it is; a measurement whose holes its makers filled; or exact, of a drawn scene."""


class DatasetError(ValueError):
    """A dataset cannot be read; the text names the file and says what to do."""


class Terms(Enum):
    """Classes of licences, by what they mean for weights."""

    OWN = 'your own recordings'
    ATTRIBUTION = 'any use, with attribution'
    SHARE_ALIKE = 'any use, but works made from it carry the same licence'
    RESEARCH_ONLY = 'research only'
    UNSTATED = 'no licence stated: ask its makers'


class Licence(NamedTuple):
    """What a dataset may be used for.

    Attributes:
        name: As its makers call it.
        terms: The class it falls in.
    """

    name: str
    terms: Terms

    @property
    def allows_shipping(self) -> bool:
        """Whether weights trained on it may be given to anybody for any purpose."""
        return self.terms in (Terms.OWN, Terms.ATTRIBUTION)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One frame of a dataset.

    Attributes:
        name: Name of the frame, unique in its dataset.
        depth_m: (H, W) along the optical axis as the dataset has it, NaN where it has none.
        licence: What the frame may be used for.
        rgb: (H, W, 3), or none.
        reference_m: (H, W) better depth of the same rays where the dataset has it, else none.
        intrinsics: (3, 3) of the depth image in pixels, whole numbers at pixel centres; none where
            the dataset does not say.
        world_from_camera: (4, 4) pose of the depth camera, metres, or none.
        registered: Whether colour and depth pixels are the same rays.

    Raises:
        ValueError: If an array has another shape or type.
    """

    name: str
    depth_m: Depth
    licence: Licence
    rgb: Color | None = None
    reference_m: Depth | None = None
    intrinsics: Matrix | None = None
    world_from_camera: Matrix | None = None
    registered: bool = True

    def __post_init__(self) -> None:
        if self.depth_m.ndim != 2 or self.depth_m.dtype != np.float32:
            raise ValueError(
                f'{self.name}: depth_m must be (H, W) float32, '
                f'got {self.depth_m.shape} {self.depth_m.dtype}'
            )
        shape = self.depth_m.shape
        if self.rgb is not None:
            if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
                raise ValueError(
                    f'{self.name}: rgb must be (H, W, 3) uint8, '
                    f'got {self.rgb.shape} {self.rgb.dtype}'
                )
            if self.registered and self.rgb.shape[:2] != shape:
                raise ValueError(
                    f'{self.name}: colour is {_size(self.rgb.shape)}, but depth {_size(shape)}'
                )
        reference_m = self.reference_m
        if reference_m is not None and (
            reference_m.shape != shape or reference_m.dtype != np.float32
        ):
            raise ValueError(
                f'{self.name}: reference_m must be {_size(shape)} float32, '
                f'got {_size(reference_m.shape)} {reference_m.dtype}'
            )


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[1]}x{shape[0]}'


class Dataset(Sequence[Sample]):
    """The frames of a dataset, read when they are indexed.

    Holds paths only, so that DataLoader's workers get a copy for nothing.

    Args:
        path: Where it lies.
        names: One for each frame.

    Attributes:
        kind: Which dataset it is.
        sign: What its files look like, for people.
        licence: What it may be used for.
        depth_origin: How its `depth_m` came about.

    Raises:
        DatasetError: If it has no frames.
    """

    kind: ClassVar[str]
    sign: ClassVar[str]
    licence: Licence
    depth_origin: ClassVar[DepthOrigin] = 'sensor'

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        self.names = list(names)
        if not self.names:
            raise DatasetError(f'{path} has no frames of {self.kind}; looked for {self.sign}')

    @staticmethod
    @abstractmethod
    def recognises(path: Path) -> bool:
        """Return whether the files at a path look like this dataset's."""

    @abstractmethod
    def _read(self, index: int) -> Sample: ...

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Read a frame.

        Raises:
            DatasetError: If its files cannot be read, or do not fit together.
            IndexError: If there is no such frame.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'{self.path} has {len(self)} frames, so none at {index}')
        try:
            return self._read(index % len(self))
        except DatasetError:
            raise
        except ValueError as error:
            raise DatasetError(f'{self.path}: {error}') from None

    def __iter__(self) -> Iterator[Sample]:
        """Read all frames in turn."""
        return (self[i] for i in range(len(self)))


class Licensed(Protocol):
    """What has a licence that may allow training."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def kind(self) -> str:
        """Which dataset it is."""

    @property
    def licence(self) -> Licence:
        """What it may be used for."""


def require_shippable(datasets: Iterable[Licensed], *, research: bool = False) -> None:
    """Refuse datasets whose licence forbids giving away weights trained on them.

    Args:
        datasets: What is about to be trained on.
        research: The user's word that the weights will not be shipped.

    Raises:
        DatasetError: If one may not be used; names it and its licence.
    """
    for dataset in datasets:
        if not research and not dataset.licence.allows_shipping:
            raise DatasetError(
                f'{dataset.path} is {dataset.kind}: {dataset.licence.name} '
                f'({dataset.licence.terms.value}). Weights trained on it may not be shipped; '
                'allow research-only data if they never will be.'
            )


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Matrix:
    """Return the (3, 3) matrix of a pinhole camera, pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)

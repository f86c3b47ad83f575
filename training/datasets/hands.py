"""Reads the datasets of hands in depth images: joints in metres in the camera's optical frame.

    for sample in open_hands(Path('nyu_hand_dataset_v2/dataset/train')):
        sample.depth_m, sample.joints_m, sample.joints_px

All of them may be used for research only, so `require_shippable` refuses them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
import io
from pathlib import Path
import re
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from depth_refiner_ros.counts import metres_from_counts

from .files import only_positive, read_bytes, read_counts, read_image, read_mat
from .hand_joints import (
    HANDS2017_TO_21,
    ICVL_16,
    MEDIAPIPE,
    MSRA_TO_21,
    NYU_14,
    NYU_14_OF_36,
    Scheme,
)
from .sample import Dataset, DatasetError, Depth, Licence, Matrix, Sample, Terms, camera_matrix

NYU_CAMERA = camera_matrix(588.03, 587.07, 320, 240)
"""What evaluations of this dataset use; its own conversion code has 588.037 and 587.075."""
ICVL_CAMERA = camera_matrix(241.42, 241.42, 160, 120)
MSRA_CAMERA = camera_matrix(241.42, 241.42, 160, 120)
HANDS2017_CAMERA = camera_matrix(475.065948, 475.065857, 315.944855, 245.287079)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HandSample(Sample):
    """One labelled hand.

    Attributes:
        joints_m: (J, 3) x right, y down, z forward, metres.
        joints_px: (J, 2) columns and rows.
        rendered_m: (H, W) depth of the model that labels were fitted with, NaN beside the hand,
            where the dataset has it.
    """

    joints_m: Matrix
    joints_px: Matrix
    rendered_m: Depth | None = None


class HandDataset(Dataset):
    """Hands, one a frame.

    Attributes:
        scheme: Which joints are labelled.
        camera: (3, 3) intrinsics of all frames.
    """

    scheme: ClassVar[Scheme]
    camera: ClassVar[Matrix]

    @abstractmethod
    def _read(self, index: int) -> HandSample: ...

    def hand(self, index: int) -> HandSample:
        """Read a frame, as `dataset[index]` does."""
        sample = self[index]
        if not isinstance(sample, HandSample):
            raise TypeError(f'{self.kind} does not read hands')
        return sample

    def _sample(
        self,
        index: int,
        depth_m: Depth,
        joints_m: npt.NDArray[np.floating],
        rendered_m: Depth | None = None,
    ) -> HandSample:
        image = joints_m @ self.camera.T
        return HandSample(
            self.names[index],
            depth_m,
            self.licence,
            intrinsics=self.camera,
            joints_m=np.asarray(joints_m, np.float64),
            joints_px=np.asarray(image[:, :2] / image[:, 2:], np.float64),
            rendered_m=rendered_m,
        )


class NyuHands(HandDataset):
    """NYU: Tompson et al., ACM ToG 2014, a Kinect v1; `train` or `test` of its `dataset` folder.

    joint_data.mat has joint_uvd (3 cameras, N, 36, 3), of which the usual 14 are read. Depth is
    packed into PNG: eight high bits in green, eight low ones in blue, millimetres. The rendered
    model lies beside it as synthdepth_*.png.

    Args:
        path: The folder.
        view: 1 is the camera in front, 2 and 3 are at the sides.
    """

    kind = 'NYU hands'
    sign = 'joint_data.mat and depth_1_0000001.png'
    licence = Licence('NYU Hand Pose, none stated; used for research', Terms.RESEARCH_ONLY)
    scheme = NYU_14
    camera = NYU_CAMERA

    def __init__(self, path: Path, view: int = 1) -> None:
        file = path / 'joint_data.mat'
        uvd = read_mat(file, 'joint_uvd')
        if uvd.ndim != 4 or uvd.shape[0] < view or uvd.shape[2:] != (36, 3):
            raise DatasetError(
                f'{file}: joint_uvd is {uvd.shape}, not (3, N, 36, 3); download the original'
            )
        numbers = _numbers(path, rf'depth_{view}_(\d{{7}})\.png')
        self._uvd_mm = {
            n: uvd[view - 1, n - 1, list(NYU_14_OF_36)] for n in numbers if n <= uvd.shape[1]
        }
        self._numbers = list(self._uvd_mm)
        super().__init__(path, (f'depth_{view}_{n:07d}' for n in self._numbers))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has the labels."""
        return (path / 'joint_data.mat').is_file()

    def _read(self, index: int) -> HandSample:
        name, uvd_mm = self.names[index], self._uvd_mm[self._numbers[index]]
        rendered = self.path / f'synth{name}.png'
        return self._sample(
            index,
            read_packed_depth(self.path / f'{name}.png'),
            _lifted(uvd_mm, self.camera),
            read_packed_depth(rendered) if rendered.exists() else None,
        )


class IcvlHands(HandDataset):
    """ICVL: Tang et al., "Latent Regression Forest", CVPR 2014, an Intel Creative camera.

    A line of labels.txt (or test_seq_1.txt) is a path below `Depth` and 16 times column, row and
    millimetres.
    """

    kind = 'ICVL hands'
    sign = 'labels.txt or test_seq_*.txt beside Depth'
    licence = Licence('ICVL Hand Posture, academic research only', Terms.RESEARCH_ONLY)
    scheme = ICVL_16
    camera = ICVL_CAMERA

    def __init__(self, path: Path) -> None:
        labels = []
        for file in _icvl_labels(path):
            for number, line in enumerate(read_bytes(file).decode().splitlines(), 1):
                name, *words = line.split()[:49] or ['']
                if name and (path / 'Depth' / name).exists():
                    labels.append((name, _floats(words, 48, file, number).reshape(16, 3)))
        self._uvd_mm = [uvd_mm for _, uvd_mm in labels]
        super().__init__(path, (name for name, _ in labels))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has labels and depth."""
        return path.is_dir() and (path / 'Depth').is_dir() and bool(_icvl_labels(path))

    def _read(self, index: int) -> HandSample:
        # 32001 is what Intel's camera writes where it measured nothing.
        counts = read_counts(self.path / 'Depth' / self.names[index])
        return self._sample(
            index,
            metres_from_counts(counts, no_return=(0, 32001)),
            _lifted(self._uvd_mm[index], self.camera),
        )


class MsraHands(HandDataset):
    """MSRA15: Sun et al., "Cascaded Hand Pose Regression", CVPR 2015, an Intel Creative camera.

    P0/1/joint.txt has the number of frames, then 63 numbers a line: millimetres, y up and z
    backwards. 000000_depth.bin has width, height, left, top, right, bottom (uint32) and the depth
    of that box, float32 millimetres.
    """

    kind = 'MSRA15 hands'
    sign = 'P0/1/joint.txt and P0/1/000000_depth.bin'
    licence = Licence('MSRA Hand Gesture, none stated; used for research', Terms.RESEARCH_ONLY)
    scheme = MEDIAPIPE
    camera = MSRA_CAMERA

    def __init__(self, path: Path) -> None:
        files = sorted(path.glob('P*/*/*_depth.bin'))
        super().__init__(path, (str(file.relative_to(path).with_suffix('')) for file in files))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has gestures of people."""
        return path.is_dir() and next(path.glob('P*/*/joint.txt'), None) is not None

    def _read(self, index: int) -> HandSample:
        name = self.names[index]
        file = self.path / f'{name}.bin'
        joints_mm = _msra_joints(file.parent / 'joint.txt')
        number = int(file.name.split('_')[0])
        if number >= len(joints_mm):
            raise DatasetError(f'{file.parent}/joint.txt has no line for {file.name}')
        xyz_m = 1e-3 * joints_mm[number, list(MSRA_TO_21)] * (1, -1, -1)
        return self._sample(index, _msra_depth(file), xyz_m)


class Hands2017(HandDataset):
    """HANDS 2017 challenge: Yuan et al., arXiv 1707.02237, an Intel SR300.

    A line of Training_Annotation.txt is a file below `images` and 21 points in millimetres.
    """

    kind = 'HANDS2017'
    sign = 'Training_Annotation.txt and images'
    licence = Licence('HANDS 2017 challenge, academic research only', Terms.RESEARCH_ONLY)
    scheme = MEDIAPIPE
    camera = HANDS2017_CAMERA

    def __init__(self, path: Path) -> None:
        self._labels = path / 'Training_Annotation.txt'
        names, self._starts, at = [], [], 0
        # Half a gigabyte of text: where lines start is kept, what they say is read when needed.
        for line in io.BytesIO(read_bytes(self._labels)):
            if name := line.split(maxsplit=1)[:1]:
                names.append(name[0].decode())
                self._starts.append(at)
            at += len(line)
        super().__init__(path, names)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has the labels."""
        return (path / 'Training_Annotation.txt').is_file()

    def _read(self, index: int) -> HandSample:
        with self._labels.open('rb') as file:
            file.seek(self._starts[index])
            words = file.readline().decode().split()[1:]
        xyz_m = 1e-3 * _floats(words, 63, self._labels, index + 1).reshape(21, 3)
        counts = read_counts(self.path / 'images' / self.names[index])
        return self._sample(index, metres_from_counts(counts), xyz_m[list(HANDS2017_TO_21)])


HAND_LAYOUTS: tuple[type[HandDataset], ...] = (NyuHands, IcvlHands, MsraHands, Hands2017)


def open_hands(path: Path) -> HandDataset:
    """Open a dataset of hands by what its files look like.

    Raises:
        DatasetError: If it is not recognised, or damaged.
    """
    if not path.exists():
        raise DatasetError(f'there is no {path}')
    for layout in HAND_LAYOUTS:
        if layout.recognises(path):
            return layout(path)  # type: ignore[call-arg]  # each finds its own names
    signs = '; '.join(f'{layout.kind}: {layout.sign}' for layout in HAND_LAYOUTS)
    raise DatasetError(f'{path} looks like no dataset of hands. Looked for {signs}.')


def read_packed_depth(path: Path) -> Depth:
    """Read a PNG of NYU's: high bits in green, low bits in blue, millimetres; 0 is nothing."""
    image = read_image(path)
    if image.ndim != 3 or image.dtype != np.uint8:
        raise DatasetError(
            f'{path} must have three channels of 8 bits, got {image.dtype} {image.shape}'
        )
    high, low = image[..., 1].astype(np.uint16), image[..., 0]
    return metres_from_counts((256 * high + low).astype(np.uint16))


def _lifted(uvd_mm: npt.NDArray[np.floating], camera: Matrix) -> Matrix:
    """Return points in metres of columns, rows and depth in millimetres."""
    z_m = 1e-3 * uvd_mm[:, 2:].astype(np.float64)
    plane = (uvd_mm[:, :2] - camera[:2, 2]) / (camera[0, 0], camera[1, 1])
    return np.hstack([plane * z_m, z_m])


def _numbers(path: Path, pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, file.name) for file in path.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _icvl_labels(path: Path) -> list[Path]:
    return sorted([*path.glob('labels.txt'), *path.glob('test_seq_*.txt')])


def _floats(words: list[str], count: int, file: Path, line: int) -> npt.NDArray[np.float64]:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        values = np.empty(0)
    if len(values) != count:
        raise DatasetError(f'{file}, line {line}, does not hold {count} numbers after the name')
    return values


@lru_cache(maxsize=160)
def _msra_joints(file: Path) -> npt.NDArray[np.float64]:
    lines = read_bytes(file).decode().splitlines()
    rows = [_floats(line.split(), 63, file, n) for n, line in enumerate(lines[1:], 2) if line]
    return np.array(rows).reshape(-1, 21, 3)


def _msra_depth(file: Path) -> Depth:
    octets = read_bytes(file)
    header = np.frombuffer(octets[:24], '<u4')
    if len(header) == 6:
        width, height, left, top, right, bottom = (int(value) for value in header)
        if len(octets) == 24 + 4 * (right - left) * (bottom - top):
            depth_m = np.zeros((height, width), np.float32)
            box = np.frombuffer(octets[24:], '<f4').reshape(bottom - top, right - left)
            depth_m[top:bottom, left:right] = 1e-3 * box
            return only_positive(depth_m)
    raise DatasetError(f'{file} is cut short; unpack it again')


CROP_PX = 224
SIDE_M = 0.3
BACKGROUND_M = 2.0

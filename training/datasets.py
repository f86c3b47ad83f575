"""Reads the RGB-D datasets that people have, as they come: metres, NaN where nothing was measured.

    for frame in open_dataset(Path('nyu_depth_v2_labeled.mat')):
        frame.depth_m, frame.rgb, frame.intrinsics

Frames are read when they are asked for, so a dataset goes into a DataLoader as it is. Most of them
may be used for research only: see `Dataset.licence` before weights trained on one are shipped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import importlib
import json
from pathlib import Path
import re
from typing import Any, NamedTuple, overload

import cv2
import numpy as np
import numpy.typing as npt

from depth_refiner_ros.folders import Folder

Image = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


class DatasetError(ValueError):
    """A dataset cannot be read; the text names the file and what to do."""


class Licence(NamedTuple):
    """What a dataset may be used for.

    Attributes:
        name: As its makers call it.
        allows_shipping: Whether weights trained on it may be given to anybody for any purpose.
    """

    name: str
    allows_shipping: bool


@dataclass(frozen=True)
class Frame:
    """One frame of a dataset.

    Attributes:
        name: Of the frame.
        depth_m: (H, W) measured, NaN where there is no return.
        rgb: (H, W, 3) uint8, or none.
        reference_m: (H, W) better depth where the dataset has it, else none.
        intrinsics: (3, 3) of the depth image, pixels; none where the dataset does not say.
        registered: Whether colour pixels and depth pixels are the same rays.
    """

    name: str
    depth_m: Image
    rgb: npt.NDArray[np.uint8] | None = None
    reference_m: Image | None = None
    intrinsics: Matrix | None = None
    registered: bool = True


class Dataset(Sequence[Frame]):
    """The frames of a dataset, read when they are asked for.

    Args:
        kind: Which dataset it is.
        licence: What it may be used for.
        names: One for each frame.
        read: Reads frame number i.
    """

    def __init__(
        self, kind: str, licence: Licence, names: Sequence[str], read: Callable[[int], Frame]
    ) -> None:
        self.kind = kind
        self.licence = licence
        self.names = list(names)
        self._read = read

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        """Return a frame.

        Raises:
            DatasetError: If its files cannot be read.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'{self.kind} has {len(self)} frames, not {index}')
        return self._read(index % len(self))

    def __iter__(self) -> Iterator[Frame]:
        """Read all frames in turn."""
        return (self[i] for i in range(len(self)))


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Matrix:
    """Return a matrix of intrinsics, pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


# --------------------------------------------------------------------------------------- reading


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DatasetError(f"{name} is needed to read this: pip install '.[train]'") from None


def _image(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
    try:
        octets = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DatasetError(f'{path} cannot be read: {error.strerror or error}') from None
    image = cv2.imdecode(octets, flags) if octets.size else None
    if image is None:
        raise DatasetError(f'{path} is no image or is cut short; copy it again')
    return np.asarray(image)


def _color(path: Path) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(_image(path, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def _counts(path: Path) -> npt.NDArray[np.uint16]:
    image = _image(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DatasetError(f'{path} must have one channel of 16 bits, got {image.dtype}')
    return image


def _metres(counts: npt.NDArray[np.uint16], per_metre: float, *nothing: int) -> Image:
    depth_m: Image = (counts / np.float64(per_metre)).astype(np.float32)
    depth_m[np.isin(counts, (0, *nothing))] = np.nan
    return depth_m


def _exr(path: Path) -> Image:
    """Read the first channel of an EXR file, metres; 0 and what is not finite is nothing."""
    library = _library('OpenEXR')
    try:
        with library.File(str(path)) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the library raises what it likes
        raise DatasetError(f'{path} is no EXR file or is cut short: {error}') from None
    name = next((n for n in ('R', 'Z', 'Y', 'RGB', 'RGBA') if n in channels), None)
    if name is None:
        raise DatasetError(f'{path} has none of the channels R, Z or Y: {", ".join(channels)}')
    depth_m = np.array(channels[name], np.float32)
    return _only_real(depth_m if depth_m.ndim == 2 else depth_m[..., 0])


def _only_real(depth_m: Image) -> Image:
    real = np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(np.nan))
    return np.asarray(real, np.float32)


def _hdf5(path: Path) -> Any:
    try:
        return _library('h5py').File(path, 'r')
    except OSError as error:
        raise DatasetError(f'{path} is no HDF5 file or is cut short: {error}') from None


# -------------------------------------------------------------------------------------- datasets

RESEARCH = Licence('research only', False)

NYU_COLOR = camera_matrix(518.857901, 519.469611, 325.582449, 253.736166)
NYU_DEPTH = camera_matrix(582.62448168, 582.69103271, 313.04475871, 238.44389627)
"""Of the toolbox's camera_params.m."""


def nyu_labeled(path: Path) -> Dataset:
    """Open nyu_depth_v2_labeled.mat: 1449 frames, depth projected into the colour camera.

    The reference is the makers' filling by colourisation, not a measurement. Source: Silberman et
    al., Indoor Segmentation and Support Inference from RGBD Images, 2012; MATLAB stores columns
    first, so the axes come reversed.
    """
    with _hdf5(path) as file:
        missing = [name for name in ('images', 'rawDepths', 'depths') if name not in file]
        if missing:
            raise DatasetError(f'{path} has no {", ".join(missing)}: not the labeled dataset')
        count = len(file['images'])

    def read(i: int) -> Frame:
        with _hdf5(path) as file:
            rgb, raw_m, filled_m = (file[n][i] for n in ('images', 'rawDepths', 'depths'))
        return Frame(
            f'{i:04d}',
            _only_real(raw_m.T.astype(np.float32)),
            np.ascontiguousarray(rgb.transpose(2, 1, 0)),
            _only_real(filled_m.T.astype(np.float32)),
            NYU_COLOR,
        )

    return Dataset('NYUv2 labeled', RESEARCH, [f'{i:04d}' for i in range(count)], read)


_NYU_RAW = re.compile(r'^[dr]-(\d+\.\d+)-\d+\.(pgm|ppm)$')


def nyu_raw(folder: Path) -> Dataset:
    """Open a scene of the raw NYUv2 dataset: every depth frame with the colour nearest in time.

    Depth is not projected into the colour camera. Source: the toolbox's get_synched_frames.m and
    depth_rel2depth_abs.m: z = 351.3 / (1092.5 - swapped count) metres.
    """

    def stamped(prefix: str, suffix: str) -> list[tuple[float, Path]]:
        paths = sorted(folder.glob(f'{prefix}-*.{suffix}'))
        return sorted((float(m[1]), p) for p in paths if (m := _NYU_RAW.match(p.name)))

    depths, colors = stamped('d', 'pgm'), stamped('r', 'ppm')
    times_s = [time_s for time_s, _ in colors]

    def read(i: int) -> Frame:
        time_s, path = depths[i]
        relative = _counts(path).byteswap().astype(np.float64)
        with np.errstate(divide='ignore'):
            depth_m = 351.3 / (1092.5 - relative)
        depth_m[(depth_m > 10) | (relative == 0)] = np.nan
        rgb = None
        if times_s:
            at = bisect_left(times_s, time_s)
            near = min(
                (k for k in (at - 1, at) if 0 <= k < len(times_s)),
                key=lambda k: abs(times_s[k] - time_s),
            )
            rgb = _color(colors[near][1])
        depth = _only_real(depth_m.astype(np.float32))
        return Frame(path.stem, depth, rgb, intrinsics=NYU_DEPTH, registered=False)

    return Dataset('NYUv2 raw', RESEARCH, [path.stem for _, path in depths], read)


def seven_scenes(folder: Path) -> Dataset:
    """Open a sequence of 7-Scenes: millimetres, 65535 for nothing, colour not registered.

    Source: Shotton et al., Scene Coordinate Regression Forests, 2013, and its readme.
    """
    paths = sorted(folder.glob('frame-*.depth.png'))

    def read(i: int) -> Frame:
        name = paths[i].name.removesuffix('.depth.png')
        color = folder / f'{name}.color.png'
        return Frame(
            name,
            _metres(_counts(paths[i]), 1000, 65535),
            _color(color) if color.exists() else None,
            intrinsics=camera_matrix(585, 585, 320, 240),
            registered=False,
        )

    licence = Licence('Microsoft 7-Scenes, non-commercial', False)
    return Dataset('7-Scenes', licence, [p.name.removesuffix('.depth.png') for p in paths], read)


def sun_rgbd(folder: Path) -> Dataset:
    """Open SUN RGB-D, or a part of it: counts are rotated by three bits, then millimetres.

    Source: Song et al., SUN RGB-D, 2015; the toolbox's read3dPoints.m.
    """
    found = sorted(folder.rglob('intrinsics.txt'))
    places = [path.parent for path in found if (path.parent / 'depth').is_dir()]

    def read(i: int) -> Frame:
        place = places[i]
        depths, colors = (sorted((place / part).glob('*')) for part in ('depth', 'image'))
        if not depths:
            raise DatasetError(f'{place / "depth"} is empty; unpack the dataset again')
        counts = _counts(depths[0])
        counts = np.asarray((counts >> 3) | (counts << 13), np.uint16)
        words = (place / 'intrinsics.txt').read_text().split()
        try:
            matrix = np.array(words, np.float64).reshape(3, 3)
        except ValueError:
            raise DatasetError(f'{place / "intrinsics.txt"} does not hold nine numbers') from None
        rgb = _color(colors[0]) if colors else None
        return Frame(str(place.relative_to(folder)), _metres(counts, 1000), rgb, intrinsics=matrix)

    names = [str(place.relative_to(folder)) for place in places]
    return Dataset('SUN RGB-D', RESEARCH, names, read)


def diml(folder: Path) -> Dataset:
    """Open DIML indoor: `color/*_c.png` beside `depth_filled/*_depth_filled.png`, millimetres.

    The depth is a Kinect v2's, filled by its makers. Source: Cho et al., DIML/CVL RGB-D Dataset,
    2021; layout as the ZoeDepth repository reads it.
    """
    paths = sorted(folder.rglob('color/*_c.png'))

    def read(i: int) -> Frame:
        color = paths[i]
        stem = color.name.removesuffix('_c.png')
        depth = color.parents[1] / 'depth_filled' / f'{stem}_depth_filled.png'
        return Frame(stem, _metres(_counts(depth), 1000), _color(color))

    return Dataset('DIML indoor', RESEARCH, [p.name for p in paths], read)


_HYPERSIM_FOCAL_PX = 886.81
_HYPERSIM_SIZE_PX = (1024, 768)


def hypersim(folder: Path) -> Dataset:
    """Open Hypersim, or a scene: `frame.*.depth_meters.hdf5` holds distances along the ray.

    Their focal length is 886.81 px at 1024x768; scenes with other lenses need their own. Source:
    Roberts et al., Hypersim, 2021; ml-hypersim issue 9.
    """
    paths = sorted(folder.rglob('frame.*.depth_meters.hdf5'))

    def read(i: int) -> Frame:
        with _hdf5(paths[i]) as file:
            distance_m = np.array(file['dataset'], np.float32)
        height, width = distance_m.shape
        focal_px = _HYPERSIM_FOCAL_PX * width / _HYPERSIM_SIZE_PX[0]
        v, u = np.mgrid[:height, :width]
        x, y = (u - (width - 1) / 2) / focal_px, (v - (height - 1) / 2) / focal_px
        depth_m = (distance_m / np.sqrt(x * x + y * y + 1)).astype(np.float32)
        place = paths[i]
        stem = place.name.removesuffix('.depth_meters.hdf5')
        color = (
            place.parents[1]
            / place.parent.name.replace('_geometry_hdf5', '_final_preview')
            / f'{stem}.tonemap.jpg'
        )
        return Frame(
            stem,
            _only_real(depth_m),
            _color(color) if color.exists() else None,
            intrinsics=camera_matrix(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2),
        )

    licence = Licence('CC BY-SA 3.0', False)
    return Dataset('Hypersim', licence, [str(p.relative_to(folder)) for p in paths], read)


def clear_grasp(folder: Path) -> Dataset:
    """Open ClearGrasp's real images: depth of glass as measured, and of its painted twin.

    Source: Sajjan et al., ClearGrasp, 2020; EXR files in metres.
    """
    paths = sorted(folder.rglob('*-transparent-depth-img.exr'))

    def read(i: int) -> Frame:
        stem = paths[i].name.removesuffix('-transparent-depth-img.exr')
        beside = paths[i].parent
        opaque = beside / f'{stem}-opaque-depth-img.exr'
        color = next(beside.glob(f'{stem}-transparent-rgb-img.*'), None)
        return Frame(
            stem,
            _exr(paths[i]),
            None if color is None else _color(color),
            _exr(opaque) if opaque.exists() else None,
        )

    licence = Licence('CC BY 4.0 (check your copy)', False)
    return Dataset('ClearGrasp', licence, [str(p.relative_to(folder)) for p in paths], read)


def record3d(folder: Path) -> Dataset:
    """Open an export of the Record3D app (EXR + JPG), or RGB and 16-bit depth in its layout.

    `metadata.json` holds K column by column, for the colour image. Its depth may be smaller than
    the colour; then colour is scaled to it. Source: record3d issues 67 and 121.
    """
    described = folder / 'metadata.json'
    try:
        told = json.loads(described.read_text())
        # Nine numbers of the colour image, transposed.
        matrix = np.array(told['K'], np.float64).reshape(3, 3).T
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{described} does not say K as nine numbers: {error}') from None
    paths = sorted(
        (p for p in (folder / 'depth').iterdir() if p.suffix in ('.exr', '.png')),
        key=lambda p: (len(p.stem), p.stem),
    )

    def read(i: int) -> Frame:
        path = paths[i]
        depth_m = _exr(path) if path.suffix == '.exr' else _metres(_counts(path), 1000)
        height, width = depth_m.shape
        color = next(iter(sorted((folder / 'rgb').glob(f'{path.stem}.*'))), None)
        rgb, scale = None, np.ones(2)
        if color is not None:
            rgb = _color(color)
            scale = np.array([width / rgb.shape[1], height / rgb.shape[0]])
            if rgb.shape[:2] != (height, width):
                rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA))
        fitted = matrix.copy()
        # Pixel centres are at whole numbers: (c + 0.5) scales, not c.
        fitted[0, 0], fitted[1, 1] = matrix[0, 0] * scale[0], matrix[1, 1] * scale[1]
        fitted[:2, 2] = (matrix[:2, 2] + 0.5) * scale - 0.5
        return Frame(path.stem, depth_m, rgb, intrinsics=fitted)

    return Dataset('Record3D', Licence('your own', True), [p.stem for p in paths], read)


def own_folder(folder: Path) -> Dataset:
    """Open a folder in the project's layout, or in TUM RGB-D's; see `depth_refiner_ros.folders`.

    Source of the latter: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012.
    """
    try:
        opened = Folder(folder)
    except (OSError, ValueError) as error:
        raise DatasetError(str(error)) from None

    def read(i: int) -> Frame:
        try:
            frame = opened.read(i)
        except (OSError, ValueError) as error:
            raise DatasetError(str(error)) from None
        c, color = frame.camera, frame.color
        return Frame(
            opened.names[i],
            frame.depth.depth_m,
            None if color is None else color.rgb,
            None if frame.reference is None else frame.reference.depth_m,
            camera_matrix(c.fx, c.fy, c.cx, c.cy),
            color is not None and color.header.frame_id == frame.depth.header.frame_id,
        )

    is_tum = not (folder / 'camera.json').exists()
    licence = Licence('CC BY 4.0', True) if is_tum else Licence('your own', True)
    kind = 'TUM RGB-D' if is_tum else 'folder'
    return Dataset(kind, licence, opened.names, read)


class Layout(NamedTuple):
    """How a dataset is recognised.

    Attributes:
        name: Of the dataset.
        sign: What its files look like, for people.
        found: Whether a path has them.
        open: Opens it.
    """

    name: str
    sign: str
    found: Callable[[Path], bool]
    open: Callable[[Path], Dataset]


def _has(pattern: str) -> Callable[[Path], bool]:
    return lambda path: path.is_dir() and next(path.glob(pattern), None) is not None


LAYOUTS = (
    Layout('NYUv2 labeled', 'a .mat file', lambda p: p.suffix == '.mat', nyu_labeled),
    Layout('NYUv2 raw', 'd-*.pgm and r-*.ppm', _has('d-*.pgm'), nyu_raw),
    Layout('7-Scenes', 'frame-*.depth.png', _has('frame-*.depth.png'), seven_scenes),
    Layout('Record3D', 'metadata.json, depth/, rgb/', _has('metadata.json'), record3d),
    Layout('folder', 'camera.json, depth/', _has('camera.json'), own_folder),
    Layout('TUM RGB-D', 'rgb.txt, depth.txt', _has('depth.txt'), own_folder),
    Layout('SUN RGB-D', '**/intrinsics.txt', _has('**/intrinsics.txt'), sun_rgbd),
    Layout('DIML indoor', '**/color/*_c.png', _has('**/color/*_c.png'), diml),
    Layout('Hypersim', '**/*.depth_meters.hdf5', _has('**/*.depth_meters.hdf5'), hypersim),
    Layout(
        'ClearGrasp', '**/*-transparent-depth-img.exr', _has('**/*-transparent-depth-img.exr'),
        clear_grasp,
    ),
)  # fmt: skip


def open_dataset(path: Path) -> Dataset:
    """Open a dataset by what its files look like.

    Raises:
        DatasetError: If it is not recognised, or damaged.
    """
    if not path.exists():
        raise DatasetError(f'there is no {path}')
    for layout in LAYOUTS:
        if layout.found(path):
            return layout.open(path)
    signs = '; '.join(f'{layout.name}: {layout.sign}' for layout in LAYOUTS)
    raise DatasetError(f'{path} looks like none of the datasets known. Looked for {signs}.')

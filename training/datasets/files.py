"""Reads the files datasets are made of: metres, NaN where nothing was measured."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .sample import Color, DatasetError, Depth, Matrix


def read_image(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
    """Read an image as OpenCV decodes it.

    Raises:
        DatasetError: If there is no such file, or it is damaged.
    """
    # Decoded from memory: cv2.imread prints its own complaints beside ours.
    octets = np.frombuffer(read_bytes(path), np.uint8)
    image = cv2.imdecode(octets, flags) if octets.size else None
    if image is None:
        raise DatasetError(
            f'{path} is not a readable image: it is damaged or cut short; unpack or copy it again'
        )
    return np.asarray(image)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f'{path} cannot be read ({error.strerror or error}); unpack the dataset again'
        ) from None


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        DatasetError: If it cannot be read, or holds no text.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise DatasetError(f'{path} is not a text file; unpack the dataset again') from None


def read_color(path: Path) -> Color:
    """Read an image as (H, W, 3) red, green, blue."""
    return np.ascontiguousarray(read_image(path, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def read_counts(path: Path) -> npt.NDArray[np.uint16]:
    """Read (H, W) counts of 16 bits.

    Raises:
        DatasetError: If the image has other pixels.
    """
    image = read_image(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DatasetError(
            f'{path} must have one channel of 16 bits, got {image.dtype} {image.shape}; '
            'depth that went through an image editor has lost its metres'
        )
    return image


def only_positive(depth_m: npt.NDArray[Any]) -> Depth:
    """Return depth with NaN for what is no distance: zero, negative or infinite."""
    with np.errstate(invalid='ignore'):
        real = np.isfinite(depth_m) & (depth_m > 0)
    return np.where(real, depth_m, np.nan).astype(np.float32)


def read_exr(path: Path) -> Depth:
    """Read the first channel of an EXR file, metres.

    OpenCV's own decoder is off unless an environment variable is set before its first image, too
    early for a library to rely on; hence OpenEXR, as Record3D's author advises:
    https://github.com/marek-simonik/record3d/issues/67

    Raises:
        DatasetError: If it cannot be read, or OpenEXR is not installed.
    """
    if not path.exists():
        raise DatasetError(f'{path} is missing; unpack the dataset again')
    library = _library('OpenEXR', 'openexr')
    try:
        with library.File(str(path)) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # it raises RuntimeError, ValueError and others
        raise DatasetError(
            f'{path} is no EXR file or is cut short ({error}); unpack or copy it again'
        ) from None
    name = next((n for n in ('R', 'Z', 'Y', 'RGB', 'RGBA') if n in channels), None)
    if name is None:
        raise DatasetError(f'{path} has none of the channels R, Z or Y: {", ".join(channels)}')
    pixels = np.asarray(channels[name])
    return only_positive(pixels if pixels.ndim == 2 else pixels[..., 0])


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file, to be used in a `with`.

    Raises:
        DatasetError: If it is not one, or h5py is not installed.
    """
    if not path.exists():
        raise DatasetError(f'{path} is missing; unpack the dataset again')
    library = _library('h5py', 'h5py')
    try:
        return library.File(path, 'r')
    except OSError as error:
        raise DatasetError(
            f'{path} is no HDF5 file or is cut short ({error}); download it again'
        ) from None


def read_hdf5(file: Any, path: Path, name: str, index: Any = ...) -> npt.NDArray[Any]:
    """Read an array, or a part of it, from an open HDF5 file.

    Raises:
        DatasetError: If it is not there or damaged.
    """
    try:
        return np.asarray(file[name][index])
    except KeyError:
        raise DatasetError(f'{path} has no {name!r}, only {", ".join(file)}') from None
    except OSError as error:
        raise DatasetError(f'{path}: {name!r} is damaged ({error}); download it again') from None


def read_mat(path: Path, name: str) -> npt.NDArray[Any]:
    """Read an array from a MATLAB file, of the kind before 7.3.

    Raises:
        DatasetError: If it is not one or lacks the array, or SciPy is not installed.
    """
    if not path.exists():
        raise DatasetError(f'{path} is missing; unpack the dataset again')
    library = _library('scipy.io', 'scipy')
    try:
        return np.asarray(library.loadmat(str(path), variable_names=[name])[name])
    except KeyError:
        raise DatasetError(f'{path} has no {name!r}; download it again') from None
    except Exception as error:  # it raises ValueError, TypeError, NotImplementedError and others
        raise DatasetError(
            f'{path} is no MATLAB 5 file or is cut short ({error}); download it again'
        ) from None


def read_matrix(path: Path, size: int) -> Matrix:
    """Read a square matrix from a text file, whatever its line breaks.

    Raises:
        DatasetError: If it holds other than size x size finite numbers.
    """
    words = read_text(path).split()
    try:
        matrix = np.array(words, np.float64).reshape(size, size)
    except ValueError:
        matrix = np.full((size, size), np.nan)
    if not np.isfinite(matrix).all():
        number = {3: 'nine', 4: 'sixteen'}[size]
        raise DatasetError(f'{path} does not hold {number} numbers; unpack the dataset again')
    return matrix


def fit_color(rgb: Color, depth_m: Depth) -> Color:
    """Scale colour to the size of the depth it is registered to; depth is never scaled."""
    height, width = depth_m.shape
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DatasetError(
            f"{name} is needed to read this: pip install {package}, or pip install '.[train]'"
        ) from None

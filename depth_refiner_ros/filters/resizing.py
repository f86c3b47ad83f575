"""Depth in another size, where an edge stays an edge."""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np

from ..data import Float32Array, UInt8Array

SAME_SURFACE = 0.02
"""Neighbours that differ by more than this share are of different surfaces."""


def first_measured(
    factor: int, depth_m: Float32Array, *others: Float32Array
) -> list[Float32Array]:
    """Return depth in a smaller size: of each square the first measurement, never a mean.

    Args:
        factor: By how much smaller.
        depth_m: (H, W), NaN where there is no return.
        others: (H, W) each; of them the pixels are taken that are taken of the depth.
    """
    height, width = depth_m.shape
    rest = ((0, -height % factor), (0, -width % factor))
    whole = [np.pad(image, rest, constant_values=np.nan) for image in (depth_m, *others)]
    found: list[Float32Array] = [image[::factor, ::factor].copy() for image in whole]
    for row, column in product(range(factor), range(factor)):
        parts = [image[row::factor, column::factor] for image in whole]
        taken = np.isnan(found[0]) & ~np.isnan(parts[0])
        for target, part in zip(found, parts, strict=True):
            np.copyto(target, part, where=taken)
    return found


def model_inputs(
    depth_m: Float32Array, color: UInt8Array | None, reduction: int
) -> dict[str, Any]:
    """Return what a model is given of a frame, reduced by a factor; black where colour is None."""
    (reduced_m,) = first_measured(reduction, depth_m)
    if color is None:
        color = np.zeros((*reduced_m.shape, 3), np.uint8)
    elif reduction > 1:
        size = reduced_m.shape[::-1]
        color = np.asarray(cv2.resize(color, size, interpolation=cv2.INTER_AREA), np.uint8)
    return {'depth_m': reduced_m, 'color': np.ascontiguousarray(color)}


def enlarged(image: Float32Array, shape: tuple[int, ...], *, smooth: bool = True) -> Float32Array:
    """Return an image in a larger size, sharp where it steps and elsewhere smooth, if wanted."""
    if image.shape == shape:
        return image
    # Of both sides: one row is one row, however much smaller.
    factor = max(-(-large // small) for large, small in zip(shape, image.shape, strict=True))
    size = factor * image.shape[1], factor * image.shape[0]
    enlarged = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    if smooth:
        between = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        with np.errstate(invalid='ignore'):
            same = np.abs(between - enlarged) <= SAME_SURFACE * enlarged
        np.copyto(enlarged, between, where=same)
    return np.asarray(enlarged[: shape[0], : shape[1]], np.float32)

"""Gives a picture of an all-sharp camera the depth of field of a lens, from its depth.

A thin lens spreads a point out of focus over a disc, the circle of confusion, whose signed
diameter is affine in inverse depth: 0 in the plane of focus, positive behind it, negative before.
The picture is taken apart into layers of like discs; each is blurred by its own, at a resolution
that suits it, and the layers are laid over each other from back to front. A pixel between two
layers belongs to both, by such shares that the variance of its blur is exact.

Layers carry their coverage along and are divided by it (normalised convolution, H. Knutsson and
C.-F. Westin, CVPR 1993): what lies behind an edge is averaged over what is seen of it and nothing
else, so that a foreground leaves no halo on the background, and every result is a mean of colours
that are there.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
import math
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..data import Float32Array, UInt8Array

MAX_BLUR_PX = 128
"""Greatest diameter of a blur."""

# Radii of the layers, px. The smallest is what halving and doubling the resolution blurs by.
_RADII_PX = (2.0, 3.0, 4.5, 7.0, 10.5, 16.0, 24.0, 36.0, 54.0, 64.0)
# A disc is drawn where its radius is less than this many samples, and these are halves of that.
_DRAWN = 5.4
_COARSEST = 16
# Samples of a pixel's side when a disc is drawn.
_FINE = 16
# Pixels at the rim of what lies behind something show a mixture, and weigh next to nothing.
_MIXED = 1e-3
# Discs this much smaller than their neighbour's are of something nearer, px.
_STEP_PX = 1.0
_TINY = np.float32(1e-9)
_AROUND = np.ones((3, 3), np.uint8)

Planes = npt.NDArray[np.float32]
T = TypeVar('T', np.uint8, np.float32)


def circle_of_confusion_px(
    depth_m: Float32Array, *, focus_m: float, f_number: float, focal_px: float, focal_m: float
) -> Float32Array:
    """Return the signed diameter of the disc that a thin lens makes of a point at each depth.

    A lens of focal length f and aperture f / N, focused at depth s, spreads a point at depth z
    over |z - s| / z * f^2 / (N * (s - f)) on the sensor (M. Potmesil and I. Chakravarty, "A lens
    and aperture camera model for synthetic image generation", SIGGRAPH 1981). An image distance
    of f metres is one of focal_px pixels.

    Args:
        depth_m: Any shape, float32, metres along the optical axis, positive.
        focus_m: Depth that is sharp.
        f_number: Focal length over the diameter of the aperture.
        focal_px: Focal length in px.
        focal_m: Focal length in metres, that of the lens that is imitated.

    Returns:
        Pixels; negative nearer than the focus, positive farther.

    Raises:
        ValueError: If the focus is not beyond the focal length, or a number is not positive.
    """
    if not (f_number > 0 and focal_px > 0 and focal_m > 0):
        raise ValueError('f_number, focal_px and focal_m must be positive')
    if not focus_m > focal_m:
        raise ValueError(
            f'a lens of {1000 * focal_m:.0f} mm cannot focus at {1000 * focus_m:.0f} mm'
        )
    at_infinity_px = focal_px * focal_m / (f_number * (focus_m - focal_m))
    diameter_px: Float32Array = np.divide(np.float32(-at_infinity_px * focus_m), depth_m)
    diameter_px += np.float32(at_infinity_px)
    return diameter_px


def blur(rgb: UInt8Array, diameter_px: Float32Array, *, highlights: float = 1.0) -> UInt8Array:
    """Spread every pixel over a disc, nearer pixels hiding farther ones.

    What is in focus stays as it is, but for what a blurred foreground covers, and for specks of
    depth of up to two pixels, which take the blur around them.

    Args:
        rgb: (H, W, 3) uint8.
        diameter_px: (H, W) float32, signed diameter of the disc: negative before the plane of
            focus, 0 in it, positive behind it. No disc is larger than `MAX_BLUR_PX`.
        highlights: How many times brighter than white highlights are taken to be. More makes the
            discs of lamps and reflections stand out; what is not blurred stays as it is.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the shapes differ, or highlights is below 1.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != diameter_px.shape:
        raise ValueError(
            f'rgb must be (H, W, 3) and diameter_px (H, W); they are {rgb.shape} and '
            f'{diameter_px.shape}'
        )
    if not highlights >= 1:
        raise ValueError(f'highlights must be 1 or more, got {highlights:g}')
    # Depth has specks and ragged edges. The median makes no value that no pixel has.
    signed_px = np.asarray(cv2.medianBlur(diameter_px, 5), np.float32) * np.float32(0.5)
    np.clip(signed_px, -MAX_BLUR_PX / 2, MAX_BLUR_PX / 2, out=signed_px)
    if not signed_px.any():
        return np.array(rgb)
    height, width = signed_px.shape
    signed_px, light = _padded(signed_px), _light(_padded(rgb), highlights)
    radius_px = np.abs(signed_px)
    # Shares of what is behind the plane of focus and before it; the rest is in it.
    blurred = np.minimum(np.square(radius_px * np.float32(1 / _RADII_PX[0])), np.float32(1))
    before = blurred * (signed_px < 0)
    behind = blurred - before
    nearer_px = np.asarray(cv2.erode(signed_px, _AROUND), np.float32)
    weight = np.where(signed_px - nearer_px > _STEP_PX, behind * np.float32(_MIXED), behind)
    with ThreadPoolExecutor(2) as pool:
        back = _layers(pool, light, weight, radius_px)
        front = _layers(pool, light, before, radius_px)
        # Of what is behind, the least blurred is nearest; of what is before, the most.
        scene = _with_background(light, behind, [layer.result() for layer in back])
        reach_px = -float(signed_px.min())
        nearest_first = [layer.result() for layer in reversed(front)]
        scene = _with_foreground(scene, before, nearest_first, reach_px)
    return _picture(scene[:, :height, :width], highlights)


def _with_background(scene: Planes, behind: Float32Array, layers: list[Planes]) -> Planes:
    """Return a scene with what is behind the focus replaced by layers of it, nearest first."""
    if not layers:
        return scene
    background = _resized(_laid_over(layers), behind.shape)
    background *= behind / np.maximum(background[3], _TINY)
    scene *= 1 - behind
    scene += background
    return scene


def _with_foreground(
    scene: Planes, before: Float32Array, layers: list[Planes], reach_px: float
) -> Planes:
    """Return a scene covered by layers of what is before the focus, the nearest first.

    Under the soft edge of the foreground the scene is continued from beside it.
    """
    if not layers:
        return scene
    foreground = _laid_over(layers)
    hidden = np.asarray(cv2.dilate((before == 1).astype(np.uint8), _AROUND), np.bool_)
    seen = _halved(scene * ~hidden)
    # At half the resolution, this is twice as far as a disc reaches.
    reach = 2 * math.ceil(reach_px) + 1
    beside = [cv2.blur(plane, (5, 5)) + _MIXED * cv2.blur(plane, (reach,) * 2) for plane in seen]
    continued = np.asarray(beside / np.maximum(beside[3], _TINY), np.float32)
    np.copyto(scene, _resized(continued, before.shape), where=hidden)

    foreground = _resized(foreground, before.shape)
    scene *= 1 - foreground[3]
    scene += foreground
    # Deep inside a foreground nothing is known of the scene, nor wanted.
    scene *= 1 / np.maximum(scene[3], _TINY)
    return scene


def _layers(
    pool: Executor, light: Planes, share: Float32Array, radius_px: Float32Array
) -> list[Future[Planes]]:
    """Take apart what is on one side of the focus, and blur it.

    Args:
        pool: Blurs.
        light: Red, green, blue and 1, (4, H, W).
        share: How much of each pixel is on this side, (H, W).
        radius_px: Radius of its disc, (H, W).

    Returns:
        For every radius that something has, from the smallest: what will be red, green, blue and
        coverage, premultiplied, at half the resolution.
    """
    if not share.any():
        return []
    surface = _halved(light * share)
    (square_px2,) = _halved((np.square(radius_px) * share)[None])
    square_px2 /= np.maximum(surface[3], _TINY)
    largest_px2 = float(square_px2.max())
    layers = []
    beyond = np.ones_like(square_px2)
    for radius, larger in pairwise((*_RADII_PX, math.inf)):
        # A disc of r and one of R, by shares 1 - t and t, have the variance of one of
        # sqrt((1 - t) * r^2 + t * R^2).
        rest = np.clip((square_px2 - radius**2) / (larger**2 - radius**2), 0, 1)
        share_here = beyond - rest
        if share_here.any():
            layers.append(pool.submit(_spread, surface * share_here, radius))
        beyond = rest
        if largest_px2 <= radius**2:
            break
    return layers


def _laid_over(layers: list[Planes]) -> Planes:
    """Lay layers over each other, the first on top; they are used up.

    A layer shows as far as those above it leave room. Layers that one surface was taken apart
    into add up to it, at an edge too, where each is soft.
    """
    out = layers[0]
    for layer in layers[1:]:
        room = 1 - out[3]
        layer *= np.minimum(room / np.maximum(layer[3], _TINY), np.float32(1))
        out += layer
    return out


def _spread(image: Planes, radius_px: float) -> Planes:
    """Blur (4, h, w) at half the resolution by a disc, at a resolution that suits it."""
    step = 2
    while radius_px > _DRAWN * step:
        step *= 2
    height, width = image.shape[1:]
    size = (2 * height // step, 2 * width // step)
    kernel = _kernel(radius_px, step)
    if kernel.size == 1:
        return image
    coarse = _resized(image, size)
    disc = np.empty_like(coarse)
    for plane, target in zip(coarse, disc, strict=True):
        cv2.filter2D(plane, -1, kernel, target, borderType=cv2.BORDER_REPLICATE)
    return _resized(disc, (height, width))


@lru_cache(maxsize=64)
def _kernel(radius_px: float, step: int) -> Float32Array:
    """Return what makes a disc of a radius of what is blurred at a lower resolution.

    In each direction a disc has a variance of a quarter of its squared radius. Of that, halving
    the resolution to `step` and doubling it again gives (step^2 - 1) / 3, and drawing the disc on
    samples step^2 / 12.
    """
    square = radius_px**2 - 4 / 3 * (step**2 - 1) - step**2 / 3
    if square <= 0:
        return np.ones((1, 1), np.float32)
    radius = math.sqrt(square) / step
    side = 2 * math.ceil(radius - 0.5) + 1
    fine = (np.arange(side * _FINE) + 0.5) / _FINE - side / 2
    inside = fine[:, None] ** 2 + fine**2 <= radius**2
    area = inside.reshape(side, _FINE, side, _FINE).mean(axis=(1, 3))
    return np.asarray(area / area.sum(), np.float32)


def _padded(image: npt.NDArray[T]) -> npt.NDArray[T]:
    """Extend an image at its right and bottom, so that samples of every resolution are alike."""
    height, width = image.shape[:2]
    pad = (0, -height % _COARSEST, 0, -width % _COARSEST)
    return np.asarray(cv2.copyMakeBorder(image, *pad, cv2.BORDER_REPLICATE), image.dtype)


def _halved(planes: Planes) -> Planes:
    height, width = planes.shape[1:]
    return _resized(planes, (height // 2, width // 2))


def _resized(planes: Planes, shape: tuple[int, ...]) -> Planes:
    """Average to a lower resolution, interpolate to a higher one."""
    if planes.shape[1:] == shape:
        return planes
    method = cv2.INTER_AREA if shape[0] < planes.shape[1] else cv2.INTER_LINEAR
    out = np.empty((len(planes), *shape), np.float32)
    for plane, target in zip(planes, out, strict=True):
        cv2.resize(plane, shape[::-1], target, interpolation=method)
    return out


def _light(rgb: UInt8Array, highlights: float) -> Planes:
    """Undo a tone curve: a square root, which takes the place of sRGB's, with a shoulder."""
    square = np.linspace(0, 1, 256) ** 2
    table = (square / (1 - (1 - 1 / highlights) * square)).astype(np.float32)
    planes = np.ones((4, *rgb.shape[:2]), np.float32)
    for plane, channel in zip(planes, cv2.split(rgb), strict=False):
        cv2.LUT(channel, table, plane)
    return planes


def _picture(light: Planes, highlights: float) -> UInt8Array:
    """Apply the tone curve that `_light` undoes."""
    channels = []
    for plane in light[:3]:
        toned = plane / (1 + np.float32(1 - 1 / highlights) * plane) if highlights > 1 else plane
        channels.append(cv2.convertScaleAbs(cv2.sqrt(toned), alpha=255))
    return np.asarray(cv2.merge(channels), np.uint8)

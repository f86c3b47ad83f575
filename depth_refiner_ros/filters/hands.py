"""Between depth images and the two networks that find hands; see `training.hands.network`.

The networks see every camera alike: the detector an image with a focal length of 140 px, the
joints network a cube of 29 cm around a hand. What they say is moved back here.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..data import HAND_BONES, Float32Array, Float64Array, PinholeCamera

DETECTOR_FOCAL_PX = 140.0
DETECTOR_CELL_PX = 4
_DETECTOR_MULTIPLE_PX = 16
WINDOW_PX = 96
WINDOW_M = 0.145
"""Half the edge of a window, at the distance of its centre, and half its depth."""
CENTER = 9
"""Joint that windows are centred on: the knuckle of the middle finger."""
CONFIDENT_M = 0.02
"""What confidence is about: a joint within this distance."""

BONE_LENGTHS_MM = (
    27.7, 46.2, 31.6, 18.9, 99.0, 39.8, 22.4, 12.7, 94.5, 44.6, 26.3, 14.1, 87.0, 41.4, 25.7,
    14.3, 83.1, 32.7, 18.1, 13.5,
)  # fmt: skip
"""Bones of an adult's hand 187 mm long, in the order of `data.HAND_BONES`: Buryanov and Kotiuk,
"Proportions of Hand Segments", Int. J. Morphology 28(3), 2010."""
_SCALES = (0.6, 1.45)
"""Sizes of hands, relative to that one, that are accepted."""
_STRETCH = 1.35
"""How much longer or shorter a bone may be than the size of its hand predicts."""


def detector_image(depth_m: Float32Array, camera: PinholeCamera) -> Float32Array:
    """Return depth at the detector's focal length, in multiples of 16 px, padded with NaN."""
    height, width = depth_m.shape
    rows = max(1, round(height * DETECTOR_FOCAL_PX / camera.fy))
    columns = max(1, round(width * DETECTOR_FOCAL_PX / camera.fx))
    small_m = cv2.resize(depth_m, (columns, rows), interpolation=cv2.INTER_NEAREST)
    below, beside = -rows % _DETECTOR_MULTIPLE_PX, -columns % _DETECTOR_MULTIPLE_PX
    return np.pad(small_m, ((0, below), (0, beside)), constant_values=np.float32(np.nan))


class Candidate(NamedTuple):
    """Where a hand may be.

    Attributes:
        center_m: (3,) the knuckle of its middle finger.
        probability: Probability that there is a hand.
    """

    center_m: Float64Array
    probability: float


def candidates(
    image_m: Float32Array,
    hand: Float32Array,
    offset: Float32Array,
    behind_m: Float32Array,
    camera: PinholeCamera,
    *,
    threshold: float,
    most: int = 8,
) -> list[Candidate]:
    """Return where the detector finds hands, the likeliest first.

    Args:
        image_m: Its input, from `detector_image`.
        hand: (h, w) probabilities of cells.
        offset: (2, h, w) columns and rows to the centre, in cells.
        behind_m: (h, w) of the centre behind the nearest surface in the cell.
        camera: Camera of the original image.
        threshold: Least probability.
        most: How many at most.
    """
    rows, columns = hand.shape
    peaks = (hand >= threshold) & (hand >= cv2.dilate(hand, np.ones((3, 3), np.uint8)))
    found = np.argwhere(peaks)
    order = np.argsort(-hand[peaks], kind='stable')[:most]
    cells = np.nan_to_num(image_m, nan=np.inf)
    cells = cells.reshape(rows, DETECTOR_CELL_PX, columns, DETECTOR_CELL_PX)
    nearest_m = np.where(cells > 0, cells, np.inf).min((1, 3))
    # The small image's pixels are as much larger as it has fewer of them.
    small_rows = max(1, round(camera.height * DETECTOR_FOCAL_PX / camera.fy))
    small_columns = max(1, round(camera.width * DETECTOR_FOCAL_PX / camera.fx))
    result = []
    for row, column in found[order]:
        z_m = float(nearest_m[row, column] + behind_m[row, column])
        if not (np.isfinite(z_m) and z_m > 0.05):
            continue
        x = (column + 0.5 + offset[0, row, column]) * DETECTOR_CELL_PX
        y = (row + 0.5 + offset[1, row, column]) * DETECTOR_CELL_PX
        u = x * camera.width / small_columns - 0.5
        v = y * camera.height / small_rows - 0.5
        center_m = np.array(
            [(u - camera.cx) / camera.fx * z_m, (v - camera.cy) / camera.fy * z_m, z_m]
        )
        result.append(Candidate(center_m, float(hand[row, column])))
    return result


def window(depth_m: Float32Array, camera: PinholeCamera, center_m: Float64Array) -> Float32Array:
    """Return the input of the joints network, (96, 96): -1 to 1, 1 where nothing is.

    Args:
        depth_m: (H, W), NaN where there is no return.
        camera: Its intrinsics.
        center_m: (3,) of the window.
    """
    u, v, half_px = _place(camera, center_m)
    scale = WINDOW_PX / (2 * half_px)
    shift = (WINDOW_PX - 1) / 2
    aspect = camera.fy / camera.fx
    turn = np.array(
        [[scale, 0, shift - scale * u], [0, scale / aspect, shift - scale / aspect * v]]
    )
    seen_m = cut(depth_m, turn)
    values = (seen_m - np.float32(center_m[2])) / np.float32(WINDOW_M)
    values[~(seen_m > 0)] = 1
    clipped: Float32Array = np.clip(values, -1, 1).astype(np.float32)
    return clipped


def cut(depth_m: Float32Array, turn: Float64Array) -> Float32Array:
    """Return a part of a depth image, (96, 96), NaN beside the image.

    Args:
        depth_m: (H, W).
        turn: (2, 3) from columns and rows of the image to those of the part.
    """
    size = (WINDOW_PX, WINDOW_PX)
    seen_m = cv2.warpAffine(
        depth_m, turn, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT,
        borderValue=float('nan'),
    )  # fmt: skip
    return np.asarray(seen_m, np.float32)


def joints_of(
    place: Float32Array, camera: PinholeCamera, center_m: Float64Array
) -> tuple[Float32Array, Float32Array]:
    """Return joints in the camera's frame, (21, 3) metres, and in the image, (21, 2) px.

    Args:
        place: (21, 3) column, row and depth, -1 to 1 across the window.
        camera: Intrinsics.
        center_m: Centre of the window.
    """
    u, v, half_px = _place(camera, center_m)
    pixels = np.stack(
        [u + half_px * place[:, 0], v + half_px * camera.fy / camera.fx * place[:, 1]], 1
    )
    z_m = np.maximum(center_m[2] + WINDOW_M * place[:, 2], 0.02)
    points = np.stack(
        [
            (pixels[:, 0] - camera.cx) / camera.fx * z_m,
            (pixels[:, 1] - camera.cy) / camera.fy * z_m,
            z_m,
        ],
        1,
    )
    return points.astype(np.float32), pixels.astype(np.float32)


def projected(points_m: Float32Array, camera: PinholeCamera) -> Float32Array:
    """Return columns and rows, (21, 2) px, of points (21, 3)."""
    z_m = np.maximum(points_m[:, 2], 1e-3)
    return np.stack(
        [
            points_m[:, 0] / z_m * camera.fx + camera.cx,
            points_m[:, 1] / z_m * camera.fy + camera.cy,
        ],
        1,
    ).astype(np.float32)


def plausible(points_m: Float32Array) -> Float32Array | None:
    """Return joints whose bones have lengths that a hand can have; None if these are of no hand.

    The median of all bones says how large the hand is; a bone that is much longer or shorter than
    that is brought to what is allowed, and what hangs on it moves along.
    """
    vectors = np.stack([points_m[end] - points_m[start] for start, end in HAND_BONES])
    lengths = np.linalg.norm(vectors, axis=1)
    wanted = 1e-3 * np.array(BONE_LENGTHS_MM)
    size = float(np.median(lengths / wanted))
    if not _SCALES[0] <= size <= _SCALES[1]:
        return None
    allowed = np.clip(lengths, size * wanted / _STRETCH, size * wanted * _STRETCH)
    vectors *= (allowed / np.maximum(lengths, 1e-6))[:, None]
    result: Float32Array = points_m.copy()
    for (start, end), vector in zip(HAND_BONES, vectors, strict=True):
        result[end] = result[start] + vector
    return result


def confidence_of(spread: Float32Array) -> Float32Array:
    """Return the probability of joints within 20 mm, from spreads in half windows."""
    return (1 - np.exp(-CONFIDENT_M / (WINDOW_M * np.maximum(spread, 1e-6)))).astype(np.float32)


def _place(camera: PinholeCamera, center_m: Float64Array) -> tuple[float, float, float]:
    """Return column and row of a window's centre, and half its width, px."""
    x, y, z = (float(value) for value in center_m)
    z = max(z, 0.05)
    return (
        x / z * camera.fx + camera.cx,
        y / z * camera.fy + camera.cy,
        WINDOW_M * camera.fx / z,
    )


class OneEuro:
    """Smooths positions: much where they rest, little where they move.

    Casiez, Roussel and Vogel, "1 Euro Filter", CHI 2012.

    Args:
        cutoff_hz: Cutoff frequency at rest.
        per_m_s: How much the cutoff grows with speed, Hz per m/s.
    """

    def __init__(self, cutoff_hz: float, per_m_s: float = 25.0) -> None:
        self.cutoff_hz = cutoff_hz
        self.per_m_s = per_m_s
        self._value: Float64Array | None = None
        self._speed_m_s: Float64Array | None = None

    def __call__(self, points_m: Float32Array, since_s: float) -> Float32Array:
        """Return points (21, 3) smoothed.

        Args:
            points_m: Points of this frame.
            since_s: Since the last one.
        """
        now = points_m.astype(np.float64)
        if self._value is None or self._speed_m_s is None or since_s <= 0 or self.cutoff_hz <= 0:
            self._value, self._speed_m_s = now, np.zeros_like(now)
            return points_m
        share = _share(1.0, since_s)
        self._speed_m_s = self._speed_m_s + share * (
            (now - self._value) / since_s - self._speed_m_s
        )
        speed_m_s = np.linalg.norm(self._speed_m_s, axis=1, keepdims=True)
        self._value = self._value + _share(self.cutoff_hz + self.per_m_s * speed_m_s, since_s) * (
            now - self._value
        )
        return self._value.astype(np.float32)


def _share(cutoff_hz: float | Float64Array, since_s: float) -> float | Float64Array:
    rate = 2 * np.pi * cutoff_hz * since_s
    return rate / (rate + 1)

"""Samples of hands for training, drawn from shards of `training.hands.examples`.

Every sample is a function of a seed and its number, as in `training.depth.samples`. What sensors
do to depth is drawn anew each time: coarse pixels, noise, steps, holes at edges, flying pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depth_refiner_ros.filters.hands import cut

from ..datasets.hands import SIDE_M
from ..refiners import REFINED_SHARE, Refiner, refined_m
from .network import DETECTOR_CELL_PX, WINDOW_M, WINDOW_PX
from .shards import CENTER, HandShards, metres

Float32Array = npt.NDArray[np.float32]


_NOTHING_SHARE = 0.25
"""Of windows on what is no hand."""
_CLEAR_M = 0.17
"""Least distance of these from any hand's centre."""
_CHOICE = 4
_FILLED = 0.3
"""Share of a window that a hand typically fills."""


class Window(NamedTuple):
    """A window and the joints in it; a batch has one more dimension in front.

    Attributes:
        window: (1, 96, 96), as `HandJoints` takes it.
        place: (21, 3), -1 to 1 across the window.
        visible: (21,).
        hand: (), 1 if there is a hand.
        right: (), 1 if it is a right one.
        half_m: (), metres of half a window.
    """

    window: Tensor
    place: Tensor
    visible: Tensor
    hand: Tensor
    right: Tensor
    half_m: Tensor


def measured(
    depth_m: Float32Array, focal_px: float, mm_per_px: float, rng: np.random.Generator
) -> Float32Array:
    """Return depth as some sensor would measure it.

    Args:
        depth_m: (H, W), NaN where nothing is.
        focal_px: Focal length of the picture.
        mm_per_px: Width of a pixel at the hand.
        rng: Draws what happens.
    """
    height, width = depth_m.shape
    # The sensor's own pixels are at times larger than ours.
    coarse = float(np.clip(rng.uniform(0.8, 3.5) / mm_per_px, 1, 2.5))
    if coarse > 1.2:
        small = (max(8, int(width / coarse)), max(8, int(height / coarse)))
        depth_m = np.asarray(cv2.resize(depth_m, small, interpolation=cv2.INTER_NEAREST))
        focal_px, mm_per_px = focal_px / coarse, mm_per_px * coarse
    kind = rng.random()
    if kind < 0.4:
        result = _flying(depth_m, rng)
    elif kind < 0.9:
        result = _triangulated(depth_m, focal_px, mm_per_px, rng)
    else:
        result = depth_m.copy()
    spread = rng.uniform(0.0003, 0.004)
    grain = rng.standard_normal(result.shape, np.float32)
    if rng.random() < 0.5:
        grain = 2.5 * cv2.GaussianBlur(grain, (0, 0), 1.0)
    result = result * (1 + np.float32(spread) * grain)
    if rng.random() < 0.3:
        step = rng.uniform(0.0005, 0.004)
        result = np.round(result / step) * np.float32(step)
    if rng.random() < 0.3:
        result[rng.random(result.shape) < rng.uniform(0, 0.1)] = np.nan
    if rng.random() < 0.2:
        center = (int(rng.integers(result.shape[1])), int(rng.integers(result.shape[0])))
        blot = np.zeros(result.shape, np.uint8)
        cv2.circle(blot, center, int(rng.integers(2, 12)), 1, -1)
        result[blot > 0] = np.nan
    if result.shape != (height, width):
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(result, np.float32)


def _flying(depth_m: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Time of flight: pixels at edges fly between the surfaces, or are dropped."""
    kernel = np.ones((3, 3), np.uint8)
    filled = np.nan_to_num(depth_m, nan=_NOWHERE_M)
    near_m, far_m = cv2.erode(filled, kernel), cv2.dilate(filled, kernel)
    edge = far_m - near_m > 0.03
    result: Float32Array = depth_m.copy()
    share = rng.random(depth_m.shape, np.float32)
    flying = edge & (rng.random(depth_m.shape) < rng.uniform(0, 0.6))
    result[flying] = (near_m + share * (far_m.clip(None, 8) - near_m))[flying]
    result[edge & (rng.random(depth_m.shape) < rng.uniform(0, 0.6))] = np.nan
    return result


def _triangulated(
    depth_m: Float32Array, focal_px: float, mm_per_px: float, rng: np.random.Generator
) -> Float32Array:
    """Triangulation: what is thin is lost, edges are ragged, what one eye does not see is dark."""
    filled = np.nan_to_num(depth_m, nan=_NOWHERE_M)
    window_px = round(rng.uniform(0, 16) / mm_per_px)
    if window_px >= 3:
        # Of medians of floating point, OpenCV has only these.
        filled = np.asarray(cv2.medianBlur(filled, 5 if window_px >= 5 else 3), np.float32)
    wobble = rng.integers(-1, 2, (*depth_m.shape, 2)).astype(np.float32)
    wobble = cv2.GaussianBlur(wobble, (5, 5), 0) * rng.uniform(0, 5)
    rows, columns = np.indices(depth_m.shape, np.float32)
    ragged = cv2.remap(
        filled, columns + wobble[..., 0], rows + wobble[..., 1], cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    filled = np.asarray(ragged, np.float32)
    dark = shadow(filled, rng.uniform(0.02, 0.085) * focal_px, right=rng.random() < 0.5)
    keep = ~dark if rng.random() < 0.8 else True
    return np.where(keep & (filled < _NOWHERE_M), filled, np.float32(np.nan)).astype(np.float32)


def shadow(depth_m: Float32Array, baseline_m_px: float, *, right: bool) -> npt.NDArray[np.bool_]:
    """Return what a second eye, beside the first, does not see.

    Args:
        depth_m: (H, W).
        baseline_m_px: Distance of the eyes times the focal length.
        right: Which side it is on.
    """
    # Its column of every pixel, counted towards its side; whoever is passed on the way is hidden.
    place = np.arange(depth_m.shape[1]) + baseline_m_px / depth_m[:, :: -1 if right else 1]
    passed = np.maximum.accumulate(place, 1)
    hidden = np.zeros(depth_m.shape, bool)
    hidden[:, 1:] = place[:, 1:] <= passed[:, :-1]
    return hidden[:, :: -1 if right else 1]


_NOWHERE_M = np.float32(9.0)


def normalised(depth_m: npt.NDArray[Any], center_m: float, half_m: float) -> Float32Array:
    """Return a window as `HandJoints` takes it."""
    values = (depth_m - center_m) / half_m
    clipped: Float32Array = np.clip(np.nan_to_num(values, nan=1.0), -1, 1).astype(np.float32)
    return clipped


class Windows(Dataset[Window]):
    """Windows on hands, and on what is none, changed at random.

    Args:
        shards: Of kind 'windows'.
        frames: Of kind 'frames', for windows on what is no hand.
        seed: Seed of all that is drawn.
        used: Which windows.
        count: How many samples there are.
        changed: Else centred, upright and without noise.
        refiner: Measures a share of the hands; see `training.refiners`.
    """

    def __init__(
        self,
        shards: HandShards,
        frames: HandShards | None,
        seed: int,
        used: range,
        count: int,
        *,
        changed: bool = True,
        refiner: Refiner | None = None,
    ) -> None:
        self.shards = shards
        self.frames = frames
        self.seed = seed
        self.used = used
        self.count = count
        self.changed = changed
        self.refiner = refiner

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, number: int) -> Window:
        """Return sample number `number` of the seed."""
        rng = np.random.default_rng((self.seed, number))
        if self.frames is not None and rng.random() < _NOTHING_SHARE:
            return self._nothing(rng)
        index = int(rng.integers(len(self.used))) if self.changed else number % len(self.used)
        return self._hand(self.shards[self.used[index]], rng)

    def _hand(self, example: dict[str, npt.NDArray[Any]], rng: np.random.Generator) -> Window:
        depth_m = metres(example)
        k, joints_m = example['intrinsics'], example['joints_m'].astype(np.float64)
        image = joints_m @ k.T
        joints_px = image[:, :2] / image[:, 2:]
        center_m = joints_m[CENTER].copy()
        half_m, angle_deg, mirrored = WINDOW_M, 0.0, False
        if self.changed:
            mm_per_px = float(1e3 * center_m[2] / k[0, 0])
            if self.refiner is not None and rng.random() < REFINED_SHARE:
                near = np.abs(np.nan_to_num(depth_m) - center_m[2]) < 0.5 * SIDE_M
                depth_m = refined_m(self.refiner, depth_m, near, mm_per_px)
            else:
                depth_m = measured(depth_m, k[0, 0], mm_per_px, rng)
            # Detection and tracking say where the hand is, about.
            center_m += np.clip(rng.normal(0, 0.012, 3), -0.03, 0.03)
            half_m *= float(np.exp(rng.normal(0, 0.06)))
            angle_deg = float(rng.normal(0, 25))
            mirrored = bool(rng.random() < 0.5)
        center_px = (k[:2] @ center_m) / center_m[2]
        half_px = half_m * k[0, 0] / center_m[2]
        # From the picture to the window: turned and scaled about the centre.
        scale = WINDOW_PX / (2 * half_px)
        turn: npt.NDArray[Any] = cv2.getRotationMatrix2D(
            (float(center_px[0]), float(center_px[1])), angle_deg, scale
        )
        turn[:, 2] += (WINDOW_PX - 1) / 2 - center_px
        if mirrored:
            turn = np.array([[-1, 0, WINDOW_PX - 1], [0, 1, 0], [0, 0, 1]]) @ np.vstack(
                [turn, [0, 0, 1]]
            )
            turn = turn[:2]
        seen_m = cut(depth_m, turn)
        window_px = np.hstack([joints_px, np.ones((21, 1))]) @ turn.T
        place = np.empty((21, 3), np.float32)
        place[:, :2] = (window_px + 0.5) * (2 / WINDOW_PX) - 1
        place[:, 2] = (joints_m[:, 2] - center_m[2]) / half_m
        return Window(
            torch.from_numpy(normalised(seen_m, center_m[2], half_m))[None],
            torch.from_numpy(place),
            torch.from_numpy(example['visible'].astype(np.float32)),
            torch.tensor(1.0),
            torch.tensor(float(bool(example['right']) != mirrored)),
            torch.tensor(half_m, dtype=torch.float32),
        )

    def _nothing(self, rng: np.random.Generator) -> Window:
        """A window on a place where no hand is."""
        assert self.frames is not None
        example = self.frames[int(rng.integers(len(self.frames)))]
        depth_m = metres(example)
        k = example['intrinsics']
        seen: list[Float32Array] = []
        for _ in range(8):
            row, column = (int(rng.integers(size)) for size in depth_m.shape)
            z_m = float(depth_m[row, column])
            at_m = z_m * (np.linalg.inv(k) @ [column, row, 1])
            clear = all(
                not np.isfinite(hand_m).all() or np.linalg.norm(hand_m - at_m) > _CLEAR_M
                for hand_m in example['centers_m']
            )
            if not (0.2 < z_m < 2.5 and clear):
                continue
            if not seen:
                depth_m = measured(depth_m, k[0, 0], 1e3 * z_m / k[0, 0], rng)
            z_m += float(rng.uniform(0, 0.05))
            scale = WINDOW_PX / (2 * WINDOW_M * k[0, 0] / z_m)
            shift = (WINDOW_PX - 1) / 2
            turn = np.array([[scale, 0, shift - scale * column], [0, scale, shift - scale * row]])
            seen_m = cut(depth_m, turn)
            seen.append(normalised(seen_m, z_m, WINDOW_M))
            if len(seen) == _CHOICE:
                break
        # What fills a window as a hand does is harder to tell from one than a wall is.
        window = min(
            seen[: _CHOICE if rng.random() < 0.7 else 1],
            key=lambda one: abs(float((one < 1).mean()) - _FILLED),
            default=np.ones((WINDOW_PX, WINDOW_PX), np.float32),
        )
        return Window(
            torch.from_numpy(window)[None],
            torch.zeros(21, 3),
            torch.zeros(21),
            torch.tensor(0.0),
            torch.tensor(0.0),
            torch.tensor(WINDOW_M),
        )


class Frame(NamedTuple):
    """A small whole image and its hands; a batch has one more dimension in front.

    Attributes:
        depth_m: (1, H, W), 0 where nothing was measured.
        hand: (1, h, w), 1 at the cell of a hand's centre, less around it.
        offset: (2, h, w) to the centre, in cells.
        behind_m: (1, h, w) of the centre behind the nearest surface of the cell.
    """

    depth_m: Tensor
    hand: Tensor
    offset: Tensor
    behind_m: Tensor


class Frames(Dataset[Frame]):
    """Whole images, changed at random.

    Args:
        shards: Of kind 'frames'.
        seed: Seed of all that is drawn.
        used: Which frames.
        count: How many samples there are.
        changed: Else as rendered.
    """

    def __init__(
        self, shards: HandShards, seed: int, used: range, count: int, *, changed: bool = True
    ) -> None:
        self.shards = shards
        self.seed = seed
        self.used = used
        self.count = count
        self.changed = changed

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, number: int) -> Frame:
        """Return sample number `number` of the seed."""
        rng = np.random.default_rng((self.seed, number))
        index = int(rng.integers(len(self.used))) if self.changed else number % len(self.used)
        example = self.shards[self.used[index]]
        depth_m = metres(example)
        k, centers_m = example['intrinsics'], example['centers_m']
        height, width = depth_m.shape
        image = centers_m @ k.T
        with np.errstate(invalid='ignore'):
            centers_px = image[:, :2] / image[:, 2:]
        if self.changed:
            depth_m = measured(depth_m, k[0, 0], 8.0, rng)
            if rng.random() < 0.5:
                depth_m = np.ascontiguousarray(depth_m[:, ::-1])
                centers_px[:, 0] = width - 1 - centers_px[:, 0]
        rows, columns = height // DETECTOR_CELL_PX, width // DETECTOR_CELL_PX
        hand = np.zeros((1, rows, columns), np.float32)
        offset = np.zeros((2, rows, columns), np.float32)
        behind_m = np.zeros((1, rows, columns), np.float32)
        nearest_m = nearest(depth_m)
        down, across = np.indices((rows, columns))
        for (x, y), center_m in zip(centers_px, centers_m, strict=True):
            if not np.isfinite(x):
                continue
            dx = (x + 0.5) / DETECTOR_CELL_PX - 0.5 - across
            dy = (y + 0.5) / DETECTOR_CELL_PX - 0.5 - down
            # As wide as a palm is.
            radius = max(0.8, 0.03 * k[0, 0] / center_m[2] / DETECTOR_CELL_PX)
            bump = np.exp(-(dx * dx + dy * dy) / (2 * radius * radius)).astype(np.float32)
            closer = bump > hand[0]
            hand[0][closer] = bump[closer]
            offset[:, closer] = np.stack([dx, dy])[:, closer]
            behind_m[0][closer] = (center_m[2] - nearest_m)[closer]
        return Frame(
            torch.from_numpy(np.nan_to_num(depth_m))[None],
            torch.from_numpy(hand),
            torch.from_numpy(offset),
            torch.from_numpy(np.clip(np.nan_to_num(behind_m), -0.3, 0.3)),
        )


def nearest(depth_m: Float32Array) -> Float32Array:
    """Return the nearest depth of every cell of 4x4 pixels, NaN where there is none."""
    height, width = depth_m.shape
    cells = np.nan_to_num(depth_m, nan=np.inf).reshape(
        height // DETECTOR_CELL_PX, DETECTOR_CELL_PX, width // DETECTOR_CELL_PX, DETECTOR_CELL_PX
    )
    least: Float32Array = cells.min((1, 3))
    return np.where(np.isfinite(least), least, np.float32(np.nan))

"""Pictures with true depth for training on colour alone, drawn from shards of `training.examples`.

Every sample is a function of a seed and its number, as in `training.depth.samples`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..examples import Shards


class View(NamedTuple):
    """A picture and its depth; a batch has one more dimension in front.

    Attributes:
        color: (3, H, W), 0 to 1.
        intrinsics: (4,) fx, fy, cx, cy, px.
        truth_m: (1, H, W), 0 where unknown.
    """

    color: Tensor
    intrinsics: Tensor
    truth_m: Tensor


@dataclass(frozen=True)
class Appearance:
    """How much pictures are changed, so that nothing is learned of how the renderer paints."""

    zoom: float = 1.5
    """A sample is a window this many times smaller than the frame at most: other lenses."""
    mixed_share: float = 0.5
    """Samples whose colour channels are mixed."""
    grey_share: float = 0.1
    """Samples without hue."""
    shaded_share: float = 0.5
    """Samples with light that changes over the picture."""
    blurred_share: float = 0.3
    """Samples out of focus by a pixel or two."""
    sharpened_share: float = 0.3
    """Of the others, samples that the camera sharpened."""
    contrast_share: float = 0.4
    """Samples with a steep tone curve."""
    bordered_share: float = 0.3
    """Samples with a white or black border, as rectified pictures have it."""
    compressed_share: float = 0.4
    """Samples that went through JPEG."""


class Views(Dataset[View]):
    """Windows of shards, changed at random.

    Args:
        shards: Where they are cut from.
        seed: Seed of all that is drawn.
        size: Rows and columns of a sample, px.
        appearance: None takes whole frames and leaves colours as they are.
        frames: Which frames of the shards are used.
        count: How many samples there are.
    """

    def __init__(
        self,
        shards: Shards,
        seed: int,
        size: tuple[int, int],
        appearance: Appearance | None,
        frames: range,
        count: int,
    ) -> None:
        self.shards = shards
        self.seed = seed
        self.size = size
        self.appearance = appearance
        self.frames = frames
        self.count = count

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, number: int) -> View:
        """Return sample number `number` of the seed."""
        rng = np.random.default_rng((self.seed, number))
        rows, columns = self.shards.size
        height, width = self.size
        a = self.appearance
        index = int(rng.integers(len(self.frames))) if a else number % len(self.frames)
        zoom = float(np.exp(rng.uniform(0, np.log(a.zoom)))) if a else 1.0
        tall = int(rows / zoom)
        wide = min(columns, tall * width // height)
        top, left = int(rng.integers(rows - tall + 1)), int(rng.integers(columns - wide + 1))
        frame = self.frames[index]
        color, truth_m, _ = self.shards.crop(frame, 0, top, left, tall, wide)
        focal_px = self.shards.focal_px(frame)
        across, down = width / wide, height / tall
        # Pixel centres at whole numbers: the frame's principal point is (columns - 1) / 2.
        intrinsics = np.array(
            [
                focal_px * across,
                focal_px * down,
                (columns / 2 - left) * across - 0.5,
                (rows / 2 - top) * down - 0.5,
            ],
            np.float32,
        )
        whole = np.ascontiguousarray(color.permute(1, 2, 0).numpy())
        picture = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
        depth_m = np.asarray(
            cv2.resize(
                truth_m[0].nan_to_num(0).numpy(),
                (width, height),
                interpolation=cv2.INTER_NEAREST,
            )
        )
        if a is not None:
            if rng.random() < 0.5:
                picture, depth_m = picture[:, ::-1], depth_m[:, ::-1]
                intrinsics[2] = width - 1 - intrinsics[2]
            picture = repainted(np.ascontiguousarray(picture), a, rng)
            known_m = np.ascontiguousarray(depth_m, np.float32)
            if rng.random() < a.bordered_share:
                add_border(picture, known_m, rng)
            depth_m = known_m
        light = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255
        return View(
            light,
            torch.from_numpy(intrinsics),
            torch.from_numpy(np.ascontiguousarray(depth_m))[None],
        )


def add_border(
    picture: npt.NDArray[np.uint8], depth_m: npt.NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Paint, in place, the white or black border that rectification and registration leave."""
    height, width = depth_m.shape
    widest = max(2, width // 24)
    top, bottom, left, right = (int(n) for n in rng.integers(0, widest + 1, 4))
    inside = np.s_[top : height - bottom, left : width - right]
    kept, known = picture[inside].copy(), depth_m[inside].copy()
    picture[:] = 255 if rng.random() < 0.6 else 0
    depth_m[:] = 0
    picture[inside], depth_m[inside] = kept, known


def repainted(
    picture: npt.NDArray[np.uint8], appearance: Appearance, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return a picture (H, W, 3) in other light, through another camera."""
    light: npt.NDArray[Any] = picture.astype(np.float32) / 255
    height, width = light.shape[:2]
    if rng.random() < appearance.blurred_share:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.5))
    elif rng.random() < appearance.sharpened_share:
        soft = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.7, 1.5))
        light = light + rng.uniform(0.3, 1.5) * (light - soft)
    if rng.random() < appearance.mixed_share:
        mixing = np.eye(3) + rng.normal(0, 0.25, (3, 3))
        light = light @ (mixing / mixing.sum(1, keepdims=True).clip(0.3)).T.astype(np.float32)
    if rng.random() < appearance.grey_share:
        light = np.repeat(light.mean(2, keepdims=True), 3, 2)
    if rng.random() < appearance.shaded_share:
        coarse = np.exp(rng.normal(0, 0.4, (int(rng.integers(2, 5)), int(rng.integers(2, 5)))))
        shade = cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        light = light * shade[..., None].clip(0.2)
    tint = rng.uniform(0.8, 1.25, 3) * rng.uniform(0.35, 1.4)
    light = np.clip(light, 1e-4, None) ** np.float32(rng.uniform(0.6, 1.6)) * tint
    if rng.random() < appearance.contrast_share:
        # Cameras burn out lamps and windows, and drown corners.
        middle = rng.uniform(0.2, 0.6)
        light = middle + rng.uniform(1.1, 2.2) * (light - middle)
    light = light + rng.uniform(0, 0.05) * rng.standard_normal(light.shape, np.float32)
    result: npt.NDArray[np.uint8] = (255 * light.clip(0, 1)).astype(np.uint8)
    if rng.random() < appearance.compressed_share:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        packed = cv2.imencode('.jpg', result, quality)[1]
        result = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return result

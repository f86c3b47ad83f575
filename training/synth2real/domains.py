"""Crops of hands of three kinds: rendered without a sensor, of a sensor held out, and real.

`CleanHands` is what a refiner changes, `StandInHands` plays the real hands where there are no
labelled ones, and `RecordedHands` are real ones without labels. All crops are those of
`training.synth2real.crops`: 300 mm wide, metres nearer than 2 m as negative numbers,
0 beside the hand.

The sensor of `StandInHands` is one time-of-flight camera after the Kinect v2, with its pixels, of
which every parameter that decides how hands look is outside of the range that `training.sensors`
draws from: no network that is trained with those sensors, and no method that is not given its
crops, has seen it labelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depth_refiner_ros.data import Float32Array, PinholeCamera
from depth_refiner_ros.folders import Folder

from ..datasets.hand_joints import NYU_14, SCHEMES
from ..datasets.hands import BACKGROUND_M, CROP_PX, SIDE_M
from ..render.hand_images import project, render_hands
from ..render.hand_skeleton import Hands
from ..render.hands import Draw, sample_hands
from ..render.scenes import rng_of
from ..sensors import TimeOfFlight, TimeOfFlightParameters, View
from .crops import HandCrops, augmented

BoolArray = npt.NDArray[np.bool_]

ROWS, COLUMNS = 424, 512
FOCAL_PX = 363.9
"""Size and focal length of a Kinect v2."""
DISTANCE_M = (0.55, 1.0)
"""Range of distances of the hands."""

STAND_IN = TimeOfFlightParameters(
    modulation_hz=(60e6, 60e6),
    noise_m=(0.0017, 0.0017),
    ambient=(0.3, 0.3),
    faintest_amplitude=(0.06, 0.06),
    mixing=(0.24, 0.24),
    mixed_spread_m=(0.018, 0.018),
    spread_scatter=(1.2, 1.2),
    bounce=(1.2, 1.2),
    wiggling_m=(0.005, 0.005),
    vignette=(0.5, 0.5),
    field_of_view=(20.0, 20.0),
    smoothing_px=(0.4, 0.4),
)
"""The one camera that is never drawn. It is lit to its corners, as crops have others than images;
what is left as it is, the ends of its range, has no effect at these distances."""


class CleanHands(Dataset[HandCrops]):
    """Batches of rendered hands as a perfect camera sees them, each a function of seed and number.

    Args:
        joints: 14, 16 or 21.
        batch: Hands of a batch.
        seed: Seed of all that is drawn.
        size_px: Rows and columns of crops.
        keep: Batches that are rendered once, kept in memory as 16-bit counts of 0.1 mm, and come
            again; 0 renders always new ones.
        augment: Whether crops are turned, shifted and scaled, anew each time they come.
    """

    def __init__(
        self,
        joints: int,
        batch: int,
        seed: int,
        *,
        size_px: int = CROP_PX,
        keep: int = 0,
        augment: bool = False,
    ) -> None:
        self.scheme, self.batch, self.seed = SCHEMES[joints], batch, seed
        self.size_px, self.keep, self.augment = size_px, keep, augment
        self._kept: dict[int, HandCrops] = {}

    def __len__(self) -> int:
        """Return the number of batches: without end."""
        return 2**31

    def __getitem__(self, number: int) -> HandCrops:
        """Return a batch."""
        if not self.keep:
            crops = self._rendered(number)
        else:
            own = number % self.keep
            if own not in self._kept:
                crops = self._rendered(own)
                self._kept[own] = HandCrops(counts_of(crops.depth), crops.joints_px)
            counts, joints_px = self._kept[own]
            crops = HandCrops(depth_of(counts), joints_px.clone())
        if not self.augment:
            return crops
        return augmented(crops, _generator(self.seed, number, _AUGMENTED))

    @torch.no_grad()
    def _rendered(self, number: int) -> HandCrops:
        generator = _generator(self.seed, number, _RENDERED)
        hands, intrinsics, middle_px, edge_px, center_m = _seen(generator, self.batch)
        region = torch.cat([middle_px - edge_px / 2, middle_px + edge_px / 2], 1)
        images = render_hands(hands, intrinsics, region, height=self.size_px, width=self.size_px)
        near = (images.depth_m - center_m[:, 2, None, None]).abs() < SIDE_M / 2
        depth = torch.where((images.parts >= 0) & near, images.depth_m - BACKGROUND_M, 0.0)
        wanted = torch.from_numpy(self.scheme.weights).float() @ hands.joints_m
        return HandCrops(depth[:, None], project(wanted, images.intrinsics))


class StandInHands(CleanHands):
    """Batches of rendered hands as the sensor measures them that is held out: the labelled 'real'.

    Hands are drawn as those of `CleanHands` are, in front of a body 0.15 to 0.7 m behind them, and
    measured at the sensor's own pixels, of which the nearest is taken for a pixel of the crop.
    """

    @torch.no_grad()
    def _rendered(self, number: int) -> HandCrops:
        generator = _generator(self.seed, number, _MEASURED)
        hands, intrinsics, middle_px, edge_px, center_m = _seen(generator, self.batch)
        # The window in whole pixels of the sensor, with two to spare for their neighbours.
        native = int(edge_px.max()) + 5
        corner = (middle_px - native / 2).round()
        region = torch.cat([corner, corner + native], 1) - 0.5
        behind_m = Draw(generator).uniform(0.15, 0.7, self.batch) + center_m[:, 2]
        images = render_hands(
            hands, intrinsics, region, height=native, width=native,
            background_m=behind_m[:, None, None].expand(-1, native, native),
        )  # fmt: skip
        view = View(images.depth_m[:, None], images.intrinsics)
        sensor = TimeOfFlight(STAND_IN, tuple(view.shape), generator)
        raw_m = sensor(view, generator)[:, 0]
        near = (raw_m - center_m[:, 2, None, None]).abs() < SIDE_M / 2
        counted = torch.where((images.parts >= 0) & near, raw_m - BACKGROUND_M, 0.0)
        step = edge_px / self.size_px
        at = torch.arange(self.size_px) + 0.5
        first = middle_px - corner - edge_px / 2
        places = (first[:, :, None] + step[:, :, None] * at).round().long().clamp(0, native - 1)
        one = torch.arange(self.batch)[:, None, None]
        depth = counted[one, places[:, 1, :, None], places[:, 0, None, :]]
        wanted = torch.from_numpy(self.scheme.weights).float() @ hands.joints_m
        joints_px = project(wanted, intrinsics) - (middle_px - edge_px / 2)[:, None]
        return HandCrops(depth[:, None], joints_px / step[:, None] - 0.5)


class RecordedHands(Dataset[HandCrops]):
    """Batches of hands of a recording, the one that is nearest in each frame, without labels.

    See `nearest_hand` for the rule. Frames of which the nearest thing is no hand but still is
    something, as an arm that comes into view, are not sorted out.

    Args:
        folder: As `depth_refiner_ros.folders.Folder` reads it.
        batch: Hands of a batch.
        seed: Of their order.
        size_px: Rows and columns of crops.

    Raises:
        ValueError: If there is no recording, or no hand in it.
    """

    def __init__(self, folder: Path, batch: int, seed: int, *, size_px: int = CROP_PX) -> None:
        self.batch, self.seed = batch, seed
        self._counts = torch.cat([counts_of(crop) for crop in _hands_of(Folder(folder), size_px)])

    @property
    def hands(self) -> int:
        """How many different ones there are."""
        return len(self._counts)

    def __len__(self) -> int:
        """Return the number of batches that show each hand once."""
        return -(-self.hands // self.batch)

    def __getitem__(self, number: int) -> HandCrops:
        """Return a batch, its joints (B, 0, 2); any number will do, epochs follow one another."""
        shown = range(number * self.batch, (number + 1) * self.batch)
        orders = {
            epoch: np.random.default_rng((self.seed, epoch)).permutation(self.hands)
            for epoch in {n // self.hands for n in shown}
        }
        counts = self._counts[[int(orders[n // self.hands][n % self.hands]) for n in shown]]
        return HandCrops(depth_of(counts), torch.zeros(self.batch, 0, 2))


def nearest_hand(
    depth_m: Float32Array, camera: PinholeCamera, size_px: int
) -> Float32Array | None:
    """Cut the nearest thing out of a frame, which is a hand where one is held before the body.

    Of what lies within 150 mm behind the nearest 0.2 % of the pixels, the largest piece tells the
    place: its mean in the image, its median depth. What lies within 150 mm of that depth and
    hangs together with the piece is kept, in a window of 300 mm, its pixels the nearest ones.

    Args:
        depth_m: (H, W), NaN where there is no return.
        camera: Intrinsics.
        size_px: Rows and columns of the crop.

    Returns:
        (size_px, size_px) metres nearer than 2 m, 0 beside the hand; None if the piece has less
        than 200 pixels.
    """
    known = depth_m[np.isfinite(depth_m)]
    if not known.size:
        return None
    piece = _largest(depth_m < np.quantile(known, 0.002) + SIDE_M / 2)
    if piece is None:
        return None
    z_m = float(np.median(depth_m[piece]))
    rows, columns = np.nonzero(piece)
    near = np.abs(np.nan_to_num(depth_m) - z_m) < SIDE_M / 2
    _, label = cv2.connectedComponents(near.astype(np.uint8))
    hand = label == np.bincount(label[piece & near]).argmax()
    at = []
    for middle, focal, count in (
        (rows.mean(), camera.fy, len(depth_m)),
        (columns.mean(), camera.fx, depth_m.shape[1]),
    ):
        edge = focal * SIDE_M / z_m
        places = middle - edge / 2 + edge / size_px * (np.arange(size_px) + 0.5)
        at.append(
            np.where((places > -0.5) & (places < count - 0.5), np.rint(places), -1).astype(int)
        )
    there = (at[0] >= 0)[:, None] & (at[1] >= 0)
    crop = (depth_m - np.float32(BACKGROUND_M))[at[0]][:, at[1]]
    result: Float32Array = np.where(there & hand[at[0]][:, at[1]], crop, np.float32(0))
    return result


def _largest(mask: BoolArray) -> BoolArray | None:
    # Opened, so that a fringe of flying pixels joins nothing.
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, label, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not areas.size or areas.max() < 200:
        return None
    piece: BoolArray = label == 1 + areas.argmax()
    return piece


def _hands_of(folder: Folder, size_px: int) -> Iterator[Tensor]:
    crops = (nearest_hand(f.depth.depth_m, f.camera, size_px) for f in folder)
    found = [torch.from_numpy(crop)[None, None] for crop in crops if crop is not None]
    if not found:
        raise ValueError(f'{folder.path} shows no hand.')
    return iter(found)


# --------------------------------------------------------------------------------------- drawing


def _seen(generator: torch.Generator, count: int) -> tuple[Hands, Tensor, Tensor, Tensor, Tensor]:
    """Draw hands and intrinsics; windows: their middles, px, edges, px, and centres, metres."""
    k = torch.tensor([[FOCAL_PX, 0, (COLUMNS - 1) / 2], [0, FOCAL_PX, (ROWS - 1) / 2], [0, 0, 1]])
    hands, intrinsics = sample_hands(
        generator, count, intrinsics=k.repeat(count, 1, 1), height=ROWS, width=COLUMNS,
        distance_m=DISTANCE_M,
    )  # fmt: skip
    center_m = (torch.from_numpy(NYU_14.weights).float() @ hands.joints_m).mean(1)
    middle_px = project(center_m[:, None], intrinsics)[:, 0]
    return hands, intrinsics, middle_px, FOCAL_PX * SIDE_M / center_m[:, 2:], center_m


_RENDERED, _MEASURED, _AUGMENTED = 22, 23, 24
"""Streams of randomness; those of other crops and of scenes are others."""


def _generator(seed: int, number: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(rng_of(seed, number, stream).getrandbits(63))


# --------------------------------------------------------------------------------------- keeping

COUNT_M = 1e-4
"""Of crops that are kept."""


def counts_of(depth: Tensor) -> Tensor:
    """Return crops as int16 counts of 0.1 mm; what is hand stays other than 0."""
    counts = (depth / COUNT_M).round().clamp(-(2**15), 2**15 - 1)
    # A hand 2 m away exactly would be nothing.
    return torch.where((depth != 0) & (counts == 0), 1, counts).to(torch.int16)


def depth_of(counts: Tensor) -> Tensor:
    """Return crops of counts, float32 metres."""
    return counts.float() * COUNT_M

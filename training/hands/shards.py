"""Rendered hands in bulk: windows around hands, and whole frames with and without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_refiner_ros.counts import metres_from_counts

from ..examples import Shards
from ..render.hand_images import render_hands, sample_surroundings
from ..render.hand_skeleton import Hands
from ..render.hands import Draw, sample_hands
from ..shards import complete_shards, counts_of
from .network import DETECTOR_FOCAL_PX

UNIT_M = 2.5e-4
"""Step of stored depth: 16 m in 16 bits."""
CENTER = 9
"""Joint that windows are centred on: the knuckle of the middle finger, whatever the pose."""
WINDOW_M = 0.19
"""Half the edge of a window, at the distance of the knuckle."""
WINDOW_PX = 128
FRAME_PX = (128, 176)
"""Rows and columns of whole frames."""
LAST_FIELD = 'intrinsics'
Arrays = dict[str, npt.NDArray[Any]]


def metres(example: Arrays) -> npt.NDArray[np.float32]:
    """Return the depth of an example, NaN where nothing is."""
    return metres_from_counts(example['depth'], UNIT_M)


def windows(generator: torch.Generator, count: int, rooms: Shards | None) -> Arrays:
    """Render windows around hands.

    Returns:
        depth (N, 128, 128) counts of `UNIT_M`, joints_m (N, 21, 3), visible (N, 21), right (N,),
        intrinsics (N, 3, 3) of the windows.
    """
    hands, intrinsics = sample_hands(generator, count)
    around = sample_surroundings(generator, hands, intrinsics)
    center_m = hands.joints_m[:, CENTER]
    image = (intrinsics @ center_m[..., None])[..., 0]
    center_px = image[:, :2] / image[:, 2:]
    half_px = WINDOW_M * intrinsics[:, 0, 0] / center_m[:, 2]
    region = torch.cat([center_px - half_px[:, None], center_px + half_px[:, None]], 1) + 0.5
    behind_m = None
    if rooms is not None:
        size = {'height': WINDOW_PX, 'width': WINDOW_PX}
        behind_m = room_depths(generator, rooms, hands, region, **size)
        alone = Draw(generator).chance(0.4, count)
        behind_m[alone] = torch.nan
    images = render_hands(
        hands,
        intrinsics,
        region,
        height=WINDOW_PX,
        width=WINDOW_PX,
        around=around,
        background_m=behind_m,
    )
    return {
        'depth': counts_of(images.depth_m, UNIT_M),
        'joints_m': hands.joints_m.cpu().numpy(),
        'visible': images.visible.cpu().numpy(),
        'right': hands.right.cpu().numpy(),
        'intrinsics': images.intrinsics.cpu().numpy(),
    }


def frames(generator: torch.Generator, count: int, rooms: Shards | None) -> Arrays:
    """Render whole frames, small ones, of which two in three show a hand or two.

    Returns:
        depth (N, 128, 176) counts of `UNIT_M`; centers_m (N, 2, 3), NaN where there is no hand.
    """
    height, width = FRAME_PX
    draw = Draw(generator)
    intrinsics = torch.eye(3, device=draw.device).repeat(count, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = DETECTOR_FOCAL_PX * draw.uniform(0.9, 1.1, count)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = (width - 1) / 2, (height - 1) / 2
    hands, _ = sample_hands(generator, count, intrinsics=intrinsics, height=height, width=width)
    around = sample_surroundings(generator, hands, intrinsics)
    # A second hand in one of three: that of the next picture, with its forearm.
    second = draw.chance(0.3, count)
    empty = draw.chance(0.33, count)
    other_m, other_radii_m = hands.capsules_m.roll(1, 0), hands.radii_m.roll(1, 0)
    center_m = hands.joints_m[:, CENTER]
    centers_m = torch.stack([center_m, center_m.roll(1, 0)], 1)
    apart = (centers_m[:, 0] - centers_m[:, 1]).norm(dim=1) > 0.2
    second &= apart & ~empty
    # The last capsules of surroundings are a second hand whose centre nobody tells.
    around = around._replace(
        capsules_m=torch.cat([around.capsules_m[:, : -other_m.shape[1]], other_m], 1),
        radii_m=torch.cat(
            [
                around.radii_m[:, : -other_m.shape[1]],
                other_radii_m * second[:, None, None],
            ],
            1,
        ),
    )
    far_m = torch.full((count, height, width), torch.nan, device=draw.device)
    if rooms is not None:
        far_m = torch.stack([_room(draw, rooms) for _ in range(count)]).to(draw.device)
    hidden = hands._replace(radii_m=hands.radii_m * ~empty[:, None, None])
    images = render_hands(
        hidden, intrinsics, height=height, width=width, around=around, background_m=far_m
    )
    centers_m[empty, 0] = torch.nan
    centers_m[~second, 1] = torch.nan
    # A hand behind something else is none.
    image = centers_m @ intrinsics.mT
    pixel = (image[..., :2] / image[..., 2:]).nan_to_num(0).round().long()
    inside = (pixel >= 0).all(2) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
    row, column = pixel[..., 1].clamp(0, height - 1), pixel[..., 0].clamp(0, width - 1)
    seen_m = images.depth_m[torch.arange(count)[:, None], row, column]
    shown = inside & (seen_m > centers_m[..., 2] - 0.1)
    centers_m[~shown] = torch.nan
    return {
        'depth': counts_of(images.depth_m, UNIT_M),
        'centers_m': centers_m.cpu().numpy(),
        'intrinsics': intrinsics.cpu().numpy(),
    }


def _room(draw: Draw, rooms: Shards) -> Tensor:
    """Return what a simulated sensor measured of a room, small, or the truth of it."""
    height, width = FRAME_PX
    rows, columns = rooms.size
    index = int(draw.uniform(0, len(rooms)).item())
    measurement = int(draw.uniform(0, rooms.measurements).item())
    _, truth_m, raw_m = rooms.crop(index, measurement, 0, 0, rows, columns)
    depth_m = (truth_m if bool(draw.chance(0.5)) else raw_m)[0]
    # Windows of other sizes are other lenses; the detector shall not know rooms by heart.
    tall = int(rows * float(draw.uniform(0.75, 1)))
    wide = min(columns, tall * width // height)
    top, left = int(draw.uniform(0, rows - tall + 1)), int(draw.uniform(0, columns - wide + 1))
    row = top + torch.arange(height) * tall // height
    column = left + torch.arange(width) * wide // width
    return depth_m[row][:, column]


MAKERS = {'windows': windows, 'frames': frames}


class HandShards:
    """Arrays of one kind written by `python -m training.hands.examples`, mapped into memory.

    Args:
        folder: Folder of the shards.
        kind: 'windows' or 'frames'.

    Raises:
        FileNotFoundError: No shard of the kind is complete.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        numbers = complete_shards(folder, kind, LAST_FIELD)
        if not numbers:
            raise FileNotFoundError(
                f'{folder} has no {kind}. Make some: python -m training.hands.examples {folder}'
            )
        self._shards: list[Arrays] = []
        for number in numbers:
            paths = folder.glob(f'{kind}-{number:05d}.*.npy')
            self._shards.append(
                {path.name.split('.')[1]: np.load(path, mmap_mode='r') for path in paths}
            )
        self._starts = np.cumsum([0, *(len(shard['depth']) for shard in self._shards)])

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Arrays:
        """Return one example."""
        shard = int(np.searchsorted(self._starts, index, 'right')) - 1
        row = index - int(self._starts[shard])
        return {name: np.array(values[row]) for name, values in self._shards[shard].items()}


def room_depths(
    generator: torch.Generator | int,
    shards: Shards,
    hands: Hands,
    region: Tensor,
    *,
    height: int = 128,
    width: int = 128,
) -> Tensor:
    """Return windows of rendered rooms for backgrounds, moved behind the hands.

    Args:
        generator: Or a seed.
        shards: Frames, written by `training.examples`.
        hands: Hands.
        region: (B, 4) windows, pixels of these frames.
        height: Rows of the result.
        width: Columns.

    Returns:
        (B, H, W) metres, NaN where nothing is.
    """
    draw = Draw(generator)
    windows = []
    for left, top, right, bottom in region.cpu().tolist():
        index = int(draw.uniform(0, len(shards)).item())
        step_x, step_y = (right - left) / width, (bottom - top) / height
        column = left + step_x * (np.arange(width) + 0.5)
        row = top + step_y * (np.arange(height) + 0.5)
        rows, columns = (
            np.clip(np.rint(at), 0, size - 1).astype(int)
            for at, size in zip((row, column), shards.size, strict=True)
        )
        first, last = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
        size = (last[0] - first[0], last[1] - first[1])
        _, truth_m, _ = shards.crop(index, 0, int(first[0]), int(first[1]), *map(int, size))
        windows.append(truth_m[0][rows - first[0]][:, columns - first[1]])
    depth_m = torch.stack(windows).to(region.device)
    far_m = (hands.capsules_m[..., 2] + hands.radii_m).amax((1, 2))
    nearest_m = depth_m.nan_to_num(torch.inf).amin((1, 2))
    return depth_m + (far_m - nearest_m).clamp_min(0)[:, None, None]

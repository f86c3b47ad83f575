"""What depth networks learn from: rendered scenes as a depth camera would measure them.

    python -m training.examples data/rooms --frames 3000

writes shards that `training.depth.train` reads. Frame number i of a seed is the same on every
machine; several processes share the work with `--shard K --shards N`, and a run that was stopped
goes on with the first shard that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import json
from pathlib import Path
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import track
import torch
from torch import Tensor
import tyro

from .render import ROOM_SHARE, Renderer, Rendering, sample_batch
from .render.scenes import rng_of
from .sensors import (
    ActiveStereo,
    ActiveStereoParameters,
    StructuredLight,
    StructuredLightParameters,
    TimeOfFlight,
    TimeOfFlightParameters,
    View,
)

TRUTH_UNIT_M = 2e-4
"""Step of stored true depth: 13 m in 16 bits, and finer than any sensor's noise."""
RAW_UNIT_M = 1e-3
"""Step of stored measurements: the millimetre of 16UC1."""

SENSORS = {
    'structured_light': (partial(StructuredLight, StructuredLightParameters()), 5),
    'active_stereo': (partial(ActiveStereo, ActiveStereoParameters()), 3),
    'time_of_flight': (partial(TimeOfFlight, TimeOfFlightParameters()), 2),
}
"""Sensor model and how often it is drawn."""

_MEASURED = 7
"""Stream of a scene's randomness that its measurements are drawn from; others are cameras."""


class Examples(NamedTuple):
    """Scenes, and what sensors see of them.

    Attributes:
        color: (B, 3, H, W) uint8.
        truth_m: (B, 1, H, W) depth of the first surface, glass and mirrors included; NaN where
            nothing is.
        raw_m: (B, M, H, W), M measurements of each; NaN where there is no return.
        focal_px: (B,).
    """

    color: Tensor
    truth_m: Tensor
    raw_m: Tensor
    focal_px: Tensor


def view_of(rendering: Rendering) -> View:
    """Return what sensor models need of a rendering."""
    return View(
        rendering.depth_m,
        rendering.cameras.intrinsics,
        rendering.normals,
        rendering.ir_reflectance,
        rendering.specular,
        rendering.glass.bool(),
        rendering.mirror.bool(),
        rendering.behind_m,
    )


@torch.no_grad()
def make_examples(
    seed: int,
    indices: Sequence[int],
    *,
    measurements: int = 2,
    height: int = 480,
    width: int = 640,
    room_share: float = ROOM_SHARE,
    renderer: Renderer | None = None,
    device: torch.device | str = 'cpu',
) -> Examples:
    """Render scenes and measure each with sensors drawn at random.

    Args:
        seed: Of everything.
        indices: Which scenes.
        measurements: Of each scene, with a sensor of its own each; 0 for colour and truth alone.
        height: Rows, pixels.
        width: Columns, pixels.
        room_share: Of the cameras; they look into the room, not at what stands in it.
        renderer: A plain one unless given.
        device: Where to compute.
    """
    world, cameras = sample_batch(
        seed, indices, height=height, width=width, room_share=room_share, device=device
    )
    rendering = (renderer or Renderer())(world, cameras)
    view = view_of(rendering)
    rng = rng_of(seed, indices[0], _MEASURED)
    generator = torch.Generator(device).manual_seed(rng.getrandbits(63))
    models, shares = zip(*SENSORS.values(), strict=True)
    raw_m = [
        model(tuple(view.shape), generator)(view, generator)
        for model in rng.choices(models, shares, k=measurements)
    ]
    color = (255 * rendering.rgb).round_().to(torch.uint8)
    measured_m = torch.cat([rendering.depth_m[:, :0], *raw_m], 1)
    return Examples(color, rendering.depth_m, measured_m, cameras.intrinsics[:, 0, 0])


# -------------------------------------------------------------------------------------- shards


FIELDS = ('color', 'truth', 'raw', 'focal_px')


def encode(examples: Examples) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a shard: depth as uint16 counts, 0 where there is none."""

    def counts(depth_m: Tensor, unit_m: float) -> npt.NDArray[np.generic]:
        steps = (depth_m / unit_m).round_().nan_to_num_(0, 0, 0)
        steps[steps > 65535] = 0
        return np.asarray(steps.cpu().numpy().astype(np.uint16))

    return {
        'color': examples.color.cpu().numpy(),
        'truth': counts(examples.truth_m, TRUTH_UNIT_M),
        'raw': counts(examples.raw_m, RAW_UNIT_M),
        'focal_px': examples.focal_px.cpu().numpy(),
    }


class Shards:
    """Frames that were written by `python -m training.examples`, mapped into memory.

    Args:
        folder: With `shard-00000.color.npy` and so on.

    Raises:
        FileNotFoundError: No shard is complete.
    """

    def __init__(self, folder: Path) -> None:
        numbers = complete_shards(folder)
        if not numbers:
            raise FileNotFoundError(
                f'{folder} has no complete shard. Make some: python -m training.examples {folder}'
            )
        self._arrays = [
            {field: np.load(_path(folder, number, field), mmap_mode='r') for field in FIELDS}
            for number in numbers
        ]
        sizes = [len(arrays['focal_px']) for arrays in self._arrays]
        self._starts = np.cumsum([0, *sizes])
        self.measurements = int(self._arrays[0]['raw'].shape[1])

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._starts[-1])

    def crop(
        self, index: int, measurement: int, top: int, left: int, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return colour uint8 (3, h, w), true and measured depth in metres (1, h, w).

        Where nothing was measured in the whole of the shards, the measurement is empty (0, h, w).
        """
        shard = int(np.searchsorted(self._starts, index, 'right')) - 1
        arrays, row = self._arrays[shard], index - self._starts[shard]
        window = np.s_[top : top + height, left : left + width]
        color = torch.from_numpy(np.array(arrays['color'][row][..., window[0], window[1]]))
        truth = arrays['truth'][row][0][window].astype(np.float32) * np.float32(TRUTH_UNIT_M)
        chosen = slice(measurement, measurement + 1)
        raw = arrays['raw'][row][chosen][..., window[0], window[1]].astype(np.float32)
        raw *= np.float32(RAW_UNIT_M)
        for depth_m in (truth, raw):
            depth_m[depth_m == 0] = np.nan
        return color, torch.from_numpy(truth)[None], torch.from_numpy(raw)

    def focal_px(self, index: int) -> float:
        """Return the focal length of a frame."""
        shard = int(np.searchsorted(self._starts, index, 'right')) - 1
        return float(self._arrays[shard]['focal_px'][index - self._starts[shard]])

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of every frame."""
        height, width = self._arrays[0]['truth'].shape[-2:]
        return int(height), int(width)


def _path(folder: Path, number: int, field: str) -> Path:
    return folder / f'shard-{number:05d}.{field}.npy'


def complete_shards(folder: Path) -> list[int]:
    """Return the numbers of the shards all of whose files are there."""
    last = f'.{FIELDS[-1]}.npy'
    return sorted(
        int(path.name.removeprefix('shard-').removesuffix(last))
        for path in folder.glob(f'shard-*{last}')
    )


def write_shards(
    folder: Path, numbers: Sequence[int], settings: Settings, renderer: Renderer
) -> Iterator[int]:
    """Write the shards that are missing, and yield the number of each when it is complete."""
    done = set(complete_shards(folder))
    for number in numbers:
        if number in done:
            yield number
            continue
        first = number * settings.shard_frames
        parts = [
            encode(
                make_examples(
                    settings.seed,
                    [index],
                    measurements=settings.measurements,
                    height=settings.height,
                    width=settings.width,
                    room_share=settings.room_share,
                    renderer=renderer,
                    device=settings.device,
                )
            )
            for index in range(first, first + settings.shard_frames)
        ]
        # The last field marks the shard complete, so each file appears whole or not at all.
        for field in FIELDS:
            path = _path(folder, number, field)
            partial_path = path.with_suffix('.part')
            with partial_path.open('wb') as file:
                np.save(file, np.concatenate([part[field] for part in parts]))
            partial_path.replace(path)
        yield number


@dataclass
class Settings:
    """Render scenes and measure them with simulated sensors."""

    folder: tyro.conf.Positional[Path]
    """Where the shards go; what is there already is kept."""
    frames: int = 3000
    """Frames in all, rounded up to whole shards; 2.8 MB each at 640x480 with 2 measurements."""
    measurements: int = 2
    """Of each frame, each with another sensor; 0 suffices for depth from colour."""
    room_share: float = ROOM_SHARE
    """Of the cameras; they look into the room, the others at what stands in it."""
    seed: int = 0
    """Of everything."""
    height: int = 480
    """Rows, pixels."""
    width: int = 640
    """Columns, pixels."""
    shard_frames: int = 50
    """Frames of a shard."""
    shard: int = 0
    """Which process this one is."""
    shards: int = 1
    """How many processes share the work."""
    threads: int = 0
    """Of this process; 0 takes all cores."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Where to render."""
    compiled: bool = False
    """Fuse the renderer with torch.compile; worth its minutes on a GPU."""


def main(settings: Settings) -> None:
    """Write the shards of this process."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    settings.folder.mkdir(parents=True, exist_ok=True)
    described = {k: v for k, v in vars(settings).items() if k in ('seed', 'height', 'width')}
    (settings.folder / 'settings.json').write_text(json.dumps(described))
    count = -(-settings.frames // settings.shard_frames)
    numbers = range(settings.shard, count, settings.shards)
    renderer = Renderer(compiled=settings.compiled)
    written = write_shards(settings.folder, numbers, settings, renderer)
    try:
        for _ in track(written, 'Rendering', total=len(numbers)):
            pass
    except KeyboardInterrupt:
        sys.exit('Stopped; the same command goes on from here.')
    frames = len(complete_shards(settings.folder)) * settings.shard_frames
    print(f'{settings.folder}: {frames} frames are complete.')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

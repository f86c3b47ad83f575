"""What depth networks learn from: rendered scenes as a depth camera would measure them.

`python -m training.examples` writes them in shards, which `Shards` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_refiner_ros.counts import metres_from_counts

from ..render import (
    FURNISHED_SHARE,
    ROOM_SHARE,
    Renderer,
    Rendering,
    sample_batch,
    sample_scenes,
)
from ..render.scenes import rng_of
from ..sensors import View, draw_sensor
from ..shards import complete_shards, counts_of, shard_path

if TYPE_CHECKING:  # embree and numba are needed only where there are models
    from ..render.mesh_renderer import MeshRenderer

TRUTH_UNIT_M = 2e-4
"""Step of stored true depth: 13 m in 16 bits, and finer than any sensor's noise."""
RAW_UNIT_M = 1e-3
"""Step of stored measurements: the millimetre of 16UC1."""

SENSORS = {'structured_light': 5, 'active_stereo': 3, 'time_of_flight': 2}
"""How often each sensor model is drawn."""

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
    views: int = 1,
    room_share: float = ROOM_SHARE,
    furnished_share: float = FURNISHED_SHARE,
    renderer: Renderer | MeshRenderer | None = None,
    device: torch.device | str = 'cpu',
) -> Examples:
    """Render scenes and measure each with sensors drawn at random.

    Args:
        seed: Seed of all that is drawn.
        indices: Which scenes.
        measurements: How many of each scene, each by another sensor; 0 for colour and truth alone.
        height: Rows, pixels.
        width: Columns, pixels.
        views: Cameras in each scene.
        room_share: Share of the cameras that see the room; the others see what stands in it.
        furnished_share: Share of the scenes that are furnished, with a renderer that has models.
        renderer: A plain one unless given; a `MeshRenderer` furnishes the scenes with its models.
        device: Where to compute.
    """
    if renderer is None or isinstance(renderer, Renderer):
        world, cameras = sample_batch(
            seed, indices, height=height, width=width, views=views, room_share=room_share,
            device=device,
        )  # fmt: skip
        rendering = (renderer or Renderer())(world, cameras)
    else:
        scenes, cameras = sample_scenes(
            seed, indices, height=height, width=width, views=views, room_share=room_share,
            assets=renderer.assets, furnished_share=furnished_share,
        )  # fmt: skip
        rendering = renderer(scenes, cameras)
    view = view_of(rendering)
    rng = rng_of(seed, indices[0], _MEASURED)
    generator = torch.Generator(device).manual_seed(rng.getrandbits(63))
    raw_m = [
        draw_sensor(name, view.shape, generator)(view, generator)
        for name in rng.choices(list(SENSORS), list(SENSORS.values()), k=measurements)
    ]
    color = (255 * rendering.rgb).round_().to(torch.uint8)
    measured_m = torch.cat([rendering.depth_m[:, :0], *raw_m], 1)
    return Examples(color, rendering.depth_m, measured_m, cameras.intrinsics[:, 0, 0])


# -------------------------------------------------------------------------------------- shards


KIND = 'shard'
FIELDS = ('color', 'truth', 'raw', 'focal_px')


def encode(examples: Examples) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a shard: depth as uint16 counts, 0 where there is none."""
    return {
        'color': examples.color.cpu().numpy(),
        'truth': counts_of(examples.truth_m, TRUTH_UNIT_M),
        'raw': counts_of(examples.raw_m, RAW_UNIT_M),
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
        numbers = complete_shards(folder, KIND, FIELDS[-1])
        if not numbers:
            raise FileNotFoundError(
                f'{folder} has no complete shard. Make some: python -m training.examples {folder}'
            )
        self._arrays = [
            {
                field: np.load(shard_path(folder, KIND, number, field), mmap_mode='r')
                for field in FIELDS
            }
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
        truth = metres_from_counts(arrays['truth'][row][0][window], TRUTH_UNIT_M)
        chosen = slice(measurement, measurement + 1)
        raw = metres_from_counts(arrays['raw'][row][chosen][..., window[0], window[1]], RAW_UNIT_M)
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

"""An endless, seeded world of rooms and cluttered tables, rendered in PyTorch on CPU or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .assets import Assets
from .cameras import ROOM_SHARE, Cameras, gather, hand_held_path, sample_view
from .render import Renderer, Rendering
from .scenes import rng_of, sample_scene
from .solids import Scene, World

__all__ = [
    'FURNISHED_SHARE',
    'ROOM_SHARE',
    'Assets',
    'Cameras',
    'Renderer',
    'Rendering',
    'World',
    'sample_batch',
    'sample_scenes',
    'stream',
]


FURNISHED_SHARE = 0.8
"""Of the scenes, if there are models to furnish them with; the others stay as they are without."""

_FURNISHED = 1 << 15
"""Stream of a scene's randomness that decides whether it is furnished; see `rng_of`."""


def sample_scenes(
    seed: int,
    indices: Sequence[int],
    *,
    height: int = 480,
    width: int = 640,
    views: int = 1,
    frames: int = 1,
    rate_hz: float = 30.0,
    room_share: float = ROOM_SHARE,
    assets: Assets | None = None,
    furnished_share: float = FURNISHED_SHARE,
) -> tuple[list[Scene], Cameras]:
    """Return scenes, and cameras in them.

    Args:
        seed: Seed of all that is drawn.
        indices: Which scenes.
        height: Rows of the pictures, pixels.
        width: Columns; focal lengths are scaled to it.
        views: Independent cameras in each scene.
        frames: Frames of a hand-held motion that starts at each camera.
        rate_hz: Frames a second of that motion.
        room_share: Share of the cameras that see the room; the others see what stands in it.
        assets: Models to furnish scenes with, for `MeshRenderer`.
        furnished_share: Share of the scenes that are furnished, where there are models.

    Returns:
        The scenes, and len(indices) * views * frames cameras; frames vary fastest, then views.
    """
    scenes, seen, owner = [], [], []
    for number, index in enumerate(indices):
        furnished = rng_of(seed, index, _FURNISHED).random() < furnished_share
        scene = sample_scene(seed, index, assets if furnished else None)
        scenes.append(scene)
        for view in range(views):
            rng = rng_of(seed, index, 1 + view)
            first = sample_view(rng, scene, height, width, room_share)
            seen += hand_held_path(rng, first, frames, rate_hz)
            owner += [number] * frames
    return scenes, gather(seen, owner, height, width)


def sample_batch(
    seed: int,
    indices: Sequence[int],
    *,
    height: int = 480,
    width: int = 640,
    views: int = 1,
    frames: int = 1,
    rate_hz: float = 30.0,
    room_share: float = ROOM_SHARE,
    device: torch.device | str = 'cpu',
) -> tuple[World, Cameras]:
    """Return analytic scenes, and cameras in them, as tensors on a device; see `sample_scenes`."""
    scenes, cameras = sample_scenes(
        seed, indices, height=height, width=width, views=views, frames=frames, rate_hz=rate_hz,
        room_share=room_share,
    )  # fmt: skip
    return World.from_scenes(scenes, device), cameras.to(device)


def stream(
    seed: int,
    *,
    batch: int,
    shard: int = 0,
    shards: int = 1,
    start: int = 0,
    renderer: Renderer | None = None,
    height: int = 480,
    width: int = 640,
    views: int = 1,
    frames: int = 1,
    device: torch.device | str = 'cpu',
) -> Iterator[Rendering]:
    """Yield batches without end; shard k of n renders the scenes k, k + n, k + 2 n, ...

    Args:
        seed: Seed of all that is drawn.
        batch: Scenes of each batch.
        shard: Which of the workers this one is.
        shards: How many workers there are.
        start: Number of batches to skip, to go on where a run was stopped.
        renderer: A plain one unless given.
        height: Rows, pixels.
        width: Columns, pixels.
        views: Cameras in each scene.
        frames: Frames from each camera.
        device: Where to render.
    """
    renderer = renderer or Renderer()
    number = start
    while True:
        first = number * batch
        indices = [(first + i) * shards + shard for i in range(batch)]
        world, cameras = sample_batch(
            seed, indices, height=height, width=width, views=views, frames=frames, device=device
        )
        yield renderer(world, cameras)
        number += 1

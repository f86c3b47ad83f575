"""Render scenes as a depth camera would measure them, and write them in shards.

    python -m training.examples data/rooms --frames 3000

The shards are for `training.depth.train`, `training.mono.train` and `training.color_to_depth`.
Frame i of a seed is the same on every machine. Several processes share the work with `--shard K
--shards N`. Ctrl-C stops; the same command continues with the first missing shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track
import torch
import tyro

from ..render import FURNISHED_SHARE, ROOM_SHARE, Assets, Renderer
from ..shards import complete_shards, write_shard
from . import FIELDS, KIND, encode, make_examples

if TYPE_CHECKING:
    from ..render.mesh_renderer import MeshRenderer


def write_shards(
    folder: Path,
    numbers: Sequence[int],
    settings: Settings,
    renderer: Renderer | MeshRenderer,
) -> Iterator[int]:
    """Write the shards that are missing, and yield the number of each when it is complete."""
    done = set(complete_shards(folder, KIND, FIELDS[-1]))
    for number in numbers:
        if number in done:
            yield number
            continue
        scenes = settings.shard_frames // settings.views
        first = number * scenes
        parts = [
            encode(
                make_examples(
                    settings.seed,
                    [index],
                    measurements=settings.measurements,
                    height=settings.height,
                    width=settings.width,
                    views=settings.views,
                    room_share=settings.room_share,
                    furnished_share=settings.furnished_share,
                    renderer=renderer,
                    device=settings.device,
                )
            )
            for index in range(first, first + scenes)
        ]
        write_shard(
            folder,
            KIND,
            number,
            {field: np.concatenate([part[field] for part in parts]) for field in FIELDS},
        )
        yield number


@dataclass
class Settings:
    """Render scenes and measure them with simulated sensors."""

    folder: tyro.conf.Positional[Path]
    """Folder for the shards; those that are there already are kept."""
    frames: int = 3000
    """Frames in all, rounded up to whole shards; 2.8 MB each at 640x480 with 2 measurements."""
    measurements: int = 2
    """Measurements of each frame, each by another sensor; 0 suffices for depth from colour."""
    room_share: float = ROOM_SHARE
    """Share of the cameras that see the room; the others see what stands in it."""
    views: int = 1
    """Views of each scene; furnished ones take a while to build, so that several cost less."""
    assets: Path | None = None
    """Folder of models that furnish the scenes (make assets); else scenes are of solids alone."""
    furnished_share: float = FURNISHED_SHARE
    """Share of the scenes that are furnished, with --assets."""
    seed: int = 0
    """Seed of scenes, cameras and sensors."""
    height: int = 480
    """Rows of an image, px."""
    width: int = 640
    """Columns of an image, px."""
    shard_frames: int = 50
    """Frames in a shard."""
    shard: int = 0
    """Number of this process, from 0."""
    shards: int = 1
    """How many processes share the work."""
    threads: int = 0
    """CPU threads of this process; 0 takes all cores."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Device that renders."""
    compiled: bool = False
    """Fuse the renderer with torch.compile; worth its minutes on a GPU."""


def renderer_of(settings: Settings) -> Renderer | MeshRenderer:
    """Return what renders the scenes.

    Raises:
        SystemExit: If there are no models where there should be, or nothing that casts rays.
    """
    if settings.assets is None:
        return Renderer(compiled=settings.compiled)
    try:
        from ..render.mesh_renderer import MeshRenderer

        return MeshRenderer(Assets(settings.assets))
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install '.[train]'.") from None
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None


def main(settings: Settings) -> None:
    """Write the shards of this process."""
    if settings.shard_frames % settings.views:
        raise SystemExit('--shard-frames must be a multiple of --views.')
    if settings.threads:
        torch.set_num_threads(settings.threads)
    settings.folder.mkdir(parents=True, exist_ok=True)
    described = {k: v for k, v in vars(settings).items() if k in ('seed', 'height', 'width')}
    (settings.folder / 'settings.json').write_text(json.dumps(described))
    count = -(-settings.frames // settings.shard_frames)
    numbers = range(settings.shard, count, settings.shards)
    renderer = renderer_of(settings)
    written = write_shards(settings.folder, numbers, settings, renderer)
    try:
        for _ in track(written, 'Rendering', total=len(numbers)):
            pass
    except KeyboardInterrupt:
        sys.exit('Stopped; the same command goes on from here.')
    frames = len(complete_shards(settings.folder, KIND, FIELDS[-1])) * settings.shard_frames
    print(f'{settings.folder}: {frames} frames are complete.')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

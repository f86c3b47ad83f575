"""Make rendered hands in bulk: windows around hands, and whole frames with and without them.

    python -m training.hands.examples data/hands --rooms data/rooms

writes shards that `training.hands.train` reads; a run that was stopped goes on with the first
shard that is missing. What sensors do to depth is added when a sample is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import sys

import numpy as np
from rich.progress import track
import torch
import tyro

from ..examples import Shards
from ..shards import complete_shards, write_shard
from .shards import LAST_FIELD, MAKERS


def write_shards(
    folder: Path, kind: str, settings: Settings, rooms: Shards | None
) -> Iterator[int]:
    """Write the shards of a kind that are missing; yield the number of each when it is there."""
    done = set(complete_shards(folder, kind, LAST_FIELD))
    wanted = settings.windows if kind == 'windows' else settings.frames
    for number in range(settings.shard, -(-wanted // settings.shard_size), settings.shards):
        if number not in done:
            generator = torch.Generator(settings.device)
            generator.manual_seed(10_000 * settings.seed + 2 * number + (kind == 'frames'))
            parts = [
                MAKERS[kind](generator, min(100, settings.shard_size), rooms)
                for _ in range(-(-settings.shard_size // 100))
            ]
            # Intrinsics come last: they complete a shard.
            fields = {
                name: np.concatenate([part[name] for part in parts])
                for name in sorted(parts[0], key=LAST_FIELD.__eq__)
            }
            write_shard(folder, kind, number, fields)
        yield number


@dataclass
class Settings:
    """Render hands in bulk."""

    folder: tyro.conf.Positional[Path]
    """Folder for the shards; those that are there already are kept."""
    windows: int = 60000
    """Windows around hands; 33 kB each."""
    frames: int = 15000
    """Whole frames; 45 kB each."""
    rooms: Path | None = None
    """Shards of `training.examples` whose rooms are behind the hands; simple walls without."""
    seed: int = 0
    """Seed of hands and surroundings."""
    shard_size: int = 500
    """Examples of a shard."""
    shard: int = 0
    """Number of this process, from 0."""
    shards: int = 1
    """How many processes share the work."""
    threads: int = 0
    """CPU threads of this process; 0 takes all cores."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Device that renders."""


def main(settings: Settings) -> None:
    """Write the shards of this process."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    settings.folder.mkdir(parents=True, exist_ok=True)
    rooms = Shards(settings.rooms) if settings.rooms else None
    try:
        for kind in MAKERS:
            total = -(
                -(settings.windows if kind == 'windows' else settings.frames)
                // settings.shard_size
            )
            written = write_shards(settings.folder, kind, settings, rooms)
            for _ in track(written, f'Rendering {kind}', total=-(-total // settings.shards)):
                pass
    except KeyboardInterrupt:
        sys.exit('Stopped; the same command goes on from here.')


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))

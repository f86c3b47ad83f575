"""Shards: arrays of many examples, a .npy file a field; files appear whole or not at all.

The last field of a shard is written last: where its file is, the shard is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor


def counts_of(depth_m: Tensor, unit_m: float) -> npt.NDArray[np.uint16]:
    """Return depth as 16-bit counts; 0 where there is none, or where the counts do not reach."""
    steps = (depth_m / unit_m).round_().nan_to_num_(0, 0, 0)
    steps[(steps < 0) | (steps > 65535)] = 0
    return np.asarray(steps.cpu().numpy().astype(np.uint16))


def shard_path(folder: Path, kind: str, number: int, field: str) -> Path:
    """Return the file of one field of a shard."""
    return folder / f'{kind}-{number:05d}.{field}.npy'


def complete_shards(folder: Path, kind: str, last_field: str) -> list[int]:
    """Return the numbers of the shards all of whose files are there, in order."""
    last = f'.{last_field}.npy'
    return sorted(
        int(path.name.removeprefix(f'{kind}-').removesuffix(last))
        for path in folder.glob(f'{kind}-*{last}')
    )


def write_shard(
    folder: Path, kind: str, number: int, fields: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write the fields of a shard in their order; the last one completes it."""
    for field, values in fields.items():
        path = shard_path(folder, kind, number, field)
        partial = path.with_suffix('.part')
        with partial.open('wb') as file:
            np.save(file, values)
        partial.replace(path)

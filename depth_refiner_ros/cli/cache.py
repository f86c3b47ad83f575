"""depth-refiner cache: what was compiled on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import rich.box
from rich.table import Table
import tyro

from ..disk_cache import DiskCache
from .info import output_console


@dataclass(frozen=True)
class Cache:
    """List or clear what `compile` keeps: engines, timings and calibrations.

    It lies in ~/.cache/depth_refiner (XDG_CACHE_HOME), or where DEPTH_REFINER_CACHE says. What is
    not used for the longest goes when all together take more than 2 GiB.
    """

    action: tyro.conf.Positional[Literal['ls', 'clear']]
    """`ls` lists, the last used first; `clear` removes all."""

    def run(self) -> int:
        """Do it; return 0."""
        cache, console = DiskCache(), output_console()
        if self.action == 'clear':
            console.print(f'{cache.clear()} removed from {cache.folder}', soft_wrap=True)
            return 0
        table = Table(box=rich.box.SIMPLE_HEAD)
        for name in ('', 'model', 'precision', 'sizes', 'for', 'MB', 'last used'):
            table.add_column(name, justify='right' if name == 'MB' else 'left')
        entries = cache.entries()
        for entry in entries:
            facts = entry.facts
            table.add_row(
                str(facts.get('kind', '')),
                str(facts.get('model', '')),
                str(facts.get('precision', '')),
                ', '.join(f'{width}x{height}' for height, width in facts.get('sizes', ())),
                _machine(facts),
                f'{entry.size_bytes / 1e6:.1f}',
                datetime.fromtimestamp(entry.used_s).isoformat(' ', 'minutes'),
            )
        if entries:
            console.print(table)
        total_mb = sum(entry.size_bytes for entry in entries) / 1e6
        console.print(f'{len(entries)} in {cache.folder}, {total_mb:.1f} MB', soft_wrap=True)
        return 0


def _machine(facts: dict[str, Any]) -> str:
    if 'gpu' not in facts:
        return ''
    return f'{facts["gpu"]}, TensorRT {facts["tensorrt"]}, {facts["driver"]}'

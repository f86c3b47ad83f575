"""Asks how well a reference is registered to the frames that are measured by it.

    python tools/shift_reference.py [--data FOLDER] [--recording kinect_v1_kitchen]

A reference that is fused from other frames lies where their poses say. Moved by whole pixels it
may fit the measurements of a frame better than where it lies; by how much it does is an error that
no filter can remove, and no filter has made.
"""

from __future__ import annotations

import argparse
from itertools import product
import os
from pathlib import Path

import numpy as np

from depth_refiner_ros.data import Float32Array
from depth_refiner_ros.evaluation.protocols import cases, open_source

FARTHEST_PX = 5
FARTHEST_M = 0.3
"""What a measurement misses by more says nothing about where the reference lies."""


def errors_m(depth_m: Float32Array, truth_m: Float32Array, row: int, column: int) -> Float32Array:
    moved_m = np.roll(truth_m, (row, column), (0, 1))
    inner = np.s_[FARTHEST_PX:-FARTHEST_PX, FARTHEST_PX:-FARTHEST_PX]
    missed_m = np.abs(depth_m - moved_m)[inner]
    return missed_m[np.isfinite(missed_m)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', default=os.environ.get('DEPTH_REFINER_DATA', '../shared/data'))
    parser.add_argument('--recording', default='kinect_v1_kitchen')
    options = parser.parse_args()
    here, there, moves = [], [], []
    steps = range(-FARTHEST_PX, FARTHEST_PX + 1)
    for case in cases(open_source(Path(options.data) / options.recording)):
        if case.truth_m is None or case.scored is None:
            continue
        depth_m = case.values['depth'].depth_m
        truth_m = np.where(case.scored, case.truth_m, np.float32(np.nan))
        found = {
            move: errors_m(depth_m, truth_m, *move).clip(max=FARTHEST_M).mean()
            for move in product(steps, steps)
        }
        best = min(found, key=lambda move: found[move])
        moves.append(best)
        here.append(errors_m(depth_m, truth_m, 0, 0))
        there.append(errors_m(depth_m, truth_m, *best))
        print(f'{case.name}: rows {best[0]:+d}, columns {best[1]:+d}')
    before, after = (1000 * float(np.concatenate(part).mean()) for part in (here, there))
    rows, columns = np.median(moves, axis=0)
    print(f'median {rows:+.0f}, {columns:+.0f} px; measured {before:.1f} -> {after:.1f} mm')


if __name__ == '__main__':
    main()

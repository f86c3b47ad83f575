"""Splits the error against a reference into what a filter can remove and what it cannot.

    python tools/split_error.py [--data FOLDER] [--recording kinect_v1_kitchen]

Every frame goes through `refine_depth`. On flat surfaces, the part of a depth image that departs
from the plane around a pixel is noise. What is left of the error there is how far the reference
lies from what the camera says, which raw and refined depth share, as they share the pixels at
edges where one of the two sees another surface.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_refiner_ros.data import BoolArray, Float32Array, Float64Array
from depth_refiner_ros.evaluation.protocols import cases, open_source
from depth_refiner_ros.stages.refine_depth import RefineDepth, RefineDepthParameters

WINDOW_PX = 9
FLAT = 0.008
"""Where depth departs from its plane by less than this share of itself in the mean, it is flat."""
OTHER_SURFACE_M = 0.2
"""What misses by more is of another surface."""


def off_plane_m(depth_m: Float32Array) -> Float64Array:
    """Return how far depth lies from the plane of the window around it, NaN beside holes.

    Planes are affine in inverse depth.
    """
    known = depth_m > 0
    inverse = np.where(known, 1 / np.where(known, depth_m, 1), 0).astype(np.float64)
    window = (WINDOW_PX, WINDOW_PX)
    # In the middle of a window a plane through its values has their mean.
    mean = cv2.boxFilter(inverse, -1, window)
    whole = cv2.boxFilter(known.astype(np.float64), -1, window) > 1 - 1e-9
    return np.where(whole, 1 / np.where(whole, mean, 1) - depth_m, np.nan)


def flat(depth_m: Float32Array) -> BoolArray:
    """Return where the window around a pixel is a plane."""
    off_m = np.nan_to_num(np.abs(off_plane_m(depth_m)), nan=np.inf)
    share = np.minimum(off_m / np.where(depth_m > 0, depth_m, 1), 1)
    around = cv2.boxFilter(share.astype(np.float64), -1, (WINDOW_PX, WINDOW_PX))
    return np.asarray(around < FLAT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', default=os.environ.get('DEPTH_REFINER_DATA', '../shared/data'))
    parser.add_argument('--recording', default='kinect_v1_kitchen')
    options = parser.parse_args()
    source = open_source(Path(options.data) / options.recording)
    stage = RefineDepth(RefineDepthParameters(sensor=source.sensor or 'kinect_v1'))
    rows: list[npt.NDArray[np.float64]] = []
    for case in cases(source):
        raw_m = case.values['depth'].depth_m
        refined_m = stage(case.values['depth'], case.values['camera'])['depth'].depth_m
        if case.truth_m is None or case.scored is None:
            continue
        truth_m = case.truth_m
        both = case.scored & np.isfinite(raw_m) & np.isfinite(refined_m) & (truth_m > 0)
        smooth = both & flat(refined_m) & np.isfinite(off_plane_m(truth_m))
        errors_m = [np.abs(depth_m - truth_m) for depth_m in (raw_m, refined_m)]
        noise_m = [np.abs(off_plane_m(depth_m)) for depth_m in (raw_m, refined_m, truth_m)]
        rows.append(
            np.array([
                *(error_m[both].mean() for error_m in errors_m),
                *((error_m * (error_m > OTHER_SURFACE_M))[both].mean() for error_m in errors_m),
                *(error_m[smooth].mean() for error_m in errors_m),
                *(noise[smooth].mean() for noise in noise_m),
            ])
        )  # fmt: skip
    mm = 1000 * np.mean(rows, axis=0)
    print(f'{options.recording}, {len(rows)} frames with a reference; mean absolute, mm')
    print(f'{"":34}{"raw":>8}{"refined":>9}{"reference":>11}')
    print(f'{"error":34}{mm[0]:8.1f}{mm[1]:9.1f}')
    print(f'{"  of which of another surface":34}{mm[2]:8.1f}{mm[3]:9.1f}')
    print(f'{"error on flat surfaces":34}{mm[4]:8.1f}{mm[5]:9.1f}')
    print(f'{"noise about the plane there":34}{mm[6]:8.1f}{mm[7]:9.1f}{mm[8]:11.1f}')


if __name__ == '__main__':
    main()

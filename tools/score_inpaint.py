"""Scores hole filling on real recordings, beside the nearest measurement and Navier-Stokes.

Usage: python tools/score_inpaint.py [--data FOLDER] [--draws N]

Two sets have a reference where the camera saw nothing: kinect_v1_kitchen (fusion of other frames)
and xtion_static_1 (median of the other frames). In the others the hole pattern of another frame of
the same set, opened 3x3, flipped and shifted, is punched into the measurements, which are then the
truth. One draw of patterns is a matter of luck (the nearest measurement's error varies by a third
between draws), so several are made of every frame, always the same ones.

Only holes are scored, where the truth is below 4 m: mean absolute error in mm / share within 5 %.
With colour, `ours` is also given the colour image, registered here where the camera does not.
`sigma` is the share of errors within one / two of the standard deviations that the filter states.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import time
from typing import Any, NamedTuple
import warnings

import cv2
import numpy as np
import numpy.typing as npt

from depth_refiner_ros.counts import metres_from_counts
from depth_refiner_ros.filters.inpaint import Inpainting, inpaint

Float32 = npt.NDArray[np.float32]

FARTHEST_M = 4.0
WITH_REFERENCE = ('kinect_v1_kitchen', 'xtion_static_1')
PUNCHED = (
    'realsense_tabletop',
    'xtion_ycb',
    'kinect_v1_nyu',
    'kinect_v1_rooms',
    'middlebury_motorcycle',
)


class Case(NamedTuple):
    """A frame with holes, the truth, where to score, and the registered colour image."""

    depth_m: Float32
    truth_m: Float32
    scored: npt.NDArray[np.bool_]
    color: npt.NDArray[np.uint8]


def nearest(depth_m: Float32) -> Float32:
    """Fills holes with the nearest measurement."""
    hole = np.isnan(depth_m)
    _, labels = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    return np.asarray(depth_m[~hole][labels - 1], np.float32)


def navier_stokes(depth_m: Float32) -> Float32:
    """Fills holes with OpenCV's Navier-Stokes inpainting."""
    hole = np.isnan(depth_m)
    return np.asarray(
        cv2.inpaint(np.nan_to_num(depth_m), hole.astype(np.uint8), 3, cv2.INPAINT_NS)
    )


def register_color(
    color: npt.NDArray[np.uint8], depth_m: Float32, camera: dict[str, Any]
) -> npt.NDArray[np.uint8]:
    """Moves a colour image to the depth camera, taking the nearest depth in holes."""
    if camera['color_aligned_to_depth']:
        return color
    z = nearest(depth_m)
    v, u = np.indices(z.shape, np.float32)
    x = (u - camera['cx']) / camera['fx'] * z + camera['color_from_depth_t_m'][0]
    y = (v - camera['cy']) / camera['fy'] * z + camera['color_from_depth_t_m'][1]
    z = z + camera['color_from_depth_t_m'][2]
    fx, fy, cx, cy = camera['color_K']
    return np.asarray(
        cv2.remap(
            color,
            (fx * x / z + cx).astype(np.float32),
            (fy * y / z + cy).astype(np.float32),
            cv2.INTER_LINEAR,
        ),
        np.uint8,
    )


def cases(folder: Path, draws: int) -> Iterator[Case]:
    """Yields what is to be filled in one set of recordings."""
    camera = json.loads((folder / 'camera.json').read_text())

    def read_depth(path: Path) -> Float32:
        counts = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        return metres_from_counts(counts, camera['depth_unit_m'])

    def read_color(path: Path, depth_m: Float32) -> npt.NDArray[np.uint8]:
        color = cv2.imread(str(folder / 'color' / f'{path.stem}.jpg'), cv2.IMREAD_COLOR_RGB)
        return register_color(np.asarray(color, np.uint8), depth_m, camera)

    paths = sorted((folder / 'depth').glob('*.png'))
    if (folder / 'reference').is_dir():
        for path in sorted((folder / 'reference').glob('*.png')):
            depth_m, truth_m = read_depth(folder / 'depth' / path.name), read_depth(path)
            scored = np.isnan(depth_m) & (truth_m < FARTHEST_M)
            yield Case(depth_m, truth_m, scored, read_color(path, depth_m))
        return

    frames = [read_depth(path) for path in paths]
    if (folder / 'static_mask.png').is_file():
        mask = np.asarray(cv2.imread(str(folder / 'static_mask.png'), cv2.IMREAD_GRAYSCALE)) > 0
        for index, (path, depth_m) in enumerate(zip(paths, frames, strict=True)):
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', 'All-NaN slice')
                truth_m = np.nanmedian(np.stack(frames[:index] + frames[index + 1 :]), axis=0)
            scored = np.isnan(depth_m) & (truth_m < FARTHEST_M) & mask
            yield Case(depth_m, truth_m, scored, read_color(path, depth_m))
        return

    rng = np.random.default_rng(0)
    patterns = [
        cv2.morphologyEx(
            np.isnan(frame).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )[:, ::-1]
        for frame in frames
    ]
    for index, (path, truth_m) in enumerate(zip(paths, frames, strict=True)):
        color = read_color(path, truth_m)
        for _ in range(draws if len(frames) > 1 else 3 * draws):
            others = [other for other in range(len(frames)) if other != index] or [index]
            shift = rng.integers(truth_m.shape)
            pattern = np.roll(patterns[rng.choice(others)], shift, axis=(0, 1)) > 0
            depth_m = np.where(pattern, np.float32(np.nan), truth_m)
            yield Case(depth_m, truth_m, pattern & (truth_m < FARTHEST_M), color)


def figure(error_m: Float32, truth_m: Float32) -> str:
    """Formats mean absolute error in mm / share within 5 %."""
    return f'{1e3 * error_m.mean():.1f} / {(error_m < 0.05 * truth_m).mean():.3f}'


def main() -> None:
    """Prints one line of figures for every set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--data',
        type=Path,
        default=os.environ.get(
            'DEPTH_REFINER_DATA', Path(__file__).parents[2] / 'shared' / 'data'
        ),
    )
    parser.add_argument('--draws', type=int, default=4, help='hole patterns per punched frame')
    arguments = parser.parse_args()

    def ours(case: Case) -> Inpainting:
        return inpaint(case.depth_m, max_hole_px=0, max_distance_m=0)

    def ours_with_color(case: Case) -> Inpainting:
        return inpaint(case.depth_m, color=case.color, max_hole_px=0, max_distance_m=0)

    baselines: dict[str, Callable[[Float32], Float32]] = {
        'nearest': nearest,
        'Navier-Stokes': navier_stokes,
    }
    methods: dict[str, Callable[[Case], Inpainting]] = {
        'ours': ours,
        'ours, colour': ours_with_color,
    }
    columns = ['set', 'holes', *baselines, *methods, 'sigma', 'ms', 'ms, colour']
    print('| ' + ' | '.join(columns) + ' |')
    print('|' + '---|' * len(columns))
    for name in (*WITH_REFERENCE, *PUNCHED):
        if not (arguments.data / name).is_dir():
            print(f'| {name} | no recording under {arguments.data} |')
            continue
        errors: dict[str, list[Float32]] = {method: [] for method in (*baselines, *methods)}
        truths, ratios, holes = [], [], []
        times_ms: dict[str, list[float]] = {method: [] for method in methods}
        for case in cases(arguments.data / name, arguments.draws):
            truth_m = case.truth_m[case.scored]
            truths.append(truth_m)
            holes.append(np.isnan(case.depth_m).mean())
            for method, fill in baselines.items():
                errors[method].append(np.abs(fill(case.depth_m)[case.scored] - truth_m))
            for method, ours_fill in methods.items():
                taken_ms = []
                for _ in range(3):
                    start_s = time.perf_counter()
                    result = ours_fill(case)
                    taken_ms.append(1e3 * (time.perf_counter() - start_s))
                times_ms[method].append(min(taken_ms))
                errors[method].append(np.abs(result.depth_m[case.scored] - truth_m))
                if method == 'ours':
                    ratios.append(errors[method][-1] / result.stddev_m[case.scored])
        truth = np.concatenate(truths)
        ratio = np.concatenate(ratios)
        cells = [name, f'{np.mean(holes):.0%}']
        cells += [figure(np.concatenate(errors[method]), truth) for method in errors]
        cells += [f'{(ratio < 1).mean():.2f} / {(ratio < 2).mean():.2f}']
        cells += [f'{np.mean(times_ms[method]):.1f}' for method in methods]
        print('| ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    main()
